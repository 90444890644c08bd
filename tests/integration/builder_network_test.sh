#!/bin/bash
# What the build of a stranger's code reaches: the outside, but neither this machine nor private networks, with real
# Buildah, slirp4netns and connections. The whole test is in a network namespace of its own, so that "this machine",
# "a neighbour" and "the outside" are addresses that it makes. Prints TAP; takes about a minute.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
if [ -z "${ENCLII_TEST_APART:-}" ]; then
    unshare --net --mount true 2>/dev/null || { printf 'ok 1 - builder network # SKIP may not make network namespaces\n1..1\n'; exit 0; }
    command -v slirp4netns >/dev/null && [ -c /dev/net/tun ] ||
        { printf 'ok 1 - builder network # SKIP no slirp4netns (make setup) or no /dev/net/tun\n1..1\n'; exit 0; }
    ENCLII_TEST_APART=1 exec unshare --net --mount -- "$0"
fi
ip link set lo up

# ---- the world: this machine, a neighbour in its private network, and behind that one the outside ----
own_public=198.51.100.1 own_private=10.250.77.1 neighbour=10.250.77.2 outside=192.0.2.10
unshare --net sleep 900 &
other_pid=$!
other() { nsenter --net="/proc/$other_pid/ns/net" "$@"; }
until [ "$(readlink "/proc/$other_pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
ip link add here type veth peer name there
ip link set there netns "/proc/$other_pid/ns/net"
ip address add $own_public/32 dev lo
ip address add $own_private/24 dev here
ip link set here up
other ip link set lo up
other ip address add $neighbour/24 dev there
other ip address add $outside/32 dev lo
other ip link set there up
other ip route add default via $own_private
ip route add default via $neighbour
# shellcheck source=tests/support/builder.sh
source tests/support/builder.sh
mkdir -p "$lab/page" && echo page >"$lab/page/index.html"
open=$((port + 1))
python3 -m http.server --directory "$lab/page" --bind 0.0.0.0 $open >/dev/null 2>&1 &
here_pid=$!
nsenter --net="/proc/$other_pid/ns/net" python3 -m http.server --directory "$lab/page" --bind 0.0.0.0 $open >/dev/null 2>&1 &
there_pid=$!
finish_network() {
    kill $here_pid $there_pid $other_pid 2>/dev/null
    finish
}
trap finish_network EXIT
# What answers questions about names for this machine; it has no other port.
cat >"$lab/resolver.py" <<'END'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
while True:
    q, who = s.recvfrom(512)
    end = q.index(0, 12) + 5
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 10]) if q[end - 4:end - 2] == b"\0\1" else b""
    s.sendto(q[:2] + b"\x81\x80\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0" + q[12:end] + answer, who)
END
echo 'nameserver 127.0.0.1' >"$lab/resolv.conf"
mount --bind "$lab/resolv.conf" /etc/resolv.conf
python3 "$lab/resolver.py" &
resolver_pid=$!
there_pid="$there_pid $resolver_pid"

# Buildah tells RUN lines of a public resolver instead of one on loopback: trusted code knows no names here.
start_drive
kafka=${broker##*:}
cat >"$lab/tries" <<END
loopback-kafka 127.0.0.1 $kafka
loopback-registry 127.0.0.1 $port
loopback-open 127.0.0.1 $open
own-public $own_public $open
own-private $own_private $open
gateway 198.18.255.2 $open
gateway-registry 198.18.255.2 $port
resolver 198.18.255.3 $open
neighbour $neighbour $open
outside $outside $open
named outside.example $open
END
mkdir -p "$lab/repo/reach" "$lab/repo/add" "$lab/repo/machine" "$lab/repo/plain" "$lab/repo/late" "$lab/repo/trap"
cp "$lab/tries" "$lab/repo/reach/"
printf 'FROM %s\nCOPY tries /tries\nRUN while read -r what at port; do if timeout 4 bash -c "exec 3<>/dev/tcp/$at/$port" 2>/dev/null; then echo "reached $what"; else echo "closed $what"; fi; done </tries\n' \
    "$base" >"$lab/repo/reach/Dockerfile"
sed -i 's/^RUN while/SHELL ["bash", "-c"]\nRUN while/' "$lab/repo/reach/Dockerfile"
sed 's/^RUN /RUN sleep 3; /' "$lab/repo/reach/Dockerfile" >"$lab/repo/late/Dockerfile"
cp "$lab/tries" "$lab/repo/late/"
printf 'FROM %s\nADD http://127.0.0.1:%s/index.html /x\n' "$base" $open >"$lab/repo/add/Dockerfile"
printf 'FROM %s\nRUN echo devices $(cd /dev && ls) end; chroot / true || echo no chroot; ls /sys/class/net | tr "\\n" " "; grep -c . /proc/net/unix\n' \
    "$base" >"$lab/repo/machine/Dockerfile"
# A way out of Buildah itself (CVE-2024-1753, open in Debian 12): what it mounts for a RUN line is the root folder.
printf 'FROM %s AS trap\nRUN ln -s / /way\nFROM %s\nRUN --mount=type=bind,from=trap,source=/way,target=/machine,rw cat /machine%s/marker; echo sees $(ls /machine /machine%s/scratch) end\n' \
    "$base" "$base" "$lab" "$lab" >"$lab/repo/trap/Dockerfile"
printf 'FROM %s\nRUN echo built\n' "$base" >"$lab/repo/plain/Dockerfile"
# A socket that is bound to the way out asks no route (the kernel takes every address for a neighbour then).
cat >"$lab/probe.c" <<'END'
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
int main(int argc, char **argv)
{
    int s = socket(AF_INET, SOCK_STREAM, 0), code = 1;
    socklen_t len = sizeof(code);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    inet_pton(AF_INET, argv[2], &to.sin_addr);
    if (argc != 4 || setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "tap0", 5) != 0) {
        printf("unbound %s\n", argv[1]);
        return 0;
    }
    fcntl(s, F_SETFL, O_NONBLOCK);
    connect(s, (struct sockaddr *)&to, sizeof(to));
    if (poll(&(struct pollfd){s, POLLOUT, 0}, 1, 4000) == 1) {
        getsockopt(s, SOL_SOCKET, SO_ERROR, &code, &len);
    }
    printf("%s %s\n", code ? "closed" : "reached", argv[1]);
    return 0;
}
END
mkdir -p "$lab/repo/bound"
gcc -O1 -static -o "$lab/repo/bound/probe" "$lab/probe.c" || { echo "Bail out! no static probe"; exit 1; }
grep -E '^(own|neighbour|outside|gateway )' "$lab/tries" >"$lab/repo/bound/tries"
printf 'FROM %s\nCOPY probe tries /\nRUN while read -r what at port; do /probe $what $at $port; done </tries\n' "$base" >"$lab/repo/bound/Dockerfile"
sha=$(make_commit all)
publish_repo
reached() { sed -n "s/.*log $(id "$1") .* build: reached //p" "$lab/events" | tr '\n' ' '; }
closed() { sed -n "s/.*log $(id "$1") .* build: closed //p" "$lab/events" | tr '\n' ' '; }
build() { # number, context, trusted: waits for its end
    run "$1" "$sha" "$2" 1024 120000 "$3"
    ends 120 "$1" "(succeeded|failed).v1 $(id "$1")"
}
again() { # settings: the builder anew
    kill "$builder_pid" && wait "$builder_pid"
    local lines
    lines=$(wc -l <"$lab/events")
    start_builder "$@"
    until_true 20 sh -c "tail -n +$((lines + 1)) $lab/events | grep -q 'heartbeat.v1 running=0 draining=0'"
}
all='loopback-kafka loopback-registry loopback-open own-public own-private gateway gateway-registry resolver neighbour outside named '

# ---- the tests ----
missed=''
while read -r what at to; do
    case $what in gateway* | resolver) continue ;; esac
    timeout 4 bash -c "exec 3<>/dev/tcp/$at/$to" 2>/dev/null || missed="$missed $what"
done <"$lab/tries"
[ -z "$missed" ]
ok $? "from this machine all of it is reached ($missed)"
start_builder
beats 20
ok $? "the builder offers its slots"

build 1 reach trusted && [ "$(reached 1)" = "loopback-kafka loopback-registry loopback-open own-public own-private neighbour outside " ]
ok $? "trusted code reaches what the builder reaches: $(reached 1)"
build 2 reach untrusted && [ "$(reached 2)" = "outside named " ]
ok $? "a stranger's reaches the outside, by name too: $(reached 2)"
[ "$(closed 2)" = "${all%outside named }" ]
ok $? "and neither this machine nor private networks"
event "succeeded.v1 $(id 2) .*base=$base@sha256:"
ok $? "its base image came from a registry that its code does not reach"
build 14 bound untrusted && [ "$(reached 14)" = "outside " ] && [ "$(closed 14)" = "own-public own-private gateway neighbour " ]
ok $? "nor does a socket that goes around the routes: $(reached 14)"
build 3 add trusted && event "succeeded.v1 $(id 3)"
ok $? "ADD of an address of this machine works for trusted code"
build 4 add untrusted && event "failed.v1 $(id 4) .*reason=3 retryable=0 .*refused"
ok $? "ADD does not lead there for a stranger"

build 5 machine untrusted && event "log $(id 5) .*build: devices fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero end"
ok $? "its devices are none of the machine's"
event "log $(id 5) .*no chroot" && event "log $(id 5) .*build: lo tap0 1"
ok $? "no second chroot, no interface and no socket of the machine"
echo secret >"$lab/marker"
build 13 trap untrusted && event "log $(id 13) .*build: sees .*" && ! event "log $(id 13) .*(build: secret|sees .*(git|storage.conf.*home))"
ok $? "a way out of Buildah leads into a folder without the machine: $(sed -n "s/.*log $(id 13) .* build: sees //p" "$lab/events")"
[ "$(awk -v at="$lab/scratch" 'index($2, at) == 1' /proc/mounts)" = "" ] && ! pgrep -f "slirp4netns.*$lab" >/dev/null
ok $? "nothing of it stays: no mount, no process"

again "ENCLII_UNTRUSTED_REACH=$neighbour, $own_private"
build 6 reach untrusted && [ "$(reached 6)" = "neighbour outside named " ]
ok $? "a private address that the operator opens is reached, one of this machine never: $(reached 6)"
again ENCLII_UNTRUSTED_NETWORK=none
build 7 reach untrusted && [ "$(closed 7)" = "$all" ] && event "succeeded.v1 $(id 7)" &&
    event "log $(id 7) .*note: the RUN lines of this build have no network: ENCLII_UNTRUSTED_NETWORK=none"
ok $? "none: built, with no network at all"

fake() { # tool, text
    mkdir -p "$lab/fake"
    printf '#!/bin/sh\n%s\n' "$2" >"$lab/fake/$1" && chmod +x "$lab/fake/$1"
}
fake slirp4netns 'echo "no way out today" >&2; exit 1'
again "PATH=$lab/fake:$PATH"
build 8 reach untrusted && [ "$(closed 8)" = "$all" ] && event "log $(id 8) .*have no network: slirp4netns failed: no way out today"
ok $? "without slirp4netns there is no network, and the log says why"
fake slirp4netns "$(command -v slirp4netns) \"\$@\" & sleep 1; kill \$!; wait"
build 9 late untrusted && [ "$(closed 9)" = "$all" ]
ok $? "when it dies the network is gone"
fake slirp4netns "exec $(command -v slirp4netns) \"\$@\""
fake ip "case \$1 in -batch) exit 1 ;; esac; exec $(command -v ip) \"\$@\""
build 10 reach untrusted && [ "$(closed 10)" = "$all" ] && event "log $(id 10) .*have no network: the routes"
ok $? "without the routes there is none"
rm "$lab/fake/ip"
fake unshare 'exit 1'
build 11 plain untrusted && event "failed.v1 $(id 11) .*reason=3 .*cannot be kept apart on this builder: it may not make networks"
ok $? "where it cannot be kept apart it is not built"
fake unshare "case \"\$*\" in *--net*) exec $(command -v unshare) \"\$@\" ;; esac; exit 1"
build 12 reach untrusted && [ "$(closed 12)" = "$all" ] && event "log $(id 12) .*cannot hide its processes" && event "succeeded.v1 $(id 12)"
ok $? "where processes cannot be hidden there is no network"
again ENCLII_UNTRUSTED_NETWORK=host
! kill -0 "$builder_pid" 2>/dev/null && grep -q 'ENCLII_UNTRUSTED_NETWORK is .*host' "$lab/builder.log"
ok $? "the machine's network is no choice"
builder_pid=''
