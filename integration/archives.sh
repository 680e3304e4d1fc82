#!/bin/bash
# save and load round trips, with skopeo as the other party; rmi frees the space.
. "$(dirname "$0")/lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
id=$(rcon image inspect -f '{{.Id}}' busybox)
rcon tag busybox copy:1
rcon save -o "$work/saved.tar" busybox copy:1
expect "save" 0 $?
expect "skopeo reads it as a docker-archive" "$id" "$(skopeo inspect --raw --config "docker-archive:$work/saved.tar:docker.io/library/busybox:latest" 2> /dev/null | sha256sum | sed 's/ .*//; s/^/sha256:/')"
mkdir "$work/layout" && tar -xf "$work/saved.tar" -C "$work/layout"
expect "it is an OCI layout too" "1.0.0" "$(jq -r .imageLayoutVersion "$work/layout/oci-layout")"
expect "with blobs that match their names" "" "$(cd "$work/layout/blobs/sha256" && for f in *; do [ "$(sha256sum < "$f" | cut -d' ' -f1)" = "$f" ] || echo "$f"; done)"
rcon rmi busybox copy:1 > /dev/null
expect "rmi removes the image" "" "$(rcon images -q)"
expect "and its layers and blobs" "" "$(find "$work/data/layers" "$work/data/blobs" -mindepth 2 2> /dev/null | head -n 3)"
expect "load brings it back, two names" "Loaded image: busybox:latest Loaded image: copy:1" "$(rcon load -i "$work/saved.tar" | sort | tr '\n' ' ' | sed 's/ $//')"
expect "with the same id" "$id" "$(rcon image inspect -f '{{.Id}}' copy:1)"
gzip -k "$work/saved.tar"
expect "a gzipped archive from stdin" 0 "$(rcon load -q < "$work/saved.tar.gz" > /dev/null; echo $?)"
skopeo copy --quiet --insecure-policy "docker-archive:$FIXTURES/busybox.tar" "oci-archive:$work/oci.tar:other:2"
expect "an OCI archive of another tool" 1 "$(rcon load -i "$work/oci.tar" | grep -c 'Loaded image')"
head -c 1000000 "$work/saved.tar" > "$work/cut.tar"
rcon rmi -f busybox copy:1 > /dev/null 2>&1
expect "a cut archive is refused" 1 "$(rcon load -i "$work/cut.tar" > /dev/null 2>&1; echo $?)"
expect "and leaves no image" "" "$(rcon images -q busybox)"
no_leaks "nothing is left"
finish
