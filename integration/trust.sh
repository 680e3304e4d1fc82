#!/bin/bash
# Settings files and the trust policy, against a real registry; signatures are made by openssl (sign.py).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
here=$(dirname "$(readlink -f "$0")")
export RCON_CONFIG_FILE=$work/rcon.toml
registry=127.0.0.1:5900
start_registry 5900
openssl ecparam -name prime256v1 -genkey -noout -out "$work/team.pem" 2> /dev/null
openssl ecparam -name prime256v1 -genkey -noout -out "$work/other.pem" 2> /dev/null
openssl genpkey -algorithm ed25519 -out "$work/edwards.pem" 2> /dev/null
for key in team other edwards; do openssl pkey -in "$work/$key.pem" -pubout -out "$work/$key.pub"; done
for name in team/app team/plain team/edwards team/referrer team/index team/wrong team/tampered team/replayed team/copied free/app; do
    push "$FIXTURES/busybox.tar" "$registry/$name:1"
done

sign() { python3 "$here/sign.py" "$registry" "$@"; } # REPOSITORY TAG KEY [options]
policy() { cat > "$RCON_CONFIG_FILE"; }
# refused NAME TEXT COMMAND...: fails and says so
refused() {
    local name=$1 text=$2 code
    shift 2
    rcon "$@" > "$work/out" 2>&1
    code=$?
    if [ "$code" != 0 ] && grep -qF "$text" "$work/out"; then pass "$name"; else fail "$name" "code $code, said «$(tr '\n' ' ' < "$work/out")»"; fi
}
works() { # NAME COMMAND...
    local name=$1
    shift
    if rcon "$@" > "$work/out" 2>&1; then pass "$name"; else fail "$name" "$(tr '\n' ' ' < "$work/out")"; fi
}
forget() { rcon rmi -f "$@" > /dev/null 2>&1; }

# Accept and reject, by the longest scope.
policy <<TOML
[trust]
default = "reject"
[trust.scope."$registry/free"]
policy = "accept"
[trust.scope."$registry/free/app/evil"]
policy = "reject"
TOML
works "an accepted repository is pulled" pull -q "$registry/free/app:1"
works "and run" run --rm --network none "$registry/free/app:1" true
refused "any other is rejected" "image $registry/team/app:1 is refused by the default trust policy ($RCON_CONFIG_FILE:1)" pull "$registry/team/app:1"
refused "a longer scope wins" "trust policy for $registry/free/app/evil" pull "$registry/free/app/evil:1"
refused "run is refused like pull" "is refused by" run --rm "$registry/team/app:1" true
expect "a hint says what to do" 1 "$(grep -c '^hint: take the image from a repository' "$work/out")"
printf '[trust.scope."%s/free"]\npolicy = "reject"\n' "$registry" > "$work/drop-in"
mkdir "$work/rcon.toml.d" && mv "$work/drop-in" "$work/rcon.toml.d/10-free.toml"
refused "a drop-in wins over the file, for images that are here already" "10-free.toml:1" run --rm --network none "$registry/free/app:1" true
id=$(rcon images -q --no-trunc "$registry/free/app:1")
refused "by id it is no different" "is refused by" run --rm --network none "$id" true
rm -r "$work/rcon.toml.d"
works "without the drop-in it is accepted again" run --rm --network none "$id" true
forget "$registry/free/app:1"

# Signatures.
signed() { # KEY [lines]
    policy <<TOML
[trust.scope."$registry/team"]
policy = "signed"
keys = ["$work/$1.pub"]
${2:-}
TOML
}
signed team
refused "an unsigned image is refused" "image $registry/team/plain:1 is refused by the trust policy for $registry/team" pull "$registry/team/plain:1"
expect "it says why" 1 "$(grep -c 'caused by: it has no signature\|: it has no signature' "$work/out")"
expect "and nothing of it is here" "" "$(rcon images -q)"
works "what no scope covers is accepted" pull -q "$registry/free/app:1"
sign team/app 1 "$work/team.pem" > "$work/digest"
works "a signed image is pulled" pull "$registry/team/app:1"
expect "the key is shown" 1 "$(grep -c "$(cat "$work/digest") is signed with the key $work/team.pub" "$work/out")"
works "and run" run --rm --network none "$registry/team/app:1" true
works "and run by digest" run --rm --network none "$registry/team/app@$(cat "$work/digest")" true
sign team/wrong 1 "$work/other.pem" > /dev/null
refused "a signature of another key" "1 signature was not made with $work/team.pub" pull "$registry/team/wrong:1"
sign team/tampered 1 "$work/team.pem" --tamper > /dev/null
refused "a payload that was changed" "1 signature was not made with $work/team.pub" pull "$registry/team/tampered:1"
sign team/replayed 1 "$work/team.pem" --reference "$registry/team/app" > /dev/null
refused "a signature replayed from another repository" "is for the repository $registry/team/app" pull "$registry/team/replayed:1"
zeros=sha256:$(printf '0%.0s' $(seq 64))
sign team/plain 1 "$work/team.pem" --digest "$zeros" > /dev/null
refused "a signature for another digest" "a signature is for $zeros" pull "$registry/team/plain:1"
sign team/index 1 "$work/team.pem" --index > /dev/null
works "a signed index" pull -q "$registry/team/index:1"
sign team/referrer 1 "$work/team.pem" --referrer > /dev/null
works "a signature attached as a referrer" pull -q "$registry/team/referrer:1"
rcon tag "$registry/free/app:1" "$registry/team/sneaked:1"
works "the same content under a name of the scope: verified once, for its repository" run --rm --network none "$registry/team/app:1" true
refused "a name of the scope that was only tagged" "its signature was not verified yet" run --rm --network none "$registry/team/sneaked:1" true

# Keys and identities change.
signed edwards
refused "a key that is out of the policy is worth nothing" "its signature was not verified yet" run --rm --network none "$registry/team/app:1" true
expect "the way out is named" 1 "$(grep -c '^hint: verify it with rcon pull' "$work/out")"
refused "and a pull of what is here verifies again" "not made with $work/edwards.pub" pull "$registry/team/app:1"
sign team/edwards 1 "$work/edwards.pem" > /dev/null
works "an Ed25519 signature" pull -q "$registry/team/edwards:1"
signed team "identity = \"$registry/team/app\""
works "a copy with the identity of its source" pull -q "$registry/team/replayed:1"
works "is run" run --rm --network none "$registry/team/replayed:1" true
signed team
refused "and is not, when the identity is its own again" "is refused by" run --rm --network none "$registry/team/replayed:1" true

# Archives carry no signatures.
rcon save -o "$work/signed.tar" "$registry/team/app:1"
works "an archive of a verified image is loaded" load -i "$work/signed.tar"
forget $(rcon images -q --no-trunc)
refused "and refused where nothing was verified" "image archives carry no signatures" load -i "$work/signed.tar"
expect "nothing of it is here" "" "$(rcon images -q)"

# Digests.
policy <<TOML
[trust]
require_digest = true
TOML
refused "a tag alone is not enough" "must be named by its digest" pull "$registry/free/app:1"
works "a digest is" pull -q "$registry/free/app@$(cat "$work/digest")"
works "a tag with a digest is" run --rm --network none "$registry/free/app:1@$(cat "$work/digest")" true
refused "a tag with another digest names another image" "no image" pull "$registry/free/app:1@$zeros"
forget $(rcon images -q --no-trunc)

# Settings that cannot be used let nothing in and stop nothing else.
printf '[image]\nkeep_blob = true\n' | policy
refused "an unknown key" "line 2: unknown key image.keep_blob; did you mean keep_blobs?" pull "$registry/free/app:1"
refused "refuses load too" "unknown key" load -i "$FIXTURES/busybox.tar"
works "ps works" ps
rm "$RCON_CONFIG_FILE"
refused "a settings file that was named must be there" "there is no such file" pull "$registry/free/app:1"

# Limits and mirrors.
printf 'image.limits.max_layer_size = 1000\n' | policy
refused "a limit names its key" "max_layer_size in [image.limits]" pull "$registry/free/app:1"
printf 'image.limits.max_entries = 3\n' | policy
refused "the limit of entries" "image.limits.max_entries" pull "$registry/free/app:1"
printf 'image.limits.max_download_size = "1k"\n' | policy
refused "the limit of a download" "image.limits.max_download_size" pull "$registry/free/app:1"
printf '[registry."mirrored.example"]\nmirrors = ["http://%s"]\n' "$registry" | policy
works "a mirror of the settings" pull -q mirrored.example/free/app:1
expect "info shows it" 1 "$(rcon info | grep -c "mirrored.example: http://$registry")"
expect "and which file said so" 1 "$(rcon info | grep -c "Settings: $RCON_CONFIG_FILE")"

no_leaks "nothing is left"
stop_registry
finish
