#!/bin/bash
# Our topics, read and written with other people's code: the CloudEvents SDK, a Kafka client and protobuf of Python. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-32400}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
# shellcheck source=tests/support/venv.sh
source "$(dirname "$0")/../support/venv.sh"
if ! venv_ready > "$work/venv.out" 2>&1; then
    echo "ok 1 - CloudEvents for others # SKIP Python's Kafka and CloudEvents SDKs cannot be installed here"
    echo "1..1"
    rm -rf "$work"
    exit 0
fi
platform_up
kafka=127.0.0.1:$ENCLII_LOCAL_KAFKA_PORT
events() { "$venv/bin/python" "$root/tests/support/events.py" "$@"; }
of() { jq -r "$1" "$work/events"; } # of the events read last
reads() { events read "$kafka" "$@" > "$work/events"; }
attribute() { # jq condition that must hold for all
    [ "$(jq -s "length > 0 and all(.[]; $1)" "$work/events")" = true ] || { head -3 "$work/events"; return 1; }
}

check "a service is made" new_service shop
service=$("$enclii" service list -o json | jq -r '.[0].id')
"$enclii" events tail --type deployment --output json --lines 3 > "$work/tail" &
tail_pid=$!
check "a push goes to the end" eval 'commit shop one && watch shop'

check "the SDK reads what webhook wrote" reads enclii.intake 1 dev.enclii.push.received.v1
check "it is CloudEvents 1.0" attribute '.attributes.specversion == "1.0"'
check "id, source, type, subject, time and content type are there" attribute '.attributes | (.id | test("^[0-9a-f-]{36}$")) and
    .source == "/enclii/webhook" and (.time | test("^20..-..-..T..:..:..")) and .subject != "" and .datacontenttype == "application/protobuf"'
check "so is the trace" attribute '.trace | test("^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$")'
check "the message is the push" attribute ".message.after == \"$sha\" and .key == .message.repo_key"
trace=$(of .trace | head -1 | cut -d- -f2)

for topic in build.events:build.succeeded release.events:release.signed deployment.events:deployment.healthy; do
    type=dev.enclii.${topic#*:}.v1
    check "the SDK reads $type" reads "enclii.${topic%:*}" 1 "$type"
    check "its key is the service, its trace is that of the push" attribute ".key == \"$service\" and (.trace | contains(\"$trace\"))"
done
check "and the desired state" reads enclii.desired 1
check "its image is by digest" attribute '.message.release.image | test("@sha256:[0-9a-f]{64}$")'

check "enclii events tail saw the deployment live" eval "wait $tail_pid && [ \$(wc -l < $work/tail) = 3 ]"
check "as one line of JSON each" eval "jq -es 'all(.[]; .type | startswith(\"deployment.\"))' $work/tail"
check "events tail: a type nobody writes, a wrong number" fails_saying 1 'number above 0' "$enclii" events tail --lines 0

# ---- and the other way: what the SDK writes, we understand ----
repo=$(events read "$kafka" enclii.repos 1 | jq -r .key)
git -C "$work/shop" commit -q --allow-empty -m "told by others"
sha=$(git -C "$work/shop" rev-parse HEAD)
hook=$(find "$ENCLII_HOME/git" -path '*shop*' -name post-receive)
mv "$hook" "$work/hook" # our git host says nothing about this push
git -C "$work/shop" push -q origin HEAD:main > /dev/null 2>&1
mv "$work/hook" "$hook"
message=$(jq -nc --arg sha "$sha" --arg url "$(git -C "$work/shop" remote get-url origin)" --arg repo "$repo" --arg now "$(date +%s000)" \
    '{delivery_id: "sdk-1", host: "github", repo_key: $repo, repo_full_name: "acme/shop", clone_url: $url, ref: "refs/heads/main",
      after: $sha, head: {sha: $sha, ref: "refs/heads/main", message: "told by others"}, received_unix_ms: $now}')
check "a push event made by the SDK is taken" events put "$kafka" enclii.intake "$repo" dev.enclii.push.received.v1 "$message"
check "and rolled out" watch shop
check "nothing was given up" eval '[ "$("$enclii" dead list -o json | jq .open)" = 0 ]'
