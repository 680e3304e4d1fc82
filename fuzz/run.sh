#!/bin/bash
# run.sh [TARGET...]: each fuzz target for FUZZ_SECONDS (60) on a tmpfs of its own. New inputs are kept in target/fuzz, so that
# the next run goes on from them; an input that breaks something is printed with its path and ends the run.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cd "$here"
targets=("$@")
[ $# -gt 0 ] || targets=(tar_apply split_read manifest dns cni_result dockerfile)
out="$here/../target/fuzz"
mkdir -p "$out"
# Coverage of edges and of compared values guides the fuzzer; the flags are those of cargo-fuzz without a sanitizer of memory,
# which needs a nightly compiler: what is fuzzed has no unsafe code.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
triple=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$coverage" cargo build --quiet --release --target "$triple" --target-dir "$out/build" --bins
if [ ! -d "$out/seeds" ]; then
    python3 ../integration/unpack-corpus.py make "$out/images"
    mkdir -p "$out/seeds/tar_apply" "$out/seeds/manifest" "$out/seeds/split_read"
    find "$out/images" -path '*/blobs/*' -type f -size -64k | while read -r blob; do
        if [ "$(head -c 2 "$blob" | od -An -tx1 | tr -d ' ')" = 1f8b ]; then
            zcat "$blob" 2> /dev/null | head -c 65536 > "$out/seeds/tar_apply/$(basename "$blob")" || true
        else
            cp "$blob" "$out/seeds/manifest/"
        fi
    done
    printf '\x01\x03abc\x02\x01f\x00\x04\x04\x00\x01f\x02\x03d/g\x00\x05\x03\x01\x02\x04\x01\x01d\x00\x0e' > "$out/seeds/split_read/sample"
    rm -rf "$out/images"
fi
if [ ! -d "$out/seeds/dns" ]; then
    mkdir -p "$out/seeds/dns"
    printf '\x00\x1f\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02db\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00ndb\t10.0.0.9\np10.0.0.9\tdb\n' > "$out/seeds/dns/sample"
fi
if [ ! -d "$out/seeds/cni_result" ]; then
    mkdir -p "$out/seeds/cni_result"
    echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1450,"sandbox":"/n"}],"ips":[{"version":"4","address":"10.1.0.5/16","gateway":"10.1.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}],"dns":{"nameservers":["10.1.0.1"],"domain":"x","search":["a"],"options":["b"]}}' > "$out/seeds/cni_result/sample"
fi
if [ ! -d "$out/seeds/dockerfile" ]; then
    mkdir -p "$out/seeds/dockerfile"
    cat > "$out/seeds/dockerfile/sample" << 'END'
# syntax=docker/dockerfile:1
# check=skip=A;error=true
ARG a=1
FROM --platform=$BUILDPLATFORM a:${a:-2}@sha256:x AS one
ENV a=b "c d"='${a}e' \
  # comment
  f=${a##*/}${b//x/y}${c%%.*}${d:?no}
RUN --mount=type=cache,target=/x,id=$a,sharing=locked --network=none <<-EOF
	#!/bin/sh
	EOF
RUN ["a", "b"]
COPY --from=one --chown=$a:b --link --parents --exclude=*.o a/./b <<F <<'G' /d/
$a
F
G
ADD --checksum=sha256:x --unpack=true https://x/y /z
HEALTHCHECK --interval=1m30s --retries=3 CMD x
ONBUILD COPY a b
EXPOSE 80-90/udp 127.0.0.1:1:2
VOLUME ["/a"]
SHELL ["/bin/sh", "-c"]
STOPSIGNAL 9
LABEL a b
ENTRYPOINT x
CMD []
USER u:g
WORKDIR ../w
MAINTAINER m
END
    printf '# escape=`\r\nfrom a as B\r\nrun a `\r\n\r\n b\r\n' > "$out/seeds/dockerfile/backtick"
fi
run() { # TARGET
    mount -t tmpfs -o size=512m,mode=700 fuzz "$FUZZ_WORK"
    mkdir -p "$out/corpus/$1" "$out/found"
    "$out/build/$triple/release/$1" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -verbosity=1 -artifact_prefix="$out/found/$1-" "$out/corpus/$1" "$out/seeds/$1" 2> "$out/$1.log" || { tail -n 40 "$out/$1.log"; return 1; }
    umount "$FUZZ_WORK"
    echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$1.log") inputs, $(ls "$out/corpus/$1" | wc -l) kept, none broke it"
}
FUZZ_WORK=$(mktemp -d)
trap 'umount "$FUZZ_WORK" 2> /dev/null || true; rmdir "$FUZZ_WORK"' EXIT
export FUZZ_WORK
for target in "${targets[@]}"; do run "$target"; done
