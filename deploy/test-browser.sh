#!/usr/bin/env bash
# Sees to it that there is a browser for the portal's tests, installing Debian's
# Chromium where it can. CHROMIUM names one that is somewhere else.
set -euo pipefail
if [ -n "${CHROMIUM:-}" ] || command -v chromium chromium-browser google-chrome >/dev/null 2>&1; then exit 0; fi
command -v apt-get >/dev/null || { echo "install Chromium first, or name it in CHROMIUM: this machine has no apt-get" >&2; exit 1; }
sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
echo "installing chromium" >&2
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null
