#!/bin/bash
# The short chaos run, as in CI, and a run with planted bugs that must fail. TAP.
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
CHAOS=short "$root/tools/chaos" > "$out" 2>&1
status=$?
grep -E '^(pushes|deployed|push→|deliveries|kill|sabotage|checked)' "$out" | sed 's/^/# /'
tell 1 "200 pushes while everything is killed: nothing lost, doubled, out of order or stuck" $status
CHAOS=short "$root/tools/chaos" --pushes 60 --services 12 --planted all --patience 15 --settle 2 --pause 8 > "$out" 2>&1
[ $? = 1 ]
tell 2 "a pipeline with planted bugs: the run fails" $?
grep -q "^VIOLATION: .* is missing" "$out"
tell 3 "unpublished rows that were taken for published are found" $?
grep -q "^VIOLATION: .* HEALTHY: commit .* 2 times" "$out"
tell 4 "repeats under new ids are found" $?
echo "1..4"
exit $failed
