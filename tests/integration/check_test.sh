#!/bin/bash
# The checkers of manifests and pages find what they are for: in a copy of the tree one thing is made wrong, and the
# checker has to name it. Needs the built programs. Prints TAP.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
lab=$(mktemp -d /tmp/enclii-check-test.XXXXXX)
count=0
finish() { rm -rf "$lab"; echo "1..$count"; }
trap finish EXIT
if [ ! -x build/bin/enclii-webhook ]; then
    count=1
    echo "ok 1 - checkers # SKIP the programs are not built: run make build"
    exit 0
fi
tar -cf - --exclude ./build --exclude ./.git . | tar -xf - -C "$lab"
ln -s "$PWD/build" "$lab/build"
clean() { # checker
    count=$((count + 1))
    if said=$("$lab/tools/$1" 2>&1); then echo "ok $count - $1 finds nothing"; else
        echo "not ok $count - $1 finds nothing"; head -5 <<< "$said" | sed 's/^/# /'; fi
}
finds() { # checker, file, sed script, pattern of the finding
    local said
    count=$((count + 1))
    cp "$lab/$2" "$lab/kept"
    sed -i "$3" "$lab/$2"
    said=$("$lab/tools/$1" 2>&1)
    if [ $? -eq 1 ] && grep -qE "$4" <<< "$said" && ! cmp -s "$lab/$2" "$lab/kept"; then
        echo "ok $count - $1: $4"
    else
        echo "not ok $count - $1: $4"
        head -5 <<< "$said" | sed 's/^/# /'
    fi
    cp "$lab/kept" "$lab/$2"
}
clean check-deploy
finds check-deploy k8s/base/api.yaml 's/ENCLII_LISTEN/ENCLII_LISTN/' 'knows no setting ENCLII_LISTN'
finds check-deploy k8s/base/pipeline.yaml '/ENCLII_REGISTRY/d' 'pipeline needs ENCLII_REGISTRY'
finds check-deploy k8s/base/signer.yaml '/mountPath: .var.lib.enclii.signer/d' 'ENCLII_WORK_DIR is .*, where nothing is mounted'
finds check-deploy k8s/base/api.yaml 's/path: signing.pub}/path: other}/' 'ENCLII_SIGNING_PUBLIC_KEY_FILE is .* nothing is mounted'
finds check-deploy k8s/base/config.yaml '/TLS_CA/d' 'without ENCLII_KAFKA_TLS_CA'
finds check-deploy k8s/base/webhook.yaml 's/runAsNonRoot: true/runAsNonRoot: false/' 'must runAsNonRoot'
finds check-deploy k8s/base/webhook.yaml 's/drop: \[ALL\]/drop: [ALL], add: [SYS_ADMIN]/' 'capability SYS_ADMIN'
finds check-deploy k8s/base/network.yaml 's/name: notifier}/name: notifer}/' 'no pod is called so'
finds check-deploy docker-compose.yml '/ENCLII_DATABASE_URL_FILE/d' 'pipeline needs ENCLII_DATABASE_URL'
finds check-deploy docker-compose.yml 's/127.0.0.1:4302/127.0.0.1:4301/' 'both listen on 4301'
finds check-deploy docker-compose.yml 's/_FILE: .run.secrets.seal_key/: abc/' 'is a secret: mount it'
finds check-deploy docker/Dockerfile 's/SYFT_VERSION=[0-9.]*/SYFT_VERSION=0.0.1/' 'SYFT_VERSION is another one'
clean check-docs
finds check-docs README.md 's/handlers.c:on_delivery/handlers.c:on_parcel/' 'has no function on_parcel'
finds check-docs README.md 's,docs/cli.md,docs/clay.md,' 'links to docs/clay.md'
finds check-docs docs/operations/debug.md 's/enclii deliveries/enclii parcels/' 'no command .enclii parcels'
finds check-docs docs/operations/debug.md 's/enclii_builder_running/enclii_builder_walking_total/' 'no metric enclii_builder_walking_total'
# In two parts, so that this file is no reader of it.
finds check-docs docs/operations/rotate.md 's/ENCLII_GITHUB_TOKEN_FILE/ENCLII''_TICKET/' 'nothing reads ENCLII''_TICKET'
finds check-docs docker/monitoring/alerts.yml 's/enclii_store_waiting/enclii_store_pending/' 'no metric enclii_store_pending'
