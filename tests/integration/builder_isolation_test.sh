#!/bin/bash
# What a RUN line of a trusted commit, written by anybody who may push, sees of the builder's machine, and that what
# builds need is there: real Buildah, the builder's real folders, secrets and processes. Prints TAP; half a minute.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/support/builder.sh
source tests/support/builder.sh

secret=hunter2-$$
mkdir -p "$lab/repo/spy" "$lab/repo/trap" "$lab/repo/needs" "$lab/repo/chain" "$lab/page"
echo "$secret" >"$lab/machine-file"
# A socket of the machine, such as the container engine's or the database's.
python3 -c 'import socket,sys,time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
time.sleep(900)' "$lab/engine.sock" &
socket_pid=$!
open=$((port + 1))
echo page-of-loopback >"$lab/page/index.html"
python3 -m http.server --directory "$lab/page" --bind 127.0.0.1 $open >/dev/null 2>&1 &
page_pid=$!
finish_isolation() {
    kill $socket_pid $page_pid 2>/dev/null
    finish
}
trap finish_isolation EXIT

# Says of each thing whether it gets hold of it.
cat >"$lab/repo/spy/spy.sh" <<END
try() {
    what=\$1; shift
    if "\$@" >/tmp/out 2>&1; then echo "got \$what: \$(head -c 80 /tmp/out | tr -c '[:print:]' ' ')"; else echo "no \$what"; fi
}
echo "processes \$(ls -d /proc/[0-9]* | wc -l) ."
for p in /proc/[0-9]*; do
    case \$(tr '\\\\0' ' ' <\$p/cmdline 2>/dev/null) in *bin/enclii-builder* | *docker-registry*) echo "got process \$p" ;; esac
    if grep -qa "$secret" \$p/environ 2>/dev/null; then echo "got environment \$p"; fi
    if cat \$p/root$lab/machine-file 2>/dev/null; then echo "got root \$p"; fi
done
try root-of-1 ls /proc/1/root/
try environ-of-1 cat /proc/1/environ
try memory-of-1 head -c 1 /proc/1/mem
try machine-file cat "$lab/machine-file"
try work-folder ls "$lab/scratch"
try layers-key cat "$lab/scratch/layers-key"
try socket ls "$lab/engine.sock"
try mount-tmpfs mount -t tmpfs tmpfs /mnt
try mount-proc mount -t proc proc /mnt
try bind-root mount --bind / /mnt
try new-mounts unshare --mount true
try new-user unshare --user true
try chroot chroot / true
try disk mknod /tmp/disk b 254 0
try core-pattern sh -c 'echo x >/proc/sys/kernel/core_pattern'
try sysrq sh -c 'echo h >/proc/sysrq-trigger'
try sys sh -c 'echo x >/sys/kernel/uevent_helper'
try cgroup sh -c 'find /sys/fs/cgroup -name cgroup.procs | grep . && echo 0 >\$(find /sys/fs/cgroup -name cgroup.procs | head -n 1)'
try new-device sh -c 'echo x >/dev/new'
try hostname hostname spied
echo "devices \$(cd /dev && echo *) ."
echo over
END
printf 'FROM %s\nCOPY spy.sh /\nRUN sh /spy.sh\n' "$base" >"$lab/repo/spy/Dockerfile"
mkdir "$lab/repo/spy-2" && cp "$lab/repo/spy/spy.sh" "$lab/repo/spy-2/"
printf 'FROM %s\nCOPY spy.sh /\nENV AGAIN=1\nRUN sh /spy.sh\n' "$base" >"$lab/repo/spy-2/Dockerfile"
# CVE-2024-1753, open in Debian 12: what Buildah mounts for a RUN line follows a link out of the image.
printf 'FROM %s AS trap\nRUN ln -s / /way\nFROM %s\nRUN --mount=type=bind,from=trap,source=/way,target=/machine,rw cat /machine%s/machine-file /machine%s/scratch/layers-key /machine/etc/shadow; ls /machine%s /machine%s/scratch | sed "s/^/sees /"; echo over\n' \
    "$base" "$base" "$lab" "$lab" "$lab" "$lab" >"$lab/repo/trap/Dockerfile"
cat >"$lab/repo/needs/Dockerfile" <<END
FROM $base
SHELL ["bash", "-ec"]
RUN useradd -m app && install -d -o app -g app /srv/app && su app -c 'echo mine >/srv/app/file' && chown -R 1234:5678 /srv/app && stat -c 'owner %u:%g' /srv/app/file
RUN mkdir -p /usr/lib/node_modules/x && for i in {1..2000}; do echo \$i >/usr/lib/node_modules/x/\$i; done; ln -s ../lib/node_modules/x /usr/bin/x; chmod 4755 /usr/bin/env; stat -c 'mode %a' /usr/bin/env
RUN exec 3<>/dev/tcp/127.0.0.1/$open; printf 'GET /index.html HTTP/1.0\r\n\r\n' >&3; grep page-of <&3
ADD http://127.0.0.1:$open/index.html /added
RUN cat /added; dd if=/dev/zero of=/dev/shm/x bs=1M count=8 status=none; mktemp; echo x >/dev/null; head -c 4 /dev/urandom | wc -c; nproc
RUN mkdir -p /tmp/p/DEBIAN /tmp/p/opt && printf 'Package: p\nVersion: 1\nArchitecture: all\nMaintainer: t\nDescription: t\n' >/tmp/p/DEBIAN/control && printf '#!/bin/sh\nset -e\nuseradd -r pkg\nchown pkg /opt/p\n' >/tmp/p/DEBIAN/postinst && chmod 755 /tmp/p/DEBIAN/postinst && echo p >/tmp/p/opt/p && dpkg-deb -b /tmp/p /tmp/p.deb && apt-get install -y /tmp/p.deb && stat -c 'package of %U' /opt/p
RUN --mount=type=cache,target=/kept cat /kept/note 2>/dev/null || echo nothing kept; echo kept by a build >/kept/note
USER 1234
RUN id -u; touch /tmp/of-user && ls -ln /tmp/of-user
END
printf 'FROM %s\nRUN echo made-once >/page; cat /page\n' "$base" >"$lab/repo/chain/Dockerfile"
sha=$(make_commit all)
# shellcheck disable=SC2016
sed -i 's/^USER/RUN --mount=type=cache,target=\/kept echo again $(cat \/kept\/note)\nUSER/' "$lab/repo/needs/Dockerfile"
sha2=$(make_commit again)
publish_repo
build() { # number, context, trusted, commit: waits for its end
    run "$1" "${4:-$sha}" "$2" 1024 120000 "$3"
    ends 120 "$1" "(succeeded|failed).v1 $(id "$1")"
}
says() { event "log $(id "$1") .* build: $2"; }
got() { sed -n "s/.*log $(id "$1") .* build: got //p" "$lab/events" | tr '\n' ';'; }
denied() { sed -n "s/.*log $(id "$1") .* build: no //p" "$lab/events" | tr '\n' ' '; }
again() { # settings: the builder anew
    kill "$builder_pid" && wait "$builder_pid"
    local lines
    lines=$(wc -l <"$lab/events")
    start_builder "$@"
    until_true 20 sh -c "tail -n +$((lines + 1)) $lab/events | grep -q 'heartbeat.v1 running=0 draining=0'"
}

start_drive
start_builder ENCLII_GITHUB_TOKEN="$secret"
beats 20
ok $? "the builder offers its slots"
tr '\0' '\n' <"/proc/$builder_pid/environ" | grep -q "$secret" && [ -s "$lab/scratch/layers-key" ] && [ -S "$lab/engine.sock" ]
ok $? "there are a secret in its environment, a key in its folder, and a socket"

tried='root-of-1 environ-of-1 memory-of-1 machine-file work-folder layers-key socket mount-tmpfs mount-proc bind-root new-mounts new-user chroot disk core-pattern sysrq sys cgroup new-device hostname '
for who in '1 trusted' '2 untrusted'; do
    n=${who% *}
    build "$n" spy "${who#* }" && event "succeeded.v1 $(id "$n")" && says "$n" over && [ -z "$(got "$n")" ] && [ "$(denied "$n")" = "$tried" ]
    ok $? "${who#* }: no processes, files, sockets, mounts and devices of the machine ($(got "$n"))"
    says "$n" 'processes [0-9] \.' && says "$n" 'devices fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \.'
    ok $? "${who#* }: a table of processes and a /dev of its own"
done
build 3 trap trusted && says 3 over && ! says 3 "$secret" && ! says 3 'root:' && ! says 3 'sees (machine-file|builder.log|repo|www|registry|engine.sock|layers-key|git|jobs.old)$' && ! says 3 '[0-9a-f]{64}$'
ok $? "a way out of Buildah leads into a folder without the machine: $(sed -n "s/.*log $(id 3) .* build: sees //p" "$lab/events" | tr '\n' ' ')"
[ "$(awk -v at="$lab/scratch" 'index($2, at) == 1' /proc/mounts)" = "" ]
ok $? "no mount of it stays"

build 4 needs trusted && event "succeeded.v1 $(id 4)"
ok $? "a build that needs much succeeds"
says 4 'owner 1234:5678' && says 4 'mode 4755' && says 4 '1234$'
ok $? "it writes, gives away, and is another user"
[ "$(grep -c "log $(id 4) .*build: page-of-loopback" "$lab/events")" -eq 2 ]
ok $? "RUN and ADD reach a server on the builder's loopback"
says 4 'package of pkg'
ok $? "a package is installed, with its user"
build 5 needs trusted "$sha2" && event "succeeded.v1 $(id 5)" && says 5 'again kept by a build' && event "log $(id 5) .*Using cache"
ok $? "the next commit has its cache mount and the layers that did not change"

fake() { # text: in the place of unshare
    mkdir -p "$lab/fake"
    printf '#!/bin/sh\n%s\n' "$1" >"$lab/fake/unshare" && chmod +x "$lab/fake/unshare"
}
fake 'exit 1'
again "PATH=$lab/fake:$PATH"
build 6 chain trusted && event "failed.v1 $(id 6) .*reason=3 .*cannot be kept apart on this builder: it may not mount" && ! says 6 made-once
ok $? "where it cannot be kept apart it is not built"
fake "case \"\$*\" in *--pid*) exit 1 ;; esac; exec $(command -v unshare) \"\$@\""
again "PATH=$lab/fake:$PATH" ENCLII_GITHUB_TOKEN="$secret"
build 7 spy-2 trusted && event "succeeded.v1 $(id 7)" && event "log $(id 7) .*cannot hide its processes" && says 7 'got process' && [ "$(denied 7)" = "$tried" ] && ! says 7 'got (environment|root)'
ok $? "where processes cannot be hidden they are seen, but neither their secrets nor their files"
kill "$builder_pid" && wait "$builder_pid"
builder_pid=''
