#!/usr/bin/env bash
# stand-ins.sh [services]: makes stand-ins for the images that deploy/Dockerfile
# begins with, or for those of the services of compose.split.yaml, from Debian
# packages and this machine's own Go and Node, for a machine that reaches no image
# registry. They prove the Dockerfile's steps, the image's contents, and what the
# compose file says; not the layers or the versions of the real images. Needs podman
# and mmdebstrap (apt).
set -euo pipefail
ca=/etc/ssl/certs/ca-certificates.crt
golang=docker.io/library/golang:1.26-bookworm node=docker.io/library/node:22-bookworm-slim static=gcr.io/distroless/static-debian12:nonroot
of() { sed -n "s|^    image: \($1:.*\)|docker.io/\1|p" "$(dirname "$0")/compose.split.yaml"; }
postgres=$(of postgres | sed 's|io/|io/library/|') redis=$(of redis | sed 's|io/|io/library/|') prometheus=$(of prom/prometheus) jaeger=$(of jaegertracing/jaeger)
bases=("$golang" "$node" "$static") services=("$postgres" "$redis" "$prometheus" "$jaeger")
if [ "${1:-}" = services ]; then images=("${services[@]}"); else images=("${bases[@]}"); fi
missing=0
for i in "${images[@]}"; do podman image exists "$i" || missing=1; done
tell() { for i in "${images[@]}"; do echo "  $i is $(podman image inspect --format '{{index .Labels "stand-in"}}' "$i")"; done; }
if [ $missing = 0 ]; then tell; exit; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources >"$work/sources" 2>/dev/null || true
# debian PACKAGES: the smallest Debian with those.
debian() {
  mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' --include="$1" bookworm "$root" - <"$work/sources"
  chmod 755 "$root"
}
# stand_in NAME WHAT OPTIONS…: the root filesystem as it is.
stand_in() { tar -C "$root" -c . | podman import -q --change "LABEL stand-in=\"$2\"" "${@:3}" - "$1" >/dev/null; }

if [ "${1:-}" = services ]; then
  base=localhost/chainreactions-services
  if ! podman image exists $base; then
    debian postgresql,prometheus,redis-server
    rm -rf "$root"/var/lib/postgresql/* "$root/etc/prometheus" "$root"/var/cache/apt/*
    install -d -o 65534 -g 65534 "$root/prometheus"
    ln -s /usr/lib/postgresql/*/bin "$root/usr/lib/postgresql/bin"
    stand_in $base "Debian" --change "ENV PATH=/usr/lib/postgresql/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
  fi
  inside=$(podman image mount $base)
  says() { chroot "$inside" "$@" 2>&1 | head -n 1; }
  # made NAME WHAT LINES…: an image of those lines of a Dockerfile.
  made() {
    printf '%s\n' "${@:3}" >"$work/Dockerfile"
    podman build -q --format docker --isolation chroot --pull=never --label "stand-in=$2" -f "$work/Dockerfile" -t "$1" "$work" >/dev/null
  }
  # What the real image's own entry point does of what compose.split.yaml asks for.
  cat >"$work/postgres-entry" <<'S'
#!/bin/sh
set -e
data=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  mkdir -p $data /run/postgresql && chown postgres $data /run/postgresql && chmod 700 $data
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0"
fi
if [ ! -s $data/PG_VERSION ]; then
  echo "$POSTGRES_PASSWORD" >/tmp/password
  initdb -D $data -U postgres --pwfile=/tmp/password -A scram-sha-256 -E UTF8 --locale=C.UTF-8
  rm /tmp/password
  echo "host all all all scram-sha-256" >>$data/pg_hba.conf
  echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D $data postgres
fi
exec postgres -D $data -c listen_addresses='*'
S
  chmod 755 "$work/postgres-entry"
  made "$postgres" "Debian's $(says /usr/lib/postgresql/bin/postgres --version)" "FROM $base" 'COPY postgres-entry /usr/local/bin/postgres-entry' 'ENTRYPOINT ["postgres-entry"]'
  made "$redis" "Debian's $(says redis-server --version | cut -d' ' -f 1-3)" "FROM $base" 'USER redis' 'WORKDIR /tmp' \
    'ENTRYPOINT ["sh", "-c", "exec \"$@\" --protected-mode no", "sh"]' # as the real one is built
  made "$prometheus" "Debian's $(says prometheus --version | cut -d' ' -f 1-3)" "FROM $base" 'USER 65534' 'WORKDIR /prometheus' \
    'ENTRYPOINT ["/bin/prometheus"]' 'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]'
  # Takes spans as Jaeger does, and says at :16686 whose they were.
  cat >"$work/main.go" <<'S'
package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
)

func main() {
	name := regexp.MustCompile(`"service\.instance\.id","value":\{"stringValue":"([^"]+)"`)
	var mu sync.Mutex
	spans := map[string]int{} // posts of spans, by the process
	go http.ListenAndServe(":16686", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, len(spans), "processes")
	}))
	http.ListenAndServe(":4318", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		for _, m := range name.FindAllSubmatch(body, -1) {
			if r.URL.Path == "/v1/traces" {
				spans[string(m[1])]++
			}
		}
	}))
}
S
  CGO_ENABLED=0 go build -o "$work/sink" "$work/main.go"
  made "$jaeger" "a program that counts the processes whose spans it gets" 'FROM scratch' 'COPY sink /sink' 'ENTRYPOINT ["/sink"]'
  podman image unmount $base >/dev/null
  tell
  exit
fi

debian ca-certificates,libstdc++6
cp "$ca" "$root$ca" # with what this machine trusts besides
mkdir -p "$root/usr/local"
cp -a "$(go env GOROOT)" "$root/usr/local/go"
stand_in "$golang" "Debian with $(go env GOVERSION)" --change "ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  --change "ENV GOTOOLCHAIN=local" --change "ENV SSL_CERT_FILE=$ca"
rm -rf "$root/usr/local/go"

npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
mkdir -p "$root/usr/local/lib/node_modules"
cp "$(readlink -f "$(command -v node)")" "$root/usr/local/bin/node"
cp -a "$npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
stand_in "$node" "Debian with Node $(node --version)" --change "ENV NODE_EXTRA_CA_CERTS=$ca"

# As distroless/static: certificates, time zones, accounts, no program at all.
zones=$(mktemp -d "$work/zones-XXXX")
cp -a /usr/share/zoneinfo "$zones/" 2>/dev/null || true
rm -rf "$root"
mkdir -p "$root/etc/ssl/certs" "$root/usr/share" "$root/home/nonroot" "$root/tmp" "$root/var/tmp"
chmod 1777 "$root/tmp" "$root/var/tmp"
chown 65532:65532 "$root/home/nonroot"
chmod 755 "$root"
[ ! -d "$zones/zoneinfo" ] || mv "$zones/zoneinfo" "$root/usr/share/"
cp "$ca" "$root$ca"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n' >"$root/etc/group"
stand_in "$static" "certificates, time zones and accounts of Debian" --change "USER 65532" --change "ENV SSL_CERT_FILE=$ca"
tell
