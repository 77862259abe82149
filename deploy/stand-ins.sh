#!/usr/bin/env bash
# Makes stand-ins for the images that deploy/Dockerfile begins with, from Debian
# packages and this machine's own Go and Node, for a machine that reaches no image
# registry. They prove the Dockerfile's steps and the image's contents, not the
# layers of the real base images. Needs podman and mmdebstrap (apt).
set -euo pipefail
images=(docker.io/library/golang:1.26-bookworm docker.io/library/node:22-bookworm-slim gcr.io/distroless/static-debian12:nonroot)
missing=0
for i in "${images[@]}"; do podman image exists "$i" || missing=1; done
[ $missing = 1 ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ca=/etc/ssl/certs/ca-certificates.crt
root=$work/root
cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources >"$work/sources" 2>/dev/null || true
mmdebstrap --quiet --variant=minbase --include=ca-certificates,libstdc++6 bookworm "$root" - <"$work/sources"
cp "$ca" "$root$ca" # with what this machine trusts besides
chmod 755 "$root"

# NAME ENV… is the root filesystem as it is, with that environment.
stand_in() { # name, import options…
  tar -C "$root" -c . | podman import -q "${@:2}" - "$1" >/dev/null
  echo "stand-in $1"
}
mkdir -p "$root/usr/local"
cp -a "$(go env GOROOT)" "$root/usr/local/go"
stand_in "${images[0]}" --change "ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
  --change "ENV GOTOOLCHAIN=local" --change "ENV SSL_CERT_FILE=$ca"
rm -rf "$root/usr/local/go"

npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
mkdir -p "$root/usr/local/lib/node_modules"
cp "$(readlink -f "$(command -v node)")" "$root/usr/local/bin/node"
cp -a "$npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
stand_in "${images[1]}" --change "ENV NODE_EXTRA_CA_CERTS=$ca"

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
stand_in "${images[2]}" --change "USER 65532" --change "ENV SSL_CERT_FILE=$ca"
