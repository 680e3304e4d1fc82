#!/bin/bash
# target.sh [install]: prints the target that rcon is built for: musl where its C compiler and Rust's library for it are there (a
# start of the binary takes a third of the time of one with glibc, whose start asks the processor some hundred questions that a
# virtual machine leaves for the hypervisor), else the host's own. With install: brings Rust's library if rustup can.
set -euo pipefail
machine=$(uname -m)
musl=$machine-unknown-linux-musl
if command -v musl-gcc > /dev/null; then
    library=$(rustc --print sysroot)/lib/rustlib/$musl/lib
    if [ "${1:-}" = install ] && [ ! -d "$library" ] && command -v rustup > /dev/null; then
        timeout 600 "$(dirname "$(readlink -f "$0")")/again.sh" timeout 200 rustup target add "$musl" > /dev/null 2>&1 || echo "Rust's library for $musl cannot be had: building for the host's own C library" >&2
    fi
    [ ! -d "$library" ] || { echo "$musl"; exit; }
fi
rustc -vV | sed -n 's/^host: //p'
