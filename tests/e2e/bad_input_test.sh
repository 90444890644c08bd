#!/bin/bash
# What a user sees when something is wrong: input that is bad, and parts of the platform that are away. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-27000}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
check "a service is made" new_service shop

# ---- deliveries ----
hook=http://127.0.0.1:$ENCLII_LOCAL_WEBHOOK_PORT/v1/webhooks/github
deliver() { # clone url, signature or "sign": prints status and body
    local body signature=$2
    body=$(printf '{"ref":"refs/heads/main","before":"%040d","after":"%040d","created":false,"deleted":false,"forced":false,"commits":[],"head_commit":{"id":"%040d","message":"m","timestamp":"2026-01-02T03:04:05Z","author":{"name":"a","email":"a@example.org"}},"pusher":{"name":"a"},"repository":{"id":1,"full_name":"acme/x","clone_url":"%s"}}' 1 2 2 "$1")
    [ "$signature" != sign ] || signature=sha256=$(printf '%s' "$body" | openssl dgst -sha256 -hmac "$(cat "$ENCLII_HOME/secrets/webhook")" -r | cut -d' ' -f1)
    curl -s -m 12 -w '\nstatus %{http_code}\n' -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' -D - \
        -H "X-GitHub-Delivery: $(cat /proc/sys/kernel/random/uuid)" -H "X-Hub-Signature-256: $signature" \
        --data-binary "$body" "$hook"
}
shop_url=$(git -C "$work/shop" remote get-url origin)
check "unknown repository: 404 that says what to do" says 'status 404' deliver http://127.0.0.1:1/acme/nobody.git sign
check "bad signature: 401" says 'status 401' deliver "$shop_url" "sha256=$(printf '%064d' 0)"
check "no signature: 401" says 'status 401' deliver "$shop_url" ''
check "malformed JSON: 400" says 400 bash -c "body='{\"ref\":'; sig=\$(printf %s \"\$body\" | openssl dgst -sha256 -hmac \"\$(cat $ENCLII_HOME/secrets/webhook)\" -r | cut -d' ' -f1); curl -s -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' -H 'X-GitHub-Delivery: 5e1fdd2e-0000-4000-8000-000000000001' -H \"X-Hub-Signature-256: sha256=\$sig\" --data-binary \"\$body\" $hook"
check "26 MiB: 413" says 413 bash -c "head -c 27262976 /dev/zero | curl -s -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' -H 'X-GitHub-Delivery: x' -H 'Expect:' --data-binary @- $hook"

# ---- the spec ----
sed 's/healthCheck:/healtCheck:/; s/port: 8080/port: 99999/' "$work/shop/enclii.yaml" > "$work/broken.yaml"
check "broken spec: line, column and the nearest name" fails_saying 1 'broken.yaml:[0-9]+:[0-9]+.*healt|did you mean healthCheck' "$enclii" service create -f "$work/broken.yaml"
check "broken spec: every fault is named" fails_saying 1 '99999' "$enclii" service create -f "$work/broken.yaml"
check "a spec that is not there" fails_saying 1 'nowhere.yaml' "$enclii" service create -f "$work/nowhere.yaml"

# ---- builds and rollouts that fail ----
check "a good first version" commit shop "good"
check "it is served" within 60 serves shop "good"
check "what the app prints" says 'shop listens on port' "$enclii" logs shop
check "live, too" says 'shop listens on port' bash -c "timeout -s INT 8 $enclii logs shop -f || true"
check "only what is new" fails_saying 1 'no "shop listens' says 'shop listens' "$enclii" logs shop --since 1ms
check "and what its build printed" says 'COPY shop' "$enclii" logs shop --build latest
git -C "$work/shop" mv Dockerfile Dockerfile.gone
push shop "no Dockerfile"
check "Dockerfile missing: build failed, with what was looked for" fails_saying 20 'Dockerfile' watch shop
git -C "$work/shop" mv Dockerfile.gone Dockerfile
printf 'FROM scratch\nCOPY not-there /x\n' > "$work/shop/Dockerfile"
push shop "build fails"
check "a failing build: its own words" fails_saying 20 'not-there' watch shop
printf 'FROM scratch\nCOPY shop /shop\nUSER 1000\nCMD ["/shop","--port","1"]\nENV PORT=9\n' > "$work/shop/Dockerfile"
cat > "$work/deaf.c" << 'EOF'
#include <unistd.h>
int main(void) { pause(); return 0; }
EOF
gcc -O2 -static -o "$work/shop/shop" "$work/deaf.c"
sed -i 's#healthCheck: /health#healthCheck: {path: /health, deadlineSeconds: 6}#' "$work/shop/enclii.yaml"
"$enclii" service create -f "$work/shop/enclii.yaml" > "$work/respec.out" 2>&1 || cat "$work/respec.out"
push shop "never listens"
check "an image that never listens: rolled back, and why" fails_saying 30 'never|listen' watch shop 150
check "the version before serves all the time" serves shop "good"
check "why names it" says 'never_listened|never listens|did not listen' "$enclii" why shop

# ---- parts that are away ----
printf 'FROM scratch\nCOPY shop /shop\nUSER 1000\nCMD ["/shop"]\n' > "$work/shop/Dockerfile"
registry=$(part_pid registry)
kill -STOP "$registry"
commit shop "registry was away"
sleep 4
kill -CONT "$registry"
check "registry away for 4 s: the push is served in the end" within 120 serves shop "registry was away"
kafka=$(part_pid kafka)
kill -STOP "$kafka"
check "Kafka away: 503 and Retry-After, not a lost 2xx" says '[Rr]etry-[Aa]fter' deliver "$shop_url" sign
kill -CONT "$kafka"
check "Kafka back: everything is ready again" within 60 platform_ready
postgres=$(part_pid postgres)
kill -STOP "$postgres"
pkill -STOP -P "$postgres" 2> /dev/null || true
check "PostgreSQL away: the CLI says so" fails_saying 50 'database|not answer|unavailable' "$enclii" status shop
commit shop "database was away"
pkill -CONT -P "$postgres" 2> /dev/null || true
kill -CONT "$postgres"
check "PostgreSQL back: a push of meanwhile is served" within 120 serves shop "database was away"
check "a platform that is not there" fails_saying 50 'local up|ENCLII_API_URL|not answer|reach' "$enclii" status shop --api http://127.0.0.1:9
