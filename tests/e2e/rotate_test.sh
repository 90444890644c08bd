#!/bin/bash
# enclii local rotate: each secret of a platform is made anew; the old one holds no more, and everything still works.
# TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-21430}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
rotate() { "$enclii" local rotate "$@"; }
changed() { ! cmp -s "$work/secrets/$1" "$ENCLII_HOME/secrets/$1"; }
signed_with() { # secret: a ping to the webhook service; prints the HTTP status
    local body='{"zen": "x"}' signature
    signature=$(printf '%s' "$body" | openssl dgst -sha256 -hmac "$1" -r | cut -d' ' -f1)
    curl -s -o /dev/null -w '%{http_code}' -H 'X-GitHub-Event: ping' -H 'X-GitHub-Delivery: 0190a6b0-0000-7000-8000-000000000001' \
        -H "X-Hub-Signature-256: sha256=$signature" -H 'Content-Type: application/json' -d "$body" \
        "http://127.0.0.1:$ENCLII_LOCAL_WEBHOOK_PORT/v1/webhooks/github"
}
same() { [ "$1" = "$2" ] || { echo "\"$1\" instead of \"$2\""; return 1; }; }
database_with() { PGPASSWORD=$1 psql -qtAX -h 127.0.0.1 -p "$ENCLII_LOCAL_POSTGRES_PORT" -U enclii -d enclii -c 'select 1'; }

check "a service is made" new_service shop
check "and pushed" commit shop one
check "and serves" watch shop
cp -r "$ENCLII_HOME/secrets" "$work/secrets"
old_token=$ENCLII_API_TOKEN
check "a platform that runs is not stopped unasked" fails_saying 1 'rotate webhook --stop' rotate webhook
check "the seal key is not made anew, and why is said" fails_saying 1 'rotate.md' rotate seal
check "with --stop the database's password is" says 'database-password: made anew' rotate database-password --stop
check "and the platform runs again" platform_ready
check "the old password opens the database no more" fails_saying 2 'authentication failed' database_with "$(cat "$work/secrets/postgres")"
check "the new one does" says '^1$' database_with "$(cat "$ENCLII_HOME/secrets/postgres")"
"$enclii" local down > /dev/null
no_loss() { ! grep -hE '"event":"bus\.(down|killed)"' "$ENCLII_HOME"/logs/*.log; }
check "no service lost Kafka before it had stopped" no_loss
check "the others, while it is down: the administrator's token" rotate admin-token
check "the common webhook secret" rotate webhook
check "the signing key" rotate signing-key
check "all of them are others" eval 'changed admin_token && changed webhook && changed signing.pem && changed signing.pub'
check "the older public key stands behind the new one" cmp "$work/secrets/signing.pub" <(tail -n +5 "$ENCLII_HOME/secrets/signing.pub")
check "all are for their owner only" test -z "$(find "$ENCLII_HOME/secrets" -type f ! -perm 0600 ! -name '*.pub')"
check "the platform starts with them" "$enclii" local up
unset ENCLII_API_TOKEN
check "the old token is revoked" fails_saying 40 . env ENCLII_API_TOKEN="$old_token" "$enclii" status shop
check "the new one is taken" says 'HEALTHY' "$enclii" status shop
check "what was signed with the old webhook secret is refused" same "$(signed_with "$(cat "$work/secrets/webhook")")" 401
check "with the new one it is taken" same "$(signed_with "$(cat "$ENCLII_HOME/secrets/webhook")")" 200
check "what ran runs" within 60 serves shop one
check "a release of before is verified with its key" says 'v1 verified' "$enclii" verify shop --release v1
check "a push" commit shop two
check "is built, signed and served" watch shop
check "and verified with the new key" says 'v2 verified' "$enclii" verify shop --release v2
