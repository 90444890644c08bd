#!/bin/bash
# `enclii local`: up, up again, a part killed, the supervisor killed, a port taken, down. TAP.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d /tmp/enclii-local-test.XXXXXX)
chmod 711 "$work" # PostgreSQL runs as another user
export ENCLII_HOME=$work/home ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-25000} NO_COLOR=1
export XDG_CONFIG_HOME=$work/config
cp -r build/bin "$work/bin" # programs that can be replaced
enclii=$work/bin/enclii
count=0 thief=''
check() { # what, command...
    local what=$1 out
    shift
    count=$((count + 1))
    if out=$("$@" 2>&1); then
        echo "ok $count - $what"
    else
        echo "not ok $count - $what"
        printf '%s\n' "$out" | tail -30 | sed 's/^/# /'
    fi
}
finish() {
    [ -z "$thief" ] || kill "$thief"
    "$enclii" local down --purge > /dev/null 2>&1
    rm -rf "$work"
    echo "1..$count"
}
trap finish EXIT

state() { "$enclii" local status -o json; }
pid_of() { state | jq -r --arg n "$1" '.components[] | select(.name == $n).pid'; }
says() { # pattern, command...: the output has it
    local pattern=$1
    shift
    "$@" 2>&1 | tee "$work/said" | grep -qE "$pattern" || { cat "$work/said"; return 1; }
}
fails_saying() { # pattern, command...
    local pattern=$1 out
    shift
    if out=$("$@" 2>&1); then echo "it succeeded: $out"; return 1; fi
    grep -qE "$pattern" <<< "$out" || { echo "$out"; return 1; }
}
ready_again() {
    for _ in $(seq 200); do
        [ "$(state | jq .ready)" = true ] && return 0
        sleep 0.1
    done
    state
    return 1
}
nothing_left() {
    local pid
    for pid in /proc/[0-9]*; do
        if tr '\0' '\n' < "$pid/environ" 2> /dev/null | grep -qx "LOCAL_PLATFORM=$ENCLII_HOME" &&
            ! grep -q '^State:.Z' "$pid/status" 2> /dev/null; then
            tr '\0' ' ' < "$pid/cmdline"
            return 1
        fi
    done
    ! grep -F " $ENCLII_HOME/" /proc/self/mountinfo
}
as_other() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
no_purge_of_others() {
    mkdir -p "$work/other" && touch "$work/other/file"
    ENCLII_HOME=$work/other "$enclii" local down --purge
    [ -e "$work/other/file" ]
}

check "status says that nothing runs" fails_saying 'not running' "$enclii" local status
check "the platform comes up" "$enclii" local up
check "a second up does nothing" says 'already up, nothing to do' "$enclii" local up
api=$(pid_of api)
cp "$work/bin/enclii-api" "$work/new" && mv "$work/new" "$work/bin/enclii-api"
check "after an upgrade it says what still runs as it was" says 'still run: api\. .*' "$enclii" local up
check "and so does status" says 'still run: api\.' "$enclii" local status
check "and touches nothing" test "$api" = "$(pid_of api)"
check "another user is told whose it is" fails_saying 'belongs to another user.*' as_other "$enclii" local status
check "and does not stop it" fails_saying 'sudo enclii local down' as_other "$enclii" local down
check "secrets are for their owner only" test -z "$(find "$ENCLII_HOME/secrets" -type f ! -perm 0600 ! -name '*.pub')"
check "whoever trusts the local CA can read its certificate" as_other test -r "$ENCLII_HOME/ca/ca.crt"
check "and nobody else its key" eval '! as_other test -r "$ENCLII_HOME/ca/ca.key" && [ -s "$ENCLII_HOME/ca/ca.key" ]'
kill -9 "$(pid_of api)"
check "a killed service is started again" ready_again
kill -9 "$(pid_of postgres)"
check "a killed database is started again" ready_again
kill -9 "$(state | jq .supervisor.pid)"
sleep 1
check "status knows that the supervisor is gone" fails_saying 'not running' "$enclii" local status
check "up starts over what a killed supervisor left" "$enclii" local up
token=$(cat "$ENCLII_HOME/secrets/admin_token")
rm "$ENCLII_HOME/run/state.json" # as when a full disk did not take it
check "down stops it, also without its state file" says 'stopped in [0-9.]+ s' timeout 50 "$enclii" local down
check "no process and no mount is left" nothing_left
check "down again says so" says 'not running' "$enclii" local down
python3 -m http.server --bind 127.0.0.1 $((ENCLII_LOCAL_PORT_BASE + 4)) > /dev/null 2>&1 &
thief=$!
for _ in $(seq 200); do
    curl -so /dev/null "http://127.0.0.1:$((ENCLII_LOCAL_PORT_BASE + 4))/" && break
    sleep 0.1
done
check "a taken port is named with its holder and its setting" \
    fails_saying "port $((ENCLII_LOCAL_PORT_BASE + 4)) .*python3|ENCLII_LOCAL_REGISTRY_PORT" "$enclii" local up
kill "$thief"
wait "$thief" 2> /dev/null
thief=''
both_up() {
    "$enclii" local up > "$work/one" 2>&1 &
    local one=$!
    "$enclii" local up > "$work/two" 2>&1 && wait "$one" || { cat "$work/one" "$work/two"; return 1; }
}
check "two that start it at once both see it come up" both_up
check "and one of them started it" says '1' grep -c 'starting the platform' -h <(cat "$work/one" "$work/two")
check "a port by which things are called stays" fails_saying 'image registry of this platform has port' \
    env ENCLII_HOME="$ENCLII_HOME" ENCLII_LOCAL_REGISTRY_PORT=$((ENCLII_LOCAL_PORT_BASE + 40)) sh -c '"$1" local down && "$1" local up' sh "$enclii"
check "and nothing is started with another one" fails_saying 'not running' "$enclii" local status
"$enclii" local up > /dev/null
kill_all() { # as when the machine is cut off, but for its disk
    local pid
    kill -9 "$(state | jq .supervisor.pid)"
    for pid in /proc/[0-9]*; do
        tr '\0' '\n' 2> /dev/null < "$pid/environ" | grep -qx "LOCAL_PLATFORM=$ENCLII_HOME" && kill -9 "${pid#/proc/}"
    done 2> /dev/null
    true
}
kill_all
check "it comes up after everything was killed" "$enclii" local up
"$enclii" local down > /dev/null
"$enclii" local up > "$work/one" 2>&1 &
upper=$!
for _ in $(seq 100); do grep -q ready "$work/one" && break; sleep 0.05; done
check "down while it starts stops it" says 'stopped in' "$enclii" local down
wait "$upper"
check "and whoever started it is told so" says 'stopped while it started' cat "$work/one"
check "without the cache it says what installs it" \
    fails_saying 'tools/setup' env ENCLII_CACHE="$work/none" "$enclii" local up
check "state survives a restart" "$enclii" local up
check "and so do secrets" test "$token" = "$(cat "$ENCLII_HOME/secrets/admin_token")"
check "purge touches no foreign folder" no_purge_of_others
check "purge removes the folder" "$enclii" local down --purge
check "and it is gone" test ! -e "$ENCLII_HOME"
