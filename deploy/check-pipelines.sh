#!/usr/bin/env bash
# check-pipelines.sh JOB…: runs jobs of .github/workflows (lint, test, build, push, deploy)
# on this machine as act understands them, from a clone of what is committed. Stand-ins:
# of actions/* (their programs are GitHub's), of sudo (what it would install must be
# here), of docker's engine by podman, of the registry by crane's. The job push goes
# without those that it needs but build; scan is not run, for its databases of
# vulnerabilities are elsewhere.
#
# deploy is run by node.sh, beside a cluster (see check.sh): the pipeline brings the
# image one to it, then two, then one that does not become ready, then a canary.
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
  printf '[[registry]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n' >"$work/registries.conf"
  export CONTAINERS_CONF=$work/containers.conf CONTAINERS_REGISTRIES_CONF=$work/registries.conf DOCKER_HOST=unix://$work/socket DOCKER_BUILDKIT=0 BUILDAH_ISOLATION=chroot
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
export PATH=$work/bin:$PATH
git clone -q --no-local . "$work/repo" 2>/dev/null || { echo "no clone"; exit 1; }
sed -i 's/needs: \[lint, test, build, scan\]/needs: build/' "$work/repo/.github/workflows/ci.yaml"
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
lint() { is "lint passes" "$(yes job push lint)"; }
for j in "$@"; do
  case $j in
    lint | test | build)
      if job push "$j"; then is "$j passes" true; else tail -n 20 "$work/log"; is "$j passes" false; fi
      ;;
    *) echo "no job is called $j" >&2; exit 1 ;;
  esac
done
[ $bad = 0 ]
