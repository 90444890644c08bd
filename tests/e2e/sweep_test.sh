#!/bin/bash
# The webhook cannot be reached: a push is deployed all the same, within the sweep's interval, once; and when the
# webhook's word comes after all, it changes nothing. And a push whose list of commits the host has cut is held against
# the watched paths all the same. TAP.
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
check "it is brought in by the next sweep (every 15 s)" within 15 in_ledger
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

# As GitLab tells a push: twenty commits are listed at most, here only the last one.
gitlab_push() { # name, before, path: says that of many commits this one changed the path
    local url
    url=$(git -C "$work/$1" remote get-url origin)
    jq -n --arg url "$url" --arg name "acme/$1" --arg before "$2" --arg after "$sha" --arg path "$3" '{
        object_kind: "push", ref: "refs/heads/main", before: $before, after: $after, checkout_sha: $after,
        user_username: "ada", total_commits_count: 30,
        project: {id: 1, git_http_url: $url, path_with_namespace: $name, default_branch: "main"},
        commits: [{id: $after, message: "the last", timestamp: "2026-01-01T00:00:00Z",
            author: {name: "Ada", email: "ada@example.org"}, added: [], modified: [$path], removed: []}]}' |
        curl -sf -H 'Content-Type: application/json' -H 'X-Gitlab-Event: Push Hook' -H "X-Gitlab-Event-UUID: cut-$sha" \
            -H "X-Gitlab-Token: $(cat "$ENCLII_HOME/secrets/webhook")" --data-binary @- \
            "http://127.0.0.1:$((ENCLII_LOCAL_PORT_BASE + 1))/v1/webhooks/gitlab"
}
push_many() { # name, path...: a commit for each, none of them told
    local name=$1 path
    shift
    for path; do
        mkdir -p "$(dirname "$work/$name/$path")" && date +%N > "$work/$name/$path"
        git -C "$work/$name" add -A && git -C "$work/$name" commit -q -m "$path"
    done
    before=$(git -C "$work/$name" rev-parse origin/main)
    sha=$(git -C "$work/$name" rev-parse HEAD)
    git -C "$work/$name" push -q origin HEAD:main
}
reason() { deliveries_of '.[0] | .state + " " + .reason' | tr -d '"'; }
reason_is() { is "$(reason)" "$1"; }

check "a service that watches a path" new_service web '  watchPaths: ["app/**", "shop"]'
check "its first version" commit web "first"
check "is served" says HEALTHY watch web
rm -f "$(find "$ENCLII_HOME" -type d -path '*acme/web.git' | head -1)"/hooks/post-receive
push_many web docs/a docs/b docs/c
check "a push whose list was cut, beside the path" gitlab_push web "$before" docs/c
check "is ignored: the whole list is known" within 20 reason_is "IGNORED paths_not_watched"
push_many web docs/d app/x docs/e
check "a push whose list was cut, with the path in what is not listed" gitlab_push web "$before" docs/e
check "is built" within 20 reason_is "ACCEPTED "
