#!/usr/bin/env bash
# Sees to it that there is a browser for the portal's tests, installing Debian's
# Chromium where it can. CHROMIUM names one that is somewhere else.
set -euo pipefail
if [ -n "${CHROMIUM:-}" ] || command -v chromium chromium-browser google-chrome >/dev/null 2>&1; then exit 0; fi
exec "$(dirname "$0")/install.sh" chromium fonts-liberation
