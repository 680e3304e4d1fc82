#!/bin/bash
# Images between us, docker and podman through a registry: what we push they pull and run, and the other way round.
. "$(dirname "$0")/lib.sh"
. "$here/../registry-lib.sh"
start_registry 5850
A=127.0.0.1:5850
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null

podman_files
export DOCKER_CONFIG=$work/config
mkdir -p "$work/config" && echo '{}' > "$work/config/config.json"
podman_() { timeout --foreground 60 podman --runtime "$runtime" --tmpdir /run/peer-libpod "$@"; }
docker_() { timeout --foreground 60 docker -H "unix://$work/docker.sock" "$@"; }
dockerd --data-root "$work/docker-data" --exec-root /run/docker --pidfile "$work/docker.pid" -H "unix://$work/docker.sock" --bip 172.31.251.1/24 \
    --add-runtime "peer=$runtime" --default-runtime peer --cgroup-parent "/$parent" > "$work/dockerd.log" 2>&1 &
daemon=$!
wait_for 120 docker_ version || { fail "dockerd starts" "$(tail -n 5 "$work/dockerd.log" | tr '\n' ' ')"; finish; exit 1; }

# Ours to them.
rcon tag busybox "$A/ours/gzip:1"
rcon tag busybox "$A/ours/zstd:1"
ends "we push gzip" 0 rcon push "$A/ours/gzip:1"
ends "and zstd" 0 rcon push --compression-format zstd --compression-level 3 "$A/ours/zstd:1"
ends "docker pulls ours" 0 docker_ pull -q "$A/ours/gzip:1"
prints "and runs it" hello docker_ run --rm --network none "$A/ours/gzip:1" echo hello
expect "docker's id of it is ours" "$(rcon image inspect -f '{{.Id}}' "$A/ours/gzip:1")" "$(docker_ image inspect -f '{{.Id}}' "$A/ours/gzip:1")"
ends "podman pulls ours" 0 podman_ pull -q --tls-verify=false "$A/ours/gzip:1"
prints "and runs it" hello podman_ run --rm --network none --cgroup-parent "/$parent" "$A/ours/gzip:1" echo hello
ends "podman pulls our zstd" 0 podman_ pull -q --tls-verify=false "$A/ours/zstd:1"
prints "and runs it" zstd podman_ run --rm --network none --cgroup-parent "/$parent" "$A/ours/zstd:1" echo zstd

# Theirs to us.
docker_ tag "$A/ours/gzip:1" "$A/theirs/docker:1"
ends "docker pushes" 0 docker_ push -q "$A/theirs/docker:1"
ends "we pull docker's" 0 rcon pull -q "$A/theirs/docker:1"
prints "and run it" hello rcon run --rm --network none "$A/theirs/docker:1" echo hello
podman_ tag "$A/ours/gzip:1" "$A/theirs/podman:1"
ends "podman pushes zstd" 0 podman_ push -q --tls-verify=false --compression-format zstd "$A/theirs/podman:1"
rcon rmi -f "$A/theirs/docker:1" "$A/ours/gzip:1" "$A/ours/zstd:1" busybox > /dev/null 2>&1
ends "we pull podman's" 0 rcon pull -q "$A/theirs/podman:1"
prints "and run it" hello rcon run --rm --network none "$A/theirs/podman:1" echo hello

# A list of ours is a list of theirs.
ends "a list of both" 0 rcon manifest create "$A/list:1" "$A/theirs/docker:1"
ends "pushed" 0 rcon manifest push "$A/list:1"
ends "docker pulls by it" 0 docker_ pull -q "$A/list:1"
ends "podman pulls by it" 0 podman_ pull -q --tls-verify=false "$A/list:1"

# Archives both ways. Ours is made without the blobs: the layers are tars made again.
rcon image prune -af > /dev/null
docker_ system prune -af > /dev/null 2>&1
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
id=$(rcon image inspect -f '{{.Id}}' busybox)
rcon tag busybox ours/saved:1
rcon save -o "$work/ours.tar" ours/saved:1
ends "docker loads what we save" 0 docker_ load -q -i "$work/ours.tar"
prints "by its name, with our id" "$id" docker_ image inspect -f '{{.Id}}' ours/saved:1
prints "and runs it" hello docker_ run --rm --network none ours/saved:1 echo hello
docker_ save -o "$work/theirs.tar" ours/saved:1
rcon rmi -f busybox ours/saved:1 > /dev/null
ends "we load what docker saves" 0 rcon load -q -i "$work/theirs.tar"
prints "with the same id" "$id" rcon image inspect -f '{{.Id}}' ours/saved:1
prints "and run it" hello rcon run --rm --network none ours/saved:1 echo hello
docker_ create --name flat ours/saved:1 > /dev/null
docker_ export flat | rcon import -c 'CMD ["echo", "imported"]' - flat:1 > /dev/null
prints "what docker exports is imported" imported rcon run --rm --network none flat:1
rcon create --name flat ours/saved:1 > /dev/null
ends "docker imports what we export" 0 sh -c "'$RCON' --root '$work/data' --run-root '$work/run' export flat | docker -H 'unix://$work/docker.sock' import - flat:2"
prints "and runs it" hello docker_ run --rm --network none flat:2 echo hello
rcon rm flat > /dev/null

docker_ system prune -af > /dev/null 2>&1
kill "$daemon" 2> /dev/null
wait "$daemon" 2> /dev/null
podman_ rmi -af > /dev/null 2>&1
umount "$work/podman/overlay" 2> /dev/null
stop_registry
finish
