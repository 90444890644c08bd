#!/bin/bash
# The real signer and the real Syft sign a real image in a real registry; then the real cosign, which knows
# nothing of us, has to accept what it finds, and to refuse it once it is changed. TAP.
# cosign is looked for in PATH and in the user's cache (${XDG_CACHE_HOME:-~/.cache}/enclii/bin).
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
cache=${ENCLII_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/enclii}
export PATH=$PATH:$cache/bin
lab=$(mktemp -d /tmp/enclii-cosign.XXXXXX)
export HOME=$lab
pids=() count=0
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$lab"
    echo "1..$count"
}
trap finish EXIT
ok() { # what, command...
    local what=$1
    shift
    count=$((count + 1))
    if "$@" >"$lab/said" 2>&1; then
        echo "ok $count - $what"
    else
        echo "not ok $count - $what"
        tail -n 20 "$lab/said" | sed 's/^/# /'
    fi
}
no() { # what, pattern that its output has, command that must fail...
    local what=$1 pattern=$2
    shift 2
    count=$((count + 1))
    if "$@" >"$lab/said" 2>&1 || ! grep -qE "$pattern" "$lab/said"; then
        echo "not ok $count - $what"
        tail -n 20 "$lab/said" | sed 's/^/# /'
    else
        echo "ok $count - $what"
    fi
}
skip_all() { count=1; echo "ok 1 - cosign accepts what we sign # SKIP $1"; exit 0; }

for tool in docker-registry skopeo jq syft; do
    command -v "$tool" >/dev/null || skip_all "$tool is not installed"
done
command -v cosign >/dev/null || skip_all "cosign is not installed: tools/setup test builds it where there is a new Go"
[ -d "$cache/images/debian-bookworm-slim" ] || skip_all "no base image in $cache/images: run tools/setup"
[ -x build/bin/enclii-signer ] || { echo "Bail out! run make build first"; exit 1; }

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$lab/registry.yml" <<YML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $lab/registry}}
http: {addr: "127.0.0.1:$port"}
YML
docker-registry serve "$lab/registry.yml" >"$lab/registry.log" 2>&1 &
pids+=($!)
make -s build/drive/signer || { echo "Bail out! signer_drive does not compile"; exit 1; }
mkfifo "$lab/in"
build/drive/signer <"$lab/in" >"$lab/out" 2>"$lab/drive.log" &
pids+=($!)
exec 3>"$lab/in"
for _ in $(seq 100); do [ -s "$lab/out" ] && break; sleep 0.1; done
env -i PATH="$PATH" HOME="$lab" ENCLII_KAFKA_BROKERS="$(head -n 1 "$lab/out")" ENCLII_SIGNING_KEY_FILE="$lab/signing.key" \
    ENCLII_OBJECT_STORE="file://$lab/objects" ENCLII_WORK_DIR="$lab/work" ENCLII_REGISTRY_INSECURE=true ENCLII_SYFT=syft \
    build/bin/enclii-signer 2>"$lab/signer.log" &
pids+=($!)

repo=127.0.0.1:$port/acme/shop commit=0123456789012345678901234567890123456789 url=http://127.0.0.1/acme/shop.git
push() { # image name: gives its digest
    skopeo copy -q --insecure-policy --dest-tls-verify=false "oci:$cache/images/debian-bookworm-slim" "docker://$1:base" &&
        skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$1:base"
}
sign() { # release id, repository, digest: waits for the verdict
    echo "$1 $2 $3 $commit $url" >&3
    for _ in $(seq 1200); do
        grep -qE " (signed|refused) $1 " "$lab/out" && break
        sleep 0.1
    done
    grep -E ' step ' "$lab/out" | tail -n 6 | sed 's/^/# /'
    grep -q " signed $1 " "$lab/out" || { cat "$lab/out" "$lab/signer.log"; return 1; }
}
statements() { grep '^{' "$lab/said" | jq -r .payload | base64 -d; } # what the last verify-attestation printed
forge() { # host, from repository, to repository, image digest: copies the referrers, one bit of each payload changed
    python3 - "$@" <<'PY'
import base64, hashlib, json, sys, urllib.request
host, source, target, image = sys.argv[1:]
OCI = "application/vnd.oci.image."
def ask(method, path, data=None, kind=None):
    url = path if path.startswith("http") else f"http://{host}/v2/{path}"
    headers = {"Accept": f"{OCI}manifest.v1+json, {OCI}index.v1+json"} | ({"Content-Type": kind} if kind else {})
    return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))
def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()
def push_blob(data):
    location = ask("POST", f"{target}/blobs/uploads/", b"").headers["Location"]
    ask("PUT", location + ("&" if "?" in location else "?") + "digest=" + digest(data), data, "application/octet-stream")
tag = image.replace(":", "-")
index = json.load(ask("GET", f"{source}/manifests/{tag}"))
push_blob(b"{}")
for entry in index["manifests"]:
    manifest = json.load(ask("GET", f"{source}/manifests/{entry['digest']}"))
    layer = manifest["layers"][0]
    bundle = json.load(ask("GET", f"{source}/blobs/{layer['digest']}"))
    body = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    body[body.index(b'"predicate":') + 2] ^= 0x20  # still JSON, another name
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(body).decode()
    data = json.dumps(bundle).encode()
    push_blob(data)
    layer.update(digest=digest(data), size=len(data))
    data = json.dumps(manifest).encode()
    entry.update(digest=digest(data), size=len(data))
    ask("PUT", f"{target}/manifests/{entry['digest']}", data, f"{OCI}manifest.v1+json")
ask("PUT", f"{target}/manifests/{tag}", json.dumps(index).encode(), f"{OCI}index.v1+json")
PY
}
common=(--insecure-ignore-tlog=true --allow-http-registry)
digest=$(push "$repo") || { echo "Bail out! the image cannot be pushed"; exit 1; }
cosign generate-key-pair --output-key-prefix "$lab/other" </dev/null >/dev/null 2>&1 || true
[ -s "$lab/other.pub" ] || openssl ecparam -name prime256v1 -genkey -noout | openssl pkey -pubout >"$lab/other.pub"

no "cosign refuses the image before it is signed" 'no (matching )?signatures|no signatures found' \
    cosign verify --key "$lab/other.pub" "${common[@]}" "$repo@$digest"
ok "the signer signs a Debian image" sign first "$repo" "$digest"
sed -n 's/^# //p' "$lab/said" | sed 's/^/# /'
ok "cosign verifies the signature" cosign verify --key "$lab/signing.key.pub" "${common[@]}" "$repo@$digest"
ok "cosign verifies the SLSA provenance" \
    cosign verify-attestation --type slsaprovenance1 --key "$lab/signing.key.pub" "${common[@]}" "$repo@$digest"
statements >"$lab/provenance.json"
# shellcheck disable=SC2016 # $c is jq's
ok "which names the commit" jq -se --arg c "$commit" \
    'any(.[]; .predicateType == "https://slsa.dev/provenance/v1" and .predicate.buildDefinition.resolvedDependencies[0].digest.gitCommit == $c)' \
    "$lab/provenance.json"
ok "cosign verifies the SBOM" \
    cosign verify-attestation --type cyclonedx --key "$lab/signing.key.pub" "${common[@]}" "$repo@$digest"
statements >"$lab/sbom.json"
ok "which lists Debian's packages" jq -se \
    'any(.[]; [.predicate.components[]?.purl // "" | select(startswith("pkg:deb/debian/"))] | length > 50)' "$lab/sbom.json"
ok "a second run adds nothing" sign first "$repo" "$digest"
no "cosign refuses another key" 'signature|threshold|verif' \
    cosign verify --key "$lab/other.pub" "${common[@]}" "$repo@$digest"
no "cosign finds no attestation of another type" 'attestation|predicate|match' \
    cosign verify-attestation --type vuln --key "$lab/signing.key.pub" "${common[@]}" "$repo@$digest"

second=127.0.0.1:$port/acme/second
digest=$(push "$second") || { echo "Bail out! the image cannot be pushed"; exit 1; }
ok "the same bundles with one bit changed are put beside another image" \
    forge "127.0.0.1:$port" acme/shop acme/second "$digest"
no "cosign refuses the changed signature" 'signature' \
    cosign verify --key "$lab/signing.key.pub" "${common[@]}" "$second@$digest"
tail -n 1 "$lab/said" | sed 's/^/# /'
no "and the changed provenance" 'signature|attestation' \
    cosign verify-attestation --type slsaprovenance1 --key "$lab/signing.key.pub" "${common[@]}" "$second@$digest"
tail -n 1 "$lab/said" | sed 's/^/# /'
ok "the signer is not misled by them and signs" sign second "$second" "$digest"
ok "then cosign accepts the good among the bad" \
    cosign verify --key "$lab/signing.key.pub" "${common[@]}" "$second@$digest"
