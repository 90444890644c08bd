#!/bin/bash
# docker/monitoring as Prometheus sees it: promtool takes rules and configuration, and the rules fire when they
# should. That every metric exists is `tools/lint docs`. Prints TAP.
set -uo pipefail
cd "$(dirname "$0")/../../docker/monitoring" || exit 1
count=0
ok() { # what, command...
    local what=$1 said
    shift
    count=$((count + 1))
    if said=$("$@" 2>&1); then echo "ok $count - $what"; else echo "not ok $count - $what" && sed 's/^/# /' <<< "$said"; fi
}
export PATH=$PATH:${ENCLII_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/enclii}/bin
if command -v promtool > /dev/null; then
    ok "promtool takes the alert rules" promtool check rules alerts.yml
    ok "promtool takes prometheus.yml" promtool check config prometheus.yml
    ok "the alerts fire when they should, and not before" promtool test rules alerts_test.yml
else
    count=1
    echo "ok 1 - alert rules # SKIP promtool is not there: tools/setup test fetches it"
fi
ok "the dashboard is JSON with panels" python3 -c '
import json
panels = json.load(open("grafana-enclii.json"))["panels"]
assert len(panels) > 10 and all(p["targets"] for p in panels)
assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels), "two panels in one place"'
echo "1..$count"
