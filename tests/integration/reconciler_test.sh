#!/bin/bash
# The reconciler against real Podman and HAProxy: rollout in steps under load, warm rollback, five ways
# to fail, healing, kill -9, a restarted router, removal. Kafka is librdkafka's mock cluster inside
# reconciler_drive, which stands in for the pipeline. Prints TAP; takes about a minute.
# shellcheck disable=SC2317 # functions are called through until_true
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
repo=$PWD
for tool in podman buildah haproxy wrk jq curl socat; do
    command -v "$tool" >/dev/null || { echo "1..0 # SKIP $tool is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP needs root (containers)"; exit 0; }

lab=$(mktemp -d /tmp/enclii-rec.XXXXXX)
http=${RECONCILER_TEST_PORT:-24300} https=$((${RECONCILER_TEST_PORT:-24300} + 1))
instance=test-$$ number=0 failed=0 revision=0 rec_pid='' proxy_pid=''
key=11111111-1111-4111-8111-111111111111:22222222-2222-4222-8222-222222222222
export CONTAINERS_CONF=$lab/containers.conf
store=(--root "$lab/root" --runroot "$lab/run")

ok() { # status, name
    number=$((number + 1))
    if [ "$1" = 0 ]; then echo "ok $number - $2"; else failed=1 && echo "not ok $number - $2" && tail -n 4 "$lab/events" | sed 's/^/#   /'; fi
}
engine() { curl -s -m 20 --unix-socket "$lab/engine.sock" "$@"; }
containers() { engine -G http://d/v1.41/containers/json --data-urlencode all=true --data-urlencode "filters={\"label\":[\"enclii.instance=$instance\"]}"; }
count() { containers | jq length; }
page() { curl -s -m 3 -H 'Host: shop.test' "http://127.0.0.1:$http/"; }
code() { curl -s -m 3 -o /dev/null -w '%{http_code}' -H "Host: $1" "http://127.0.0.1:$http/"; }
now_ms() { date +%s%3N; }
until_true() { # seconds, command...; a busy machine gets three times as many
    local end=$(($(now_ms) + $1 * 3000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$end" ] || return 1
        sleep 0.02
    done
}
event() { grep -qE "$1" "$lab/events"; }
serves() { [ "$(page)" = "$1" ]; }
runs() { [ "$(count)" = "$1" ]; }
release() { printf 'aaaaaaaa-0000-4000-8000-0000000000%s' "$(printf %s "$1" | md5sum | cut -c1-2)"; }
deployment() { echo "d1000000-0000-4000-8000-0000000000$1"; }
image() { cat "$lab/image-$1"; }
desire() { # deployment, image, weights, step_ms, settled, previous image or nothing
    revision=$((revision + 1))
    echo "desired $key $revision $(deployment "$1") $(release "$2") $(image "$2") shop.test $3 $4 $5 ${deadline_ms:-60000} ${replicas:-1} ${6:+$(release "$6") $(image "$6")}" >&7
}
build_image() { # name, compiler flags...
    local name=$1 box
    shift
    gcc -O2 -static "$@" -o "$lab/app-$name" tests/integration/reconciler_app.c
    box=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add -q "$box" "$lab/app-$name" /app >/dev/null
    buildah "${store[@]}" config --cmd /app "$box"
    buildah "${store[@]}" commit -q "$box" "localhost/app:$name" >/dev/null
    buildah "${store[@]}" rm "$box" >/dev/null
    buildah "${store[@]}" images --format '{{.Name}}@{{.Digest}}' "localhost/app:$name" >"$lab/image-$name"
}
start_proxy() {
    haproxy -W -db -f "$lab/haproxy.cfg" >>"$lab/haproxy.log" 2>&1 &
    proxy_pid=$!
    until_true 5 test -S "$lab/admin.sock"
}
start_reconciler() {
    ENCLII_LOG_LEVEL=debug ENCLII_KAFKA_FETCH_WAIT=10ms ENCLII_KAFKA_BROKERS=$broker ENCLII_INSTANCE=$instance \
        ENCLII_LEFTOVER_GRACE=${grace:-24h} \
        ENCLII_DOCKER_SOCKET=$lab/engine.sock ENCLII_HAPROXY_SOCKET=$lab/admin.sock ENCLII_HAPROXY_DIR=$lab \
        ENCLII_ROUTER_HTTP=127.0.0.1:$http ENCLII_ROUTER_HTTPS=127.0.0.1:$https \
        "${RECONCILER:-$repo/build/bin/enclii-reconciler}" >>"$lab/reconciler.log" 2>&1 &
    rec_pid=$!
}
load() { # until load_ends, however long what happens meanwhile takes
    wrk -t1 -c4 -d300s -H 'Host: shop.test' "http://127.0.0.1:$http/" >"$lab/load" 2>&1 &
    load_pid=$!
    sleep 0.5
}
load_ends() { kill -INT "$load_pid" && wait "$load_pid"; }
load_clean() { load_ends && grep -q 'requests in' "$lab/load" && ! grep -qE 'Non-2xx|Socket errors' "$lab/load"; }
finish() {
    local pid id
    exec 7>&- 8>&-
    for pid in $rec_pid $proxy_pid ${drive_pid:-} ${empty_pid:-} ${load_pid:-}; do kill "$pid" 2>/dev/null; done
    for id in $(containers | jq -r '.[].Id'); do engine -XDELETE "http://d/v1.41/containers/$id?force=true" >/dev/null; done
    [ -n "${engine_pid:-}" ] && kill "$engine_pid" 2>/dev/null
    sleep 0.5
    umount "$lab/root/overlay" 2>/dev/null
    [ -n "${KEEP:-}" ] || rm -rf "$lab"
}
trap finish EXIT

# ---- the real parts ----
cat >"$lab/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=4096:4096","nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
touch "$lab/hosts.map" "$lab/crt.list"
pool=$(for i in $(seq 0 9); do printf 'backend be_%03d\\n' "$i"; done)
sed -e "s#@DIR@#$lab#;s#@SOCKET@#$lab/admin.sock#;s#@HTTP@#127.0.0.1:$http#;s#@HTTPS@#127.0.0.1:$https#" \
    -e "s#^@BACKENDS@#$pool#" docker/haproxy.cfg.in >"$lab/haproxy.cfg"
make -s build/drive/reconciler || { echo "Bail out! reconciler_drive does not compile"; exit 1; }
# shellcheck disable=SC2089,SC2090 # the quotes are for the C compiler
for spec in one: two:-DBODY='"two"' crash:-DCRASH deaf:-DDEAF sick:-DSTATUS='"500"' faulty:-DERRORS; do
    # shellcheck disable=SC2086,SC2090
    build_image "${spec%%:*}" ${spec#*:}
done 2>"$lab/build.log"
sed 's/sha256:.*/sha256:0000000000000000000000000000000000000000000000000000000000000000/' "$lab/image-one" |
    sed "s#localhost/#127.0.0.1:1/#" >"$lab/image-absent"
podman "${store[@]}" --tmpdir "$lab/tmp" system service --time=0 "unix://$lab/engine.sock" >"$lab/engine.log" 2>&1 &
engine_pid=$!
mkfifo "$lab/in"
build/drive/reconciler <"$lab/in" >"$lab/events" 2>"$lab/drive.log" &
drive_pid=$!
exec 7>"$lab/in"
until_true 5 test -s "$lab/events" && until_true 10 test -S "$lab/engine.sock"
broker=$(head -n 1 "$lab/events")
start_proxy
start_reconciler

# ---- the tests ----
began=$(now_ms)
desire 01 one 10,50,100 1000 0
until_true 10 event 'rolled_out.*0001' && serves one
ok $? "a first version is served ($(($(now_ms) - began)) ms after it was desired, our broker's delay included)"
grep -q 'https://shop.test:'"$https" "$lab/events"
ok $? "the event tells the address"
desire 01 one 10,50,100 1000 1

load
desire 02 two 10,50,100 1000 0 one
until_true 10 event 'step.*0002 weight weight=10 ' && until_true 5 event 'step.*0002 weight weight=50 '
ok $? "the second version gets 10 %, then 50 %"
until_true 10 event 'rolled_out.*0002' && serves two
ok $? "then everything"
desire 02 two 10,50,100 1000 1
until_true 15 runs 1
ok $? "the first version is removed"
load_clean
ok $? "no request failed under load ($(awk '/requests in/ {print $1}' "$lab/load") requests)"

began=$(now_ms)
desire 03 one 100 0 0 two
until_true 10 serves one
took=$(($(now_ms) - began))
[ $took -lt 5000 ]
ok $? "rollback to a warm release is served after $took ms (less than 5000)"
until_true 5 event 'rolled_out.*0003'
desire 03 one 100 0 1
until_true 15 runs 1

fails_with() { # deployment, image, reason, pattern of the detail
    desire "$1" "$2" 10,100 300 0 one
    until_true 20 event "reverted.*$(deployment "$1") reason=$3 previous_serves=1 detail=.*$4" && serves one
    ok $? "$2: reverted with $3, the previous version serves"
    desire "$1" one 10,100 300 1
    until_true 15 runs 1
}
fails_with 11 crash start_failed 'code 3.*cannot open the configuration'
fails_with 12 sick unhealthy 'answered 500'
fails_with 13 deaf never_listened 'nothing listened on port 8080'
deadline_ms=4000
fails_with 14 absent image_pull_failed 'connection refused'
unset deadline_ms
load
fails_with 15 faulty error_rate 'requests to the new version failed'
load_ends

# A newer revision in the middle of a rollout: the old version never stops serving.
load
desire 21 deaf 10,100 300 0 one
until_true 5 runs 2
desire 22 two 10,50,100 300 0 one
until_true 10 event 'rolled_out.*0022' && serves two
ok $? "a newer rollout takes over from one that is under way"
desire 22 two 100 0 1
until_true 15 runs 1
ok $? "what the overtaken one had started is gone"
load_clean
ok $? "no request failed meanwhile"

# kill -9 in the middle of a canary: the next process ends it.
desire 31 one 10,50,100 1500 0 two
until_true 10 event 'step.*0031 weight weight=10 '
kill -9 "$rec_pid"
wait "$rec_pid" 2>/dev/null
grep -qxE 'one|two' <<<"$(page)" # a tenth go to one of them
ok $? "after kill -9 requests are still answered"
start_reconciler
until_true 15 event 'rolled_out.*0031' && until_true 5 serves one
ok $? "the next process ends the rollout"
desire 31 one 100 0 1
until_true 15 runs 1
ok $? "and removes the old version"

began=$(now_ms)
id=$(containers | jq -r '.[0].Id')
engine -XPOST "http://d/v1.41/containers/$id/kill?signal=KILL" >/dev/null
sleep 0.05
until_true 10 serves one
ok $? "a killed container is replaced ($(($(now_ms) - began)) ms)"
until_true 5 event 'status.*ready=0/1 .*137' && until_true 5 event 'status.*ready=1/1'
ok $? "and its death and return are told"

kill "$proxy_pid"
wait "$proxy_pid" 2>/dev/null
rm -f "$lab/admin.sock"
began=$(now_ms)
start_proxy
until_true 10 serves one
ok $? "a restarted router serves again ($(($(now_ms) - began)) ms)"

replicas=3 desire 31 one 100 0 1
until_true 10 event 'status.*ready=3/3' && runs 3
ok $? "more replicas"
desire 31 one 100 0 1
until_true 15 runs 1 && serves one
ok $? "fewer replicas"

echo "junk $key" >&7
sleep 1
serves one && runs 1
ok $? "a desired state that cannot be read changes nothing: the one before it holds"

# Ours, but wanted by nobody; and one of another platform.
leave() { # name, instance, key
    jq -n --arg image "$(image one)" --arg instance "$2" --arg key "$3" '{Image: $image, Labels: {"enclii.instance": $instance,
      "enclii.key": $key, "enclii.identity": "x/y", "enclii.replica": "0"},
      HostConfig: {Ulimits: [{Name: "nofile", Soft: 1024, Hard: 4096}, {Name: "nproc", Soft: 1024, Hard: 4096}]}}' |
        engine -XPOST -H 'Content-Type: application/json' -d @- "http://d/v1.41/containers/create?name=$1" >/dev/null
    engine -XPOST "http://d/v1.41/containers/$1/start" >/dev/null
}
leave left-ours "$instance" gone:gone
leave left-another-platform another-platform gone:gone
# Compaction left only a record that cannot be read: is it wanted? Nobody knows.
leave kept-ours "$instance" unknown:unknown
echo "junk unknown:unknown" >&7
kill "$rec_pid"
began=$(now_ms)
wait "$rec_pid"
status=$?
took=$(($(now_ms) - began))
[ "$status" = 0 ] && [ $took -lt 10000 ] && serves one
ok $? "SIGTERM ends the reconciler in $took ms with status $status, the service stays"
grace=2s start_reconciler
until_true 10 grep -q '"desired.held"' "$lab/reconciler.log" && serves one && runs 3
ok $? "what is in no record is not removed at once"
until_true 10 runs 2 && sleep 3 && serves one && runs 2
ok $? "a single one goes after its time; what has a record that cannot be read stays"
echo "remove unknown:unknown" >&7
until_true 10 runs 1
ok $? "once it is known again, it goes"
[ "$(engine "http://d/v1.41/containers/left-another-platform/json" | jq -r .State.Status)" = running ]
ok $? "another platform's container is left alone"
engine -XDELETE "http://d/v1.41/containers/left-another-platform?force=true" >/dev/null

# The topic was made again by hand: Kafka knows of nothing, and everything runs.
kill "$rec_pid" && wait "$rec_pid"
cp "$lab/hosts.map" "$lab/hosts.before"
mkfifo "$lab/in2"
build/drive/reconciler <"$lab/in2" >"$lab/events2" 2>/dev/null &
empty_pid=$!
exec 8>"$lab/in2"
until_true 5 test -s "$lab/events2"
full=$broker broker=$(head -n 1 "$lab/events2")
grace=1s start_reconciler
until_true 10 grep -q '"desired.missing"' "$lab/reconciler.log" && sleep 4
serves one && runs 1 && cmp -s "$lab/hosts.map" "$lab/hosts.before"
ok $? "an emptied topic takes nothing down"
kill "$proxy_pid"
wait "$proxy_pid" 2>/dev/null
rm -f "$lab/admin.sock"
start_proxy
until_true 10 serves one
ok $? "nor does a router that starts again meanwhile"
kill "$rec_pid" && wait "$rec_pid"
exec 8>&-
kill "$empty_pid" 2>/dev/null
broker=$full
start_reconciler

echo "remove $key" >&7
gone() { [ "$(code shop.test)" = 404 ] && [ "$(count)" = 0 ] && [ ! -s "$lab/hosts.map" ] && [ ! -s "$lab/backends.map" ]; }
until_true 15 gone
ok $? "removal leaves no container, route or backend"
if grep -qE 'ERROR: (Address|Leak)Sanitizer|runtime error' "$lab/reconciler.log"; then ok 1 "no sanitizer report"; fi
echo "1..$number"
exit $failed
