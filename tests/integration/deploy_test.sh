#!/bin/bash
# k8s/, docker-compose.yml and docker/ as others see them: kustomize renders every overlay, Kubernetes' own OpenAPI
# definitions and the Compose specification's schema accept what comes out, and each image starts. The schemas come
# by the Go module client, pinned, into its cache. Prints TAP. What fits our programs is `tools/lint deploy`.
#   ENCLII_TEST_IMAGES=1   also builds all images and starts each program (root, Buildah; about 4 minutes)
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
KUBERNETES=k8s.io/kubernetes@v1.36.3
COMPOSE=github.com/compose-spec/compose-go/v2@v2.9.0
lab=$(mktemp -d /tmp/enclii-deploy-test.XXXXXX)
cache=${ENCLII_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/enclii}
count=0
finish() { rm -rf "$lab"; echo "1..$count"; }
trap finish EXIT
ok() { # status, what
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then echo "ok $count - $2"; else echo "not ok $count - $2"; sed 's/^/# /' "$lab/out" | head -20; fi
}
skip() { count=$((count + 1)); echo "ok $count - $1 # SKIP $2"; }
refused() { # file, sed script, what: the checked file, changed, is refused
    sed "$2" "$1" > "$lab/broken.yaml"
    if cmp -s "$1" "$lab/broken.yaml"; then echo "nothing was changed" > "$lab/out"; ok 1 "$3"; return; fi
    "${check[@]}" "$lab/broken.yaml" > "$lab/out" 2>&1
    [ $? -eq 1 ]; ok $? "$3"
}
module() { (cd / && timeout 300 go mod download -json "$1" 2> /dev/null) | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p'; }

# ---- Kubernetes ----
if ! command -v kubectl > /dev/null; then
    skip "overlays" "kubectl is not installed (kustomize is part of it)"
else
    for folder in overlays/production overlays/staging builders docker-host; do
        kubectl kustomize "k8s/$folder" > "$lab/$(basename "$folder").yaml" 2> "$lab/out"
        ok $? "kustomize renders k8s/$folder"
    done
    # Without one, a node asks Docker Hub, where anybody may own the name.
    for name in production staging builders docker-host; do
        sed -n 's/^ *-* *image: //p' "$lab/$name.yaml" | grep '^enclii/' > "$lab/out"
        [ ! -s "$lab/out" ]; ok $? "$name takes every image from a registry that it names"
    done
    swagger=$(module $KUBERNETES)/api/openapi-spec/swagger.json
    if ! python3 -c 'import jsonschema, yaml' 2> /dev/null; then
        skip "manifests against Kubernetes' definitions" "python3-jsonschema is not installed"
    elif [ ! -s "$swagger" ]; then
        skip "manifests against Kubernetes' definitions" "go cannot fetch $KUBERNETES"
    else
        check=(tests/integration/check_schema kubernetes "$swagger")
        for name in production staging builders docker-host; do
            "${check[@]}" "$lab/$name.yaml" > "$lab/out" 2>&1
            ok $? "$KUBERNETES accepts every object of $name"
        done
        refused "$lab/production.yaml" 's/replicas: 2/replicas: two/' "a wrong type is refused"
        refused "$lab/production.yaml" 's/runAsNonRoot:/runAsNotRoot:/' "an unknown field is refused"
        refused "$lab/production.yaml" 's,policy/v1,policy/v0,' "an unknown version is refused"
    fi
fi

# ---- Compose ----
schema=$(module $COMPOSE)/schema/compose-spec.json
if [ ! -s "$schema" ] || ! python3 -c 'import jsonschema, yaml' 2> /dev/null; then
    skip "docker-compose.yml" "go cannot fetch $COMPOSE, or python3-jsonschema is not installed"
else
    check=(tests/integration/check_schema compose "$schema")
    "${check[@]}" docker-compose.yml > "$lab/out" 2>&1
    ok $? "the Compose specification accepts docker-compose.yml"
    refused docker-compose.yml 's/cap_drop:/capdrop:/' "an unknown key is refused"
    refused docker-compose.yml 's/read_only: true/read_only: [yes]/' "a wrong type is refused"
fi
docker/make-secrets "$lab/secrets" > "$lab/out" 2>&1 && cp -r "$lab/secrets" "$lab/first" &&
    docker/make-secrets "$lab/secrets" >> "$lab/out" 2>&1 && diff -r "$lab/secrets" "$lab/first" >> "$lab/out" &&
    [ "$(stat -c %a "$lab/secrets")" = 700 ] && openssl pkey -pubin -in "$lab/secrets/signing_pub" -noout 2>> "$lab/out"
ok $? "docker/make-secrets makes the secrets once, in a closed folder"
if [ "$(id -u)" != 0 ]; then
    skip "docker/make-secrets again, not as root" "is run by root only"
else # root may write to files of mode 0444, others may not
    chmod 711 "$lab" && install -d -o 65534 -g 65534 "$lab/of-nobody" && cp docker/make-secrets "$lab/make-secrets"
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "$1" > "$lab/out" 2>&1; }
    as_nobody "cd $lab && ./make-secrets of-nobody && ./make-secrets of-nobody && echo ghp_x > of-nobody/github_token &&
        ./make-secrets of-nobody && grep -q ghp_x of-nobody/github_token"
    ok $? "docker/make-secrets again, not as root, with a token written into its file"
fi

# ---- images ----
if [ -z "${ENCLII_TEST_IMAGES:-}" ]; then
    skip "images" "ENCLII_TEST_IMAGES=1 builds them (about 4 minutes)"
elif [ "$(id -u)" != 0 ] || ! command -v buildah > /dev/null || [ ! -s "$cache/images/debian-bookworm-slim/index.json" ]; then
    skip "images" "needs root, buildah and the base image of tools/setup"
else
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$lab" "$lab" > "$lab/storage.conf"
    export CONTAINERS_STORAGE_CONF=$lab/storage.conf
    # The name that FROM resolves to, wherever short names are looked up.
    skopeo --insecure-policy copy -q "oci:$cache/images/debian-bookworm-slim:bookworm-slim" \
        containers-storage:localhost/debian:bookworm-slim > "$lab/out" 2>&1
    ENGINE=buildah docker/build > "$lab/out" 2>&1
    ok $? "docker/build makes all images"
    while read -r target command; do
        container=$(buildah from "localhost/enclii/$target:dev" 2> "$lab/out")
        # shellcheck disable=SC2086 # a command and its word
        buildah run --isolation chroot "$container" -- $command > "$lab/out" 2>&1
        ok $? "$target: $command: $(head -1 "$lab/out")"
    done << 'END'
webhook enclii-webhook --version
pipeline enclii-pipeline --version
builder enclii-builder --version
signer enclii-signer --version
reconciler enclii-reconciler --version
domain enclii-domain --version
notifier enclii-notifier --version
history enclii-history --version
sweeper enclii-sweeper --version
sweeper git --version
api enclii-api --version
cli enclii version
signer syft --version
router haproxy -v
END
    echo "# $(buildah images --format '{{.Name}} {{.Size}}' | grep enclii/ | sed 's,localhost/,,' | paste -sd, -)"
    buildah rm --all > /dev/null 2>&1
    awk -v at="$lab/" 'index($2, at) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount
fi
