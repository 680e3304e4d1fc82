#!/bin/bash
# Pulling from a real registry: plain, with a bearer token, with basic auth, by digest, several layers, zstd, by platform.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
start_registry 5811
push "$FIXTURES/busybox.tar" 127.0.0.1:5811/test/busybox:1
push "$FIXTURES/mysql.tar" 127.0.0.1:5811/test/mysql:5.7
push "$FIXTURES/busybox.tar" 127.0.0.1:5811/test/busybox:zstd --format oci --dest-compress-format zstd

expect "pull" 0 "$(rcon pull localhost:5811/test/busybox:1 > "$work/pull.out" 2>&1; echo $?)"
expect "its last line is the reference" "localhost:5811/test/busybox:1" "$(tail -n 1 "$work/pull.out")"
expect "a second pull is up to date" 1 "$(rcon pull localhost:5811/test/busybox:1 | grep -c 'up to date')"
expect "it runs" hello "$(rcon run --rm --network none localhost:5811/test/busybox:1 echo hello)"
digest=$(rcon image inspect -f '{{index .RepoDigests 0}}' localhost:5811/test/busybox:1)
expect "pull by digest" 0 "$(rcon pull "$digest" > /dev/null 2>&1; echo $?)"
expect "a wrong digest is refused" 1 "$(rcon pull localhost:5811/test/busybox@sha256:$(printf '0%.0s' $(seq 64)) > /dev/null 2>&1; echo $?)"
expect "zstd layers" zstd "$(rcon run --rm --network none localhost:5811/test/busybox:zstd echo zstd 2> /dev/null)"
expect "two layers, run with --pull missing" mariadbd "$(basename "$(rcon run --rm --network none --entrypoint readlink localhost:5811/test/mysql:5.7 /usr/sbin/mysqld 2> /dev/null)")"
expect "--pull never of an unknown image" 125 "$(rcon run --rm --pull never localhost:5811/test/none true > /dev/null 2>&1; echo $?)"
rcon pull localhost:5811/test/none > "$work/none.out" 2>&1
expect "a missing image is an error that names it" "1 1" "$? $(grep -c 'localhost:5811/test/none' "$work/none.out")"

# The files are what the tar says: types, modes, owners, times of the whole tree.
mkdir "$work/tree"
for layer in 1 2; do tar -xf "$FIXTURES/mysql.tar" -C "$work" "./layer$layer.tar" && tar -xpf "$work/layer$layer.tar" -C "$work/tree" --xattrs --xattrs-include='*'; done
list='find . -mindepth 1 ! -path "./dev*" ! -path "./proc*" ! -path "./sys*" ! -path "./etc/hosts" ! -path "./etc/hostname" ! -path "./etc/resolv.conf" ! -path "./var/lib/mysql*" -printf "%p %y %m %U:%G %s %l %T@\n" | grep -v "^[^ ]* d" | sort'
(cd "$work/tree" && LC_ALL=C sh -c "$list") > "$work/want.txt"
rcon create --name tree localhost:5811/test/mysql:5.7 > /dev/null
mkdir "$work/got" && rcon cp tree:/ - | tar -xpf - -C "$work/got" 2> /dev/null
(cd "$work/got" && LC_ALL=C sh -c "$list") > "$work/have.txt"
expect "unpacked tree equals tar's ($(wc -l < "$work/want.txt") entries)" 0 "$(diff "$work/want.txt" "$work/have.txt" > "$work/tree.diff"; echo $?)"
rcon rm tree > /dev/null

# Anonymous bearer tokens, as Docker Hub gives them; and credentials of config.json.
start_tokens 5813
AUTH_YAML="auth: {token: {realm: 'http://127.0.0.1:5813/token', service: test, issuer: test, rootcertbundle: $work/token/cert.pem}}" start_registry 5812
mkdir -p "$work/auth"
printf '{"auths":{"localhost:5812":{"auth":"%s"}}}' "$(printf 'user:secret' | base64)" > "$work/auth/config.json"
cp -r "$work/registry-5811/docker" "$work/registry-5812/"
expect "anonymous token flow" 0 "$(rcon pull localhost:5812/test/busybox:1 > "$work/anon.out" 2>&1; echo $?)"
expect "a private repository needs credentials" 1 "$(rcon pull localhost:5812/test/mysql:5.7 > "$work/denied.out" 2>&1; echo $?)"
expect "and says so" 0 "$(grep -qiE 'denied|unauthorized|log ?in' "$work/denied.out"; echo $?)"
expect "credentials of config.json" 0 "$(rcon --config "$work/auth" pull localhost:5812/test/mysql:5.7 > /dev/null 2>&1; echo $?)"

no_leaks "nothing is left"
stop_registry
finish
