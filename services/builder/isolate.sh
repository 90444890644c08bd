#!/bin/sh
# isolate STAGE PROGRAM NETWORK DIR [PATH...] -- COMMAND...: runs a build apart from this machine.
# NETWORK is shared (the builder's, for code we trust), isolated or none; DIR a folder of the job (decided in
# decide_network.c: routes, resolv.conf), the PATHs what the command reads or (+PATH) writes besides the system.
# `PROGRAM inside` makes the root folder (root_folder.c). It enters itself again in each stage:
#   apart     shared: a table of processes and a root folder for the command, and that is all; else a table of
#             processes for slirp4netns, the one process with a foot in the machine's network
#   network   a network without anything in it; if it can be had, a way out through slirp4netns
#   inside    a table of processes and a root folder for the command: neither slirp4netns nor the machine is in them
# What cannot be had costs the build its network, or the build: never the separation.
set -u
self=$0 stage=$1 program=$2 network=$3 dir=$4
shift 4

note() { echo "note: $*"; }
refuse() {
    echo "error: the build cannot be kept apart on this builder: $*" >&2
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

case $stage in
    apart)
        hidden=''
        unshare --pid --mount --ipc --fork --mount-proc true 2> /dev/null && hidden=yes
        [ -n "$hidden" ] || note 'this builder cannot hide its processes from the build'
        if [ "$network" = shared ]; then
            [ -z "$hidden" ] || exec unshare --pid --mount --ipc --fork --kill-child=KILL -- "$program" inside shared "$dir" "$@"
            unshare --mount --ipc true || refuse 'it may not mount (needs CAP_SYS_ADMIN)'
            exec unshare --mount --ipc -- "$program" inside shared "$dir" "$@"
        fi
        if [ -n "$hidden" ]; then
            exec unshare --pid --fork --mount-proc --kill-child=KILL -- sh "$self" network "$program" "$network" "$dir" "$@"
        fi
        [ "$network" = none ] || no_network 'the way out would be one of these processes'
        unshare --net --mount --ipc true || refuse 'it may not make networks (needs CAP_SYS_ADMIN)'
        exec unshare --net --mount --ipc -- sh "$self" inside "$program" none "$dir" "$@"
        ;;
    network)
        set -- unshare --pid --mount --ipc --fork --kill-child=KILL -- sh "$self" inside "$program" "$network" "$dir" "$@"
        if [ "$network" = isolated ] && connect; then
            exec nsenter --net="$dir/netns" "$@"
        fi
        no_network "${why_not:-ENCLII_UNTRUSTED_NETWORK=none}"
        shift
        exec unshare --net "$@"
        ;;
    inside)
        ip link set lo up 2> /dev/null || true # nothing but this network's own
        exec "$program" inside "$network" "$dir" "$@"
        ;;
    *) refuse "no stage \"$stage\"" ;;
esac
