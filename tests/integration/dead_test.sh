#!/bin/bash
# Bad input and dead letters on a whole platform with a real Kafka: every service lives, everything behind
# goes on, a person can list, look, put back and let go. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-32200}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
# shellcheck source=tests/support/venv.sh
source "$(dirname "$0")/../support/venv.sh"
if ! venv_ready > "$work/venv.out" 2>&1; then
    echo "ok 1 - dead letters # SKIP Python's Kafka and CloudEvents SDKs cannot be installed here"
    echo "1..1"
    rm -rf "$work"
    exit 0
fi
platform_up
kafka=127.0.0.1:$ENCLII_LOCAL_KAFKA_PORT
events() { "$venv/bin/python" "$root/tests/support/events.py" "$@"; }
pids() { "$enclii" local status -o json | jq -c '[.components[] | {name, pid, restarts}]'; }
letters() { "$enclii" dead list -o json "$@" | jq -r "${jq:-.dead_letters | length}"; }
metric() { # name: summed over all services
    local port
    for port in $(seq "$ENCLII_LOCAL_ADMIN_PORT" $((ENCLII_LOCAL_ADMIN_PORT + 12))); do
        curl -s -m 2 "http://127.0.0.1:$port/metrics"
    done | awk -v n="$1" 'index($1, n) == 1 {s += $2} END {print s + 0}'
}
at_least() { # number, command...
    local got least=$1
    shift
    got=$("$@")
    [ "$got" -ge "$least" ] || { echo "$got, not $least"; return 1; }
}
equal() { # text, command...
    local got want=$1
    shift
    got=$("$@")
    [ "$got" = "$want" ] || { echo "\"$got\", not \"$want\""; return 1; }
}
seen_by_history() { # event id: how often it was kept
    psql -qAt "$(cat "$ENCLII_HOME/secrets/database_url")" -c "select count(*) from history.event where id = '$1'"
}

# ---- bad records before, between and under the key of a real service ----
check "a service is made" new_service shop
service=$("$enclii" service list -o json | jq -r '.[0].id')
before=$(pids)
check "16 kinds of bad records are written under its key" says '^16$' events junk "$kafka" enclii.build.events "$service"
check "a push behind them goes to the end" eval 'commit shop one && watch shop'
check "it serves" within 30 serves shop one
check "pipeline's letters are there: all but one type it has no use for" within 30 equal 15 letters --group pipeline
check "so are the notifier's" within 30 at_least 12 letters --group notifier
check "no service was restarted" equal "$before" pids
check "the metrics tell: given up" within 15 at_least 27 metric enclii_bus_dead_letters_total
check "the metrics tell: waiting for a person" within 15 at_least 27 metric enclii_dead_letters_open
reasons=$(jq='.dead_letters[].reason' letters --group pipeline)
for reason in 'not a protobuf message' 'is not one of topic enclii.build.events' 'of a version that this program does not know' \
    'no headers' 'ce_id or ce_type is missing' 'ce_specversion is not 1.0' 'the key is longer than 512 bytes or not UTF-8' \
    'a text is not UTF-8' 'too large when unpacked' 'larger than 8 MiB' 'x-long is too long' 'more than 32 headers'; do
    check "a letter says: $reason" grep -qF -- "$reason" <<< "$reasons"
done

# ---- compacted topics: what a table cannot use is a letter, too ----
events junk "$kafka" enclii.desired "$service:x" > /dev/null
check "the reconciler writes letters" within 30 at_least 14 letters --group reconciler
id=$(jq='.dead_letters[0].id' letters --group reconciler)
check "those do not go back: an old record must not be the newest" fails_saying 1 'restart the service' "$enclii" dead replay "$id"
check "discarding wants a reason" fails_saying 1 'say why' "$enclii" dead discard --all --group reconciler
check "all of a group are let go" says 'is let go' "$enclii" dead discard --all --group reconciler --reason "a test wrote them"
none_left() { # the last ones may come a little later
    "$enclii" dead discard --all --group reconciler --reason "a test wrote them" > /dev/null 2>&1
    equal 0 letters --group reconciler
}
check "none is left" within 30 none_left
taken() { metric enclii_dead_letters_kept_total; }
before_restart=$(taken)
kill "$(part_pid reconciler)"
check "the reconciler reads the same records again" within 30 at_least $((before_restart + 14)) taken
check "they are the same letters, and stay let go" equal 0 letters --group reconciler
check "a state that cannot be read is held" within 15 at_least 1 metric enclii_desired_held
check "another push is rolled out" eval 'commit shop two && watch shop'

# ---- show, replay ----
id=$(jq='.dead_letters[] | select(.event_type == "dev.enclii.build.started.v9").id' letters --group pipeline)
check "show: reason, origin and headers" says 'enclii.build.events, partition 0, offset' "$enclii" dead show "$id"
check "the beginning of an id is enough" says 'ce_id: bad-4' "$enclii" dead show "${id:0:8}"
check "replay puts it back" says 'goes back' "$enclii" dead replay "${id:0:8}"
again() { jq='[.dead_letters[] | select(.event_type == "dev.enclii.build.started.v9")] | length' letters --all --group "$1"; }
check "pipeline does not understand it any better: a new letter" within 30 equal 2 again pipeline
check "it was put back for pipeline only" equal 1 again notifier
check "a letter goes back once" fails_saying 1 'was replayed by' "$enclii" dead replay "$id"

# A push that pipeline gave up, once: after the replay it has its effect, and only there.
git -C "$work/shop" commit -q --allow-empty -m "was dead"
sha=$(git -C "$work/shop" rev-parse HEAD)
url=$(git -C "$work/shop" remote get-url origin)
repo=$(psql -qAt "$(cat "$ENCLII_HOME/secrets/database_url")" -c "select repo_key from enclii.service where id = '$service'")
mv "$ENCLII_HOME/git/acme/shop.git/hooks/post-receive" "$work/hook" # the git host says nothing about it
git -C "$work/shop" push -q origin HEAD:main
mv "$work/hook" "$ENCLII_HOME/git/acme/shop.git/hooks/post-receive"
message=$(jq -nc --arg sha "$sha" --arg url "$url" --arg repo "$repo" --arg now "$(date +%s000)" '{delivery_id: "dead-1",
    host: "github", repo_key: $repo, repo_full_name: "acme/shop", clone_url: $url, ref: "refs/heads/main", after: $sha,
    head: {sha: $sha, ref: "refs/heads/main", message: "was dead"}, changed_paths_complete: false, received_unix_ms: $now}')
event=$(events letter "$kafka" enclii.intake pipeline "$repo" dev.enclii.push.received.v1 "$message")
find_letter() { id=$("$enclii" dead list -o json --topic enclii.intake | jq -r '.dead_letters[0].id // empty') && [ -n "$id" ]; }
check "its letter is found" within 30 find_letter
check "it goes back" says 'goes back' "$enclii" dead replay "$id" --reason "pipeline is upgraded"
check "and is built and rolled out" watch shop
check "the others passed it over" equal 0 seen_by_history "$event"
check "who and why is in the audit log" says 'dead_letter.replay.*pipeline is upgraded' psql -qAt "$(cat "$ENCLII_HOME/secrets/database_url")" \
    -c "select action, detail from enclii.audit_log where detail <> ''"

# ---- a flood, and a restart in the middle ----
for _ in 1 2 3; do events junk "$kafka" enclii.deployment.events "$service" > /dev/null; done
kill -9 "$(part_pid api)"
check "api is back" within 30 platform_ready
check "it keeps each letter once: 3 x 16 of pipeline" within 60 equal 48 letters --topic enclii.deployment.events --group pipeline
check "a last push" eval 'commit shop three && watch shop'
