#!/bin/bash
# webhook and the broker are killed under 2,000 deliveries a second: what was answered 202 is in the topic, once. Then
# two webhooks with planted bugs, which the same check must find. TAP.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
base=${INTAKE_PORT_BASE:-31600}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0

tell() { # number, what, status
    [ "$3" = 0 ] && echo "ok $1 - $2" && return
    failed=1
    echo "not ok $1 - $2"
    tail -40 "$out" | sed 's/^/# /'
}
make -s -C "$root" -j2 build intake-programs > "$out" 2>&1 || { tell 1 "it builds" 1 && exit 1; }
python3 "$root/tests/chaos/intake_loss.py" --port-base "$base" "$@" > "$out" 2>&1
status=$?
sed 's/^/# /' "$out"
tell 1 "each 202 is in the topic once, the rest when delivered again or swept; no push is lost" $status
planted() { # number, bug, pattern, what
    local status
    python3 "$root/tests/chaos/intake_loss.py" --port-base "$base" --seconds 15 --planted "$2" > "$out" 2>&1
    status=$?
    [ $status = 1 ] && grep -qE "^VIOLATION: $3" "$out"
    tell "$1" "$4" $?
}
planted 2 early_ack "delivery .* answered 202 and is not in the topic" "a webhook that answers before the broker is found"
planted 3 fresh_ids "delivery .* (there twice|was accepted as)" "a webhook that gives a redelivery new ids is found"
echo "1..3"
exit $failed
