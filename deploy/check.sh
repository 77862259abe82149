#!/usr/bin/env bash
# Checks deploy/ with the real tools: rules and their tests, shell, the chart as
# rendered, and, where the folder of tools is there (KUBE_TOOLS, or
# ../shared/tools/kube), every manifest by a real API server with the real CRDs
# and the image by a real build. What cannot be checked here is said and counted.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 skipped=0
pass() { echo "ok      $*"; passed=$((passed + 1)); }
fail() { echo "FAILED  $*"; failed=$((failed + 1)); }
skip() { echo "SKIPPED, NOT CHECKED: $*"; skipped=$((skipped + 1)); }
try() { # what, command…
  local what=$1 out; shift
  if out=$("$@" 2>&1); then pass "$what"; else fail "$what"; echo "$out" | tail -n 20; fi
}
have() { command -v "$1" >/dev/null 2>&1 || [ -x "$HOME/go/bin/$1" ]; }
export PATH=$PATH:$HOME/go/bin

if have promtool; then
  try "prometheus: configuration" promtool check config --syntax-only deploy/prometheus/prometheus.yaml
  try "prometheus: rules" promtool check rules deploy/prometheus/alerts.yaml
  try "prometheus: every alert fires and is silent" promtool test rules deploy/prometheus/alerts_test.yaml
else skip "prometheus rules: no promtool"; fi
if have shellcheck; then try "shell scripts" shellcheck -S warning deploy/*.sh .ci/run; else skip "shell scripts: no shellcheck"; fi
if have docker-compose; then
  for f in deploy/compose*.yaml; do
    try "$f" env SECRET_KEY=x POSTGRES_PASSWORD=x docker-compose -f "$f" config -q
  done
else skip "compose files: no docker-compose"; fi

rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT
if have helm; then
  try "chart: lint" helm lint deploy/chart
  render() { helm template cr deploy/chart --namespace osint --kube-version 1.37.2 "${@:2}" >"$rendered/$1.yaml"; }
  try "chart: defaults" render defaults
  try "chart: everything" render everything --set istio.enabled=true,istio.canary.enabled=true,istio.canary.tag=2,istio.canary.weight=10,monitoring.serviceMonitor=true,ingress.enabled=true,ingress.tlsSecret=tls,data.existingClaim=shared
else skip "chart: no helm"; fi

tools=${KUBE_TOOLS:-}
for d in ../shared/tools/kube ../../shared/tools/kube; do [ -n "$tools" ] || { [ -d "$d" ] && tools=$d; }; done
if [ -z "$tools" ]; then
  skip "manifests by an API server: no folder of tools (KUBE_TOOLS)"
elif ! [ -x "${KUBE_BIN:-$HOME/.cache/kubebench/1.37.2/bin}/kube-apiserver" ]; then
  skip "manifests by an API server: not built; $tools/build.sh does it"
elif [ -e "$rendered/defaults.yaml" ]; then
  # shellcheck disable=SC1091
  "$tools/up.sh" && . "${KUBE_RUN:-$HOME/.cache/kubebench-run}/env" && "$tools/crds.sh"
  try "manifests: defaults" "$tools/check.sh" "$rendered/defaults.yaml"
  try "manifests: everything" "$tools/check.sh" "$rendered/everything.yaml"
  "$tools/down.sh" >/dev/null 2>&1 || true
fi
if have buildah; then
  try "image" buildah bud --isolation chroot -f deploy/Dockerfile -t chainreactions .
else skip "image: no buildah"; fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
