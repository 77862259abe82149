#!/usr/bin/env bash
# Checks deploy/ with the real tools. The light ones: rules and their tests, shell,
# workflows, compose files, the chart as rendered with each of its values files.
# Where they are found, the heavy ones: a real API server with the real CRDs takes
# every manifest and refuses every one of mistakes.txt; the image is built, run
# as in production, and brought up by both compose files. What cannot be checked here is said and counted.
#
#   KUBE_TOOLS   folder of build.sh, up.sh, crds.sh, down.sh, node.sh for the API server (else ../shared/tools/kube)
#   KUBE_BIN     where its binaries are
#   BASE_IMAGES  pull: from their registries; stand-ins: made here, by stand-ins.sh; else as they are here
#   IMAGE=no     no image
#   PIPELINES=all  the jobs lint and test too, which take as long as make check and make test
#   CLUSTER=yes  the chart installed on a real node: rolling updates, blue and green, the pipeline that deploys
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0
pass() { echo "ok      $*"; passed=$((passed + 1)); }
fail() { echo "FAILED  $*"; failed=$((failed + 1)); }
skip() { echo "SKIPPED, NOT CHECKED: $*"; skipped=$((skipped + 1)); }
try() { # what, command…
  local what=$1 out; shift
  if out=$("$@" 2>&1); then pass "$what"; grep "^  [^ ]" <<<"$out" | grep -v SUCCESS; else fail "$what"; tail -n 20 <<<"$out"; fi
}
export PATH=$PATH:$HOME/go/bin
have() { command -v "$1" >/dev/null 2>&1; }

if have promtool; then
  try "prometheus: configuration" promtool check config --syntax-only deploy/prometheus/prometheus.yaml
  try "prometheus: rules" promtool check rules deploy/prometheus/alerts.yaml
  try "prometheus: every alert fires and is silent" promtool test rules deploy/prometheus/alerts_test.yaml
else skip "prometheus rules: no promtool"; fi
if have shellcheck; then try "shell scripts" shellcheck -S warning deploy/*.sh .ci/run; else skip "shell scripts: no shellcheck"; fi
if have actionlint; then try "workflows" actionlint; else skip "workflows: no actionlint (deploy/tools.sh actionlint)"; fi
compose=()
plugin=$HOME/.docker/cli-plugins/docker-compose
if docker compose version >/dev/null 2>&1; then compose=(docker compose); elif [ -x "$plugin" ]; then compose=("$plugin"); fi
for f in deploy/compose*.yaml; do
  if [ ${#compose[@]} -gt 0 ]; then try "$f" env SECRET_KEY=x POSTGRES_PASSWORD=x "${compose[@]}" -f "$f" config -q; else skip "$f: no docker compose, version 2 (deploy/tools.sh compose)"; fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if have helm; then
  for values in deploy/chart/ci/*-values.yaml; do
    name=$(basename "$values" -values.yaml)
    try "chart: lint, $name" helm lint --quiet --strict deploy/chart --values "$values"
    render() { helm template cr deploy/chart --namespace chainreactions --kube-version 1.37.2 --values "$values" >"$work/$name.yaml"; }
    try "chart: rendered, $name" render
  done
else skip "chart: no helm (deploy/tools.sh helm)"; fi

# taken FILE…: the API server would take every document, without a warning.
taken() {
  local out rc=0
  out=$(kubectl -n chainreactions apply --server-side --force-conflicts --dry-run=server --validate=strict "${@/#/--filename=}" 2>&1) || rc=$?
  echo "$out" | grep -v 'serverside-applied (server dry run)$'
  [ $rc = 0 ] && ! grep -q '^Warning:' <<<"$out"
}
refused() { ! taken "$@"; }
mistakes() {
  local what change docs
  mkdir "$work/docs"
  csplit -s -z -f "$work/docs/" -b '%03d.yaml' "$work/canary.yaml" '/^---/' '{*}'
  while IFS=$'\t' read -r what change; do
    rm -rf "$work/wrong"
    mkdir "$work/wrong"
    for docs in "$work"/docs/*; do
      sed "$change" "$docs" >"$work/wrong/x"
      if cmp -s "$docs" "$work/wrong/x"; then rm "$work/wrong/x"; else mv "$work/wrong/x" "$work/wrong/$(basename "$docs")"; fi
    done
    if [ -z "$(ls "$work/wrong")" ]; then fail "refused: $what: nothing in the chart to get wrong"; else try "refused: $what" refused "$work"/wrong/*; fi
  done < <(grep -v '^#' deploy/mistakes.txt)
}

tools=${KUBE_TOOLS:-}
for d in ../shared/tools/kube ../../shared/tools/kube; do
  if [ -z "$tools" ] && [ -d "$d" ]; then tools=$d; fi
done
bin=${KUBE_BIN:-$HOME/.cache/kubebench/1.37.2/bin}
if [ -z "$tools" ]; then
  skip "manifests by an API server: no folder of tools (KUBE_TOOLS)"
elif ! [ -x "$bin/kube-apiserver" ]; then
  skip "manifests by an API server: not built; build.sh of KUBE_TOOLS does it"
elif [ -e "$work/canary.yaml" ]; then
  trap '"$tools/down.sh"; rm -rf "$work"' EXIT
  # shellcheck disable=SC1091
  if "$tools/up.sh" && . "${KUBE_RUN:-$HOME/.cache/kubebench-run}/env" && "$tools/crds.sh"; then
    kubectl create namespace chainreactions >/dev/null
    kubectl label namespace chainreactions pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted >/dev/null
    for f in "$work"/*.yaml; do try "manifests taken: $(basename "$f" .yaml), $(grep -c '^kind:' "$f") of them" taken "$f"; done
    mistakes
  else fail "the API server does not start"; fi
  "$tools/down.sh"
fi

version=check-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
export VERSION=$version
compose_up() {
  if [ ${#compose[@]} = 0 ]; then
    skip "compose files up: no docker compose, version 2 (deploy/tools.sh compose)"
    return
  fi
  try "compose.yaml: up, replaced, down" deploy/check-compose.sh alone
  if ! docker info >/dev/null 2>&1 && [ "${BASE_IMAGES:-}" = stand-ins ]; then try "stand-ins for the services' images" deploy/stand-ins.sh services; fi
  try "compose.split.yaml: up, a role killed, made anew, down" deploy/check-compose.sh split
}
pipelines() {
  local jobs=(build push)
  if ! have act || ! have crane || ! have haproxy; then
    skip "pipelines: no act or crane (deploy/tools.sh act crane), or no haproxy (deploy/install.sh haproxy)"
    return
  fi
  if [ "${PIPELINES:-}" = all ]; then jobs=(lint test build push); fi
  try "pipelines: ${jobs[*]}" deploy/check-pipelines.sh "${jobs[@]}"
}
if [ "${IMAGE:-}" = no ]; then
  skip "image: IMAGE=no"
elif docker info >/dev/null 2>&1; then
  try "image: built" docker build --build-arg VERSION="$version" -f deploy/Dockerfile -t chainreactions .
  try "image: run" deploy/check-image.sh chainreactions
  compose_up
  pipelines
elif have podman; then
  pull=never
  case ${BASE_IMAGES:-} in
    pull) pull=missing ;;
    stand-ins) try "stand-ins for the base images" deploy/stand-ins.sh ;;
  esac
  if [ $pull = never ] && ! podman image exists golang:1.26-bookworm; then
    skip "image: its base images are not here (BASE_IMAGES=pull, or stand-ins)"
  else
    try "image: built" podman build -q --format docker --isolation chroot --pull=$pull --build-arg VERSION="$version" -f deploy/Dockerfile -t chainreactions .
    try "image: run" env RUNTIME=podman deploy/check-image.sh chainreactions
    compose_up
    pipelines
  fi
else skip "image: no docker, no podman"; fi

if [ "${CLUSTER:-}" != yes ]; then
  skip "a real node: CLUSTER=yes does it"
elif [ -z "$tools" ] || ! [ -x "$bin/kubelet" ] || ! [ -x "$bin/containerd" ] || ! [ -x "$bin/vegeta" ]; then
  skip "a real node: not built; build-node.sh of KUBE_TOOLS does it"
elif ! podman image exists localhost/chainreactions; then
  skip "a real node: no image"
else
  for tag in one two; do
    podman tag localhost/chainreactions "localhost/chainreactions:$tag"
    podman save -q --format docker-archive -o "$work/$tag.tar" "localhost/chainreactions:$tag"
  done
  try "on a real node: rolling updates, blue and green, deploy" env IMAGES="$work/one.tar $work/two.tar" KUBE_TOOLS="$(cd "$tools" && pwd)" "$tools/node.sh" "$PWD/deploy/check-cluster.sh"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
