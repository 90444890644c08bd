#!/bin/bash
# enclii watch, logs -f and events tail when the API goes away in between and comes back: they go on where they were,
# nothing is missing and nothing is shown twice. The API is one of our own that cuts and refuses. TAP.
set -uo pipefail
# shellcheck source=tests/support/cli_api.sh
source "$(dirname "$0")/../support/cli_api.sh"
check() { # what, command...
    local what=$1
    shift
    count=$((count + 1))
    if "$@" > "$work/check" 2>&1; then echo "ok $count - $what"; else
        echo "not ok $count - $what"; sed 's/^/# /' "$work/check" "$work/out" "$work/err"; fi
}
run() { # expected status, command...: into $work/out and $work/err
    local want=$1 got=0
    shift
    rm -f "$work/asked"
    timeout 60 "$@" > "$work/out" 2> "$work/err" || got=$?
    [ "$want" = "$got" ] || { echo "status $got, not $want"; return 1; }
}
once() { local what; for what in "$@"; do [ "$(grep -c -- "$what" "$work/out")" = 1 ] || { echo "not once: $what"; return 1; }; done; }
told() { grep -q "$1" "$work/err"; }

cat > "$work/api.py" << 'PY'
import cli_api, json, os, time, urllib.parse
work, sha = cli_api.work, "5" * 40
def event(kind, **more):
    return dict(more, type=kind, time="2026-01-01T00:00:00.000Z", commit={"sha": sha})
EVENTS = [event("build.queued", build_id="b1"), event("build.leased", build_id="b1", builder_id="first"),
          event("build.succeeded", build_id="b1"), event("release.ready", release_id="r1", version="v1"),
          event("deployment.created", release_id="r1", deployment_id="d1", version="v1"),
          event("deployment.healthy", release_id="r1", deployment_id="d1", version="v1")]
def line(second, text):
    return {"time": f"2026-01-01T00:00:{second:02}.000Z", "replica": "a-0", "stream": "stdout", "text": text}
class Handler(cli_api.Handler):
    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"retry: 1000\n\n")
    def send(self, data, id=None, name=None):
        text = (f"id: {id}\n" if id else "") + (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()
    def times(self): # how often a stream was asked for
        with open(work + "/asked", "a+") as f:
            f.write("x\n")
            f.seek(0)
            return len(f.readlines())
    def refuse(self, n):
        if n == 2:
            self.close_connection = True # as a process that is just going away: no answer at all
        if n == 3:
            self.answer({"detail": "starting"}, 503)
        return n in (2, 3)
    def events(self):
        n, last = self.times(), self.headers.get("Last-Event-ID")
        if self.refuse(n):
            return
        if os.path.exists(work + "/locked") and n > 3:
            return self.answer({"detail": "this token was revoked"}, 401)
        if (n > 3) != (last == "t-0-1"):
            return self.answer({"detail": f"resumed at {last}"}, 400)
        self.begin()
        for i, one in enumerate(EVENTS):
            if (i < 2 if n == 1 else i > 0): # one comes again
                self.send(one, f"t-0-{i}")
        if n == 1:
            return self.wfile.write(b'id: t-0-2\ndata: {"half": ') # cut in the middle
        time.sleep(5)
    def app_logs(self, query):
        n, since = self.times(), query.get("since", [None])[0]
        if self.refuse(n):
            return
        if (n > 3) != (since == "2026-01-01T00:00:02.000Z"):
            return self.answer({"detail": f"since {since}"}, 400)
        self.begin()
        same = [line(2, "two"), line(2, "three")]
        for one in [line(1, "one"), *same] if n == 1 else [*same, line(2, "four"), line(3, "five")]:
            self.send(one, name="log")
        if n > 3:
            self.send({"problem": ""}, name="end")
    def build_logs(self):
        n, last = self.times(), self.headers.get("Last-Event-ID")
        if self.refuse(n):
            return
        self.begin()
        first = int(last.split(":")[1]) + 1 if last else 1
        for seq in range(first, 3 if n == 1 else 5):
            self.send({"step": "build", "text": f"line {seq}"}, f"1:{seq}", "log")
        if n > 3:
            self.send({"state": "SUCCEEDED"}, name="end")
    def do_GET(self):
        path, _, query = self.path.partition("?")
        query = urllib.parse.parse_qs(query)
        if path == "/v1/projects/test":
            self.answer({"slug": "test"})
        elif path == "/v1/projects/test/services":
            self.answer({"services": [{"id": "s1", "name": "shop"}]})
        elif path in ("/v1/services/s1/events", "/v1/events"):
            self.events()
        elif path == "/v1/services/s1/logs/stream":
            self.app_logs(query)
        elif path == "/v1/builds/00000000-0000-4000-8000-0000000000b1/logs/stream":
            self.build_logs()
        else:
            self.answer({"detail": "no such path"}, 404)
cli_api.serve(Handler)
PY
api_start
sha=$(printf '5%.0s' $(seq 40))
check "watch goes on after the API was away, to the end" run 0 "$enclii" watch shop --commit "$sha"
check "and shows each event once" once 'build queued' 'build leased' 'image' 'release ready' 'HEALTHY'
check "it says that the connection was lost, and how long it waits" told 'was lost; waiting for it, at most 2 minutes'
check "and that it is there again" told '^enclii: connected$'
check "events tail goes on, too" run 0 "$enclii" events tail --lines 6
check "and shows each event once" once build.queued build.leased build.succeeded release.ready deployment.healthy
check "logs -f of an app goes on" run 0 "$enclii" logs shop -f
check "and shows each line once, also those of one millisecond" once one two three four five
check "logs -f of a build goes on" run 0 "$enclii" logs shop -f --build 00000000-0000-4000-8000-0000000000b1
check "and shows each line once" once 'line 1' 'line 2' 'line 3' 'line 4'
check "a reader that goes away ends logs -f" run 0 sh -c '"$1" logs shop -f | head -1' sh "$enclii"
touch "$work/locked"
check "who may not come back is told why" run 40 "$enclii" watch shop --commit "$sha"
check "in the API's words" told 'this token was revoked'
