#!/bin/sh
# isolate STAGE NETWORK DIR [PATH...] -- COMMAND...: runs the build of a stranger's code apart from this machine.
# NETWORK is isolated or none, DIR a folder of the job (decided in decide_network.c: routes, resolv.conf), the PATHs
# what the command reads besides the system. It enters itself again in each stage:
#   apart     a table of processes for slirp4netns, the one process with a foot in the machine's network
#   network   a network without anything in it; if it can be had, a way out through slirp4netns
#   inside    a table of processes and a root folder for the command: neither slirp4netns nor the machine is in them
# What cannot be had costs the build its network, or the build: never the separation.
set -u
self=$0 stage=$1 network=$2 dir=$3
shift 3

note() { echo "note: $*"; }
refuse() {
    echo "error: a build of strangers' code cannot be kept apart on this builder: $*" >&2
    exit 125
}
no_network() { note "the RUN lines of this build have no network: $*"; }

# ---- network: $dir/netns with a way out ----
why_not=''
connect() {
    why_not='slirp4netns is not installed on the builder (Debian package slirp4netns)'
    command -v slirp4netns > /dev/null || return 1
    why_not='the builder has no ip command (Debian package iproute2)'
    command -v ip > /dev/null || return 1
    why_not='the builder has no /dev/net/tun'
    [ -c /dev/net/tun ] || return 1
    why_not='the builder may not make networks (needs CAP_SYS_ADMIN and CAP_NET_ADMIN)'
    : > "$dir/netns" && mkfifo "$dir/up" && unshare --net="$dir/netns" ip link set lo up 2> /dev/null || return 1
    slirp4netns --configure --mtu=1500 --cidr=198.18.255.0/24 --disable-host-loopback --enable-sandbox \
        --enable-seccomp --netns-type=path --ready-fd=3 "$dir/netns" tap0 3> "$dir/up" > "$dir/slirp.log" 2>&1 &
    if [ -z "$(timeout 10 head -c 1 "$dir/up")" ]; then
        why_not="slirp4netns failed: $(tail -n 1 "$dir/slirp.log")"
        return 1
    fi
    why_not='the routes that close private networks cannot be set'
    nsenter --net="$dir/netns" ip -batch "$dir/routes" || return 1
}

# ---- inside: a root folder with the system to read, the job's folders, and nothing else ----
show() { # at the same place, read-only
    [ -e "$1" ] && [ ! -e "$root$1" ] || return 0
    if [ -d "$1" ]; then
        mkdir -p "$root$1"
    else
        mkdir -p "$root${1%/*}" && : > "$root$1"
    fi
    mount --bind "$1" "$root$1" && mount -o remount,bind,ro "$root$1"
}
link_or_show() { # /bin is a link to usr/bin on most systems
    if [ -L "$1" ]; then ln -s "$(readlink "$1")" "$root$1"; else show "$1"; fi
}
make_devices() {
    mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" && chmod 1777 "$root/dev/shm" || return 1
    for name in null zero full random urandom tty; do
        : > "$root/dev/$name" && mount --bind "/dev/$name" "$root/dev/$name" || return 1
    done
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts" || return 1
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for name in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${name%:*}" "$root/dev/${name#*:}"; done
}
make_root() { # paths...
    root=$dir/root job=${dir%/*}
    mkdir -p "$root" && mount -t tmpfs -o size=64m,mode=755 tmpfs "$root" || return 1
    cd "$root" && mkdir -p proc sys tmp run root var/tmp etc old || return 1
    chmod 1777 tmp var/tmp
    for path in /bin /sbin /lib /lib32 /lib64 /libx32; do link_or_show "$path" || return 1; done
    show /usr || return 1
    # Buildah writes a lock there. What it pulls here it pulls as anybody: no certificates of ours.
    [ ! -d /etc/containers ] || cp -R /etc/containers etc/ && rm -rf etc/containers/certs.d || return 1
    for path in ssl ca-certificates passwd group nsswitch.conf hosts localtime alternatives ld.so.cache \
        protocols services mime.types subuid subgid; do
        show "/etc/$path" || return 1
    done
    cp "$dir/resolv.conf" etc/resolv.conf && make_devices || return 1
    mount -t sysfs -o ro sysfs sys 2> /dev/null || true # a pod may not: an empty folder does
    mount -t proc proc proc 2> /dev/null || mount --rbind /proc proc || return 1
    for path in "$@"; do show "$path" || return 1; done
    show "$job/src" || return 1
    for path in storage run home; do
        mkdir -p "$job/$path" "$root$job/$path" && mount --bind "$job/$path" "$root$job/$path" || return 1
    done
    pivot_root . old && umount -l /old && rmdir /old
}
inside() {
    cwd=$PWD count=0
    for path in "$@"; do
        [ "$path" != -- ] || break
        count=$((count + 1))
    done
    paths=''
    while [ $count -gt 0 ]; do
        paths="$paths
$1"
        shift
        count=$((count - 1))
    done
    shift
    tool=$(command -v "$1") && paths="$paths
${tool%/*}"
    (
        IFS='
'
        set -f
        # shellcheck disable=SC2086 # one path a line
        make_root $paths
    ) || refuse 'no root folder of its own can be made'
    cd "$cwd" && exec "$@"
}

case $stage in
    apart)
        if unshare --pid --mount --ipc --fork --mount-proc true 2> /dev/null; then
            exec unshare --pid --fork --mount-proc --kill-child=KILL -- sh "$self" network "$network" "$dir" "$@"
        fi
        note 'this builder cannot hide its processes from the build'
        [ "$network" = none ] || no_network 'the way out would be one of these processes'
        unshare --net --mount --ipc true || refuse 'it may not make networks (needs CAP_SYS_ADMIN)'
        exec unshare --net --mount --ipc -- sh "$self" inside none "$dir" "$@"
        ;;
    network)
        set -- unshare --pid --mount --ipc --fork --kill-child=KILL -- sh "$self" inside "$network" "$dir" "$@"
        if [ "$network" = isolated ] && connect; then
            exec nsenter --net="$dir/netns" "$@"
        fi
        no_network "${why_not:-ENCLII_UNTRUSTED_NETWORK=none}"
        shift
        exec unshare --net "$@"
        ;;
    inside)
        ip link set lo up 2> /dev/null || true # nothing but this network's own
        inside "$@"
        ;;
    *) refuse "no stage \"$stage\"" ;;
esac
