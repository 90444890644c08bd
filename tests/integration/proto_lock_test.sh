#!/bin/bash
# The guard of the event contract: each planted break is named, additions are asked for and accepted.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
number=0
proto=$scratch/proto/enclii/v1

ok() { number=$((number + 1)) && echo "ok $number - $1"; }
not_ok() { number=$((number + 1)) && echo "not ok $number - $1" && sed 's/^/#   /' "$scratch/out"; }
fresh() { rm -rf "$scratch/proto" && cp -r proto "$scratch/proto"; }
check() { tools/proto-lock --root "$scratch" "$@" >"$scratch/out" 2>&1; }

says() { # name, what the one finding must contain; the change was made: status 1, and --write must refuse, too
    if check || ! grep -qF "$2" "$scratch/out"; then
        not_ok "$1"
    elif [ "${3:-refuse}" = refuse ] && { check --write || ! cmp -s proto/contract.lock "$scratch/proto/contract.lock"; }; then
        not_ok "$1: --write must refuse it and leave the lock alone"
    else
        ok "$1"
    fi
    fresh
}

fresh
if check; then ok "the contract of this tree is the locked one"; else not_ok "the contract of this tree is the locked one"; fi

sed -i '/^  string digest = 5;/d' "$proto/build.proto"
says "a removed field" "\`message enclii.v1.BuildSucceeded 5 string digest\` was removed"
sed -i 's/^  string digest = 5;/  string digest = 60;/' "$proto/build.proto"
says "a renumbered field" "\`message enclii.v1.BuildSucceeded 5 string digest\` was removed"
sed -i 's/^  int64 image_bytes = 6;/  int32 image_bytes = 6;/' "$proto/build.proto"
says "a retyped field" "was \`int64 image_bytes\`, is \`int32 image_bytes\`"
sed -i 's/^  int64 image_bytes = 6;/  repeated int64 image_bytes = 6;/' "$proto/build.proto"
says "a field made repeated" "is \`repeated int64 image_bytes\`"
sed -i 's/^  string engine = 12;/  string tool = 12;/' "$proto/build.proto"
says "a renamed field" "was \`string engine\`, is \`string tool\`"
sed -i '/^  string digest = 5;/s/.*/  reserved 5;/' "$proto/build.proto"
says "a field removed with its number reserved" "was \`string digest\`, is \`reserved\`"
sed -i '/BUILD_FAILURE_LOST = 8/d' "$proto/build.proto"
says "a removed enum value" "\`enum enclii.v1.BuildFailure 8 BUILD_FAILURE_LOST\` was removed"
sed -i 's|^// type dev.enclii.domain.failed.v1.*|// type dev.enclii.domain.broken.v1|' "$proto/domain.proto"
says "a renamed event type" "type dev.enclii.domain.failed.v1 enclii.v1.DomainFailed\` was removed"
sed -i '0,/key: service id/s//key: project id/' "$scratch/proto/topics.yaml"
says "another key of a topic" "\`topic enclii.requests key\` was \`service id\`, is \`project id\`"
sed -i '0,/partitions: 6/s//partitions: 12/' "$scratch/proto/topics.yaml"
says "other partitions, which would move keys" "topic enclii.intake partitions\` was \`6\`, is \`12\`"
sed -i '/name: enclii.audit/,$d' "$scratch/proto/topics.yaml"
says "a removed topic" "\`topic enclii.audit key project id\` was removed"
sed -i 's/^    types: domain.issued,/    types: domain.issued,build.log,/' "$scratch/proto/topics.yaml"
says "a type on two topics" "type build.log is on enclii.build.logs and enclii.domain.events"
printf '// type dev.enclii.domain.lost.v1\nmessage DomainLost {\n  string hostname = 1;\n}\n' >>"$proto/domain.proto"
says "a type that no topic has" "no topic has the type dev.enclii.domain.lost.v1"
sed -i 's/^  string engine = 12; .*/  string engine = 12; oops/' "$proto/build.proto"
says "a file that does not parse" "build.proto:"

sed -i 's/^  string engine = 12;/  string engine_version = 99;\n  string engine = 12;/' "$proto/build.proto"
if check; then
    not_ok "an added field is asked for"
elif grep -qF "\`message enclii.v1.BuildSucceeded 99 string engine_version\` is new: \`make proto-lock\` accepts it" "$scratch/out"; then
    ok "an added field is asked for"
else
    not_ok "an added field is asked for"
fi
if check --write && check; then ok "--write accepts it"; else not_ok "--write accepts it"; fi
sed -i '/engine_version = 99/d' "$proto/build.proto"
if ! check && grep -q 'engine_version. was removed' "$scratch/out"; then ok "and then holds it"; else not_ok "and then holds it"; fi
echo "1..$number"
