#!/bin/bash
# image.sh OUT NAME CONFIG_JSON LAYER_TAR...: a docker-archive of the given layers (base first).
# CONFIG_JSON is the "config" object of the image document. Times are fixed: the same layers give the same image id.
set -euo pipefail
out=$1 name=$2 config=$3
shift 3
case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch=$(uname -m) ;;
esac
work=$(mktemp -d "$(dirname "$out")/.image.XXXXXX")
trap 'rm -rf "$work"' EXIT
diff_ids= layers= n=0
for layer in "$@"; do
    n=$((n + 1))
    cp "$layer" "$work/layer$n.tar"
    sum=$(sha256sum "$work/layer$n.tar" | cut -d' ' -f1)
    diff_ids+="${diff_ids:+,}\"sha256:$sum\""
    layers+="${layers:+,}\"layer$n.tar\""
done
printf '{"architecture":"%s","os":"linux","created":"2024-01-01T00:00:00Z","config":%s,"rootfs":{"type":"layers","diff_ids":[%s]},"history":[{"created":"2024-01-01T00:00:00Z","created_by":"rootfs-fixtures"}]}' \
    "$arch" "$config" "$diff_ids" > "$work/config.json"
id=$(sha256sum "$work/config.json" | cut -d' ' -f1)
mv "$work/config.json" "$work/$id.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":[%s]}]' "$id" "$name" "$layers" > "$work/manifest.json"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work" -cf "$out.tmp" .
mv "$out.tmp" "$out"
