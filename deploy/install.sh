#!/usr/bin/env bash
# install.sh PACKAGE…: installs Debian's packages where it can.
set -euo pipefail
command -v apt-get >/dev/null || { echo "install $* first: this machine has no apt-get" >&2; exit 1; }
sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
echo "installing $*" >&2
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
