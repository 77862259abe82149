#!/usr/bin/env bash
# check-pipelines.sh JOB…: runs jobs of .github/workflows (lint, test, build, push, deploy)
# on this machine as act understands them, from a clone of what is committed. Stand-ins:
# of actions/* (their programs are GitHub's), of sudo (what it would install must be
# here), of docker's engine by podman, of the registry by crane's behind TLS and a password. The job push follows
# build and waits for no other; scan is not run, for its databases of vulnerabilities
# are elsewhere.
#
# deploy is run by check-cluster.sh, beside a cluster: the pipeline brings the image
# one to it, then two, then values with which no process starts, then a canary.
# VALUES is the file of the environment's values.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PATH=$PATH:$HOME/go/bin
bad=0
is() { # what, true or false
  if [ "$2" = true ]; then echo "  $1"; else echo "  NOT SO: $1"; bad=$((bad + 1)); fi
}
yes() { if "$@" >/dev/null 2>&1; then echo true; else echo false; fi; }
if ! docker info >/dev/null 2>&1 && [ -z "${IN_NAMESPACE:-}" ] && [ "$1" != deploy ]; then
  IN_NAMESPACE=1 exec unshare -m -- "$0" "$@"
fi
work=$(mktemp -d)
pids=()
finish() {
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
  rm -rf "$work"
}
trap finish EXIT
if [ -n "${IN_NAMESPACE:-}" ]; then
  if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi # runtimes refuse version 2 of cgroups beside version 1
  printf '[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' >"$work/containers.conf"
  openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=registry -addext subjectAltName=IP:127.0.0.1 -keyout "$work/registry.key" -out "$work/registry.crt" 2>/dev/null
  cat "$work/registry.crt" "$work/registry.key" >"$work/registry.pem"
  cat "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$work/registry.crt" >"$work/trusted"
  export SSL_CERT_FILE=$work/trusted
  export CONTAINERS_CONF=$work/containers.conf DOCKER_HOST=unix://$work/socket DOCKER_BUILDKIT=0 BUILDAH_ISOLATION=chroot BUILDAH_FORMAT=docker
  podman system service -t 0 "$DOCKER_HOST" >"$work/podman.log" 2>&1 &
  pids+=($!)
  for _ in $(seq 100); do [ -S "$work/socket" ] && break; sleep 0.1; done
fi

# The actions that the workflows use, and what each does here.
action() { # name, a step
  mkdir -p "$work/actions/$1" "$work/store"
  printf 'name: stand-in\ninputs: {name: {default: ""}, path: {default: ""}}\nruns:\n  using: composite\n  steps:\n    - shell: bash\n      env: {STORE: %s, NAME: "${{ inputs.name }}", FILE: "${{ inputs.path }}"}\n      run: %s\n' "$work/store" "$2" >"$work/actions/$1/action.yml"
}
action setup-go 'go version'
action setup-node 'node --version'
action upload-artifact 'mkdir -p "$STORE/$NAME" && cp "$FILE" "$STORE/$NAME/"'
action download-artifact 'cp "$STORE/$NAME"/* .'
mkdir "$work/bin"
printf '#!/bin/sh\necho "left to this machine: $*"\n' >"$work/bin/sudo"
chmod +x "$work/bin/sudo"
export PATH=$work/bin:$PATH DOCKER_CONFIG=$work
git clone -q --no-local . "$work/repo" 2>/dev/null || { echo "no clone"; exit 1; }
sed -i '/needs: \[lint, test, build, scan\]/d' "$work/repo/.github/workflows/ci.yaml"
git -C "$work/repo" -c user.name=check -c user.email=check@example.org commit -qam "as far as it can be run here"
local=()
while read -r used; do
  name=${used#actions/}
  [ "${name%%@*}" = checkout ] || local+=(--local-repository "$used=$work/actions/${name%%@*}")
done < <(grep -hoE 'uses: [^ ]+' .github/workflows/*.yaml | cut -d' ' -f 2 | sort -u)
# job EVENT JOB OPTIONS…: act's log is kept, each step that went through is told.
job() {
  local rc=0
  (cd "$work/repo" && act "$1" --job "$2" --platform ubuntu-24.04=-self-hosted --action-offline-mode "${local[@]}" "${@:3}") >"$work/log" 2>&1 || rc=$?
  sed -nE 's/^\[([^]]*)\] *✅  Success - Main (.*) \[([^]]*)\]$/  \1: \2 (\3)/p' "$work/log" | tr -s ' ' | sed 's/^ /  /' | grep -v 'actions/\|go version\|node --version\|"\$STORE'
  return $rc
}
# says JOB WANT OPTIONS…: it ends as it should.
says() {
  local got=failed
  if job "${@:4}"; then got=passed; fi
  is "$1, $2: $got" "$(yes test $got = "$3")"
  [ $got = "$3" ] || tail -n 25 "$work/log"
}
# deployed EVENT…: what the pipeline does of one tag.
deployed() {
  local what=$1 want=$2 tag=$3 canary=$4
  says deploy "$what" "$want" workflow_dispatch deploy --input environment=production --input "tag=$tag" --input "canary=$canary" --secret "KUBECONFIG=$(cat "$KUBECONFIG")" \
    --var NAMESPACE=chainreactions --var IMAGE_REPOSITORY=localhost/chainreactions --var HELM_TIMEOUT="${5:-5m}" --var "HELM_VALUES=$(cat "$VALUES")"
}
# runs WANT…: the images of the pods that take requests.
runs() {
  local got
  got=$(kubectl -n chainreactions get pods --selector app.kubernetes.io/instance=chainreactions --field-selector status.phase=Running \
    -o jsonpath='{range .items[*]}{.metadata.deletionTimestamp} {.spec.containers[0].image}{"\n"}{end}' | sed -n 's/^ .*://p' | sort -u | tr '\n' ' ')
  is "what runs is $got" "$(yes test "$got" = "$* ")"
}
for j in "$@"; do
  case $j in
    push)
      crane registry serve --address 127.0.0.1:5001 >"$work/registry.log" 2>&1 &
      pids+=($!)
      cat >"$work/haproxy.cfg" <<H
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
userlist pushers
  user check insecure-password $(basename "$work")
frontend registry
  bind 127.0.0.1:5000 ssl crt $work/registry.pem
  http-request auth realm registry unless { http_auth(pushers) }
  http-request set-header X-Forwarded-Proto https
  default_backend crane
backend crane
  server crane 127.0.0.1:5001
H
      haproxy -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
      pids+=($!)
      for _ in $(seq 100); do [ "$(curl -s -o /dev/null -w '%{http_code}' https://127.0.0.1:5000/v2/)" = 401 ] && break; sleep 0.1; done
      as=(--var IMAGE_REPOSITORY=127.0.0.1:5000/chainreactions --secret REGISTRY_USER=check)
      says push "without the registry's password" failed push push "${as[@]}" --secret REGISTRY_PASSWORD=wrong
      says push "of a commit" passed push push "${as[@]}" --secret "REGISTRY_PASSWORD=$(basename "$work")"
      sha=$(git -C "$work/repo" rev-parse HEAD)
      is "the registry has it, $(crane manifest "127.0.0.1:5000/chainreactions:$sha" | grep -o '"size":[0-9]*' | cut -d: -f 2 | awk '{s += $1} END {print int(s / 1000000)}') MB as it is sent" "$(yes crane validate --fast --remote "127.0.0.1:5000/chainreactions:$sha")"
      ;;
    deploy)
      deployed "the image one, at first" passed one 0
      runs one
      deployed "the image two" passed two 0
      runs two
      sed -i 's/LOG_LEVEL: info/LOG_LEVEL: loud/' "$VALUES"
      deployed "with which no process starts" failed one 0 60s
      runs two
      sed -i 's/LOG_LEVEL: loud/LOG_LEVEL: info/' "$VALUES"
      deployed "one as a canary" passed one 10
      runs one two
      is "the canary is to have a tenth" "$(yes grep -q '90 10' <(kubectl -n chainreactions get virtualservice chainreactions -o jsonpath='{.spec.http[0].route[*].weight}'))"
      deployed "one for all" passed one 0
      runs one
      ;;
    lint | test | build)
      says "$j" "of a commit" passed push "$j"
      ;;
    *) echo "no job is called $j" >&2; exit 1 ;;
  esac
done
[ $bad = 0 ]
