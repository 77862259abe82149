#!/usr/bin/env bash
# tools.sh NAME…: builds, with this machine's Go, tools of check.sh that its
# distribution does not have: compose (a plugin of docker's that also runs without
# docker), act, actionlint, coredns (that knows a cluster's services alone), crane, helm.
set -euo pipefail
export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=mod"
plugins=$HOME/.docker/cli-plugins compose=v2.40.3 coredns=v1.15.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in "$@"; do
  case $tool in
    act) go install -trimpath -ldflags "-s -w" github.com/nektos/act@v0.2.89 ;;
    actionlint) go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 ;;
    crane) go install -trimpath github.com/google/go-containerregistry/cmd/crane@v0.22.1 ;;
    helm) go install -trimpath helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
    compose) # go install takes no module that leaves versions out
      module=$(cd "$work" && go mod download -json "github.com/docker/compose/v2@$compose" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
      { printf 'module tools\n\ngo 1.26\n\nrequire github.com/docker/compose/v2 %s\n\n' $compose; sed -n '/^exclude (/,/^)/p' "$module"; } >"$work/go.mod"
      printf '//go:build tools\n\npackage tools\n\nimport _ "github.com/docker/compose/v2/cmd"\n' >"$work/tools.go"
      mkdir -p "$plugins"
      (cd "$work" && go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$compose" -o "$plugins/docker-compose" github.com/docker/compose/v2/cmd)
      ;;
    coredns)
      printf 'module dns\n\ngo 1.26\n\nrequire github.com/coredns/coredns %s\n' $coredns >"$work/go.mod"
      cat >"$work/main.go" <<'S'
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func init() { dnsserver.Directives = []string{"errors", "kubernetes"} }

func main() { coremain.Run() }
S
      to=$(go env GOBIN)
      (cd "$work" && go build -trimpath -ldflags "-s -w" -o "${to:-$(go env GOPATH)/bin}/coredns" .)
      ;;
    *) echo "no tool is called $tool" >&2; exit 1 ;;
  esac
done
