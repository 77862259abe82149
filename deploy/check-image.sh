#!/usr/bin/env bash
# check-image.sh IMAGE: runs the image as production does (nobody's root, nothing
# writable but /data and /tmp, no capability) and asks what must be true of it.
# RUNTIME is docker or podman; VERSION is what it was built as.
set -uo pipefail
image=${1:?which image}
run=${RUNTIME:-$(command -v docker >/dev/null && docker info >/dev/null 2>&1 && echo docker || echo podman)}
# Runtimes refuse version 2 of cgroups beside version 1: in a mount namespace of our own there is only one.
if [ "$run" = podman ] && [ -z "${IN_NAMESPACE:-}" ] && mountpoint -q /sys/fs/cgroup/unified; then
  IN_NAMESPACE=1 RUNTIME=podman exec unshare -m -- sh -c 'umount /sys/fs/cgroup/unified; exec "$@"' sh "$0" "$@"
fi
limits=()
[ "$run" = docker ] || limits=(--cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=4096:4096) # in a sandbox none may be raised
strict=(--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --network host "${limits[@]}")
name=check-image-$$ port=$((20000 + RANDOM % 12000)) bad=0
is() { # what, true or false
  if [ "$2" = true ]; then echo "  $1"; else echo "  NOT SO: $1"; bad=$((bad + 1)); fi
}
yes() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }
no() { if "$@" >/dev/null 2>&1; then echo false; else echo true; fi; }
finish() {
  "$run" rm -f "$name" >/dev/null 2>&1
  "$run" volume rm -f "$name" "$name-backup" >/dev/null 2>&1
}
trap finish EXIT

size=$(($("$run" image inspect --format '{{.Size}}' "$image") / 1000000))
is "$size MB are at most ${IMAGE_LIMIT_MB:=90}" "$(yes test "$size" -gt 1 -a "$size" -le "$IMAGE_LIMIT_MB")"
says=$("$run" run --rm "${strict[@]}" "$image" --version 2>/dev/null)
is "it says its version: $says" "$(yes test "${says##* }" = "${VERSION:-development}")"
"$run" create --name "$name" "${limits[@]}" "$image" >/dev/null
is "it names a user and a health check" "$(yes test "$("$run" inspect --format '{{.Config.User}}' "$name")" = 65532:65532 -a -n "$("$run" inspect --format '{{json .Config.Healthcheck}}' "$name" | grep health)")"
files=$("$run" export "$name" | tar -t)
"$run" rm -f "$name" >/dev/null 2>&1
is "there is no shell among its $(wc -l <<<"$files") files" "$(yes test -n "$(grep '^chainreactions$' <<<"$files")" -a -z "$(grep -E '(^|/)([abdckz]*sh|busybox)$' <<<"$files")")"
is "what is not allowed in its environment ends it, by name" "$(yes grep -q LOG_LEVEL <("$run" run --rm "${strict[@]}" -e LOG_LEVEL=loud "$image" serve 2>&1))"

began=$(date +%s%3N)
if ! "$run" run -d --name "$name" -v "$name:/data" -v "$name-backup:/backup" -e BACKUP_TO=/backup/file "${strict[@]}" -e HTTP_ADDR="127.0.0.1:$port" -e SECRET_KEY="$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" "$image" >/dev/null; then
  echo "it does not start"
  exit 1
fi
healthy=false
for _ in $(seq 300); do
  if curl -sf -m 2 -o /dev/null "http://127.0.0.1:$port/readyz"; then healthy=true; break; fi
  sleep 0.1
done
is "ready after $(($(date +%s%3N) - began)) ms on a new volume" $healthy
is "its health check says so" "$(yes "$run" exec "$name" /chainreactions health)"
is "its health check can say otherwise" "$(no "$run" exec -e HTTP_ADDR=127.0.0.1:1 "$name" /chainreactions health)"
is "the portal is in it" "$(yes grep -q '<div id="root"' <(curl -s -m 5 "http://127.0.0.1:$port/"))"
pid=$("$run" inspect --format '{{.State.Pid}}' "$name")
is "it runs as 65532 with no capability and may get none" "$(yes awk '/^Uid:/ {u = $2 == 65532} /^CapEff:/ {c = $2 ~ /^0+$/} /^NoNewPrivs:/ {n = $2 == 1} END {exit !(u && c && n)}' "/proc/$pid/status")"
is "its root cannot be written, /data can" "$(yes awk '$2 == "/" {r = $4 ~ /(^|,)ro(,|$)/} $2 == "/data" {d = $4 ~ /(^|,)rw(,|$)/} END {exit !(r && d)}' "/proc/$pid/mounts")"
is "its backup is written to a new volume" "$("$run" cp "$name:/backup/file" - 2>/dev/null | tar -t 2>/dev/null | grep -q file && echo true)"
began=$(date +%s%3N)
"$run" stop -t 20 "$name" >/dev/null 2>&1
is "SIGTERM ends it well, after $(($(date +%s%3N) - began)) ms" "$(yes test "$("$run" inspect --format '{{.State.ExitCode}}' "$name")" = 0)"
if [ "$bad" -gt 0 ]; then "$run" logs "$name" 2>&1 | tail -n 5; fi
[ "$bad" = 0 ]
