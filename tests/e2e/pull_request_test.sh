#!/bin/bash
# A stranger's pull request from the signed webhook to the served page, on a whole platform: ignored, approved by
# commit, built without arguments, deployed by hand only; one beside the watched paths, of which nobody hears; and a push
# that waits for the host's CI. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-27200}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
hook=http://127.0.0.1:$ENCLII_LOCAL_WEBHOOK_PORT/v1/webhooks/github

deliver() { # event, body: a signed delivery; prints the status
    local signature
    signature=sha256=$(printf '%s' "$2" | openssl dgst -sha256 -hmac "$(cat "$ENCLII_HOME/secrets/webhook")" -r | cut -d' ' -f1)
    curl -s -m 12 -o /dev/null -w '%{http_code}\n' -H 'Content-Type: application/json' -H "X-GitHub-Event: $1" \
        -H "X-GitHub-Delivery: $(cat /proc/sys/kernel/random/uuid)" -H "X-Hub-Signature-256: $signature" \
        --data-binary "$2" "$hook"
}
pull_of() { # name, the host's id of it, action, head
    local url
    url=$(git -C "$work/$1" remote get-url origin)
    deliver pull_request "$(jq -nc --arg name "acme/$1" --argjson id "$2" --arg action "$3" --arg sha "$4" --arg url "$url" '{
        action: $action, number: 7,
        pull_request: {number: 7, title: "Add a cat", state: "open", html_url: "https://h/7", draft: false, merged: false,
            user: {login: "eve"}, author_association: "NONE", updated_at: (now | todate), labels: [],
            head: {ref: "cat", sha: $sha, repo: {id: 99, clone_url: "https://evil.example/eve/shop.git"}},
            base: {ref: "main", sha: $sha, repo: {id: $id}}},
        repository: {id: $id, full_name: $name, clone_url: $url, default_branch: "main"}, sender: {login: "eve"}}')"
}
pull() { pull_of shop 1 "$@"; } # action, head
told() { # what, of which commit: the notifier's words for it
    grep -h '"event":"notice.told"' "$ENCLII_HOME"/logs/notifier*.log | grep "\"about\":\"$1\"" | grep -F "${2:0:12}"
}
ci_run() { # sha, status, conclusion
    deliver workflow_run "$(jq -nc --arg sha "$1" --arg status "$2" --arg conclusion "$3" --arg url "$shop_url" '{action: $status,
        workflow_run: {id: 5, name: "Tests", head_branch: "main", head_sha: $sha, status: $status, run_attempt: 1,
            conclusion: (if $conclusion == "" then null else $conclusion end), html_url: "https://h/runs/5"},
        repository: {id: 1, full_name: "acme/shop", clone_url: $url, default_branch: "main"}, sender: {login: "ann"}}')"
}
fork_head() { # page: the stranger's next commit, where the host keeps heads of pull requests; sets $head
    git -C "$work/fork" checkout -q -B cat
    write_version fork "$1"
    printf 'FROM scratch\nARG TOKEN=none\nLABEL token=$TOKEN\nCOPY shop /shop\nUSER 1000\nCMD ["/shop"]\n' > "$work/fork/Dockerfile"
    git -C "$work/fork" add -A
    git -C "$work/fork" commit -q -m "$1"
    head=$(git -C "$work/fork" rev-parse HEAD)
    git -C "$bare" fetch -q "$work/fork" "+HEAD:refs/pull/7/head"
}
ready() { says '^v[0-9]+ +READY' bash -c "$enclii releases shop | grep '${1:0:7}'"; }
of_release() { "$enclii" releases shop -o json | jq -r --arg sha "$1" --arg what "$2" '.[] | select(.git_sha == $sha)[$what]'; }
token_of() { skopeo inspect --tls-verify=false --config "docker://$(of_release "$1" image_uri)" | jq -r .config.Labels.token; }

check "a service is made" new_service shop
shop_url=$(git -C "$work/shop" remote get-url origin)
bare=$(find "$ENCLII_HOME" -type d -path '*acme/shop.git' | head -n 1)
sed -i 's#  build:#  build:\n    args: {TOKEN: hunter2}#' "$work/shop/enclii.yaml"
"$enclii" service create -f "$work/shop/enclii.yaml" > /dev/null
check "a good first version" commit shop "good"
check "it is served" within 60 serves shop "good"
git clone -q "$bare" "$work/fork" 2> /dev/null

# ---- a stranger ----
fork_head "from a stranger"
check "the webhook takes the pull request" says 202 pull opened "$head"
check "it is not built, and why says why" within 20 says 'fork_of_stranger' "$enclii" why "$head"
check "somebody is told, with the command" within 20 says "pull request #7 of eve comes from a fork.* enclii approve 7 --commit ${head:0:12} --service shop" told approval.needed "$head"
check "the list says so" says "#?7 +open +${head:0:7} +eve .*fork_of_stranger" "$enclii" pull-requests shop
check "without a commit it is said which one it would be" fails_saying 1 "commit ${head:0:12}" "$enclii" approve 7 -s shop
check "an approval of this commit" says 'is approved' "$enclii" approve 7 -s shop --commit "${head:0:12}" --reason 'read it'
check "it is told, too" within 20 says 'approved commit .*read it' told approval.given "$head"
check "it is built, signed" within 60 ready "$head"
version=$(of_release "$head" version)
check "without the service's build arguments" says '^none$' token_of "$head"
check "it is not deployed by itself" says 'pull_request_not_deployed' "$enclii" why "$head"
check "the version before serves" serves shop "good"
check "by hand it is" says 'is being deployed' "$enclii" deploy shop --release "$version"
check "and serves" within 60 serves shop "from a stranger"

# ---- the next head is a stranger's again; `all` builds it, but it is not let in ----
sed -i 's#      branch: main#      branch: main\n      pullRequests: all#' "$work/shop/enclii.yaml"
"$enclii" service create -f "$work/shop/enclii.yaml" > /dev/null
fork_head "worse"
check "new commits" says 202 pull synchronize "$head"
check "are built" within 60 ready "$head"
version=$(of_release "$head" version)
check "and not deployed, not by hand either" fails_saying 1 'nobody has approved commit' "$enclii" deploy shop --release "$version"
check "builds say what they are of" says '#7 of a fork' "$enclii" builds shop
check "why says what is missing" says 'approval_needed' "$enclii" why "$head"

# ---- beside the watched paths ----
stranger_changes() { # path: a head that leaves the base where the service's first version is; sets $head
    git -C "$work/other" checkout -q -B dog "$first"
    mkdir -p "$(dirname "$work/other/$1")" && date +%N > "$work/other/$1"
    git -C "$work/other" add -A
    git -C "$work/other" commit -q -m "$1"
    head=$(git -C "$work/other" rev-parse HEAD)
    git -C "$web" fetch -q "$work/other" "+HEAD:refs/pull/7/head"
}
check "a service that watches a path" new_service web '  watchPaths: ["app/**", "shop"]'
check "its first version" commit web "first"
first=$sha
check "is served" within 60 serves web "first"
check "the base goes on, in the watched path" commit web "second"
web=$(find "$ENCLII_HOME" -type d -path '*acme/web.git' | head -n 1)
git clone -q "$web" "$work/other" 2> /dev/null
stranger_changes docs/a
beside=$head
check "a stranger's head beside the path" says 202 pull_of web 3 opened "$head"
check "is ignored for that" within 20 says 'paths_not_watched' "$enclii" why "$head"
stranger_changes app/x
check "and one in the path" says 202 pull_of web 3 synchronize "$head"
check "waits for an approval" within 20 says 'fork_of_stranger' "$enclii" why "$head"
check "of which somebody is told" within 20 says 'enclii approve 7' told approval.needed "$head"
check "as nobody was of the other" fails_saying 1 '^$' told approval.needed "$beside"
check "it is closed" says 202 pull_of web 3 closed "$head"
check "and nobody waits any more" within 20 says 'nobody approved commit .*it was closed' told approval.lapsed "$head"

# ---- waiting for the host's CI ----
sed -i 's#      branch: main#      branch: main\n      waitForCI: true#' "$work/shop/enclii.yaml"
"$enclii" service create -f "$work/shop/enclii.yaml" > /dev/null
check "a push" commit shop "tested"
check "waits for the CI" within 20 says 'wait_for_ci' "$enclii" why "$sha"
check "the CI begins" says 202 ci_run "$sha" in_progress ''
check "why names the run" within 20 says 'Tests \(in_progress\) https://h/runs/5' "$enclii" why "$sha"
check "the CI ends well" says 202 ci_run "$sha" completed success
check "and the push is served" within 60 serves shop "tested"
