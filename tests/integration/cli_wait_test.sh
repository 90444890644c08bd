#!/bin/bash
# enclii deploy --wait and enclii watch, of a commit that was built before: the API is one of our own that sends what
# the real one keeps (the end of the earlier build), then what happens now. TAP.
set -uo pipefail
# shellcheck source=tests/support/cli_api.sh
source "$(dirname "$0")/../support/cli_api.sh"
ends() { # what, expected status, command...
    local what=$1 want=$2 got=0
    shift 2
    count=$((count + 1))
    timeout 40 "$@" > "$work/out" 2>&1 || got=$?
    if [ "$want" = "$got" ]; then echo "ok $count - $what"; else
        echo "not ok $count - $what: status $got, not $want"; sed 's/^/# /' "$work/out"; fi
}

cat > "$work/api.py" << 'PY'
import cli_api, json, os, time
work, sha = cli_api.work, "5" * 40
def event(kind, **more):
    return dict(more, type=kind, time="2026-01-01T00:00:00.000Z", commit={"sha": sha})
BEFORE = [event("build.queued", build_id="b1"), event("build.failed", build_id="b1", detail="no space")]
NOW = [event("build.queued", build_id="b2"), event("build.succeeded", build_id="b2"),
       event("release.ready", release_id="r2", version="v2"),
       event("deployment.created", release_id="r2", deployment_id="d2", version="v2"),
       event("deployment.healthy", release_id="r2", deployment_id="d2", version="v2")]
class Handler(cli_api.Handler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"build_id": "b2", "id": "r2"} if self.path == "/v1/services/s1/build" else {})
    def do_GET(self):
        if self.path == "/v1/projects/test":
            self.answer({"slug": "test"})
        elif self.path == "/v1/projects/test/services?limit=500":
            self.answer({"services": [{"id": "s1", "name": "shop"}]})
        elif self.path == f"/v1/services/s1/events?commit={sha}":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            over = os.path.exists(work + "/over") # an earlier build, and nothing since
            for number, one in enumerate(BEFORE + ([] if over else NOW)):
                time.sleep(2.5 if number == 3 else 0) # longer than the end is waited for
                self.wfile.write(b"data: " + json.dumps(one).encode() + b"\n\n")
                self.wfile.flush()
            time.sleep(5)
        else:
            self.send_error(404)
cli_api.serve(Handler)
PY
api_start
sha=$(printf '5%.0s' $(seq 40))
ends "deploy --wait ends as the build that it asked for" 0 "$enclii" deploy shop --commit "$sha" --wait
ends "watch ends as the newest build" 0 "$enclii" watch shop --commit "$sha"
touch "$work/over"
ends "watch of a commit that failed says so" 20 "$enclii" watch shop --commit "$sha"
ends "deploy --wait does not end by what was before, but with its time" 1 \
    "$enclii" deploy shop --commit "$sha" --wait --timeout 8
