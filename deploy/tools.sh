#!/usr/bin/env bash
# tools.sh NAME…: builds, with this machine's Go, tools of check.sh that its
# distribution does not have: compose (a plugin of docker's that also runs without
# docker), act, actionlint, crane, helm.
set -euo pipefail
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=mod"
plugins=$HOME/.docker/cli-plugins compose=v2.40.3
for tool in "$@"; do
  case $tool in
    act) go install -trimpath -ldflags "-s -w" github.com/nektos/act@v0.2.89 ;;
    actionlint) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 ;;
    crane) go install -trimpath github.com/google/go-containerregistry/cmd/crane@v0.22.1 ;;
    helm) go install -trimpath helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
    compose) # go install takes no module that leaves versions out
      work=$(mktemp -d)
      trap 'rm -rf "$work"' EXIT
      module=$(cd "$work" && go mod download -json "github.com/docker/compose/v2@$compose" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
      { printf 'module tools\n\ngo 1.26\n\nrequire github.com/docker/compose/v2 %s\n\n' $compose; sed -n '/^exclude (/,/^)/p' "$module"; } >"$work/go.mod"
      printf '//go:build tools\n\npackage tools\n\nimport _ "github.com/docker/compose/v2/cmd"\n' >"$work/tools.go"
      mkdir -p "$plugins"
      (cd "$work" && go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$compose" -o "$plugins/docker-compose" github.com/docker/compose/v2/cmd)
      ;;
    *) echo "no tool is called $tool" >&2; exit 1 ;;
  esac
done
