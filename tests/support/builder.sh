# Sourced by the tests of the real builder: real git, Buildah and an OCI registry; Kafka is a mock cluster inside
# builder_drive, which stands in for the pipeline. Sets $lab, $port, $base, $image_repo; prints TAP.
# shellcheck shell=bash disable=SC2034 # the tests use what is set here
lab=$(mktemp -d /tmp/enclii-builder-test.XXXXXX)
port=${ENCLII_TEST_PORT_BASE:-24100}
image_repo=127.0.0.1:$port/acme/shop
base=127.0.0.1:$port/library/debian:bookworm-slim
cache=${ENCLII_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/enclii}
count=0 builder_pid='' drive_pid='' registry_pid=''
ok() { # status, what
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        echo "ok $count - $2"
    else
        echo "not ok $count - $2"
        grep -vE 'heartbeat| log ' "$lab/events" | tail -n 3 | sed 's/^/# /'
        grep -v heartbeat "$lab/events" | tail -n 15 | cut -c1-300 | sed 's/^/# /'
        tail -n 5 "$lab/builder.log" | cut -c1-300 | sed 's/^/# /'
    fi
}
finish() {
    local pid
    for pid in $builder_pid $drive_pid $registry_pid; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    awk -v at="$lab/" 'index($2, at) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount
    [ -z "${KEEP:-}" ] && rm -rf "$lab"
    echo "1..$count"
}
trap finish EXIT
until_true() { # seconds, command...; a busy machine gets three times as many
    local end=$((SECONDS + 3 * $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}
event() { grep -qE "$1" "$lab/events"; }
now_ms() { date +%s%3N; }
for tool in buildah git docker-registry skopeo; do
    command -v $tool >/dev/null || { echo "ok 1 - builder # SKIP $tool is not installed"; count=1; exit 0; }
done
[ -f "$cache/images/debian-bookworm-slim/index.json" ] || { echo "ok 1 - builder # SKIP no base image: run make setup"; count=1; exit 0; }

# ---- the world ----
cat >"$lab/registry.yml" <<END
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $lab/registry}, delete: {enabled: true}}
http: {addr: 127.0.0.1:$port}
END
start_registry() {
    docker-registry serve "$lab/registry.yml" >"$lab/registry.log" 2>&1 &
    registry_pid=$!
}
start_registry
cat >"$lab/registries.conf" <<END
[[registry]]
prefix = "127.0.0.1:$port"
location = "127.0.0.1:$port"
insecure = true
END
until_true 10 curl -fso /dev/null "http://127.0.0.1:$port/v2/"
skopeo copy --quiet --dest-tls-verify=false --insecure-policy "oci:$cache/images/debian-bookworm-slim" "docker://$base" ||
    { echo "Bail out! the base image cannot be pushed"; exit 1; }

export GIT_CONFIG_GLOBAL=/dev/null
git init -q -b main "$lab/repo"
make_commit() { # message; prints the sha
    git -C "$lab/repo" add -A
    git -C "$lab/repo" -c user.name=t -c user.email=t@example.org commit -q -m "$1"
    git -C "$lab/repo" rev-parse HEAD
}
publish_repo() { # what builders clone; sets url
    git clone -q --bare "$lab/repo" "$lab/www/shop.git"
    git -C "$lab/www/shop.git" config uploadpack.allowFilter true
    url=file://$lab/www/shop.git
}

start_drive() {
    make -s build/drive/builder || { echo "Bail out! builder_drive does not compile"; exit 1; }
    mkfifo "$lab/in"
    build/drive/builder <"$lab/in" >"$lab/events" 2>"$lab/drive.log" &
    drive_pid=$!
    exec 7>"$lab/in"
    until_true 5 test -s "$lab/events"
    broker=$(head -n 1 "$lab/events")
}
start_builder() { # settings NAME=VALUE
    env -i PATH="$PATH" HOME="$HOME" CONTAINERS_REGISTRIES_CONF="$lab/registries.conf" ENCLII_KAFKA_BROKERS="$broker" \
        ENCLII_BUILDER_ID=b1 ENCLII_BUILDER_SLOTS=2 ENCLII_WORK_DIR="$lab/scratch" ENCLII_REGISTRY_INSECURE=true \
        ENCLII_KAFKA_FETCH_WAIT=10ms ENCLII_GIT_PROTOCOLS=file "$@" build/bin/enclii-builder >>"$lab/builder.log" 2>&1 &
    builder_pid=$!
}
id() { printf '01890000-0000-7000-8000-%012d' "$1"; }
run() { # number, sha, context, memory MiB, timeout ms, trusted
    echo "run $(id "$1") ${7:-1} $url $2 $image_repo $3 $4 $5 $6" >&7
}
digest_of() { sed -n "s/.*succeeded.v1 $(id "$1") .*digest=\([^ ]*\).*/\1/p" "$lab/events"; }
ends() { # seconds, number, pattern of its only end
    until_true "$1" event "(succeeded|failed).v1 $(id "$2") " && event "$3"
}
beats() { until_true "$1" event 'heartbeat.v1 running=0 draining=0'; }
