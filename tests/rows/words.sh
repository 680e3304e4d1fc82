# The words in which the cases are written; sourced before each. stderr of a case is shown only when it fails.

# The engine.
e() { $E "$@"; }
# A container NAME that sleeps; what follows are flags of `run`.
up() { local name=$1; shift; e run -d --name "$name" "$@" "$I" sleep 1000 > /dev/null; }
# Containers go away, whatever they do.
gone() {
    # podman removes none when one is missing.
    [ "$ENGINE" = podman ] || { e rm -f -v "$@" > /dev/null 2>&1; return; }
    local name
    for name in "$@"; do e rm -f -t 0 -v "$name" > /dev/null 2>&1; done
}
# "rc N": the exit code alone.
rc() { "$@" > /dev/null 2>&1; echo "rc $?"; }
# Succeeded or not.
tried() { if "$@" > /dev/null 2>&1; then echo accepted; else echo refused; fi; }
# says PATTERN COMMAND...: its exit code, and whether what it says fits.
says() {
    local pattern=$1 out code
    shift
    out=$("$@" 2>&1)
    code=$?
    if grep -qiE -e "$pattern" <<< "$out"; then echo "rc $code, says so"; else echo "rc $code, says: $out"; fi
}
# inspect -f.
see() { e inspect -f "$2" "$1"; }
# Runs and is removed.
once() { e run --rm "$@"; }
# eventually COMMAND...: until it succeeds, at most 60 s.
eventually() {
    local deadline=$((SECONDS + 60))
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "not within 60 s: $*"; return 1; }
        sleep 0.05
    done
}
is() { [ "$(see "$1" "$2" 2>/dev/null)" = "$3" ]; }
# A container NAME whose shell ends with CODE by each of these SIGNALS; what follows CODE are flags of `run`. Its handlers are
# set when this returns: the first process of a container does not get a signal that it has no handler for.
handles() {
    local name=$1 signals=$2 code=$3; shift 3
    e run -d --name "$name" "$@" "$I" sh -c "trap 'exit $code' $signals; echo >> /handles; while :; do sleep 0.05; done" > /dev/null
    eventually e exec "$name" test -s /handles
}
# What a TCP port says.
fetch() { timeout 5 bash -c "cat < /dev/tcp/$1/$2" 2> /dev/null; }
serves() { [ "$(fetch "$1" "$2")" = "$3" ]; }
# pty COLUMNSxROWS INPUT ARGUMENTS...: the engine on a terminal of that size; INPUT is typed once something was printed.
pty() { local size=$1 input=$2; shift 2; python3 "$ROWS/../../integration/peers/terminal.py" "$size" "$input" $E "$@" | tr -d '\r'; }
# Milliseconds that a command takes.
took() { local from; from=$(date +%s%N); "$@" > /dev/null 2>&1; echo $((($(date +%s%N) - from) / 1000000)); }
# within LOW HIGH N
within() { if [ "$3" -ge "$1" ] && [ "$3" -le "$2" ]; then echo "in time"; else echo "$3 ms, not $1 to $2"; fi; }
SERVER='while :; do echo served | nc -l -p 80; done'
