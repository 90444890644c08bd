#!/bin/bash
# enclii local backup and restore: a platform is lost and comes back from its file, also in another folder: the page is
# served, nobody is signed out, the next push works. What cannot be done is said before anything is stopped. TAP.
export ENCLII_LOCAL_PORT_BASE=${ENCLII_LOCAL_PORT_BASE:-21430}
# shellcheck source=tests/support/platform.sh
source "$(dirname "$0")/../support/platform.sh"
platform_up
file=$work/kept.tgz
supervisor() { "$enclii" local status -o json | jq .supervisor.pid; }
same() { [ "$1" = "$2" ] || { echo "\"$1\" instead of \"$2\""; return 1; }; }
untouched() { same "$(supervisor)" "$before"; }
no_part() { [ -z "$(find "$work" -maxdepth 1 -name '*.part' -o -maxdepth 1 -name '*.restoring')" ]; }
versions() { "$enclii" releases shop -o json | jq -r '.[].version' | sort; }

check "a service is made" new_service shop
check "and pushed" commit shop one
check "and serves" watch shop
before=$(supervisor)
check "a platform that runs is not stopped unasked" \
    fails_saying 1 'local backup .*kept.tgz --stop' "$enclii" local backup "$file"
check "nor for a file that cannot be written" fails_saying 1 'cannot write' "$enclii" local backup "$work/none/b.tgz" --stop
check "nor for one that would be lost with it" \
    fails_saying 1 'own folder' "$enclii" local backup "$ENCLII_HOME/b.tgz" --stop
check "it still runs, and never stopped" untouched
check "with --stop the backup is made" says 'kept.tgz +[0-9.]+ MB' "$enclii" local backup "$file" --stop
check "and the platform runs again" platform_ready
check "and serves" within 30 serves shop one
check "the file is for its owner only: it holds secrets" same "$(stat -c %a "$file")" 600
check "another backup does not take its place" fails_saying 1 'is there already' "$enclii" local backup "$file" --stop
token=$ENCLII_API_TOKEN before=$(versions)
check "a push that came after it" commit shop two
check "serves" watch shop

check "a restore replaces nothing" fails_saying 1 'nothing was done' "$enclii" local restore "$file"
"$enclii" local down --purge > /dev/null
check "and takes no other file" fails_saying 1 'is no backup' "$enclii" local restore "$work/shop/enclii.yaml"
head -c $(($(stat -c %s "$file") / 2)) "$file" > "$work/half.tgz"
check "nor half a backup" fails_saying 1 'nothing was restored' "$enclii" local restore "$work/half.tgz"
check "of which nothing is left" no_part
for name in $(compgen -v ENCLII_LOCAL_); do unset "$name"; done
check "nor other ports: images are called by them" \
    env ENCLII_LOCAL_PORT_BASE=21460 bash -c '! "$1" local restore "$2" 2> "$3" && grep -q "cannot be restored to others" "$3"' \
    sh "$enclii" "$file" "$work/said"

export ENCLII_HOME=$work/elsewhere # and there is another way to it than the one that it was made on
check "a start that is refused is not in the way" fails_saying 1 'tools/setup' env ENCLII_CACHE="$work/none" "$enclii" local up
check "the lost platform is restored, to another folder" says 'restored to .*elsewhere' "$enclii" local restore "$file"
check "with the ports that it had" "$enclii" local up
eval "$("$enclii" local env)"
check "it serves what it served then" within 60 serves shop one
check "tokens are what they were" same "$ENCLII_API_TOKEN" "$token"
check "and so are the releases" same "$(versions)" "$before"
check "the signature of then holds" says 'verified' "$enclii" verify shop --release v1
git -C "$work/shop" reset -q --hard HEAD~1 # where the restored repository stands
check "the next push" commit shop three
check "is built and served" watch shop
check "as it should be" serves shop three
"$enclii" local down > /dev/null
mv "$ENCLII_HOME" "$work/moved" && export ENCLII_HOME=$work/moved
check "a platform whose folder was moved comes up" "$enclii" local up
check "and serves, over the certificate that it had" within 60 serves shop three
check "and takes a push" commit shop four
check "to the end" watch shop
