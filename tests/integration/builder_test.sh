#!/bin/bash
# The real builder with real git, Buildah and an OCI registry; Kafka is a mock cluster inside
# builder_drive, which stands in for the pipeline. Prints TAP; takes about a minute.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/support/builder.sh
source tests/support/builder.sh

mkdir -p "$lab/repo/mounted" "$lab/repo/alone" "$lab/repo/thief" "$lab/repo/none" "$lab/repo/bad" "$lab/repo/slow" "$lab/repo/fat" "$lab/repo/hooked"
printf 'FROM %s AS build\nRUN echo first-step-output && echo one >/page\nFROM build\nCOPY app.txt /app.txt\nHEALTHCHECK CMD true\nCMD ["cat", "/page"]\n' "$base" >"$lab/repo/Dockerfile"
echo app-1 >"$lab/repo/app.txt"
echo '{}' >"$lab/repo/none/package.json"
printf 'FROM %s\nRUN echo about to fail; exit 7\n' "$base" >"$lab/repo/bad/Dockerfile"
printf 'FROM %s\nRUN echo slow-begins; sleep 60 & echo pid $$; wait\n' "$base" >"$lab/repo/slow/Dockerfile"
printf 'FROM %s\nRUN x=$(head -c 400000000 /dev/zero | tr "\\\\0" x); echo ${#x}\n' "$base" >"$lab/repo/fat/Dockerfile"
printf 'FROM %s\nRUN echo processes $(ls -d /proc/[0-9]* | wc -l) .\n' "$base" >"$lab/repo/alone/Dockerfile"
printf 'FROM %s\nRUN --mount=type=cache,target=/kept cat /kept/note || echo nothing kept; echo left by a build >/kept/note\n' \
    "$base" >"$lab/repo/mounted/Dockerfile"
mkdir -p "$lab/repo/binding" "$lab/repo/same"
printf 'FROM %s\nRUN --mount=type=bind,target=/src cp /src/page /page && cat /page\n' "$base" >"$lab/repo/binding/Dockerfile"
printf 'FROM %s\nRUN echo made once\nCOPY . /ctx\nRUN ls /ctx\n' "$base" >"$lab/repo/same/Dockerfile"
echo page-1 >"$lab/repo/binding/page"
echo secret >"$lab/repo/same/ignored"
echo ignored >"$lab/repo/same/Dockerfile.dockerignore"
sha1=$(make_commit first)
echo app-2 >"$lab/repo/app.txt"
echo page-2 >"$lab/repo/binding/page"
sha2=$(make_commit second)
publish_repo
git clone -q --bare "$lab/repo" "$lab/www/other.git"
git -C "$lab/www/other.git" config uploadpack.allowFilter true

start_drive
start_builder

# ---- the tests ----
beats 20
ok $? "the builder offers its slots"

began=$(now_ms)
run 1 "$sha1" . 1024 120000 trusted
ends 120 1 "succeeded.v1 $(id 1)"
ok $? "a commit becomes an image ($(($(now_ms) - began)) ms cold)"
event "succeeded.v1 $(id 1) .*sha=$sha1 by=Dockerfile bytes=[1-9].*engine=buildah [0-9.]+ base=$base@sha256:[0-9a-f]{64} "
ok $? "it says commit, decider, size, engine and the digest of the base image"
skopeo inspect --tls-verify=false "docker://$image_repo@$(digest_of 1)" >"$lab/inspect" 2>&1 && grep -q "$sha1" "$lab/inspect"
ok $? "the registry has that digest, labelled with the commit"
skopeo inspect --raw --config --tls-verify=false "docker://$image_repo@$(digest_of 1)" 2>/dev/null | grep -q Healthcheck
ok $? "HEALTHCHECK is kept"
grep -q "log $(id 1) [0-9]* build: first-step-output" "$lab/events"
ok $? "the output of RUN is in the log"
sed -n "s/^[0-9]* log $(id 1) \([0-9]*\) .*/\1/p" "$lab/events" >"$lab/seq"
[ -s "$lab/seq" ] && diff -q "$lab/seq" <(seq 1 "$(wc -l <"$lab/seq")") >/dev/null
ok $? "log lines are numbered without gaps"

began=$(now_ms)
run 2 "$sha2" . 1024 120000 trusted
ends 60 2 "succeeded.v1 $(id 2)" && [ "$(digest_of 2)" != "$(digest_of 1)" ]
ok $? "the next commit makes another digest ($(($(now_ms) - began)) ms with warm caches)"
grep "log $(id 2)" "$lab/events" | grep -q 'Using cache'
ok $? "unchanged layers come from the cache"

run 3 "$sha1" none 1024 60000 trusted
ends 30 3 "failed.v1 $(id 3) .*reason=2 .*package.json"
ok $? "no Dockerfile: NOT_DETECTED with what to add"
run 4 "$sha1" bad 1024 60000 trusted
ends 60 4 "failed.v1 $(id 4) .*reason=3 retryable=0"
ok $? "a failing RUN: BUILD, not retryable"
run 5 "${sha1//[0-9]/a}" . 1024 60000 trusted
ends 60 5 "failed.v1 $(id 5) .*reason=1 retryable=0"
ok $? "an unknown commit: FETCH, not retryable"
run 6 "$sha1" fat 128 60000 trusted
ends 90 6 "failed.v1 $(id 6) .*reason=4 .*128 MiB"
ok $? "too little memory: OUT_OF_MEMORY with the limit"
run 7 "$sha1" slow 1024 6000 trusted
ends 30 7 "failed.v1 $(id 7) .*reason=5"
ok $? "too little time: TIMED_OUT"

run 8 "$sha1" slow 1024 60000 trusted
until_true 30 event "log $(id 8) .*slow-begins"
began=$(now_ms)
echo "cancel $(id 8) 1" >&7
ends 10 8 "failed.v1 $(id 8) .*reason=7 .*a newer push"
took=$(($(now_ms) - began))
[ $took -lt 2500 ]
ok $? "cancel ends a build ($took ms)"
[ -z "$(find "$lab/scratch/jobs" -mindepth 1 -maxdepth 1 -name "$(id 8)*" 2>/dev/null)" ]
ok $? "and leaves nothing of it"

kill "$registry_pid" && wait "$registry_pid" 2>/dev/null
run 9 "$sha1" . 1024 120000 trusted
until_true 60 event "log $(id 9) .*cannot be pushed.*tried again"
start_registry
ends 60 9 "succeeded.v1 $(id 9)"
ok $? "a push during a registry restart is tried again"

shared() { # what all builds share: git caches, images, layers, and what Buildah remembers of registries
    (cd "$lab/scratch" && find git storage/overlay-images storage/overlay-layers home -type f ! -name '*.lock' \
        ! -name enclii-url -exec sha256sum {} + | sort)
}
began=$(now_ms)
shared >"$lab/shared.before"
run 10 "$sha1" . 1024 120000 untrusted
ends 120 10 "succeeded.v1 $(id 10)" && ! grep "log $(id 10)" "$lab/events" | grep -q 'Using cache'
ok $? "an untrusted build uses no shared cache ($(($(now_ms) - began)) ms)"
shared >"$lab/shared.after"
[ -s "$lab/shared.before" ] && grep -q overlay-images "$lab/shared.before" && cmp -s "$lab/shared.before" "$lab/shared.after"
ok $? "and leaves what is shared as it was ($(wc -l <"$lab/shared.before") files)"
# The builder's own image storage, where the service's layers are kept, by the name that its own log tells.
kept=$(sed -n "s/.*log $(id 1) .*COMMIT \(localhost[^ ]*\).*/\1/p" "$lab/events")
printf 'FROM containers-storage:[overlay@%s+%s]%s\nRUN cat /page\n' "$lab/scratch/storage" "$lab/scratch/run" "$kept" >"$lab/repo/thief/Dockerfile"
sha3=$(make_commit thief) && git -C "$lab/repo" push -q "$lab/www/shop.git" HEAD:main
buildah --root "$lab/scratch/storage" --runroot "$lab/scratch/run" inspect --type=image "$kept" >/dev/null
ok $? "the kept image is there ($kept)"
run 20 "$sha3" thief 1024 60000 untrusted
ends 60 20 "failed.v1 $(id 20) .*reason=3 retryable=0" && event "log $(id 20) .*is rejected by policy"
ok $? "another service's cache is no base image for it"
run 22 "$sha1" alone 1024 60000 untrusted
ends 60 22 "succeeded.v1 $(id 22)" && event "log $(id 22) .*processes [0-9] \."
ok $? "untrusted code sees no processes but its own"

for step in '23 untrusted' '24 trusted' '25 untrusted'; do # the first might leave something, the last might read it
    run "${step% *}" "$sha1" mounted 1024 60000 "${step#* }"
    ends 60 "${step% *}" "succeeded.v1 $(id "${step% *}")" && event "log $(id "${step% *}") .*nothing kept"
    ok $? "a cache mount is not shared with untrusted builds ($step)"
done

run 30 "$sha1" binding 1024 60000 trusted
ends 60 30 "succeeded.v1 $(id 30)" && event "log $(id 30) .*build: page-1" && event "log $(id 30) .*every step runs anew"
ok $? "a RUN line reads what it mounts of the commit"
run 31 "$sha2" binding 1024 60000 trusted
ends 60 31 "succeeded.v1 $(id 31)" && event "log $(id 31) .*build: page-2" && [ "$(digest_of 31)" != "$(digest_of 30)" ]
ok $? "of the next commit the next, although the Dockerfile is the same"
run 32 "$sha1" same 1024 60000 trusted
ends 60 32 "succeeded.v1 $(id 32)" && event "log $(id 32) .*build: made once"
run 33 "$sha1" same 1024 60000 trusted
ends 60 33 "succeeded.v1 $(id 33)" && event "log $(id 33) .*Using cache" && ! event "log $(id 33) .*build: made once"
ok $? "unchanged steps of the same repository come from the cache"
event "log $(id 32) .*build: Dockerfile$" && ! event "log $(id 32) .*build: ignored$"
ok $? "the Dockerfile's own .dockerignore counts"
saved=$url && url=file://$lab/www/other.git
run 34 "$sha1" same 1024 60000 trusted
ends 60 34 "succeeded.v1 $(id 34)" && ! event "log $(id 34) .*Using cache" && event "log $(id 34) .*build: made once"
ok $? "another repository with the same Dockerfile gets none of its layers"
run 35 "$sha1" mounted 1024 60000 trusted
ends 60 35 "succeeded.v1 $(id 35)" && event "log $(id 35) .*nothing kept"
ok $? "and nothing of its cache mounts"
url=$saved

run 11 "$sha1" slow 1024 60000 trusted
until_true 30 event "log $(id 11) .*slow-begins"
sleep 3 # the command's offset is kept: else Kafka brings it again, and it runs again, as it should
kill -9 "$builder_pid" && wait "$builder_pid" 2>/dev/null
: >"$lab/mark" && lines=$(wc -l <"$lab/events")
start_builder
until_true 30 sh -c "tail -n +$((lines + 1)) $lab/events | grep -q 'heartbeat.v1 running=0 draining=0'"
ok $? "after kill -9 the builder is back and offers its slots"
until_true 10 sh -c "[ ! -d $lab/scratch/jobs.old ] && ! ls $lab/scratch/jobs 2>/dev/null | grep -q ."
ok $? "and what was left of the build is gone"
until_true 5 sh -c "! ps -eo args | grep -v grep | grep -q '$lab/scratch/jobs'"
ok $? "also its processes"
run 11 "$sha1" . 1024 120000 trusted 2
until_true 60 event "succeeded.v1 $(id 11) attempt=2"
ok $? "the next attempt succeeds"

run 12 "$sha1" slow 1024 60000 trusted
until_true 30 event "log $(id 12) .*slow-begins"
began=$(now_ms)
kill "$builder_pid"
wait "$builder_pid"
status=$?
[ $status -eq 0 ] && ends 5 12 "failed.v1 $(id 12) .*retryable=1"
ok $? "SIGTERM hands the build back and leaves in order (status $status, $(($(now_ms) - began)) ms)"
builder_pid=''
