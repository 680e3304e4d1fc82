#!/bin/bash
# Stands between a peer and the runtime under test and appends each call to a file: arguments, exit code, and what the
# runtime wrote to its --log. An aid for finding out what a peer asked for. Its stderr is left alone: a container
# inherits it.
runtime='@RUNTIME@' trace='@TRACE@'
log= before=
for argument in "$@"; do
    [ "$before" != --log ] || log=$argument
    case $argument in --log=*) log=${argument#--log=} ;; esac
    before=$argument
done
seen=$(stat -c %s "$log" 2> /dev/null || echo 0)
"$runtime" "$@"
code=$?
{
    printf '%(%T)T'
    printf ' %q' "$@"
    printf '\n    exit %s\n' "$code"
    [ -z "$log" ] || tail -c "+$((seen + 1))" "$log" 2> /dev/null | sed 's/^/    log: /'
} >> "$trace"
exit "$code"
