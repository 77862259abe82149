#!/usr/bin/env bash
# check-compose.sh alone|split: brings deploy/compose.yaml or compose.split.yaml up with
# the image "chainreactions" as it is here, and asks what must be true of it. By docker
# compose (version 2): with docker's engine, else with podman in namespaces of its own.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
what=${1:?alone or split} project=check-compose-$$ bad=0
plugin=$HOME/.docker/cli-plugins/docker-compose
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=("$plugin"); fi
run=docker work=$(mktemp -d)
if ! docker info >/dev/null 2>&1; then
  run=podman
  if [ -z "${IN_NAMESPACE:-}" ]; then rmdir "$work"; IN_NAMESPACE=1 exec unshare -m -n -- "$0" "$@"; fi
  if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi # runtimes refuse version 2 of cgroups beside version 1
  ip link set lo up
  # In a sandbox no limit may be raised.
  printf '[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf DOCKER_HOST=unix://$work/socket
  podman system service -t 0 "$DOCKER_HOST" >/dev/null 2>&1 &
  service=$!
  for _ in $(seq 100); do [ -S "$work/socket" ] && break; sleep 0.1; done
  # Without systemd nobody asks podman's containers whether they are well, but we.
  while sleep 0.5; do
    for c in $(podman ps -q --filter "label=com.docker.compose.project=$project"); do podman healthcheck run "$c"; done
  done >/dev/null 2>&1 &
  doctor=$!
fi
SECRET_KEY=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
POSTGRES_PASSWORD=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
export SECRET_KEY POSTGRES_PASSWORD
if [ "$what" = split ]; then file=deploy/compose.split.yaml; else file=deploy/compose.yaml; fi
of() { "${compose[@]}" --progress quiet -p "$project" -f "$file" "$@"; }
finish() {
  of down -v >/dev/null 2>&1
  if [ $run = podman ]; then kill "$doctor" "$service"; fi
  rm -rf "$work"
}
trap finish EXIT
is() { # what, true or false
  if [ "$2" = true ]; then echo "  $1"; else echo "  NOT SO: $1"; bad=$((bad + 1)); fi
}
yes() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }
now() { date +%s%3N; }
id() { of ps -q "$@"; }
# until_so SECONDS COMMAND…: waits for it to hold.
until_so() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}
up() { of up -d --no-build --wait --wait-timeout 180 "$@"; }
at=http://127.0.0.1:3000
ask() { curl -s -m 10 "$at$1" -H 'Content-Type: application/json' -d "$2"; }
down() { # ends it, and the check
  local began
  began=$(now)
  of down -v >/dev/null 2>&1
  is "down after $(($(now) - began)) ms, and nothing is left" "$(yes test -z "$("$run" ps -aq --filter "label=com.docker.compose.project=$project")$("$run" volume ls -q --filter "label=com.docker.compose.project=$project")$("$run" network ls -q --filter "label=com.docker.compose.project=$project")")"
  [ "$bad" = 0 ]
}
who='"email":"check@example.org","password":"a long phrase of ours"'
sign_up() { ask /api/v1/auth/signup "{$who,\"full_name\":\"C\",\"workspace_name\":\"C\",\"accept_terms\":true}"; }
log_in() { ask /api/v1/auth/login "{$who}"; }

alone() {
  local began first second
  began=$(now)
  if ! out=$(up 2>&1); then echo "$out"; exit 1; fi
  is "up and healthy after $(($(now) - began)) ms" true
  is "the portal is at its port" "$(yes grep -q '<div id="root"' <(curl -s -m 5 $at/))"
  is "somebody signs up" "$(yes grep -q access_token <(sign_up))"
  first=$(id chainreactions)
  up --force-recreate >/dev/null 2>&1
  second=$(id chainreactions)
  is "the container is another one, and healthy" "$(yes test -n "$second" -a "$second" != "$first")"
  is "and knows them" "$(yes grep -q access_token <(log_in))"
  is "a backup is kept" "$("$run" cp "$second:/backup/chainreactions.backup" - 2>/dev/null | tar -t 2>/dev/null | grep -q backup && echo true)"
}

split() {
  local first began token auth list import seen roles apart
  # Those that no stand-in is made of are brought up where they are here.
  local services=() left=()
  for s in $(of config --services | sort); do
    if "$run" image inspect "$(of config --format json "$s" | sed -n 's/^ *"image": "\(.*\)".*/\1/p' | head -n 1)" >/dev/null 2>&1; then services+=("$s"); else left+=("$s"); fi
  done
  roles=(gateway main dataset-search entity-relations dataset-matching worker)
  began=$(now)
  if ! out=$(up "${services[@]}" 2>&1); then echo "$out"; of logs --tail 5; exit 1; fi
  is "up and healthy after $(($(now) - began)) ms: ${services[*]}" true
  [ ${#left[@]} = 0 ] || echo "  NOT BROUGHT UP, for want of an image: ${left[*]}"
  is "the portal is at its port" "$(yes grep -q '<div id="root"' <(curl -s -m 5 $at/))"
  token=$(sign_up | sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p')
  is "somebody signs up through the gateway" "$(yes test -n "$token")"
  auth=(-s -m 10 -H "Authorization: Bearer $token")
  list=$(curl "${auth[@]}" $at/api/v1/datasets -H 'Content-Type: application/json' -d '{"name":"check"}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
  import=$(curl "${auth[@]}" "$at/api/v1/datasets/$list/imports" -F 'file=@samples/watchlist.csv;filename=list.csv' | sed 's/^{"id":"\([^"]*\)".*/\1/;s/.*"id":"\(imp_[^"]*\)".*/\1/')
  imported() { curl "${auth[@]}" "$at/api/v1/imports/$import" | grep -q '"status":"succeeded"'; }
  is "a list uploaded to main is imported by worker" "$(yes until_so 30 imported)"
  match() { curl "${auth[@]}" "$@" "$at/api/v1/matches" -H 'Content-Type: application/json' -d "{\"query\":{\"name\":\"Qinglan Aerospace College\"},\"dataset_ids\":[\"$list\"]}"; }
  is "dataset-matching finds a name of it" "$(yes grep -q 'Qinglan University' <(match))"

  # Prometheus and its rules, as they are in deploy/prometheus.
  ups() { [ "$(curl -s -m 5 http://127.0.0.1:9090/api/v1/targets | grep -o '"health":"up"' | wc -l)" = $((${#roles[@]} - ${1:-0})) ]; }
  is "Prometheus sees all ${#roles[@]} roles up" "$(yes until_so 40 ups)"
  rules() { curl -s -m 5 http://127.0.0.1:9090/api/v1/rules | grep -o '"health":"[a-z]*","[^}]*"type":"alerting"' | grep -c '"health":"ok"'; }
  told() { [ "$(rules)" = "$(grep -c -- '- alert:' deploy/prometheus/alerts.yaml)" ]; }
  is "and evaluates all $(grep -c -- '- alert:' deploy/prometheus/alerts.yaml) rules" "$(yes until_so 40 told)"
  traced() { [ "$(curl -s -m 5 http://127.0.0.1:16686/ | cut -d' ' -f 1)" -ge 3 ]; }
  if [ "${services[*]//jaeger/}" != "${services[*]}" ] && curl -s -m 5 http://127.0.0.1:16686/ | grep -q ' processes$'; then
    is "spans of several processes come to where Jaeger is" "$(yes until_so 30 traced)"
  fi

  # A role is killed as the kernel would.
  kill -9 "$("$run" inspect --format '{{.State.Pid}}' "$(id dataset-matching)")"
  began=$(now) seen=$work/seen
  while [ $(($(now) - began)) -lt 30000 ]; do
    echo "match $(match -o /dev/null -w '%{http_code} %header{retry-after}')"
    echo "list $(curl "${auth[@]}" -o /dev/null -w '%{http_code}' "$at/api/v1/datasets/$list")"
    if [ "$(grep -c 503 "$seen")" -gt 0 ] && tail -n 2 "$seen" | grep -q '^match 200'; then break; fi
    sleep 0.3
  done >"$seen"
  is "killed -9, dataset-matching is back by itself after $(($(now) - began)) ms; meanwhile $(grep -c '^match 503 [0-9]' "$seen") matches were told to come again, $(grep -c '^match 200' "$seen") answered" \
    "$(yes test "$(grep '^match' "$seen" | grep -cv -e ' 200 *$' -e ' 503 [0-9]')" = 0 -a "$(tail -n 2 "$seen" | grep -c '^match 200')" = 1)"
  is "and main answered all $(grep -c '^list' "$seen") calls" "$(yes test "$(grep '^list' "$seen" | grep -cv ' 200$')" = 0)"

  # A role that stays away is seen by the rule for it.
  of stop -t 20 worker >/dev/null 2>&1
  pending() { curl -s -m 5 http://127.0.0.1:9090/api/v1/alerts | grep -q '"alertname":"ProcessDown"[^}]*"role":"worker"'; }
  is "a stopped worker is seen by ProcessDown" "$(yes until_so 60 pending)"

  # An upgrade by making the containers anew: first what the gateway can do without.
  apart=(worker dataset-search entity-relations)
  : >"$seen"
  while :; do
    curl "${auth[@]}" -o /dev/null -w '%{http_code}\n' "$at/api/v1/datasets/$list" >>"$seen"
    sleep 0.8 # a plan of no charge has 60 a minute
  done &
  load=$!
  began=$(now)
  up --no-deps --force-recreate migrate >/dev/null 2>&1 || of up --no-build --no-deps --force-recreate migrate >/dev/null 2>&1
  for role in "${apart[@]}"; do
    first=$(id "$role")
    up --no-deps --force-recreate "$role" >/dev/null 2>&1
    is "$role is another container, and healthy" "$(yes test -n "$(id "$role")" -a "$(id "$role")" != "$first")"
  done
  kill $load
  wait $load 2>/dev/null
  is "meanwhile, $(($(now) - began)) ms, main answered all $(wc -l <"$seen") calls" "$(yes test "$(grep -cv '^200$' "$seen")" = 0)"
  up --force-recreate "${services[@]}" >/dev/null 2>&1
  is "all is made anew, and knows them" "$(yes grep -q access_token <(log_in))"
  is "and dataset-matching finds the name" "$(yes until_so 20 grep -q 'Qinglan University' <(match))"
}
"$what"
down
