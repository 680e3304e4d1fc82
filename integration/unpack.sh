#!/bin/bash
# Images that are hard to unpack look as umoci unpacks them; images that lie are refused and leave nothing.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$(readlink -f "$0")")
corpus="$here/unpack-corpus.py"
mkdir "$work/corpus"
python3 "$corpus" make "$work/corpus" || exit 1
canary=$(find "$work/corpus/canary" -printf '%p %y %m %n %s %T@\n')

for path in "$work"/corpus/valid/*; do
    name=$(basename "$path")
    rm -rf "$work/peer"
    since=$(date +%s) peer=umoci
    if ! umoci unpack --image "$path:t" "$work/peer" > "$work/peer.log" 2>&1; then
        # This umoci knows fewer kinds of entries than tar; such cases have one layer.
        rm -rf "$work/peer" && mkdir -p "$work/peer/rootfs" && peer=tar
        layer=$(jq -r '.layers[0].digest' "$path"/blobs/sha256/"$(jq -r '.manifests[0].digest | ltrimstr("sha256:")' "$path/index.json")")
        tar -C "$work/peer/rootfs" --numeric-owner -xzpf "$path/blobs/sha256/${layer#sha256:}" || { fail "$name" "neither umoci nor tar"; continue; }
    fi
    if ! id=$(tar -C "$path" -cf - . | rcon load -q 2> "$work/log" | sed 's/.*: //') || [ -s "$work/log" ]; then
        fail "$name" "$(tr '\n' ' ' < "$work/log")"
        continue
    fi
    python3 "$corpus" merge "$work/data" "$id" "$work/merged" || { fail "$name" "cannot be mounted"; continue; }
    expect "$name: as $peer unpacks it" "" "$(python3 "$corpus" compare "$work/peer/rootfs" "$work/merged" "$since" 2> "$work/log" | head -n 6)"
    umount "$work/merged"
done

printf '[image.limits]\nexpansion_allowance = "8m"\n' > "$work/limits.toml"
images=$(rcon images -aq | sort)
layers=$(ls "$work/data/layers" | sort)
for path in "$work"/corpus/hostile/*; do
    name=$(basename "$path")
    settings=() wanted='^error: '
    [[ "$name" != bomb-of-* ]] || settings=(--config-file "$work/limits.toml") wanted='expands to more than'
    tar -C "$path" -cf - . | rcon "${settings[@]}" load -q > /dev/null 2> "$work/log"
    status=$?
    if [ "$status" = 1 ] && grep -q "$wanted" "$work/log"; then
        pass "$name: $(tail -n 1 "$work/log")"
    else
        fail "$name" "status $status: $(tr '\n' ' ' < "$work/log")"
    fi
done
expect "nothing was written outside" "$canary" "$(find "$work/corpus/canary" -printf '%p %y %m %n %s %T@\n')"
expect "no image came of it" "$images" "$(rcon images -aq | sort)"
expect "and no layer" "$layers" "$(ls "$work/data/layers" | sort)"
no_leaks "nothing is left"
finish
