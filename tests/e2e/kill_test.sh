#!/bin/bash
# Each service is killed -9, and restarted in order, in the middle of a push: the push still ends served,
# once. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-26000}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
check "a service is made" new_service shop

# The moment of a victim's own work; the others die at once after the push.
moment() {
    local rows=$1 condition=$2
    within 30 bash -c "$enclii $rows shop -o json | jq -e --arg s $sha 'any(.[]; .git_sha == \$s and ($condition))'"
}
wait_for_moment() {
    case $1 in
    builder) moment builds '.state == "running" or .state == "SUCCEEDED"' ;; # it may be over already
    signer) moment releases 'true' ;;
    reconciler) moment deployments 'true' ;;
    domain | notifier) moment releases 'true' ;;
    *) sleep 0.2 ;;
    esac
}
once() {
    [ "$(rows_of builds shop | jq '[.[] | select(.state == "SUCCEEDED")] | length')" = 1 ] &&
        [ "$(rows_of releases shop | jq '[.[] | select(.state == "READY")] | length')" = 1 ] &&
        [ "$(rows_of deployments shop | jq '[.[] | select(.state == "HEALTHY")] | length')" = 1 ] &&
        [ "$(rows_of deployments shop | jq 'length')" = 1 ] || {
        rows_of builds shop; rows_of releases shop; rows_of deployments shop
        return 1
    }
}

check "a first push, nobody killed" commit shop "start"
check "it is served" says HEALTHY watch shop

another_is_ready() { [ "$(part_pid "$1")" != "$pid" ] && platform_ready; }
push_while() { # signal, victim, what it is called
    local said="$3 $2"
    commit shop "$said"
    wait_for_moment "$2" > /dev/null
    pid=$(part_pid "$2")
    kill "-$1" "$pid"
    check "$said: it comes back" within 30 another_is_ready "$2"
    check "$said: the push ends served" within 90 serves shop "$said"
    check "$said: HEALTHY" within 60 bash -c "$enclii deployments shop -o json | jq -e --arg s $sha 'any(.[]; .git_sha == \$s and .state == \"HEALTHY\")'"
    check "$said: built, signed and deployed once" once
}
for victim in pipeline builder signer reconciler domain notifier sweeper api; do
    push_while KILL "$victim" killed
    push_while TERM "$victim" restarted
done

# The webhook dies before the delivery: the git server's hook tries again.
kill -9 "$(part_pid webhook)"
check "webhook killed: the push is taken" commit shop "killed webhook"
check "webhook killed: the push ends served" within 90 serves shop "killed webhook"
check "webhook killed: built, signed and deployed once" within 20 once
check "nothing is left in the outbox" within 10 bash -c \
    "[ \"\$(psql -qtAX \"\$(cat $ENCLII_HOME/secrets/database_url)\" -c 'select count(*) from enclii.outbox')\" = 0 ]"
check "no row waits for ever" bash -c \
    "[ \"\$(psql -qtAX \"\$(cat $ENCLII_HOME/secrets/database_url)\" -c \"select (select count(*) from enclii.build where state <> upper(state)) + (select count(*) from enclii.release where state <> upper(state)) + (select count(*) from enclii.deployment where state <> upper(state))\")\" = 0 ]"
