#!/bin/bash
# run.sh ENGINE FILE...: runs the cases of these files with one engine, in this order and in one environment.
# E is the engine's command, I the image (busybox), WORK an empty directory. ROWS_ONLY: a part of the titles to run.
# README.md beside this file describes the format. Prints a line a case and "rows: N passed, M failed".
set -uo pipefail
engine=$1
shift
: "${E:?}" "${I:?}" "${WORK:?}"
here=$(dirname "$(readlink -f "$0")")
export E I WORK ENGINE=$engine ROWS=$here
files=()
for file in "$@"; do files+=("$(readlink -f "$file")"); done
cd "$WORK" || exit 2
passed=0 failed=0

# Runs the case that was read.
finish_case() {
    [ -n "$title" ] || return 0
    local name=$title got wanted=$all
    title=
    [[ "$name" == *"${ROWS_ONLY:-}"* ]] || return 0
    [ -z "$lacking" ] || return 0
    [ "$own" != yes ] || wanted=$mine
    local from=${EPOCHREALTIME/./}
    # A case that hangs must not hang the suite.
    got=$(timeout -k 5 300 bash -c ". '$here/words.sh'"$'\n'"$snippet" 2> "$WORK/.stderr" < /dev/null | tr -d '\r')
    if [ "$got" = "${wanted%$'\n'}" ]; then
        passed=$((passed + 1))
        echo "  ok    $name ($(((${EPOCHREALTIME/./} - from) / 1000)) ms)"
    else
        failed=$((failed + 1))
        echo "  FAIL  $name"
        diff <(printf '%s' "$wanted") <(printf '%s\n' "$got") | tail -n +2 | sed 's/^</        wanted:/; s/^>/        got:   /; /^---$/d; /^\\/d'
        tail -n 5 "$WORK/.stderr" | sed 's/^/        stderr: /'
        # What it did not come to remove must not be in the way of the next.
        bash -c ". '$here/words.sh'; gone \$(e ps -aq)" < /dev/null
    fi
}

for file in "${files[@]}"; do
    title='' snippet='' all='' mine='' own='' lacking='' part=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            '## '*) finish_case; title=${line#\#\# } snippet='' all='' mine='' own='' lacking='' part=snippet ;;
            '--') part=all ;;
            '-- lacks '*) [[ "$line" != "-- lacks $engine: "* ]] || lacking=yes; part= ;;
            "-- $engine: "*) own=yes part=mine ;;
            '-- '*) part=other ;;
            *)
                case $part in
                    snippet) snippet+=$line$'\n' ;;
                    all) [ -z "$line" ] || all+=$line$'\n' ;;
                    mine) [ -z "$line" ] || mine+=$line$'\n' ;;
                esac ;;
        esac
    done < "$file"
    finish_case
done
echo "rows: $passed passed, $failed failed"
[ "$failed" = 0 ]
