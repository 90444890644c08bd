# A whole platform for a test script, on ports and in a folder of its own; source it, then platform_up.
# shellcheck shell=bash
#   check WHAT COMMAND...      one TAP line; the command's output when it fails
#   new_service NAME           a repository and a service whose image builds in a moment
#   commit NAME PAGE [HEALTHY] writes a version and pushes it; sets $sha
#   page NAME                  what the router serves
# The app is compiled once on this machine, statically, and its image is FROM scratch: a build takes
# a fraction of a second, so that the platform is what is tested.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d /tmp/enclii-test.XXXXXX)
chmod 711 "$work"
export ENCLII_HOME=$work/home XDG_CONFIG_HOME=$work/config NO_COLOR=1 ENCLII_PROJECT=test LC_ALL=C.UTF-8
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=ada@example.org GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=ada@example.org
export GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
unset ENCLII_API_URL ENCLII_API_TOKEN
enclii=$root/build/bin/enclii
count=0 failed=0

check() {
    local what=$1
    shift
    count=$((count + 1))
    if "$@" > "$work/check.out" 2>&1; then # not in a subshell: a command may set $sha
        echo "ok $count - $what"
    else
        failed=$((failed + 1))
        echo "not ok $count - $what"
        tail -40 "$work/check.out" | sed 's/^/# /'
    fi
}
says() { # pattern, command...: it succeeds and its output has the pattern
    local pattern=$1 out
    shift
    out=$("$@" 2>&1) || { printf 'status %s: %s\n' $? "$out"; return 1; }
    grep -qE -- "$pattern" <<< "$out" || { printf 'no "%s" in: %s\n' "$pattern" "$out"; return 1; }
}
fails_saying() { # status, pattern, command...
    local status=$1 pattern=$2 out got=0
    shift 2
    out=$("$@" 2>&1) || got=$?
    [ "$got" = "$status" ] || { printf 'status %s, not %s: %s\n' "$got" "$status" "$out"; return 1; }
    grep -qE -- "$pattern" <<< "$out" || { printf 'no "%s" in: %s\n' "$pattern" "$out"; return 1; }
}
within() { # seconds, command...: tried until it succeeds; a busy machine gets three times as many
    local end=$((SECONDS + 3 * $1))
    shift
    until "$@" > "$work/within.out" 2>&1; do
        [ $SECONDS -lt $end ] || { cat "$work/within.out"; return 1; }
        sleep 0.1
    done
}
platform_down() {
    local status=$?
    trap - EXIT
    if [ $failed -gt 0 ] && [ -d "$ENCLII_HOME/logs" ]; then
        grep -hE '"level":"(error|warn)"' "$ENCLII_HOME"/logs/*.log | tail -60 | cut -c1-400 | sed 's/^/# /'
    fi
    "$enclii" local down --purge > /dev/null 2>&1
    rm -rf "$work"
    echo "1..$count"
    [ $status = 0 ] && [ $failed = 0 ]
    exit
}
platform_up() {
    trap platform_down EXIT
    "$enclii" local up > "$work/up.out" 2>&1 || { cat "$work/up.out"; count=1; failed=1; echo "not ok 1 - the platform comes up"; exit 1; }
    eval "$("$enclii" local env)"
    "$enclii" project create test > /dev/null
}
part_pid() { "$enclii" local status -o json | jq -r --arg n "$1" '.components[] | select(.name == $n).pid'; }
platform_ready() { [ "$("$enclii" local status -o json | jq .ready)" = true ]; }

new_service() { # name, yaml to add under spec
    local name=$1 url
    url=$("$enclii" local repo "acme/$name")
    git clone -q "$url" "$work/$name" 2> /dev/null
    cat > "$work/$name/enclii.yaml" << EOF
apiVersion: enclii.dev/v1
kind: Service
metadata:
  name: $name
  project: test
spec:
  source:
    git:
      repository: $url
      branch: main
      autoDeploy: true
  build:
    type: dockerfile
  runtime:
    port: 8080
    replicas: 1
    healthCheck: /health
  deployment:
    strategy: canary
    canary:
      steps:
        - weight: 50
          pause: 300ms
        - weight: 100
  routes:
    - host: $name.apps.localhost
EOF
    [ -z "${2:-}" ] || printf '%s\n' "$2" >> "$work/$name/enclii.yaml"
    printf 'FROM scratch\nCOPY shop /shop\nUSER 1000\nCMD ["/shop"]\n' > "$work/$name/Dockerfile"
    "$enclii" service create -f "$work/$name/enclii.yaml"
}
write_version() { # name, page, healthy
    printf '#define PAGE "%s"\n#define HEALTHY %s\n' "$2" "${3:-1}" > "$work/page.h"
    cp "$root/examples/shop/shop.c" "$work/shop.c" # its own page.h stands beside it
    gcc -O2 -static -o "$work/$1/shop" "$work/shop.c"
}
push() { # name, message: pushes what is in the folder; sets sha
    git -C "$work/$1" add -A
    git -C "$work/$1" commit -q --allow-empty -m "$2"
    sha=$(git -C "$work/$1" rev-parse HEAD)
    git -C "$work/$1" push -q origin HEAD:main > "$work/push.out" 2>&1
}
commit() {
    write_version "$1" "$2" "${3:-1}" && push "$1" "$2"
}
watch() { "$enclii" watch "$1" --commit "$sha" --timeout "${2:-120}"; }
page() {
    curl -s -m 5 --resolve "$1.apps.localhost:$ENCLII_LOCAL_HTTP_PORT:127.0.0.1" \
        "http://$1.apps.localhost:$ENCLII_LOCAL_HTTP_PORT/"
}
serves() {
    local got
    got=$(page "$1")
    [ "$got" = "$2" ] || { echo "$1 serves \"$got\""; return 1; }
}
rows_of() { "$enclii" "$1" "$2" -o json | jq -c --arg s "$sha" '[.[] | select(.git_sha == $s)]'; }
