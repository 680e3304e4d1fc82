# Sourced by docker-cli.sh: images, builds, registries, and the whole of the engine.
images() {
    engine create --name source --network none "$IMAGE" true > /dev/null
    echo data > "$work/data-file"
    engine cp "$work/data-file" source:/data-file
    local id
    engine commit -a me -m "my message" -c 'CMD ["cat", "/data-file"]' -c 'LABEL of=test' -c 'ENV A=b' source made:1 > "$work/out"
    id=$(cat "$work/out")
    expect "commit prints the id" 1 "$(grep -cE '^sha256:[0-9a-f]{64}$' "$work/out")"
    prints "it is an image" data engine run --rm --network none made:1
    expect "inspect" "me b my message" "$(engine inspect -f '{{.Author}} {{range .Config.Env}}{{println .}}{{end}}' made:1 | sed -n 's/^me .*/me/p; s/^A=//p' | paste -sd' ') $(engine history --format '{{.Comment}}' made:1 | head -n 1)"
    expect "history" 2 "$(engine history -q --no-trunc made:1 | wc -l)"
    expect "its first line is the image" "$id" "$(engine history -q --no-trunc made:1 | head -n 1)"
    ends "tag" 0 engine tag made:1 localhost:1/other/name:2
    ends "tag of none" 1 engine tag no-such-image x
    expect "images" "busybox:latest localhost:1/other/name:2 made:1" "$(engine images --format '{{.Repository}}:{{.Tag}}' | sort | paste -sd' ')"
    expect "images --filter reference" "made:1" "$(engine images --filter reference='mad*' --format '{{.Repository}}:{{.Tag}}')"
    expect "images NAME" "made:1" "$(engine images made --format '{{.Repository}}:{{.Tag}}')"
    expect "images --filter label" 2 "$(engine images --filter label=of=test --format x | wc -l)"
    expect "images --filter since and before" "2 1" "$(engine images --filter since=busybox --format x | wc -l) $(engine images --filter before=made:1 --format x | wc -l)"
    expect "images -q --no-trunc" "$id" "$(engine images -q --no-trunc made)"
    expect "rmi of one of two names" "Untagged: localhost:1/other/name:2" "$(engine rmi localhost:1/other/name:2)"
    engine create --name holder made:1 > /dev/null
    ends "rmi of one in use" 1 engine rmi made:1
    ends "rmi -f takes its name" 0 engine rmi -f made:1
    expect "the container is there" created "$(state holder)"
    engine rm holder > /dev/null
    engine commit source unnamed > /dev/null
    engine commit source unnamed > /dev/null
    expect "images --filter dangling" "<none>" "$(engine images --filter dangling=true --format '{{.Repository}}' | sort -u)"
    engine rmi -f $(engine images -q --filter dangling=true) unnamed > "$work/out" 2>&1
    expect "rmi of several" "0 busybox" "$? $(engine images -a --format '{{.Repository}}' | paste -sd' ')"
    ends "rmi of none" 1 engine rmi no-such-image
    engine rm source > /dev/null
}

archives() {
    local id
    id=$(engine inspect -f '{{.Id}}' busybox)
    engine tag busybox second:name
    ends "save -o" 0 engine save -o "$work/saved.tar" busybox second:name
    expect "has both names" "busybox:latest second:name" "$(tar -xOf "$work/saved.tar" manifest.json | python3 -c 'import json, sys; print(*sorted(t for m in json.load(sys.stdin) for t in m["RepoTags"]))')"
    engine rmi second:name busybox > /dev/null
    expect "nothing is here" "" "$(engine images -q)"
    ends "load -i" 0 engine load -i "$work/saved.tar"
    expect "says what came" "Loaded image: busybox:latest Loaded image: second:name" "$(sort "$work/out" | grep Loaded | paste -sd' ')"
    expect "it is the same" "$id" "$(engine inspect -f '{{.Id}}' second:name)"
    engine rmi second:name > /dev/null
    expect "save to stdout and load from stdin" "Loaded image: busybox:latest" "$(engine save busybox | engine load 2> /dev/null | tail -n 1)"
    echo "no archive" > "$work/bad.tar"
    ends "load of no archive" 1 engine load -i "$work/bad.tar"
    ends "save of none" 1 engine save -o "$work/none.tar" no-such-image
    engine run --name source --network none "$IMAGE" sh -c 'echo data > /data' > /dev/null
    engine export source > "$work/exported.tar"
    expect "export" "0 data" "$? $(tar -xOf "$work/exported.tar" data)"
    engine import -c 'CMD ["cat", "/data"]' -m words "$work/exported.tar" imported:1 > "$work/out"
    expect "import" "1 data" "$(grep -cE '^sha256:[0-9a-f]{64}$' "$work/out") $(engine run --rm --network none imported:1)"
    expect "import from stdin" 1 "$(engine import - imported:2 < "$work/exported.tar" | grep -c '^sha256:')"
    engine rmi imported:1 imported:2 > /dev/null
    engine rm source > /dev/null
}

building() {
    local context=$work/context
    mkdir -p "$context/sub"
    echo one > "$context/one" && echo secret > "$context/secret" && echo deep > "$context/sub/deep"
    echo secret > "$context/.dockerignore"
    cat > "$context/Dockerfile" << DOCKERFILE
FROM $IMAGE AS base
ARG WHO=nobody
ENV HELLO=hello
LABEL of=build
COPY . /context/
RUN echo "\$HELLO \$WHO" > /greeting
FROM base
CMD ["cat", "/greeting"]
DOCKERFILE
    engine build -t built:1 --build-arg WHO=world --label more=yes --network none "$context" > "$work/build.out" 2>&1
    expect "build" 0 $?
    expect "says its steps" 1 "$(grep -c 'RUN echo "$HELLO $WHO" > /greeting$' "$work/build.out")"
    expect "and its end" 2 "$(grep -cE '^Successfully (built [0-9a-f]{12}|tagged built:1)$' "$work/build.out")"
    prints "--build-arg" "hello world" engine run --rm --network none built:1
    prints "the context, and what it ignores" "deep Dockerfile one sub" engine run --rm --network none built:1 sh -c 'cd /context; echo $(cat sub/deep) $(ls)'
    expect "--label and LABEL" "build yes" "$(engine inspect -f '{{index .Config.Labels "of"}} {{index .Config.Labels "more"}}' built:1)"
    engine build -t built:1 --build-arg WHO=world --label more=yes --network none "$context" > "$work/build.out" 2>&1
    expect "again: from the cache" yes "$(grep -q ' CACHED$' "$work/build.out" && echo yes)"
    expect "--no-cache" 0 "$(engine build --no-cache --network none "$context" 2>&1 | grep -c ' CACHED$')"
    expect "-q" 1 "$(engine build -q --network none "$context" 2> /dev/null | grep -cE '^sha256:[0-9a-f]{64}$')"
    engine build -q --iidfile "$work/iid" --target base -t built:base --network none "$context" > /dev/null 2>&1
    expect "--iidfile and --target" "0 $(engine inspect -f '{{.Id}}' built:base) sh" "$? $(cat "$work/iid") $(engine inspect -f '{{join .Config.Cmd " "}}' built:base)"
    mkdir -p "$work/elsewhere" && printf 'FROM %s\nCOPY one /x\nCMD ["cat", "/x"]\n' "$IMAGE" > "$work/elsewhere/Other"
    engine build -q -f "$work/elsewhere/Other" -t built:2 --network none "$context" > /dev/null 2>&1
    expect "-f from elsewhere" "0 one" "$? $(engine run --rm --network none built:2)"
    printf 'FROM %s\nCMD ["echo", "from stdin"]\n' "$IMAGE" | engine build -q -t built:3 - > /dev/null 2>&1
    prints "a Dockerfile from stdin" "from stdin" engine run --rm --network none built:3
    tar -C "$context" -cz . | engine build -q -t built:4 --build-arg WHO=tar --network none - > /dev/null 2>&1
    prints "a context from stdin" "hello tar" engine run --rm --network none built:4
    printf 'FROM %s\nRUN echo before; exit 3\n' "$IMAGE" > "$context/Failing"
    ends "a step that fails" 3 engine build -f "$context/Failing" --network none "$context"
    expect "says what it said, and its code" "1 1" "$(grep -cx before "$work/out") $(grep -c 'returned a non-zero code: 3' "$work/out")"
    printf 'FROM %s\nNONSENSE x\n' "$IMAGE" > "$context/Nonsense"
    ends "an unknown instruction" 1 engine build -f "$context/Nonsense" "$context"
    expect "is named" yes "$(grep -qi 'nonsense' "$work/out" && echo yes)"
    printf 'FROM %s\nCOPY none /\n' "$IMAGE" > "$context/Missing"
    ends "a file that is not there" 1 engine build -f "$context/Missing" "$context"
    ends "builder prune" 0 engine builder prune -a -f
    engine rmi -f $(engine images -q --filter label=of=build | sort -u) built:2 built:3 > /dev/null 2>&1
    engine image prune -f > /dev/null
    expect "nothing stays" "busybox" "$(engine images -a --format '{{.Repository}}' | sort -u | paste -sd' ')"
}

registry() {
    local digest
    start_registry 5861
    start_tokens 5863
    AUTH_YAML="auth: {token: {realm: 'http://127.0.0.1:5863/token', service: test, issuer: test, rootcertbundle: $work/token/cert.pem}}" start_registry 5862
    engine tag busybox localhost:5861/test/busybox:1
    ends "push" 0 engine push localhost:5861/test/busybox:1
    digest=$(sed -nE 's/^1: digest: (sha256:[0-9a-f]{64}) size: [0-9]+$/\1/p' "$work/out")
    expect "its digest is what the registry has" "$(skopeo inspect --tls-verify=false --raw docker://localhost:5861/test/busybox:1 | sha256sum | cut -d' ' -f1)" "${digest#sha256:}"
    expect "and the image's" 1 "$(engine images --digests --format '{{.Repository}} {{.Digest}}' | grep -c "^localhost:5861/test/busybox $digest$")"
    engine rmi localhost:5861/test/busybox:1 > /dev/null
    ends "pull" 0 engine pull localhost:5861/test/busybox:1
    expect "its last lines" "Digest: $digest|Status: Downloaded newer image for localhost:5861/test/busybox:1|localhost:5861/test/busybox:1" "$(tail -n 3 "$work/out" | paste -sd'|')"
    ends "pull again" 0 engine pull localhost:5861/test/busybox:1
    expect "is up to date" 1 "$(grep -c 'Image is up to date' "$work/out")"
    ends "pull by digest" 0 engine pull "localhost:5861/test/busybox@$digest"
    ends "pull of none" 1 engine pull localhost:5861/test/none
    ends "push of none" 1 engine push localhost:5861/test/no-such-image
    engine rmi -f localhost:5861/test/busybox:1 "localhost:5861/test/busybox@$digest" > /dev/null 2>&1
    expect "run pulls what is missing" pulled "$(engine run --rm --network none localhost:5861/test/busybox:1 echo pulled 2> /dev/null)"
    engine rmi localhost:5861/test/busybox:1 > /dev/null
    push "$FIXTURES/mysql.tar" localhost:5861/test/mysql:1
    "$peer_command" pull -q localhost:5861/test/mysql:1 > "$work/pull1" 2>&1 &
    local first=$! second code
    "$peer_command" pull -q localhost:5861/test/mysql:1 > "$work/pull2" 2>&1 &
    second=$!
    wait "$first"
    code=$?
    wait "$second"
    expect "two pulls of one image at once" "0 0" "$code $?"
    engine rmi localhost:5861/test/mysql:1 > /dev/null
    engine tag busybox localhost:5862/private/busybox:1
    ends "push without credentials" 1 engine push localhost:5862/private/busybox:1
    ends "login with a wrong password" 1 engine login -u user -p wrong localhost:5862
    ends "login" 0 engine login -u user -p secret localhost:5862
    expect "succeeds" 1 "$(grep -c 'Login Succeeded' "$work/out")"
    ends "push with them" 0 engine push localhost:5862/private/busybox:1
    engine rmi localhost:5862/private/busybox:1 > /dev/null
    ends "pull with them" 0 engine pull localhost:5862/private/busybox:1
    ends "logout" 0 engine logout localhost:5862
    engine rmi localhost:5862/private/busybox:1 > /dev/null
    ends "pull without" 1 engine pull localhost:5862/private/busybox:1
}

pruning() {
    local keep
    engine run --name ended --network none "$IMAGE" true
    engine run -d --name goes-on --network none "$IMAGE" sleep 1000 > /dev/null
    expect "container prune" "1 goes-on" "$(engine container prune -f | grep -cE '^[0-9a-f]{64}$') $(engine ps -a --format '{{.Names}}')"
    engine commit goes-on dangles > /dev/null
    engine commit -m other goes-on dangles > /dev/null
    ends "image prune" 0 engine image prune -f
    expect "takes what has no name" "busybox dangles" "$(engine images --format '{{.Repository}}' | sort | paste -sd' ')"
    ends "image prune -a" 0 engine image prune -a -f
    expect "takes what is not used" "busybox" "$(engine images --format '{{.Repository}}')"
    engine volume create named > /dev/null
    keep=$(engine volume create)
    engine volume prune -f --filter label=no=such > /dev/null
    expect "volume prune of none" 2 "$(engine volume ls -q | wc -l)"
    engine volume prune -f --filter all=1 > "$work/out"
    expect "volume prune of all" "0 2" "$(engine volume ls -q | wc -l) $(grep -cxE "named|$keep" "$work/out")"
    engine network create empty > /dev/null
    expect "network prune" "empty|bridge host none" "$(engine network prune -f | grep -x empty)|$(engine network ls --format '{{.Name}} {{.Driver}}' | grep -v ' cni$' | cut -d' ' -f1 | sort | paste -sd' ')"
    engine run --name ended --network none "$IMAGE" true
    engine network create empty > /dev/null
    ends "system prune" 0 engine system prune -f
    expect "takes both" "goes-on|bridge host none" "$(engine ps -a --format '{{.Names}}')|$(engine network ls --format '{{.Name}} {{.Driver}}' | grep -v ' cni$' | cut -d' ' -f1 | sort | paste -sd' ')"
    engine rm -f goes-on > /dev/null
}

the_system() {
    expect "info" "0 1 overlay2 linux" "$(engine info -f '{{.Containers}} {{.Images}} {{.Driver}} {{.OSType}}' | sed 's/overlay .*/overlay2 linux/; s/overlayfs/overlay2/')"
    ends "info, all of it" 0 engine info
    expect "has no error" 0 "$(grep -c '^ERROR' "$work/out")"
    engine run -d --name one --network none --mount type=volume,source=vol,target=/v "$IMAGE" sh -c 'head -c 1048576 /dev/zero > /big; head -c 2097152 /dev/zero > /v/big; sleep 1000' > /dev/null
    wait_for 60 engine exec one sh -c '[ "$(stat -c %s /v/big)" = 2097152 ]'
    expect "system df" "Images 1 1|Containers 1 1|Local Volumes 1 1" "$(engine system df --format '{{.Type}} {{.TotalCount}} {{.Active}}' | grep -v Build | paste -sd'|')"
    expect "system df -v" "1 1" "$(engine system df -v | grep -c '^vol .*2\.[0-9]*MB') $(engine system df -v | grep -cE '1\.0[0-9]*MB .* one *$')"
    expect "ps -s" 1 "$(engine ps -s --format '{{.Size}}' | grep -c '^1.0[0-9]*MB (virtual')"
    expect "inspect --size" yes "$([ "$(engine inspect --size -f '{{.SizeRw}}' one)" -ge 1048576 ] && echo yes)"
    engine rm -f one > /dev/null
    engine volume rm vol > /dev/null
    expect "version" "1.51 linux" "$(engine version -f '{{.Server.APIVersion}} {{.Server.Os}}')"
    ends "version, all of it" 0 engine version
    ends "inspect of nothing" 1 engine inspect no-such-thing
    expect "inspect finds an image" 1 "$(engine inspect busybox | grep -c '"RootFS"')"
    ends "inspect --type" 1 engine inspect --type container busybox
    ends "swarm is not" 1 engine service ls
}
