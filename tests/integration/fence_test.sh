#!/bin/bash
# A second member joins a real Kafka under the name of ours, and is killed: the service that was fenced goes on
# within its process, and pushes of that moment have their effect once. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-27000}
command -v kcat > /dev/null || { echo "1..0 # SKIP kcat is not installed"; exit 0; }
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
pids() { "$enclii" local status -o json | jq -c '[.components[] | {name, pid, restarts}]'; }
rebuilt() { # group: how often its consumer was begun anew
    local port
    for port in $(seq "$ENCLII_LOCAL_ADMIN_PORT" $((ENCLII_LOCAL_ADMIN_PORT + 12))); do
        curl -s -m 2 "http://127.0.0.1:$port/metrics"
    done | awk -v n="enclii_bus_consumers_rebuilt_total{group=\"$1\"}" 'index($0, n) == 1 {s += $NF} END {print s + 0}'
}
rebuilt_is() { [ "$(rebuilt "$1")" -ge "$2" ] || { echo "$(rebuilt "$1"), not $2"; return 1; }; }
impostor() { # group, member, topic: joins as that member, reads, commits nothing
    kcat -b "127.0.0.1:$ENCLII_LOCAL_KAFKA_PORT" -G "$1" -X group.instance.id="$2" -X session.timeout.ms=6000 \
        -X partition.assignment.strategy=range -X enable.auto.commit=false "$3" > "$work/impostor.out" 2>&1 &
    impostor=$!
}
once() {
    [ "$(rows_of builds shop | jq '[.[] | select(.state == "SUCCEEDED")] | length')" = 1 ] &&
        [ "$(rows_of releases shop | jq '[.[] | select(.state == "READY")] | length')" = 1 ] &&
        [ "$(rows_of deployments shop | jq 'length')" = 1 ] || {
        rows_of builds shop; rows_of releases shop; rows_of deployments shop
        return 1
    }
}
check "a service is made" new_service shop
check "a first push" eval 'commit shop first && watch shop'
before=$(pids)

fenced_while_pushed() { # group, member, topic, how often
    local times
    for times in $(seq "$4"); do
        impostor "$1" "$2" "$3"
        commit shop "$1 $times"
        check "$1: begun anew ($times)" within 60 rebuilt_is "$1" "$times"
        kill -9 "$impostor" 2> /dev/null
        wait "$impostor" 2> /dev/null
        check "$1: the push of that moment is served ($times)" within 120 serves shop "$1 $times"
        check "$1: built, signed and deployed once ($times)" within 30 once
    done
}
fenced_while_pushed builder.local-1 local-1 enclii.build.commands 2
fenced_while_pushed pipeline local-1 enclii.intake 3
check "no process ended" [ "$before" = "$(pids)" ]
check "no dead letter" says '^0$' bash -c "$enclii dead list -o json | jq '.dead_letters | length'"
check "and a last push" eval 'commit shop last && watch shop'
check "once, too" once
