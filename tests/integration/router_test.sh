#!/bin/bash
# docker/haproxy.cfg.in in a real HAProxy, with applications that take a request and close without an answer:
# what is sent to another one, and what never is. TAP.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
for tool in haproxy socat curl python3; do
    command -v "$tool" > /dev/null || { echo "1..0 # SKIP $tool is not installed"; exit 0; }
done
lab=$(mktemp -d /tmp/enclii-router-test.XXXXXX)
base=${ROUTER_TEST_PORT:-24300}
count=0 pids=()
finish() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2> /dev/null
    rm -rf "$lab"
    echo "1..$count"
}
trap finish EXIT
is() { # what, expected, got
    count=$((count + 1))
    if [ "$2" = "$3" ]; then echo "ok $count - $1"; else printf 'not ok %d - %s\n# expected %s, got %s\n' $count "$1" "$2" "$3"; fi
}
within() { # seconds, command...
    local tries=$(($1 * 10))
    shift
    until "$@"; do
        [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}
open_port() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

cat > "$lab/app.py" << 'PY'
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=50)
while True:
    connection, _ = listener.accept()
    head = connection.recv(65536)
    if head:
        with open(sys.argv[2], "a") as seen:
            print(head.split(b" ")[0].decode(), file=seen)
    connection.close()
PY
sed -e '/^ *#/d' -e "s|@DIR@|$lab|g" -e "s|@SOCKET@|$lab/admin.sock|" -e "s|@HTTP@|127.0.0.1:$base|" \
    -e "s|@HTTPS@|127.0.0.1:$((base + 1))|" -e 's|@BACKENDS@|backend be_000|' docker/haproxy.cfg.in > "$lab/haproxy.cfg"
echo 'shop.test/ be_000' > "$lab/hosts.map"
: > "$lab/crt.list"
: > "$lab/seen"
haproxy -db -f "$lab/haproxy.cfg" > "$lab/haproxy.log" 2>&1 &
pids+=($!)
within 20 test -S "$lab/admin.sock"
tell() { socat - "unix:$lab/admin.sock" <<< "$1" > /dev/null; }
for n in 2 3; do
    python3 "$lab/app.py" $((base + n)) "$lab/seen" &
    pids+=($!)
    within 20 open_port $((base + n))
    tell "add server be_000/s$n 127.0.0.1:$((base + n)); enable server be_000/s$n"
done
ask() { curl -s -m 20 -o /dev/null -w '%{http_code}' -X "$1" -d 'order=1' -H 'Host: shop.test' "http://127.0.0.1:$base/"; }
seen() { grep -c "^$1$" "$lab/seen"; }

for method in POST PUT DELETE PATCH; do
    is "a $method that got no answer is a 502" 502 "$(ask $method)"
    is "and only one application saw it" 1 "$(seen $method)"
done
is "a GET that got no answer is a 502, too" 502 "$(ask GET)"
is "after others were asked" yes "$([ "$(seen GET)" -gt 1 ] && echo yes)"
kill "${pids[1]}" && wait "${pids[1]}" 2> /dev/null
for _ in 1 2 3 4; do ask POST > /dev/null; done
is "a POST that no application could have seen is sent to the other one" 5 "$(seen POST)"
