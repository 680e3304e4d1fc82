#!/bin/bash
# debian.sh OUT: a small Debian (stable, minbase) as an image.
set -euo pipefail
out=$1
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d "$(dirname "$out")/.debian.XXXXXX")
trap 'rm -rf "$work"' EXIT
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
"$here/bootstrap.sh" --include=ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/layer.tar"
"$here/image.sh" "$out" debian:latest \
    '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["bash"]}' "$work/layer.tar"
