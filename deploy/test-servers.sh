#!/usr/bin/env bash
# Runs a command with a throwaway PostgreSQL and Redis, on free ports of this
# machine, and takes them away again. Installs what is missing where it can.
# A server that TEST_DATABASE_URL or TEST_REDIS_URL names already is used as it is.
set -euo pipefail

need=()
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || need+=(postgresql)
command -v redis-server >/dev/null || need+=(redis-server)
[ ${#need[@]} = 0 ] || "$(dirname "$0")/install.sh" "${need[@]}" # for throwaway instances only: nothing is left running

dir=$(mktemp -d /tmp/cr-servers-XXXXXX)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT

pings() { redis-cli -h 127.0.0.1 -p "$1" ping >/dev/null 2>&1; }

# start NAME READY COMMAND… runs a server on a free port, which COMMAND and READY
# know as $port, until READY holds. A port may be taken between the look and the
# start: then another is tried.
start() {
  local name=$1 ready=$2 pid
  shift 2
  for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 12000))
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
    (cd "$dir" && exec "${@//PORT/$port}" >"$dir/$name.log" 2>&1) &
    pid=$!
    for _ in $(seq 600); do
      kill -0 "$pid" 2>/dev/null || break
      if ${ready//PORT/$port}; then pids+=("$pid"); return; fi
      sleep 0.1
    done
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  echo "$name does not start:" >&2
  cat "$dir/$name.log" >&2
  exit 1
}

if [ -z "${TEST_DATABASE_URL:-}" ]; then
  initdb=$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1 || true)
  [ -n "$initdb" ] || initdb=$(command -v initdb)
  bin=$(dirname "$initdb")
  as=()
  if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; as=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi
  (cd "$dir" && "${as[@]}" "$bin/initdb" -D "$dir/pg" -A trust -U postgres --no-sync --locale=C.UTF-8 -E UTF8 >"$dir/initdb.log")
  start postgres "$bin/pg_isready -q -h 127.0.0.1 -p PORT" "${as[@]}" "$bin/postgres" -D "$dir/pg" -p PORT -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=400
  export TEST_DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
fi
if [ -z "${TEST_REDIS_URL:-}" ]; then
  start redis "pings PORT" redis-server --port PORT --bind 127.0.0.1 --save '' --appendonly no --dir "$dir"
  export TEST_REDIS_URL="redis://127.0.0.1:$port"
fi
"$@"
