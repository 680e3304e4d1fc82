#!/bin/bash
# Outputs of builds in a real registry: compression, digests without a tag, annotations, images that are nowhere but there; the
# same bytes from two data roots; archives of a killed build.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
start_registry 5847
repository=127.0.0.1:5847/out
context=$work/context
mkdir -p "$context"
head -c 3000000 /dev/urandom | base64 > "$context/file"
printf 'FROM busybox\nCOPY file /\nRUN mkdir /made && date > /made/now\n' > "$context/Dockerfile"
raw() { skopeo inspect --tls-verify=false --raw "docker://$repository$1"; }
digest() { raw "$1" | sha256sum | sed 's/ .*//; s/^/sha256:/'; }
build() { rcon build -q --metadata-file "$work/meta.json" "$@" "$context" > "$work/out" 2>&1 || { cat "$work/out"; return 1; }; }

for compression in gzip zstd uncompressed; do
    build -t "$repository:$compression" -o "type=registry,store=false,compression=$compression,force-compression=true,annotation.kind=$compression"
    expect "$compression: pushed" 0 "$?"
    suffix=+$compression
    [ $compression != uncompressed ] || suffix=
    expect "$compression: all layers are" "application/vnd.oci.image.layer.v1.tar$suffix" "$(raw :$compression | jq -r '.layers[].mediaType' | sort -u)"
    expect "$compression: the annotation" "$compression" "$(raw :$compression | jq -r .annotations.kind)"
    expect "$compression: the digest in --metadata-file" "$(digest :$compression)" "$(jq -r '."containerimage.digest"' "$work/meta.json")"
    rcon pull -q "$repository:$compression" > /dev/null
    expect "$compression: it runs" 4052 "$(rcon run --rm --network none "$repository:$compression" sh -c 'wc -c < /file | cut -c 1-4' | tr -d '\n')"
    rcon rmi -f "$repository:$compression" > /dev/null
done
expect "store=false keeps nothing" 1 "$(rcon images -aq | sort -u | wc -l)"
build -t "$repository:docker" -o type=registry,oci-mediatypes=false,compression=gzip,force-compression=true
expect "Docker's media types" "application/vnd.docker.distribution.manifest.v2+json application/vnd.docker.image.rootfs.diff.tar.gzip" \
    "$(raw :docker | jq -r '"\(.mediaType) \(.layers[1].mediaType)"')"

tags() { skopeo list-tags --tls-verify=false "docker://$repository" | jq -r '.Tags | length'; }
tagged=$(tags)
build -o "type=image,name=$repository,push=true,push-by-digest=true,name-canonical=true"
pushed=$(jq -r '."containerimage.digest"' "$work/meta.json")
expect "a push by digest makes no tag" "$tagged" "$(tags)"
expect "and is found by its digest" "$pushed" "$(digest "@$pushed")"
expect "also here" 1 "$(rcon images --digests --format '{{.Digest}}' | sort -u | grep -c "$pushed")"

# Reproducible: two roots, two moments.
printf 'FROM busybox\nWORKDIR /a/b\nCOPY file /c/\nRUN mkdir /made && ln /c/file /made/hard && touch /made/now\n' > "$context/Dockerfile"
mkdir "$work/second"
other() { "$RCON" --root "$work/second/data" --run-root "$work/second/run" "$@"; }
other load -q -i "$FIXTURES/busybox.tar" > /dev/null
flags=(-q --no-cache -t same:1 --build-arg SOURCE_DATE_EPOCH=1000000000)
rcon build "${flags[@]}" -o "type=oci,dest=$work/one.tar,rewrite-timestamp=true" "$context" > /dev/null
sleep 1.1
other build "${flags[@]}" -o "type=oci,dest=$work/two.tar,rewrite-timestamp=true" "$context" > /dev/null
expect "two roots give one archive" "$(sha256sum < "$work/one.tar")" "$(sha256sum < "$work/two.tar")"
expect "which skopeo reads" "2001-09-09T01:46:40Z" "$(skopeo inspect "oci-archive:$work/one.tar" | jq -r .Created)"
other system reset -f > /dev/null

# Killed at any moment an archive is whole or not there.
wrong=0
for round in $(seq 20); do
    rm -f "$work"/killed*
    # Not by our function, whose shell alone would be killed.
    "$RCON" --root "$work/data" --run-root "$work/run" build -q -o "type=oci,dest=$work/killed.tar" "$context" > /dev/null 2>&1 &
    builder=$!
    sleep "0.$(printf %03d $((round * 15)))"
    kill -9 $builder 2> /dev/null
    wait $builder 2> /dev/null
    [ -z "$(ls "$work" | grep killed | grep -v '^killed.tar$')" ] || { echo "  round $round: a stray file"; wrong=$((wrong + 1)); }
    [ ! -e "$work/killed.tar" ] || skopeo inspect "oci-archive:$work/killed.tar" > /dev/null 2>&1 || { echo "  round $round: a part"; wrong=$((wrong + 1)); }
done
expect "20 killed builds" 0 "$wrong"
expect "the store is sound" 0 "$(rcon system check > "$work/check" 2>&1; echo $?)"
no_leaks "nothing is left"
stop_registry
finish
