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

rcon image prune -af > /dev/null
# Every form, read by the tools of others; theirs, read by us.
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon tag busybox copy:1
config_of() { skopeo inspect --raw --config "$1" 2> /dev/null | sha256sum | sed 's/ .*//; s/^/sha256:/'; }
rcon save --format oci-archive -o "$work/our-oci.tar" busybox
rcon save --format oci-dir -o "$work/our-oci" busybox copy:1
rcon save --format docker-dir -o "$work/our-dir" busybox
expect "skopeo reads the OCI archive" "$id" "$(config_of "oci-archive:$work/our-oci.tar:latest")"
expect "skopeo reads the OCI directory, by either name" "$id $id" "$(config_of "oci:$work/our-oci:latest") $(config_of "oci:$work/our-oci:1")"
expect "skopeo reads the docker directory" "$id" "$(config_of "dir:$work/our-dir")"
expect "the layer saved is the tar that the DiffID names" "$(rcon image inspect -f '{{index .RootFS.Layers 0}}' busybox)" \
    "$(jq -r '.layers[0].digest' "$work/our-dir/manifest.json")"
peer() { podman --root "$work/podman" --runroot "$work/podman-run" --tmpdir "$work/podman-tmp" --storage-driver vfs --cgroup-manager cgroupfs "$@" 2>> "$work/podman.err"; }
rcon save -o "$work/ours.tar" busybox copy:1
for archive in ours our-oci; do
    expect "podman loads $archive.tar" 0 "$(peer load -q -i "$work/$archive.tar" > /dev/null; echo $?)"
    expect "with the same id" "${id#sha256:}" "$(peer image inspect -f '{{.Id}}' "$(peer images -q | head -n 1)")"
    [ $archive = our-oci ] || continue
    for form in docker-archive oci-archive; do
        peer save -q --format $form -o "$work/podman-$form.tar" "$(peer images -q | head -n 1)" > /dev/null
        rcon rmi -f busybox copy:1 > /dev/null 2>&1
        expect "podman's $form is loaded" "0 $id" "$(rcon load -q -i "$work/podman-$form.tar" > /dev/null 2>&1; echo "$? $(rcon images -q --no-trunc)")"
        rcon rmi -f "$id" > /dev/null
    done
done
for squeeze in bzip2 xz zstd; do
    $squeeze -c -q "$work/ours.tar" > "$work/ours.tar.$squeeze"
    expect "an archive compressed by $squeeze" 2 "$(rcon load -i "$work/ours.tar.$squeeze" 2> /dev/null | grep -c 'Loaded image')"
done

# With kept blobs the manifest is the original one, to its digest.
rcon rmi -f busybox copy:1 > /dev/null 2>&1
skopeo copy --quiet --insecure-policy "docker-archive:$FIXTURES/busybox.tar" "oci-archive:$work/packed.tar:kept:1"
RCON_KEEP_BLOBS=1 rcon load -q -i "$work/packed.tar" > /dev/null
rcon save --format oci-dir -o "$work/kept" kept:1
tar -xf "$work/packed.tar" -C "$work" index.json
expect "kept blobs keep the manifest's digest" "$(jq -r '.manifests[0].digest' "$work/index.json")" "$(jq -r '.manifests[0].digest' "$work/kept/index.json")"
rcon rmi kept:1 > /dev/null

no_leaks "nothing is left"
finish
