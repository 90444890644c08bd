#!/bin/bash
# The short chaos run, as in CI, and two planted bugs that it must find. TAP.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0

tell() { # number, what, status
    [ "$3" = 0 ] && echo "ok $1 - $2" && return
    failed=1
    echo "not ok $1 - $2"
    tail -50 "$out" | sed 's/^/# /'
}
finds() { # planted bug, what the checker must say
    CHAOS=short "$root/tools/chaos" --pushes 60 --services 12 --planted "$1" --patience 20 --settle 5 --pause 5 > "$out" 2>&1 && return 1
    grep -q "^VIOLATION: .*$2" "$out"
}

CHAOS=short "$root/tools/chaos" > "$out" 2>&1
status=$?
grep -E '^(pushes|deployed|push→|deliveries|kill|sabotage|checked)' "$out" | sed 's/^/# /'
tell 1 "200 pushes while everything is killed: nothing lost, doubled, out of order or stuck" $status
finds outbox_mark "is missing"
tell 2 "a pipeline that takes unpublished rows for published is found out" $?
finds fresh_ids "HEALTHY: commit .* 2 times"
tell 3 "a pipeline whose repeats have new ids is found out" $?
echo "1..3"
exit $failed
