#!/bin/bash
# Each service is killed -9 in the middle of a push and started again by the supervisor: the push still
# ends served, once. TAP.
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
    builder) moment builds '.state == "running"' ;;
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

for victim in pipeline builder signer reconciler domain notifier api; do
    commit shop "killed $victim"
    wait_for_moment "$victim" > /dev/null
    kill -9 "$(part_pid "$victim")"
    check "$victim killed: it comes back" within 30 platform_ready
    check "$victim killed: the push ends served" within 90 serves shop "killed $victim"
    check "$victim killed: HEALTHY" within 60 bash -c "$enclii deployments shop -o json | jq -e --arg s $sha 'any(.[]; .git_sha == \$s and .state == \"HEALTHY\")'"
    check "$victim killed: built, signed and deployed once" once
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
