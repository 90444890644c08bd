#!/bin/bash
# Webhook set-up by the command on a whole local platform: a secret of its own, a test delivery the whole way,
# what a host that does not know the secret gets, and back. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-32300}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
repo=127.0.0.1:$ENCLII_LOCAL_GIT_PORT/acme/shop
state_of() { "$enclii" deliveries list --repo "$repo" --limit 1 -o json | jq -r '.[0] | .state + " " + .reason'; }

check "a service is made" new_service shop
check "without its own secret a test cannot be signed" fails_saying 1 'enclii hooks setup' "$enclii" hooks test "$repo"
check "a repository without a service is told apart" fails_saying 10 'no service builds' "$enclii" hooks setup github.com/acme/none
check "in the work tree, set-up knows the repository" eval 'cd "$work/shop" && "$enclii" hooks setup > "$work/setup.out"'
check "it was tried against webhook" says 'answered with 200' cat "$work/setup.out"
check "the local git server has it: nothing is to be entered" says 'host +the local git server signs with its secret' cat "$work/setup.out"
check "so a push is built" eval 'commit shop zero && watch shop'
check "set-up again changes nothing" says 'host +the local git server signs with its secret' "$enclii" hooks setup "$repo"
check "by hand, it says what to enter" eval '"$enclii" hooks setup "$repo" --manual --rotate > "$work/setup.out" && says "URL +http://127.0.0.1:$ENCLII_LOCAL_WEBHOOK_PORT/v1/webhooks/generic" cat "$work/setup.out"'
check "the secret is shown once" says 'secret +[0-9a-f]{64}$' cat "$work/setup.out"
check "and not again" eval '! "$enclii" hooks setup "$repo" --manual | grep -qE "[0-9a-f]{64}"'
check "a signed test goes the whole way" says 'ledger +IGNORED \(ping\)' "$enclii" hooks test "$repo"
check "it is the last that came" says 'own, changed' "$enclii" hooks show "$repo"
rm "$ENCLII_HOME/git/acme/shop.git/enclii-webhook-secret"
check "whoever signs with the common secret is refused" eval 'commit shop one; within 20 says "^REFUSED bad_signature$" state_of'
check "and hooks show says so" says 'REFUSED +bad_signature' "$enclii" hooks show "$repo"
check "a rotation prints the new secret" eval '"$enclii" hooks secret "$repo" --rotate > "$work/rotated" && says "^[0-9a-f]{64}$" cat "$work/rotated"'
check "and the local git server signs with it" eval 'commit shop again && watch shop'
check "nobody else reads it there" [ "$(stat -c %a "$ENCLII_HOME/git/acme/shop.git/enclii-webhook-secret")" = 600 ]
check "nor gives git it away" eval '[ "$(curl -s -o /dev/null -w "%{http_code}" "http://$repo.git/enclii-webhook-secret")" = 404 ]'
check "the test is signed with it" says 'ledger +IGNORED \(ping\)' "$enclii" hooks test "$repo"
check "the common secret can hold again" says 'holds again' "$enclii" hooks secret "$repo" --clear
check "then a push is built" eval 'commit shop two && watch shop'
check "a kept push is taken once more" eval 'id=$("$enclii" deliveries list --repo "$repo" --state accepted --limit 1 -o json | jq -r ".[0].id") && says "ledger +(ACCEPTED|IGNORED)" "$enclii" hooks test --delivery "$id"'
check "every change is in the audit log" eval '[ "$(psql -qAt "$(cat "$ENCLII_HOME/secrets/database_url")" -c "select count(*) from enclii.audit_log where resource_type = '"'repository'"'")" = 4 ]'
check "no secret is in any log" eval '! grep -rqE "$(cat "$work/rotated")|$(grep -oE "[0-9a-f]{64}" "$work/setup.out")" "$ENCLII_HOME/logs"'
