# The command against an API of the test's own; source it, write $work/api.py (cli_api.py is
# its frame), then api_start.
# shellcheck shell=bash disable=SC2034
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
work=$(mktemp -d /tmp/enclii-cli-test.XXXXXX)
enclii=$PWD/build/bin/enclii
count=0 api=''
finish() {
    [ -z "$api" ] || kill "$api"
    rm -rf "$work"
    echo "1..$count"
}
trap finish EXIT

api_start() {
    PYTHONPATH=tests/support python3 -B "$work/api.py" "$work" &
    api=$!
    for _ in $(seq 200); do [ ! -s "$work/port" ] || break; sleep 0.05; done
    export ENCLII_API_URL ENCLII_PROJECT=test ENCLII_HOME=$work/home XDG_CONFIG_HOME=$work/config NO_COLOR=1
    ENCLII_API_URL=http://127.0.0.1:$(cat "$work/port")
}
