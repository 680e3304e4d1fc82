#!/bin/bash
# Pulls through a proxy that cuts, damages, delays and diverts: each ends right or with the right error, what was
# fetched is not fetched again, and credentials stay with the host they are for.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
here=$(dirname "$0")
FRONT=127.0.0.1:5821 STORAGE=127.0.0.2:5822 MIRROR=127.0.0.3:5823
NAME=$FRONT/test/parts

start_tokens 5824
start_registry 5820
AUTH_YAML="auth: {token: {realm: 'http://127.0.0.1:5824/token', service: test, issuer: test, rootcertbundle: $work/token/cert.pem}}" start_registry 5825
python3 "$here/registry-image.py" "$work/blobs.tar" 3 3000000
push "$work/blobs.tar" 127.0.0.1:5820/test/parts:1
mkdir -p "$work/registry-5825" && cp -r "$work/registry-5820/docker" "$work/registry-5825/"
for proxy in "front $FRONT 5825" "storage $STORAGE 5820" "mirror $MIRROR 5825"; do
    read -r name address upstream <<< "$proxy"
    python3 "$here/fault-proxy.py" "$address" "127.0.0.1:$upstream" "$work/$name" > "$work/$name.err" 2>&1 &
    registry_pids="$registry_pids $!"
    wait_for 60 bash -c "exec 3<> /dev/tcp/${address/:/\/}"
done
mkdir -p "$work/auth"
printf '{"auths":{"%s":{"auth":"%s"}}}' "$FRONT" "$(printf 'user:secret' | base64)" > "$work/auth/config.json"
export DOCKER_CONFIG=$work/auth

plan() { printf '%s' "$1" > "$work/front/plan.new" && mv "$work/front/plan.new" "$work/front/plan.json"; }
raw=$(skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5820/test/parts:1)
total=$(jq '[.layers[].size] | add' <<< "$raw")
settle() { # until the proxies have logged all that was asked of them
    local address
    for address in "$FRONT" "$STORAGE" "$MIRROR"; do
        exec 3<> "/dev/tcp/${address/://}"
        printf 'GET /-/idle HTTP/1.0\r\n\r\n' >&3
        grep -q '^HTTP/1.1 200' <&3 || fail "the proxy at $address comes to rest"
        exec 3>&-
    done
}
# Bytes of layers on the wire since the last `fresh`: the config is the one small blob.
wire() { settle; cat "$work"/{front,storage,mirror}/log.jsonl 2> /dev/null | jq -s '[.[] | select(.path | test("/blobs/")) | select(.method == "GET" and (.bytes > 20000 or .headers.range != null)) | .bytes] | add // 0'; }
seen() { settle; cat "$work/$1/log.jsonl" 2> /dev/null | jq -s "[.[] | select($2)] | length"; } # PROXY CONDITION
fresh() {
    rcon rmi -f "$NAME:1" > /dev/null 2>&1
    settle
    wait_for 60 synced
    rm -rf "$work/data" "$work"/{front,storage,mirror}/log.jsonl
}
pull() { # NAME PLAN [OPTIONS]: expects a right pull
    fresh
    plan "$2"
    expect "$1" 0 "$(rcon pull "$NAME:1" > "$work/out" 2>&1 || { cat "$work/out" >&2; echo failed; }; rcon image inspect "$NAME:1" > /dev/null 2>&1; echo $?)"
}
refused() { # NAME PLAN WORDS: expects an error with these words, and nothing visible left
    fresh
    plan "$2"
    rcon pull "$NAME:1" > "$work/out" 2>&1
    expect "$1" 1 $?
    grep -qE "$3" "$work/out" && pass "$1: it says «$3»" || fail "$1: it says «$3»" "$(cat "$work/out")"
    expect "$1: no image is left" "" "$(rcon images -q)"
}
ANY="\"match\":\"$(jq -r '[.layers[].digest] | join("|")' <<< "$raw")\""

pull "nothing happens" '[]'
expect "each byte came once" "$total" "$(wire)"

# Broken transfers are taken up where they broke.
pull "cut at random bytes, six times" "[{$ANY,\"do\":\"cut\",\"times\":6}]"
expect_in "no byte came twice" "$((total - 30000))" "$((total + 30000))" "$(wire)"
expect_in "by ranges" 1 20 "$(seen front '.status == 206')"
pull "connection reset in the middle" "[{$ANY,\"do\":\"reset\",\"times\":3,\"bytes\":1000000}]"
# What was on its way when the connection was reset may be lost: at most the buffers of three connections.
expect_in "bytes on the wire" "$((total - 30000))" "$((total + 3000000))" "$(wire)"
pull "a server without ranges" "[{$ANY,\"do\":\"cut\",\"bytes\":2000000,\"times\":1},{$ANY,\"do\":\"norange\",\"times\":9}]"
pull "cut before the first byte" "[{$ANY,\"do\":\"cut\",\"bytes\":0,\"times\":2}]"

# Across two pulls: the first is killed in the middle, the second fetches the rest and nothing else.
fresh
# Each layer stands still in its middle: so it is killed there, however long that takes.
plan "[{$ANY,\"do\":\"stall\",\"bytes\":1200000,\"times\":9}]"
"$RCON" --root "$work/data" --run-root "$work/run" pull "$NAME:1" > /dev/null 2>&1 &
puller=$!
kept() { find "$work/data" -name '*.partial' -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }
wait_for 60 eval '[ "$(kept)" -gt 3000000 ]'
kill -9 "$puller"; wait "$puller" 2> /dev/null
kept=$(kept)
expect_in "killed in the middle: bytes kept" 3000001 "$((total - 1))" "$kept"
settle
rm -f "$work"/front/log.jsonl
plan '[]'
expect "a pull after kill -9" 0 "$(rcon pull "$NAME:1" > "$work/out" 2>&1; echo $?)"
expect "fetches what is missing" "$((total - kept))" "$(wire)"

# Statuses.
pull "500, 503 and 429 with Retry-After" "[{\"match\":\"manifests/1\",\"do\":\"status\",\"status\":500,\"times\":2},
    {$ANY,\"do\":\"status\",\"status\":503,\"headers\":{\"Retry-After\":\"1\"},\"times\":2},{$ANY,\"do\":\"status\",\"status\":429,\"headers\":{\"Retry-After\":\"2\"},\"times\":2}]"
refused "429 for an hour" '[{"match":"manifests/1","do":"status","status":429,"headers":{"Retry-After":"3600"},"times":99}]' "limits the rate.*3600 seconds"
expect_in "it is not asked again" 1 4 "$(seen front '.path | test("manifests/1")')"
refused "404" '[{"match":"manifests/1","do":"status","status":404,"times":99}]' "no image .*test/parts:1"
refused "403" '[{"match":"manifests/1","do":"status","status":403,"times":99}]' "refused the credentials"
refused "a lasting 500" '[{"match":"manifests/1","do":"status","status":500,"body":"{\"errors\":[{\"message\":\"out of order\"}]}","times":99}]' "answered 500.*out of order"

# Wrong bytes.
refused "a wrong byte in a layer" "[{\"match\":\"/blobs/\",\"do\":\"wrong\",\"bytes\":1500000,\"times\":99}]" "wrong digest"
refused "a wrong byte in the manifest" '[{"match":"manifests/","do":"wrong","bytes":30,"times":99}]' "manifest"
pull "after wrong bytes, right ones" '[]'

# Slow and silent.
pull "slow, but moving" "[{$ANY,\"do\":\"slow\",\"rate\":2000000,\"times\":9}]"
pull "a stalled transfer is resumed" "[{$ANY,\"do\":\"stall\",\"bytes\":1000000,\"times\":1}]"
expect_in "no byte came twice after the stall" "$((total - 30000))" "$((total + 30000))" "$(wire)"

# Another host.
pull "layers on another host" "[{$ANY,\"method\":\"GET\",\"do\":\"redirect\",\"to\":\"http://$STORAGE\",\"times\":99}]"
expect "the other host got no credentials" 0 "$(seen storage '.headers.authorization != null')"
expect_in "though it was asked" 1 99 "$(seen storage true)"
refused "redirects without end" "[{$ANY,\"do\":\"redirect\",\"to\":\"http://$FRONT\",\"times\":99}]" "redirects.*never ends"
refused "a redirect to another scheme" "[{$ANY,\"do\":\"redirect\",\"to\":\"file:///etc\",\"times\":99}]" "neither to HTTPS nor to HTTP"

# Mirrors: asked first, left at once when they fail, never given the registry's credentials.
export RCON_REGISTRY_MIRRORS="$FRONT=http://$MIRROR"
mirror_plan() { printf '%s' "$1" > "$work/mirror/plan.new" && mv "$work/mirror/plan.new" "$work/mirror/plan.json"; }
mirror_plan '[{"match":"","do":"status","status":503,"times":999}]'
pull "a mirror that is down" '[]'
expect_in "it was asked first" 1 99 "$(seen mirror true)"
mirror_plan '[]'
pull "a mirror that wants a login we do not have" '[]'
expect "a mirror never gets the registry's credentials" 0 "$(seen mirror '.headers.authorization // "" | startswith("Basic")')"
unset RCON_REGISTRY_MIRRORS
RCON_REGISTRY_MIRRORS="$FRONT=http://127.0.0.1:5820" pull "a mirror that has all" '[]'
expect "the registry gave no layer" 0 "$(seen front '.path | test("/blobs/")')"
export RCON_REGISTRY_MIRRORS="$FRONT=http://$MIRROR"
printf '{"auths":{"%s":{"auth":"%s"},"%s":{"auth":"%s"}}}' "$FRONT" "$(printf 'user:secret' | base64)" "$MIRROR" "$(printf 'user:secret' | base64)" > "$work/auth/config.json"
mirror_plan "[{\"match\":\"/blobs/\",\"method\":\"GET\",\"do\":\"wrong\",\"bytes\":1500000,\"times\":99}]"
pull "a mirror with wrong bytes" '[]'
unset RCON_REGISTRY_MIRRORS

# Nobody there.
expect "a port that nobody listens on" 1 "$(rcon pull 127.0.0.1:5839/x:1 > "$work/out" 2>&1; echo $?)"
expect "and it says so" 1 "$(grep -c 'cannot reach registry 127.0.0.1:5839' "$work/out")"

no_leaks "nothing is left"
stop_registry
finish
