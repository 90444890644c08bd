#!/bin/bash
# The webhook cannot be reached: a push is deployed all the same, within the sweep's interval, once; and when the
# webhook's word comes after all, it changes nothing. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-21210}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
database() { psql -qtAX "$(cat "$ENCLII_HOME/secrets/database_url")" -c "$1"; }
is() { [ "$1" = "$2" ] || { echo "\"$1\" instead of \"$2\""; return 1; }; }
sweeper_metric() { # the sum over its labels
    local port
    port=$("$enclii" local status -o json | jq -r '.components[] | select(.name == "sweeper").port // empty')
    curl -s "127.0.0.1:${port:-$((ENCLII_LOCAL_PORT_BASE + 19))}/metrics" |
        awk -v name="$1" '$1 ~ "^" name "([{]|$)" {sum += $2} END {printf "%d", sum}'
}
deliveries_of() { "$enclii" deliveries --limit 50 -o json | jq -c --arg s "$sha" "[.[] | select(.commit_sha == \$s)] | $1"; }
baselined() { [ "$(database "select count(*) from sweeper.repo where baselined")" -ge "$1" ]; }
builds_of_sha() { rows_of builds "$1" | jq 'length'; }
push_behind() { # commits, and pushes in the background: its hook waits for the webhook
    git -C "$work/$1" add -A
    git -C "$work/$1" commit -q -m "$2"
    sha=$(git -C "$work/$1" rev-parse HEAD)
    git -C "$work/$1" push -q origin HEAD:main > "$work/push.out" 2>&1 &
    pusher=$!
}
host_sha() { git --git-dir "$(find "$ENCLII_HOME" -type d -path "*acme/$1.git" | head -1)" rev-parse refs/heads/main; }
host_has() { is "$(host_sha "$1")" "$sha"; }

check "a service is made" new_service shop
check "its refs are recorded" within 20 baselined 1
check "a push by the webhook" commit shop "told"
check "it is served" says HEALTHY watch shop
check "it was told by the webhook" is "$(deliveries_of 'map(.recovered) | unique')" '[false]'

webhook=$(part_pid webhook)
kill -STOP "$webhook"
write_version shop "untold"
push_behind shop "untold"
check "the git server takes a push whose hook fails" within 20 host_has shop
began=$SECONDS
in_ledger() { deliveries_of 'any(.[]; .recovered)' | grep -q true; }
check "it is brought in within the interval (15 s)" within 15 in_ledger
check "and served" within 20 serves shop "untold"
echo "# served $((SECONDS - began)) s after the git server had it"
check "it is HEALTHY" says HEALTHY watch shop
check "the ledger says that it was recovered" is "$(deliveries_of 'map(.recovered)')" '[true]'
check "enclii deliveries says who told it" says '\bsweep\b' "$enclii" deliveries
check "it is counted" is "$(sweeper_metric enclii_pushes_recovered_total)" 1
check "none is lost" is "$(sweeper_metric enclii_pushes_lost_total)" 0

kill -CONT "$webhook"
check "the push ends" within 90 bash -c "! kill -0 $pusher"
late() { deliveries_of 'any(.[]; .recovered == false and .reason == "already_recovered")' | grep -q true; }
check "the webhook's word comes late, and is known" within 60 late
sleep 20 # a whole interval
check "built once" is "$(builds_of_sha shop)" 1
check "and recovered once" is "$(sweeper_metric enclii_pushes_recovered_total)" 1
check "the version still serves" serves shop "untold"

check "then pushes go by the webhook again" commit shop "told again"
check "and are served" says HEALTHY watch shop
check "as told by the webhook" is "$(deliveries_of 'map(.recovered) | unique')" '[false]'
