#!/bin/bash
# Who we are and whom we trust: basic auth, login and logout, credential helpers, refresh tokens, private authorities and
# client certificates, insecure registries, proxies, Amazon ECR against moto.
if [ "${RCON_IN_NETNS:-}" != 1 ]; then
    RCON_IN_NETNS=1 exec unshare --net --mount --propagation private bash -c 'ip link set lo up; exec bash "$0"' "$0"
fi
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry-lib.sh"
here=$(dirname "$0")
# Names of this test's own, for this process's mount namespace alone.
ECR=123456789012.dkr.ecr.us-east-1.amazonaws.com
{ cat /etc/hosts; echo "127.0.0.1 $ECR registry.test"; } > "$work/hosts"
mount --bind "$work/hosts" /etc/hosts
export XDG_CONFIG_HOME=$work/xdg DOCKER_CONFIG=$work/docker HOME=$work/home AWS_EC2_METADATA_DISABLED=true
mkdir -p "$work/docker" "$work/home" "$work/bin" "$work/tls"
says() { # NAME WORDS: the last output has them
    grep -qE "$2" "$work/out" && pass "$1" || fail "$1" "$(cat "$work/out")"
}
run() { rcon "$@" > "$work/out" 2>&1; echo $?; }
htpasswd() { perl -e 'print "$ARGV[0]:", crypt($ARGV[1], q($2b$04$abcdefghijklmnopqrstuu)), "\n"' "$1" "$2"; }

# Basic auth: login verifies, keeps, and is used; logout forgets.
htpasswd user 'se:cret' > "$work/htpasswd"
AUTH_YAML="auth: {htpasswd: {realm: test, path: $work/htpasswd}}" start_registry 5826
expect "login with a wrong password" 1 "$(echo wrong | run login -u user --password-stdin localhost:5826)"
says "says so" 'refused the login of user "user"'
expect "and keeps nothing" "" "$(ls "$work/docker")"
expect "login" 0 "$(echo 'se:cret' | run login -u user --password-stdin localhost:5826)"
says "in Docker's words" '^Login Succeeded$'
says "with the warning about the file" 'stored unencrypted in'
expect "the file is the user's alone" 600 "$(stat -c %a "$work/docker/config.json")"
expect "as docker writes it" "user:se:cret" "$(jq -r '.auths["localhost:5826"].auth' "$work/docker/config.json" | base64 -d)"
push "$FIXTURES/busybox.tar" localhost:5826/test/busybox:1 --dest-creds 'user:se:cret'
expect "pull with it" 0 "$(run pull localhost:5826/test/busybox:1)"
expect "login with what is kept" 0 "$(run login localhost:5826 < /dev/null)"
says "says that" 'Authenticating with existing credentials'
expect "--get-login" user "$(rcon login --get-login localhost:5826)"
expect "-p warns" 0 "$(run login -u user -p 'se:cret' localhost:5826)"
says "in Docker's words (-p)" '^WARNING! Using --password via the CLI is insecure. Use --password-stdin.$'
expect "logout" 0 "$(run logout localhost:5826)"
says "in Docker's words (logout)" '^Removing login credentials for localhost:5826$'
expect "nothing is left of it" '{}' "$(jq -c .auths "$work/docker/config.json")"
expect "logout again" 0 "$(run logout localhost:5826)"
says "says that there was none" '^Not logged in to localhost:5826$'
rcon rmi -f localhost:5826/test/busybox:1 > /dev/null 2>&1
expect "pull without it" 1 "$(run pull localhost:5826/test/busybox:1)"
says "names the way out" 'pull access denied.*|rcon login'
expect "no terminal, no password" 1 "$(run login -u user localhost:5826 < /dev/null)"
says "in Docker's words (terminal)" 'Cannot perform an interactive login from a non TTY device'
expect "a typed password" 0 "$(python3 "$here/type.py" "$RCON" --root "$work/data" --run-root "$work/run" login localhost:5826 -- 'Username' user 'Password' 'se:cret' > "$work/out" 2>&1; echo $?)"
says "logs in" 'Login Succeeded'
expect "and is not shown" 0 "$(grep -c 'se:cret' "$work/out")"
expect "with docker's tools: skopeo reads it" 0 "$(skopeo inspect --tls-verify=false --authfile "$work/docker/config.json" docker://localhost:5826/test/busybox:1 > "$work/out" 2>&1; echo $?)"

# A token server: the login is verified there, and what is kept is its refresh token.
start_tokens 5833
AUTH_YAML="auth: {token: {realm: 'http://127.0.0.1:5833/token', service: test, issuer: test, rootcertbundle: $work/token/cert.pem}}" start_registry 5834
mkdir -p "$work/registry-5834" && cp -r "$work/registry-5826/docker" "$work/registry-5834/"
mv "$work/registry-5834/docker/registry/v2/repositories/test/busybox" "$work/registry-5834/docker/registry/v2/repositories/test/private"
expect "a token server refuses a wrong password" 1 "$(echo wrong | run login -u user --password-stdin localhost:5834)"
says "says so (token server)" 'refused the login of user "user"'
expect "login at a token server" 0 "$(echo secret | run login -u user --password-stdin localhost:5834)"
expect "keeps the refresh token" "user: refresh-of-user" "$(jq -r '.auths["localhost:5834"] | (.auth | @base64d) + " " + .identitytoken' "$work/docker/config.json")"
expect "pull with the refresh token" 0 "$(run pull localhost:5834/test/private:1)"
rcon logout localhost:5834 > /dev/null

# Credential helpers.
cat > "$work/bin/docker-credential-test" <<HELPER
#!/bin/sh
echo "\$1" >> "$work/helper.log"
input=\$(cat)
case \$1 in
get) [ -f "$work/secret" ] && cat "$work/secret" || { echo "credentials not found in native keychain"; exit 1; } ;;
store) printf '%s' "\$input" > "$work/secret" ;;
erase) rm -f "$work/secret" ;;
esac
HELPER
printf '#!/bin/sh\necho "the keychain is locked"\nexit 1\n' > "$work/bin/docker-credential-locked"
chmod +x "$work/bin/"*
export PATH=$work/bin:$PATH
printf '{"credsStore":"test","psFormat":"kept"}' > "$work/docker/config.json"
expect "a helper without the credentials" 1 "$(run pull localhost:5826/test/busybox:1)"
says "is no error of its own" 'pull access denied'
expect "login through a helper" 0 "$(echo 'se:cret' | run login -u user --password-stdin localhost:5826)"
expect "warns of nothing" 0 "$(grep -c WARNING "$work/out")"
expect "the helper has it" 'user' "$(jq -r .Username "$work/secret")"
expect "the file has not" '{}' "$(jq -c '.auths["localhost:5826"]' "$work/docker/config.json")"
expect "the rest of the file is as it was" kept "$(jq -r .psFormat "$work/docker/config.json")"
expect "pull through a helper" 0 "$(run pull localhost:5826/test/busybox:1)"
expect "logout through a helper" 0 "$(run logout localhost:5826)"
expect "the helper forgot" 1 "$([ -f "$work/secret" ]; echo $?)"
rcon rmi -f localhost:5826/test/busybox:1 > /dev/null 2>&1
printf '{"auths":{"localhost:5826":{"auth":"%s"}},"credHelpers":{"localhost:5826":"locked"}}' "$(printf 'user:se:cret' | base64)" > "$work/docker/config.json"
expect "a helper that fails is an error" 1 "$(run pull localhost:5826/test/busybox:1)"
says "with its words" 'docker-credential-locked for localhost:5826: the keychain is locked'
printf '{"credHelpers":{"localhost:5826":"missing"}}' > "$work/docker/config.json"
expect "so is one that is missing" 1 "$(run pull localhost:5826/test/busybox:1)"
says "by name" 'docker-credential-missing'
rm "$work/docker/config.json"

# A private authority, then a client certificate.
(
    cd "$work/tls" || exit
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj "/CN=house" -days 2
    issue() { # NAME SUBJECT-ALTERNATIVE-NAMES USAGE
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
        openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.cert" -days 2 -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=%s\n' "$2" "$3")
    }
    issue server "DNS:registry.test,DNS:$ECR,IP:127.0.0.1" serverAuth
    issue client DNS:client clientAuth
) > "$work/tls.log" 2>&1
tls="tls: {certificate: $work/tls/server.cert, key: $work/tls/server.key"
start_registry 5827 ", $tls}"
start_registry 5828 ", $tls, clientcas: [$work/tls/ca.crt]}"
for port in 5827 5828; do cp -r "$work/registry-5826/docker" "$work/registry-$port/"; done
certs=$XDG_CONFIG_HOME/rcon/certs.d
expect "an unknown authority" 1 "$(run pull registry.test:5827/test/busybox:1)"
says "names the file that would mend it" 'certs.d/registry.test:5827/ca.crt'
mkdir -p "$certs/registry.test:5827"
printf 'nonsense' > "$certs/registry.test:5827/ca.crt"
expect "an authority that is none" 1 "$(run pull registry.test:5827/test/busybox:1)"
says "names the file" 'registry.test:5827/ca.crt'
cp "$work/tls/ca.crt" "$certs/registry.test:5827/ca.crt"
expect "a private authority" 0 "$(run pull registry.test:5827/test/busybox:1)"
mkdir -p "$certs/localhost:5827" && cp "$work/tls/ca.crt" "$certs/localhost:5827/"
expect "a certificate for another name" 1 "$(run pull localhost:5827/test/busybox:1)"
says "says for which" 'not for localhost:5827'
rm -r "$certs/localhost:5827"
mkdir -p "$certs/registry.test:5828" && cp "$work/tls/ca.crt" "$certs/registry.test:5828/"
expect "a client certificate is asked for" 1 "$(run pull registry.test:5828/test/busybox:1)"
says "names the files" 'registry.test:5828/client.cert.*client.key'
cp "$work/tls/client.cert" "$certs/registry.test:5828/"
expect "a client certificate without its key" 1 "$(run pull registry.test:5828/test/busybox:1)"
says "names the key" 'client.key is missing'
cp "$work/tls/client.key" "$certs/registry.test:5828/"
rcon rmi -f registry.test:5828/test/busybox:1 > /dev/null 2>&1
expect "a client certificate" 0 "$(run pull registry.test:5828/test/busybox:1)"

# Insecure registries: only when listed; TLS without verification first, plain HTTP second.
rm -r "$certs/registry.test:5827"
expect "listed as insecure: any certificate" 0 "$(RCON_INSECURE_REGISTRIES=registry.test:5827 run pull registry.test:5827/test/busybox:1)"
start_registry 5829
cp -r "$work/registry-5826/docker" "$work/registry-5829/"
expect "plain HTTP that is not listed" 1 "$(run pull registry.test:5829/test/busybox:1)"
says "says how to list it" 'insecure'
expect "listed as insecure: plain HTTP" 0 "$(RCON_INSECURE_REGISTRIES=registry.test:5829 run pull registry.test:5829/test/busybox:1)"
expect "a loopback registry with TLS" 1 "$(run pull 127.0.0.1:5827/test/busybox:1)"
says "is spoken to in TLS" 'authority'

# A proxy of the environment.
python3 "$here/fault-proxy.py" 127.0.0.1:5830 127.0.0.1:5829 "$work/proxy" > /dev/null 2>&1 &
registry_pids="$registry_pids $!"
listens 5830
export RCON_INSECURE_REGISTRIES=elsewhere.test:5829 HTTP_PROXY=http://127.0.0.1:5830
expect "through HTTP_PROXY" 0 "$(run pull elsewhere.test:5829/test/busybox:1)"
expect_in "the proxy saw it" 1 99 "$(jq -s 'length' "$work/proxy/log.jsonl")"
rcon rmi -f elsewhere.test:5829/test/busybox:1 > /dev/null 2>&1
expect "NO_PROXY" 1 "$(NO_PROXY=elsewhere.test run pull elsewhere.test:5829/test/busybox:1)"
unset RCON_INSECURE_REGISTRIES HTTP_PROXY

# Amazon ECR: moto gives the token, a registry with that password stands behind the host's name.
"$FIXTURES/moto/bin/moto_server" -H 127.0.0.1 -p 5831 > "$work/moto.log" 2>&1 &
registry_pids="$registry_pids $!"
htpasswd AWS 123456789012-auth-token > "$work/htpasswd-ecr"
AUTH_YAML="auth: {htpasswd: {realm: ecr, path: $work/htpasswd-ecr}}" start_registry 443 ", $tls}"
cp -r "$work/registry-5826/docker" "$work/registry-443/"
mkdir -p "$certs/$ECR" && cp "$work/tls/ca.crt" "$certs/$ECR/"
wait_for 180 listens 5831 || fail "moto does not start" "$(cat "$work/moto.log")"
ecr() { # NAME [VARIABLE=VALUE...]: expects a pull
    local name=$1
    shift
    rcon rmi -f "$ECR/test/busybox:1" > /dev/null 2>&1
    expect "$name" 0 "$(env "$@" "$RCON" --root "$work/data" --run-root "$work/run" pull "$ECR/test/busybox:1" > "$work/out" 2>&1 || cat "$work/out" >&2; rcon image inspect "$ECR/test/busybox:1" > /dev/null 2>&1; echo $?)"
}
expect "ECR without AWS keys" 1 "$(run pull "$ECR/test/busybox:1")"
says "is denied, with the way out" 'set AWS_PROFILE'
export AWS_ENDPOINT_URL_ECR=http://127.0.0.1:5831
ecr "ECR with keys of the environment" AWS_ACCESS_KEY_ID=AKIAEXAMPLE AWS_SECRET_ACCESS_KEY=secret
mkdir -p "$HOME/.aws"
printf '[work]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = secret\n' > "$HOME/.aws/credentials"
ecr "ECR with a profile" AWS_PROFILE=work
expect "a profile that is not there" 1 "$(AWS_PROFILE=none run pull "$ECR/test/none:1")"
says "is named" 'no AWS profile "none"'
printf '[profile role]\nrole_arn = arn:aws:iam::123456789012:role/puller\nsource_profile = work\n' > "$HOME/.aws/config"
ecr "ECR with a role of a profile" AWS_PROFILE=role AWS_ENDPOINT_URL_STS=http://127.0.0.1:5831
echo web-token > "$work/web-token"
ecr "ECR with a web identity" AWS_ROLE_ARN=arn:aws:iam::123456789012:role/web AWS_WEB_IDENTITY_TOKEN_FILE="$work/web-token" AWS_ENDPOINT_URL_STS=http://127.0.0.1:5831
printf '{"auths":{"%s":{"auth":"%s"}}}' "$ECR" "$(printf 'AWS:yesterday' | base64)" > "$work/docker/config.json"
ecr "a login that has expired is renewed" AWS_PROFILE=work
printf '{"credHelpers":{"%s":"ecr-login"}}' "$ECR" > "$work/docker/config.json"
printf '#!/bin/sh\necho helper >> "%s/helper.log"\necho '"'"'{"Username":"AWS","Secret":"123456789012-auth-token"}'"'"'\n' "$work" > "$work/bin/docker-credential-ecr-login"
chmod +x "$work/bin/docker-credential-ecr-login"
: > "$work/helper.log"
ecr "a configured helper comes first" AWS_PROFILE=work AWS_ENDPOINT_URL_ECR=http://127.0.0.1:1
expect "it was asked" 1 "$(grep -c helper "$work/helper.log")"
rm "$work/docker/config.json"
python3 "$here/metadata-server.py" 127.0.0.1:5832 "$work/metadata.log" &
registry_pids="$registry_pids $!"
listens 5832
ecr "ECR with the instance's role" AWS_EC2_METADATA_DISABLED=false AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:5832
expect "version 2 alone was used" 0 "$(grep -c 'without a token' "$work/metadata.log")"
ecr "ECR with the container's role" AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:5832/container AWS_CONTAINER_AUTHORIZATION_TOKEN=container-token
expect "a service that is not there takes bounded time" 1 "$(AWS_EC2_METADATA_DISABLED=false AWS_EC2_METADATA_SERVICE_ENDPOINT=http://192.0.2.1 timeout 60 "$RCON" --root "$work/data" --run-root "$work/run" pull "$ECR/test/none:1" > "$work/out" 2>&1; echo $?)"

umount /etc/hosts
no_leaks "nothing is left"
stop_registry
finish
