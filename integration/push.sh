#!/bin/bash
# Pushing to real registries (plain and with bearer tokens): what is sent and what is not, digests that stay, zstd,
# manifest lists, artifacts with subjects, all tags, searches, and a push that is killed.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
start_registry 5840
start_registry 5841
A=127.0.0.1:5840 B=127.0.0.1:5841
raw() { skopeo inspect --tls-verify=false --raw "docker://$1"; }
digest_at() { raw "$1" | sha256sum | sed 's/ .*//; s/^/sha256:/'; }
# What broke, this registry purges itself, some day.
uploads() { find "$work/registry-$1" -path '*_uploads/*' ! -path '*/cut/*' -type f 2> /dev/null | wc -l; }
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon load -q -i "$FIXTURES/mysql.tar" > /dev/null
mysql=$(rcon images --format '{{.Repository}}:{{.Tag}}' | grep mysql | head -n 1)

# The plain push, as docker words it.
rcon tag busybox "$A/test/busybox"
rcon push "$A/test/busybox" > "$work/push.out" 2> "$work/push.err"
expect "push" 0 $?
expect "its first lines" "Using default tag: latest|The push refers to repository [$A/test/busybox]" "$(head -n 2 "$work/push.out" | paste -sd'|')"
expect "its last line" 1 "$(tail -n 1 "$work/push.out" | grep -cE '^latest: digest: sha256:[0-9a-f]{64} size: [0-9]+$')"
pushed=$(sed -n 's/^latest: digest: \([^ ]*\) .*/\1/p' "$work/push.out")
expect "the registry has that manifest" "$pushed" "$(digest_at "$A/test/busybox")"
expect "the config is the image" "$(rcon image inspect -f '{{.Id}}' busybox)" "$(raw "$A/test/busybox" | jq -r .config.digest)"
expect "the layer is compressed" 1 "$(raw "$A/test/busybox" | jq -r '.layers[].mediaType' | grep -c 'gzip')"
expect "the image has that digest now" 1 "$(rcon images --digests "$A/test/busybox" | grep -c "$pushed")"
expect "skopeo reads all of it" 0 "$(skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$A/test/busybox" "dir:$work/dir1" > /dev/null 2>&1; echo $?)"
expect "a second push sends no layer" 1 "$(rcon push "$A/test/busybox" | grep -c 'Layer already exists')"
expect "and gives the same digest" "$pushed" "$(digest_at "$A/test/busybox")"
expect "push -q says the name alone" "$A/test/busybox:latest" "$(rcon push -q "$A/test/busybox")"
rcon tag busybox "$A/other/name:1"
expect "another repository of the registry: by mount" 1 "$(rcon push "$A/other/name:1" | grep -c ': Mounted from test/busybox')"
expect "with the same digest" "$pushed" "$(digest_at "$A/other/name:1")"
rcon push -q --digestfile "$work/digest" "$A/other/name:1" > /dev/null
expect "--digestfile" "$pushed" "$(cat "$work/digest")"

# Digests stay what they were.
skopeo copy --quiet --insecure-policy --dest-tls-verify=false "docker-archive:$FIXTURES/mysql.tar" "docker://$A/foreign/mysql:1"
foreign=$(digest_at "$A/foreign/mysql:1")
rcon pull -q "$A/foreign/mysql:1" > /dev/null
rcon tag "$A/foreign/mysql:1" "$A/mine/mysql:1"
rcon tag "$A/foreign/mysql:1" "$B/mine/mysql:1"
expect "pulled and pushed beside: mounted" 2 "$(rcon push "$A/mine/mysql:1" | grep -c 'Mounted from')"
expect "the digest is the one pulled" "$foreign" "$(digest_at "$A/mine/mysql:1")"
expect "pushed to another registry" 0 "$(rcon push "$B/mine/mysql:1" > "$work/b.out" 2>&1; echo $?)"
expect "the digest is the one pulled there too" "$foreign" "$(digest_at "$B/mine/mysql:1")"
# Without the blobs of the store they come from where they were pulled.
rm -rf "$work"/data/blobs/sha256/*
start_registry 5842
rcon tag "$A/foreign/mysql:1" "127.0.0.1:5842/mine/mysql:1"
expect "no blobs held: pushed from where they came from" 0 "$(rcon push "127.0.0.1:5842/mine/mysql:1" > "$work/c.out" 2>&1; echo $?)"
expect "with the digest pulled" "$foreign" "$(digest_at "127.0.0.1:5842/mine/mysql:1")"

# Compression.
rcon load -q -i "$FIXTURES/mysql.tar" > /dev/null
rcon tag "$mysql" "$A/test/mysql:zstd"
expect "--compression-format zstd" 0 "$(rcon push --compression-format zstd --compression-level 5 "$A/test/mysql:zstd" > "$work/zstd.out" 2>&1; echo $?)"
expect "its layers" "application/vnd.oci.image.layer.v1.tar+zstd" "$(raw "$A/test/mysql:zstd" | jq -r '.layers[].mediaType' | sort -u)"
once=$(digest_at "$A/test/mysql:zstd")
rcon tag "$mysql" "$B/test/mysql:zstd"
rcon push -q --compression-format zstd --compression-level 5 "$B/test/mysql:zstd" > /dev/null 2>&1
expect "compression repeats itself" "$once" "$(digest_at "$B/test/mysql:zstd")"
expect "skopeo reads zstd" 0 "$(skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$A/test/mysql:zstd" "dir:$work/dir2" > /dev/null 2>&1; echo $?)"
other() { "$RCON" --root "$work/data2" --run-root "$work/run2" "$@"; }
expect "zstd pulled by us again" "$A/test/mysql:zstd" "$(other pull -q "$A/test/mysql:zstd")"
expect "is the same image" "$(rcon image inspect -f '{{.Id}}' "$mysql")" "$(other image inspect -f '{{.Id}}' "$A/test/mysql:zstd")"
expect "a level that is none" 1 "$(rcon push --compression-level 99 "$A/test/mysql:zstd" 2>&1 | grep -c 'gzip has the levels 1 to 9')"
expect "a format that is none" 1 "$(rcon push --compression-format zstd:chunked "$A/test/mysql:zstd" 2>&1 | grep -c 'zstd:chunked is not supported')"

# All tags.
for tag in one two; do rcon tag busybox "$A/tags/many:$tag"; done
expect "push -a" "one: two:" "$(rcon push -a "$A/tags/many" | grep -o '^[a-z]*: digest' | sed 's/ digest//' | paste -sd' ')"
expect "push -a with a tag" 1 "$(rcon push -a "$A/tags/many:one" 2>&1 | grep -c "tag can't be used with --all-tags/-a")"
expect "pull -a" 2 "$(other pull -a "$A/tags/many" | grep -c '^Status: ')"
expect "both are there" "one two" "$(other images --format '{{.Tag}}' "$A/tags/many" | sort | paste -sd' ')"

# What is refused.
expect "an image that is not here" 1 "$(rcon push "$A/no/such" 2>&1 | grep -c 'An image does not exist locally with the tag')"
expect "a digest" 1 "$(rcon push "$A/test/busybox@$pushed" 2>&1 | grep -c 'a digest names what exists already')"
expect "another platform" 1 "$(rcon push --platform linux/s390x "$A/test/busybox" 2>&1 | grep -c 'not for linux/s390x')"
expect "a registry that is not there" 1 "$(rcon tag busybox 127.0.0.1:5859/x; rcon push 127.0.0.1:5859/x 2>&1 | grep -c 'cannot reach registry 127.0.0.1:5859')"

# Manifest lists.
skopeo copy --quiet --insecure-policy --src-tls-verify=false --format oci "docker://$A/test/busybox" "oci:$work/layout:x"
skopeo copy --quiet --insecure-policy --dest-tls-verify=false --format oci "oci:$work/layout:x" "docker://$A/list/oci:1"
skopeo copy --quiet --insecure-policy --src-tls-verify=false --dest-tls-verify=false --format v2s2 "docker://$A/list/oci:1" "docker://$A/list/docker:1"
expect "manifest create" "Created manifest list $A/list/both:1" "$(rcon manifest create "$A/list/both:1" "$A/list/oci:1")"
expect "not twice" 1 "$(rcon manifest create "$A/list/both:1" "$A/list/oci:1" 2>&1 | grep -c 'refusing to amend')"
rcon manifest create --amend "$A/list/both:1" "$A/list/docker:1" > /dev/null
expect "annotate" 0 "$(rcon manifest annotate --os linux --arch arm64 --variant v8 --os-features a,b "$A/list/both:1" "$A/list/docker:1"; echo $?)"
expect "annotate a stranger" 1 "$(rcon manifest annotate --arch arm64 "$A/list/both:1" "$A/list/none:1" > /dev/null 2>&1; echo $?)"
expect "inspect shows the local list" "amd64 arm64" "$(rcon manifest inspect "$A/list/both:1" | jq -r '.manifests[].platform.architecture' | paste -sd' ')"
expect "inspect -v shows its members" 2 "$(rcon manifest inspect -v "$A/list/both:1" | jq 'map(select(.Descriptor.digest and .Ref)) | length')"
list=$(rcon manifest push "$A/list/both:1")
expect "manifest push" 0 $?
expect "skopeo sees the index" "application/vnd.oci.image.index.v1+json $list" "$(raw "$A/list/both:1" | jq -r .mediaType) $(digest_at "$A/list/both:1")"
expect "with what was annotated" "v8 a" "$(raw "$A/list/both:1" | jq -r '.manifests[1].platform | .variant + " " + .["os.features"][0]')"
expect "its members are in its repository" 0 "$(skopeo copy --all --quiet --insecure-policy --src-tls-verify=false "docker://$A/list/both:1" "dir:$work/dir3" > /dev/null 2>&1; echo $?)"
expect "pull by platform out of it" 0 "$(other pull -q --platform linux/arm64 "$A/list/both:1" > /dev/null 2>&1; echo $?)"
expect "pull by its digest" 0 "$(other pull -q "$A/list/both@$list" > /dev/null 2>&1; echo $?)"
rcon manifest create "$B/list/away:1" "$A/list/docker:1" > /dev/null
expect "a list on another registry, purged" 0 "$(rcon manifest push -p "$B/list/away:1" > "$work/away" 2>&1; echo $?)"
expect "of docker manifests alone is docker's" "application/vnd.docker.distribution.manifest.list.v2+json" "$(raw "$B/list/away:1" | jq -r .mediaType)"
expect "its members were brought there" 0 "$(skopeo copy --all --quiet --insecure-policy --src-tls-verify=false "docker://$B/list/away:1" "dir:$work/dir4" > /dev/null 2>&1; echo $?)"
expect "and the local list is gone" 1 "$(rcon manifest rm "$B/list/away:1" 2>&1 | grep -c 'No such manifest')"
expect "manifest rm" 0 "$(rcon manifest rm "$A/list/both:1"; echo $?)"
expect "inspect of what the registry has" "$list" "$(rcon manifest inspect -v "$A/list/both:1" | jq -r '.[0].Ref' > /dev/null; digest_at "$A/list/both:1")"

# Artifacts.
echo '{"sbom":1}' > "$work/sbom.json"
artifact=$(rcon artifact push -q --artifact-type application/x.sbom --annotation k=v --subject "$A/test/busybox" "$A/test/busybox" "$work/sbom.json")
expect "artifact push with a subject" 0 $?
expect "its image lists it" "$artifact application/x.sbom v" "$(rcon manifest inspect --referrers "$A/test/busybox" | jq -r '.manifests[0] | .digest + " " + .artifactType + " " + .annotations.k')"
expect "by type" 0 "$(rcon manifest inspect --referrers --artifact-type application/x.other "$A/test/busybox" | jq '.manifests | length')"
expect "the image's tag is what it was" "$pushed" "$(digest_at "$A/test/busybox")"
expect "artifact pull" "$artifact" "$(rcon artifact pull -q -o "$work/got" "$A/test/busybox@$artifact")"
expect "the file is the same" 0 "$(cmp "$work/sbom.json" "$work/got/sbom.json"; echo $?)"
expect "pull of it as an image is refused" 1 "$(rcon pull "$A/test/busybox@$artifact" 2>&1 | grep -c 'artifact')"
expect "and of an image as an artifact" 1 "$(rcon artifact pull -o "$work/got" "$A/test/busybox" 2>&1 | grep -c 'use rcon pull')"

# Search: the catalogue of a plain registry, and docker's search of a fake one.
expect "search a catalogue" "$A/list/both $A/list/docker $A/list/oci" "$(rcon search --format '{{.Name}}' "$A/list" | sort | paste -sd' ')"
expect "--limit" 1 "$(rcon search --limit 1 --format '{{.Name}}' "$A/list" | wc -l)"
python3 "$(dirname "$0")/search-server.py" 5843 > /dev/null 2>&1 &
search=$!
registry_pids="$registry_pids $search"
listens 5843
expect "docker's search" "NAME DESCRIPTION STARS OFFICIAL" "$(rcon search 127.0.0.1:5843/web | head -n 1 | xargs)"
expect "filters" "127.0.0.1:5843/web" "$(rcon search --filter is-official=true --filter stars=10 --format '{{.Name}}' 127.0.0.1:5843/web)"
expect "an unknown filter" 1 "$(rcon search --filter colour=red 127.0.0.1:5843/web > /dev/null 2>&1; echo $?)"
expect "a limit that is none" 1 "$(rcon search --limit 101 x 2>&1 | grep -c 'it must be 1 to 100')"

# With tokens.
start_tokens 5845
AUTH_YAML="auth: {token: {realm: 'http://127.0.0.1:5845/token', service: test, issuer: test, rootcertbundle: $work/token/cert.pem}}" start_registry 5844
mkdir -p "$work/auth"
printf '{"auths":{"127.0.0.1:5844":{"auth":"%s"}}}' "$(printf 'user:secret' | base64)" > "$work/auth/config.json"
rcon tag busybox 127.0.0.1:5844/private/busybox:1
rcon tag busybox 127.0.0.1:5844/private/again:1
rcon push 127.0.0.1:5844/private/busybox:1 > "$work/denied.out" 2>&1
expect "a push without a login is denied" "1 1 1" "$? $(grep -c 'push access denied for 127.0.0.1:5844/private/busybox' "$work/denied.out") $(grep -c '^hint: ' "$work/denied.out")"
expect "with one it is not" 0 "$(rcon --config "$work/auth" push 127.0.0.1:5844/private/busybox:1 > "$work/token.out" 2>&1; echo $?)"
expect "and mounts with a token for both" 1 "$(rcon --config "$work/auth" push 127.0.0.1:5844/private/again:1 | grep -c 'Mounted from private/busybox')"

# Broken uploads end right: begun anew where the registry cannot go on with them (as this one cannot), and taken up at
# the byte where it can.
python3 "$(dirname "$0")/registry-image.py" "$work/large.tar" 1 24000000
rcon load -q -i "$work/large.tar" > /dev/null
python3 "$(dirname "$0")/upload-proxy.py" 127.0.0.1:5846 127.0.0.1:5840 2 9000000 2> "$work/proxy.err" &
registry_pids="$registry_pids $!"
python3 "$(dirname "$0")/upload-server.py" 5847 2 9000000 "$work/sent" 2> "$work/server.err" &
registry_pids="$registry_pids $!"
for port in 5846 5847; do listens "$port"; done
rcon tag t:1 127.0.0.1:5846/cut/large:1
rcon tag t:1 127.0.0.1:5847/cut/large:1
expect "an upload cut twice" 0 "$(rcon push --compression-level 1 127.0.0.1:5846/cut/large:1 > "$work/cut.out" 2>&1; echo $?)"
expect "it says that it retries" 2 "$(grep -c 'Retrying in' "$work/cut.out")"
expect "and it is whole" 0 "$(skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$A/cut/large:1" "dir:$work/dir5" > /dev/null 2>&1; echo $?)"
expect "an upload cut twice, to a registry that goes on" 0 "$(rcon push 127.0.0.1:5847/cut/large:1 > "$work/cut2.out" 2>&1; echo $?)"
expect_in "what arrived is not sent again" 24000000 24100000 "$(cat "$work/sent")"

# Killed pushes leave nothing here, and the next one works.
for point in 0.02 0.05 0.1 0.2 0.4; do
    rcon tag t:1 "$B/killed/large:$point"
    # Not by our function, whose shell alone would be killed.
    "$RCON" --root "$work/data" --run-root "$work/run" push --compression-level 1 "$B/killed/large:$point" > /dev/null 2>&1 &
    pid=$!
    sleep "$point"
    kill -9 "$pid" 2> /dev/null
    wait "$pid" 2> /dev/null
done
expect "killed pushes leave no file" "" "$(ls "$work/data/ingest")"
expect "and the next push works" 0 "$(rcon push --compression-level 1 "$B/killed/large:0.4" > /dev/null 2>&1; echo $?)"
expect "a registry holds no open uploads of ended pushes" 0 "$(uploads 5840)"

no_leaks "nothing is left"
stop_registry
finish
