#!/bin/bash
# large.sh DIR: layers for the pull benchmark as OCI layouts under DIR: `debian` (many files, about 600 MB in 8 layers),
# `single` (2 GB in one layer) and `tiny` (40 layers of one file). Packed with gzip as registries hold them.
set -euo pipefail
out=$1
here=$(dirname "$(readlink -f "$0")")
mkdir -p "$out"
work=$(mktemp -d "$out/.large.XXXXXX")
trap 'rm -rf "$work"' EXIT
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
"$here/bootstrap.sh" --include=gcc,g++,python3,perl,git,cmake,vim "$suite" "$work/root.tar"
exec "$here/large.py" "$work/root.tar" "$out"
