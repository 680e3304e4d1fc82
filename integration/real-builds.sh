#!/bin/bash
# Images of the kind people write (real-builds/*), built from a Debian with packages from the network, run, and asked.
# Needs a way out, so it runs in the network namespace of the host. BUILD_CA, BUILD_PIP, BUILD_NPM: files with certificates
# and configuration of pip and npm, which are handed in as secrets.
source "$(dirname "$(readlink -f "$0")")/lib.sh"
here=$(dirname "$(readlink -f "$0")")/real-builds
rcon tag "$(rcon load -q -i "$FIXTURES/debian.tar" | awk '{ print $NF }')" debian > /dev/null
secrets=()
for name in CA PIP NPM; do
    file=BUILD_$name
    [ -z "${!file:-}" ] || secrets+=(--secret "id=${name,,},src=${!file}")
done
address() { rcon inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }
asked() { [ "$(curl -s --noproxy '*' "http://$(address "$1"):$2/")" = built ]; }
pinged() { [ "$(rcon exec redis redis-cli ping)" = PONG ]; }
selected() { [ "$(rcon exec mariadb mariadb -N -e 'select 6 * 7')" = 42 ]; }
real() { # NAME QUESTION...
    local name=$1 began=$EPOCHREALTIME
    shift
    [ -z "${REAL_ONLY:-}" ] || [[ " $REAL_ONLY " == *" $name "* ]] || return 0
    if ! rcon build --progress plain "${secrets[@]}" -t "built-$name" "$here/$name" > "$work/$name.log" 2>&1; then
        fail "$name is built" "$(tail -25 "$work/$name.log")"
        return
    fi
    pass "$name is built ($(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $began }") s)"
    began=$EPOCHREALTIME
    rcon build -q "${secrets[@]}" -t "built-$name" "$here/$name" > /dev/null
    expect "$name is not built again ($(awk "BEGIN { printf \"%.0f\", ($EPOCHREALTIME - $began) * 1000 }") ms)" 0 $?
    rcon run -d --name "$name" "built-$name" > /dev/null
    if wait_for 30 "$@"; then pass "$name answers"; else fail "$name answers" "$(rcon logs "$name" 2>&1 | tail -5)"; fi
    rcon rm -f "$name" > /dev/null
}
real nginx asked nginx 80
real redis pinged
real mariadb selected
real python asked python 8000
real node asked node 8000
real rust asked rust 8000
finish
