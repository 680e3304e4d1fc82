#!/bin/bash
# Builds as a whole: killed at random moments (the builder, its steps, both), at once, pushed to a real registry. Whatever is
# killed, nothing runs or stays, and the next build uses what was finished. The seed is printed; KILL_SEED repeats a run.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
rcon load -q -i "$FIXTURES/busybox.tar" > /dev/null
rcon run --rm busybox true
RANDOM=${KILL_SEED:-$$}
echo "  seed ${KILL_SEED:-$$}"
context=$work/context
mkdir -p "$context/files"
for number in $(seq 200); do echo "$number" > "$context/files/$number"; done
# A duration nobody else sleeps, so that only our own processes are counted.
pause=0.0$((20000 + $$ % 10000))
cat > "$context/Dockerfile" <<EOF
FROM busybox AS one
RUN echo one > /one && sleep $pause
COPY files /files
RUN cat /files/* | wc -l > /count && sleep $pause
FROM busybox AS two
RUN --mount=type=cache,target=/cache echo two >> /cache/log && echo two > /two && sleep $pause
FROM busybox
COPY --from=one /one /count /
COPY --from=two /two /
WORKDIR /made/here
RUN cat /one /two /count > all && sleep $pause
EOF
steps() { pgrep -f '^rcon-step' | while read -r pid; do ls -l "/proc/$pid/fd" > /dev/null 2>&1 && [ "$(readlink "/proc/$pid/ns/net")" = "$(readlink /proc/self/ns/net)" ] && echo "$pid"; done; }
no_step() { [ -z "$(steps)" ]; }
rounds=${KILL_ROUNDS:-40} wrong=0
for round in $(seq "$rounds"); do
    "$RCON" --root "$work/data" --run-root "$work/run" build -q -t "made-$round" --build-arg "ROUND=$round" "$context" > "$work/out" 2> "$work/err" &
    builder=$!
    # Moments from 0 to 250 ms: the whole of a cold build.
    sleep "0.$(printf %03d $((RANDOM % 250)))"
    case $((RANDOM % 4)) in
        0) kill -9 $builder 2> /dev/null ;;
        1) killed=$(steps); [ -z "$killed" ] || kill -9 $killed 2> /dev/null ;;
        2) kill -9 $builder $(steps) 2> /dev/null ;;
        3) kill -INT $builder 2> /dev/null ;;
    esac
    wait $builder 2> /dev/null
    code=$?
    wait_for 20 no_step || { echo "  round $round: a step goes on"; wrong=$((wrong + 1)); }
    if [ $code = 0 ] && [ "$(rcon run --rm --network none "made-$round" cat all 2>&1 | paste -sd' ')" != "one two 200" ]; then
        echo "  round $round: a wrong image"; wrong=$((wrong + 1))
    fi
    # Every fourth time all is forgotten, so that each moment is met.
    [ $((round % 4)) != 0 ] || rcon builder prune -af > /dev/null || wrong=$((wrong + 1))
done
expect "$rounds killed builds" 0 "$wrong"
expect "the next build works" 0 "$(rcon build -q -t made "$context" > "$work/out" 2>&1; echo $?)"
expect "and is right" "one two 200" "$(rcon run --rm --network none made cat all | paste -sd' ')"
expect "and all of it is found again" 8 "$(rcon build --progress plain -t made "$context" 2>&1 | grep -c ' CACHED$')"
expect "no process of a step is left" "" "$(steps; pgrep -f "sleep $pause\$")"
expect "no container is seen" "" "$(rcon ps -aq)"
expect "the store is sound" 0 "$(rcon system check > "$work/check" 2>&1; echo $?)"
no_leaks "nothing is left"
expect "no sandbox is left" "" "$(ls "$work/data/containers")"

# Ten at once do the work once.
rcon builder prune -af > /dev/null
rcon rmi -f $(rcon images -q | grep -v "$(rcon images -q busybox)" | sort -u) > /dev/null 2>&1
sed -i 's/^RUN echo one/RUN head -c 20 \/dev\/urandom > \/random \&\& echo one/; s/^COPY --from=one /&\/random /' "$context/Dockerfile"
for number in $(seq 10); do rcon build -q -t "twin-$number" "$context" > "$work/twin-$number" 2>&1 & done
wait
expect "ten builds at once give one image" 1 "$(cat "$work"/twin-* | sort -u | tee "$work/twins" | wc -l)"
expect "and no error" 1 "$(grep -c '^sha256:' "$work/twins")"

# A cache in a directory: killed while it is written or read, it is the one of before, or none.
cache=$work/cache wrong=0
for round in $(seq 12); do
    "$RCON" --root "$work/data" --run-root "$work/run" build -q --cache-to "type=local,dest=$cache,mode=max" --cache-from "type=local,src=$cache" "$context" > "$work/out" 2>&1 &
    builder=$!
    sleep "0.$(printf %03d $((RANDOM % 200)))"
    kill -9 $builder $(steps) 2> /dev/null
    wait $builder 2> /dev/null
    wait_for 20 no_step || wrong=$((wrong + 1))
    if [ -e "$cache/index.json" ]; then
        for blob in $(jq -r '.manifests[].digest' "$cache/index.json" | while read -r top; do echo "$top"; jq -r '.config.digest, .layers[].digest' "$cache/blobs/${top/://}"; done); do
            [ "sha256:$(sha256sum < "$cache/blobs/${blob/://}" | cut -d' ' -f1)" = "$blob" ] || { echo "  round $round: $blob is not whole"; wrong=$((wrong + 1)); }
        done
    fi
    [ $((round % 3)) != 0 ] || rcon builder prune -af > /dev/null || wrong=$((wrong + 1))
done
expect "12 killed builds with a cache elsewhere" 0 "$wrong"
expect "the next one writes it" 0 "$(rcon build -q --iidfile "$work/id" --cache-to "type=local,dest=$cache,mode=max" "$context" > "$work/out" 2>&1; echo $?)"
rcon rmi -f $(rcon images -q | grep -v "$(rcon images -q busybox)" | sort -u) > /dev/null 2>&1
rcon builder prune -af > /dev/null
expect "all of it comes back" 8 "$(rcon build --progress plain --iidfile "$work/again" --cache-from "type=local,src=$cache" "$context" 2>&1 | grep -c ' CACHED$')"
expect "as the same image" "$(cat "$work/id")" "$(cat "$work/again")"
expect "the store is sound with it" 0 "$(rcon system check > "$work/check" 2>&1; echo $?)"

# To a registry and back.
start_registry 5846
expect "--push" 0 "$(rcon build --push -t 127.0.0.1:5846/built:1 --metadata-file "$work/meta.json" "$context" > "$work/out" 2>&1; echo $?)"
expect "the digest in --metadata-file" "$(skopeo inspect --tls-verify=false --raw docker://127.0.0.1:5846/built:1 | sha256sum | sed 's/ .*//; s/^/sha256:/')" "$(jq -r '."containerimage.digest"' "$work/meta.json")"
rcon rmi -f 127.0.0.1:5846/built:1 > /dev/null
expect "the image comes back" "one two 200" "$(rcon run --rm --network none --quiet 127.0.0.1:5846/built:1 cat all 2> /dev/null | paste -sd' ')"

# A cache in the registry, of its own and inside of an image.
R=127.0.0.1:5846
forget() { rcon rmi -f $(rcon images -q | grep -v "$(rcon images -q busybox)" | sort -u) > /dev/null 2>&1; rcon builder prune -af > /dev/null; }
expect "--cache-to of a registry" 0 "$(rcon build -q --iidfile "$work/id" --cache-to type=registry,ref=$R/cache:max,mode=max "$context" > "$work/out" 2>&1; echo $?)"
expect "whose manifest another tool reads" application/vnd.rcon.buildcache.config.v1+json "$(skopeo inspect --tls-verify=false --raw docker://$R/cache:max | jq -r .config.mediaType)"
forget
expect "--cache-from of a registry" 8 "$(rcon build --progress plain --iidfile "$work/again" --cache-from $R/cache:max "$context" 2>&1 | grep -c ' CACHED$')"
expect "gives the same image" "$(cat "$work/id")" "$(cat "$work/again")"
printf 'FROM busybox\nRUN date +%%N > /when\nCOPY files /files\nWORKDIR /bin\n' > "$context/Inline"
expect "--cache-to of the image" 0 "$(rcon build -q --iidfile "$work/id" -f "$context/Inline" --cache-to type=inline --push -t $R/inline:1 "$context" > "$work/out" 2>&1; echo $?)"
forget
rcon build --progress plain --iidfile "$work/again" -f "$context/Inline" --cache-to type=inline --cache-from $R/inline:1,$R/none "$context" > "$work/out" 2>&1
expect "the image is its own cache" 3 "$(grep -c ' CACHED$' "$work/out")"
expect "and the same" "$(cat "$work/id")" "$(cat "$work/again")"
expect "what is not there is a warning" 1 "$(grep -c " - CacheNotUsed: no image $R/none" "$work/out")"

# Several platforms and what is attested of them, read back by another tool.
cat > "$context/Cross" <<'EOF'
FROM --platform=$BUILDPLATFORM busybox AS work
ARG TARGETARCH
RUN echo "$TARGETARCH" > /arch
FROM scratch
COPY --from=work /arch /arch
EOF
raw() { skopeo inspect --tls-verify=false --raw "docker://$1"; }
expect "--push of two platforms with attestations" 0 "$(rcon build --push --platform linux/amd64,linux/arm64 --sbom --provenance=mode=max -f "$context/Cross" -t $R/both:1 --metadata-file "$work/meta.json" "$context" > "$work/out" 2>&1; echo $?)"
raw $R/both:1 > "$work/index.json"
expect "the index's digest" "sha256:$(sha256sum < "$work/index.json" | cut -d' ' -f1)" "$(jq -r '."containerimage.digest"' "$work/meta.json")"
expect "its platforms" "linux/amd64 linux/arm64 unknown/unknown unknown/unknown" "$(jq -r '.manifests[].platform | .os + "/" + .architecture' "$work/index.json" | paste -sd' ')"
expect "skopeo copies all of it" 0 "$(skopeo copy -q --all --src-tls-verify=false docker://$R/both:1 "oci:$work/copied:1" > "$work/out" 2>&1; echo $?)"
for arch in amd64 arm64; do
    digest=$(jq -r --arg arch $arch '.manifests[] | select(.platform.architecture == $arch) | .digest' "$work/index.json")
    expect "the config of $arch" $arch "$(skopeo inspect --tls-verify=false --config --override-arch $arch docker://$R/both:1 | jq -r .architecture)"
    attested=$(jq -r --arg digest "$digest" '.manifests[] | select(.annotations."vnd.docker.reference.digest" == $digest) | .digest' "$work/index.json")
    expect "what is attested of $arch is a referrer" "$attested" "$(rcon manifest inspect --referrers "$R/both@$digest" | jq -r '.manifests[].digest')"
    raw "$R/both@$attested" > "$work/attested.json"
    expect "with the image as its subject" "$digest" "$(jq -r .subject.digest "$work/attested.json")"
    for layer in $(jq -r '.layers[].digest' "$work/attested.json"); do
        curl -sf "http://$R/v2/both/blobs/$layer" > "$work/statement.json"
        expect "a statement's subject" "$digest" "sha256:$(jq -r '.subject[0].digest.sha256' "$work/statement.json")"
    done
done
expect "both predicates" "https://spdx.dev/Document https://slsa.dev/provenance/v1" "$(jq -r '.layers[].annotations."in-toto.io/predicate-type"' "$work/attested.json" | paste -sd' ')"
rcon rmi -f $R/both:1 > /dev/null
expect "an attested image is pulled by its platform" arm64 "$(rcon pull -q --platform linux/arm64 $R/both:1 > /dev/null 2>&1; rcon image inspect -f '{{.Architecture}}' $R/both:1)"
rcon rmi -f $R/both:1 > /dev/null
expect "one platform for itself" 0 "$(rcon build -q --platform linux/amd64,linux/arm64 -f "$context/Cross" -t $R/both:2 "$context" > /dev/null 2>&1 && rcon push -q --platform linux/arm64 $R/both:2 > "$work/out" 2>&1; echo $?)"
expect "is no index" arm64 "$(raw $R/both:2 | jq -e 'has("layers")' > /dev/null && skopeo inspect --tls-verify=false --config --override-arch arm64 docker://$R/both:2 | jq -r .architecture)"
expect "then all of it" 2 "$(rcon push -q $R/both:2 > "$work/out" 2>&1; raw $R/both:2 | jq '.manifests | length')"
# A base of two platforms keeps its name for both.
printf 'FROM %s/both:2\nLABEL a=b\n' $R > "$context/Based"
rcon rmi -f $R/both:2 > /dev/null
expect "a base for each platform" 0 "$(rcon build -q --platform linux/arm64,linux/amd64 -f "$context/Based" -t based "$context" > "$work/out" 2>&1; echo $?)"
expect "the base's name is for both" "amd64 arm64" "$(rcon image inspect $R/both:2 | jq -r '.[0].Manifests[].ImageData.Platform.architecture' | sort | paste -sd' ')"
stop_registry
finish
