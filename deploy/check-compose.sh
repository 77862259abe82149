#!/usr/bin/env bash
# check-compose.sh: brings deploy/compose.yaml up with the image "chainreactions" as
# it is here, signs up through its port, replaces the container, and asks whether
# what was signed up is still there. With docker by docker compose; else with podman,
# in namespaces of its own, by docker-compose 1, which knows no "name:" at the top:
# that line alone is left out.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
file=$PWD/deploy/compose.yaml project=check-compose-$$ bad=0
if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then
  compose=(docker compose) run=docker
else
  if [ -z "${IN_NAMESPACE:-}" ]; then IN_NAMESPACE=1 exec unshare -m -n -- "$0" "$@"; fi
  if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi # runtimes refuse version 2 of cgroups beside version 1
  ip link set lo up
  compose=(docker-compose) run=podman
  work=$(mktemp -d)
  # In a sandbox no limit may be raised.
  printf '[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf DOCKER_HOST=unix://$work/socket
  podman system service -t 0 "$DOCKER_HOST" >/dev/null 2>&1 &
  service=$!
  for _ in $(seq 100); do [ -S "$work/socket" ] && break; sleep 0.1; done
  mkdir "$work/deploy"
  sed '/^name:/d' "$file" >"$work/deploy/compose.yaml"
  file=$work/deploy/compose.yaml
fi
SECRET_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export SECRET_KEY
of() { "${compose[@]}" -p "$project" -f "$file" "$@"; }
finish() {
  of down -v >/dev/null 2>&1
  if [ -n "${service:-}" ]; then kill "$service"; rm -rf "$work"; fi
}
trap finish EXIT
is() { # what, true or false
  if [ "$2" = true ]; then echo "  $1"; else echo "  NOT SO: $1"; bad=$((bad + 1)); fi
}
yes() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }
# healthy: its own health check says so. Without systemd nobody runs podman's but we.
healthy() {
  for _ in $(seq 200); do
    if [ $run = podman ]; then podman healthcheck run "$(of ps -q)" >/dev/null 2>&1 && return
    else [ "$(docker inspect --format '{{.State.Health.Status}}' "$(of ps -q)")" = healthy ] && return; fi
    sleep 0.2
  done
  return 1
}
ask() { curl -s -m 10 "http://127.0.0.1:3000$1" -H 'Content-Type: application/json' -d "$2"; }

began=$(date +%s%3N)
if ! out=$(of up -d --no-build 2>&1); then echo "$out"; exit 1; fi
is "up and healthy after $(("$(healthy && date +%s%3N)" - began)) ms" "$(yes healthy)"
is "the portal is at its port" "$(yes grep -q '<div id="root"' <(curl -s -m 5 http://127.0.0.1:3000/))"
who='"email":"check@example.org","password":"a long phrase of ours"'
is "somebody signs up" "$(yes grep -q access_token <(ask /api/v1/auth/signup "{$who,\"full_name\":\"C\",\"workspace_name\":\"C\",\"accept_terms\":true}"))"
first=$(of ps -q)
of up -d --no-build --force-recreate >/dev/null 2>&1
healthy
second=$(of ps -q)
is "the container is another one, and healthy" "$(yes test -n "$second" -a "$second" != "$first" && healthy || echo false)"
is "and knows them" "$(yes grep -q access_token <(ask /api/v1/auth/login "{$who}"))"
is "a backup is kept" "$("$run" cp "$(of ps -q):/backup/chainreactions.backup" - 2>/dev/null | tar -t 2>/dev/null | grep -q backup && echo true)"
began=$(date +%s%3N)
of down -v >/dev/null 2>&1
is "down after $(($(date +%s%3N) - began)) ms, and nothing is left" "$(yes test -z "$("$run" ps -aq --filter "label=com.docker.compose.project=$project")")"
[ "$bad" = 0 ]
