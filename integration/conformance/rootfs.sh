#!/bin/sh
# rootfs.sh DOCKER_ARCHIVE DIRECTORY: the only layer of a docker-archive as a root file system.
set -eu
work=$(mktemp -d /tmp/rcon-rootfs.XXXXXX)
tar -xf "$1" -C "$work"
mkdir -p "$2"
tar -xf "$work/layer1.tar" -C "$2"
rm -rf "$work"
