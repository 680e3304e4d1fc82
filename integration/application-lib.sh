# Sourced by application.sh and reboot-guest.sh: a weblog of three containers (nginx, Python, MariaDB), each with a
# restart policy and a health check. Expects the function `rcon` and PORT, the published port. Understood by sh and bash.

load_application() { # FIXTURES
    rcon load -q -i "$1/mysql.tar" > /dev/null && rcon load -q -i "$1/blog.tar" > /dev/null
}

start_database() { # FLAG...
    rcon run -d --name db --restart always -v db-data:/var/lib/mysql "$@" \
        -e MYSQL_ROOT_PASSWORD=secret -e MYSQL_DATABASE=blog -e MYSQL_USER=blog -e MYSQL_PASSWORD=blog \
        --health-cmd 'mariadb -ublog -pblog -e "select 1" blog' --health-interval 5s --health-start-period 2m --health-start-interval 500ms \
        --stop-timeout 60 mysql:5.7 > /dev/null
}

# start_application [containers|pod|mixed]: each by itself, all in the pod "blog", or all but the database.
start_application() {
    database="-p 13307:3306" server="--add-host db:host-gateway" front="-p $PORT:80" host=db port=13307
    case ${1:-containers} in
        pod)
            rcon pod create -n blog -p "$PORT:80" > /dev/null || return 1
            database="--pod blog" server="--pod blog" front="--pod blog" host=127.0.0.1 port=3306 ;;
        mixed)
            rcon pod create -n blog -p "$PORT:80" --add-host db:host-gateway > /dev/null || return 1
            server="--pod blog" front="--pod blog" ;;
    esac
    start_database $database &&
        rcon run -d --init --name app --restart unless-stopped -v uploads:/srv/uploads -v sockets:/run/blog $server \
            -e DB_HOST=$host -e DB_PORT=$port -e DB_USER=blog -e DB_PASSWORD=blog -e DB_DATABASE=blog \
            --stop-signal TERM blog:latest /srv/blog.py > /dev/null &&
        rcon run -d --name web --restart always -v uploads:/srv/uploads:ro -v sockets:/run/blog $front \
            --health-cmd 'python3 -c "import urllib.request as u; u.urlopen(\"http://127.0.0.1/count\").read()"' --health-interval 5s \
            --health-start-period 2m --health-start-interval 500ms blog:latest > /dev/null
}

# One HTTP exchange with the front: METHOD PATH [BODY]. Prints the body; fails for any status but 200, and after a minute.
ask() { ask_within 60 "$@"; }
ask_within() { # SECONDS
    python3 - "$PORT" "$@" << 'PYTHON'
import http.client, sys
port, seconds, method, path, body = (sys.argv[1:] + [None])[:5]
try:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=int(seconds))
    connection.request(method, path, body)
    answer = connection.getresponse()
    sys.stdout.write(answer.read().decode())
    sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(str(error))
PYTHON
}

# Asked again and again, so that an answer that does not come is not waited for long.
count() { ask_within 10 GET /count 2> /dev/null; }

# post FROM TO: adds these posts and says how many were taken.
post() {
    python3 - "$PORT" "$1" "$2" << 'PYTHON'
import http.client, sys
port, first, last = map(int, sys.argv[1:])
taken = 0
for number in range(first, last + 1):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/", f"post {number}")
        answer = connection.getresponse()
        answer.read()
        taken += answer.status == 200
    except (OSError, http.client.HTTPException):
        pass
print(taken)
PYTHON
}

# answers SECONDS: waits for the application as a whole.
answers() {
    end=$(($(date +%s) + $1))
    until count > /dev/null; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.3
    done
}

# intact N: posts 1 to N are all there, each with its upload.
intact() {
    ask GET / > "$work/posts" || { echo "the posts cannot be had"; return 1; }
    seq 1 "$1" | sed 's/^/post /' | sort > "$work/wanted"
    sort "$work/posts" | cmp -s - "$work/wanted" || { echo "posts differ: $(sort "$work/posts" | comm -3 - "$work/wanted" | head -n 3 | tr '\n' ' ')"; return 1; }
    for n in 1 "$1"; do
        name=$(printf 'post %s' "$n" | sha256sum | cut -d' ' -f1)
        [ "$(ask GET "/uploads/$name")" = "post $n" ] || { echo "upload of post $n differs"; return 1; }
    done
}
