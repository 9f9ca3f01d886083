#!/bin/sh
# Installs the Debian packages listed in debian-packages.txt that are not there yet.
# Called by make; does nothing, and asks for nothing, when all are present.
set -eu
cd "$(dirname "$0")"

missing=""
while read -r package; do
    case $package in '#'* | '') continue ;; esac
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done <debian-packages.txt
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "These Debian packages are missing:$missing" >&2
        echo "Hint: as root, run: apt-get install --no-install-recommends$missing" >&2
        exit 2
    }
    as_root=sudo
fi
echo "Installing Debian packages:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086  # one word a package is what apt-get wants
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $missing >/dev/null
