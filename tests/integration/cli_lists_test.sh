#!/bin/bash
# What enclii finds by name, in long lists too, and what it says about names that are wrong: the API is one of our own
# with the real one's limits. TAP.
set -uo pipefail
# shellcheck source=tests/support/cli_api.sh
source "$(dirname "$0")/../support/cli_api.sh"
says() { # what, pattern, command...
    local what=$1 pattern=$2
    shift 2
    count=$((count + 1))
    "$@" > "$work/out" 2>&1
    if grep -qE "$pattern" "$work/out"; then echo "ok $count - $what"; else
        echo "not ok $count - $what"; head -5 "$work/out" | sed 's/^/# /'; fi
}

cat > "$work/api.py" << 'PY'
import cli_api, urllib.parse
work = cli_api.work
class Handler(cli_api.Handler):
    def newest(self, query, otherwise, count, make):
        limit = min(int(query.get("limit", [otherwise])[0]), 500)
        return [make(n) for n in range(count, 0, -1)][:limit]
    def do_POST(self):
        with open(work + "/sent", "w") as f:
            f.write(self.path + " " + self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.answer({}, 201)
    def do_GET(self):
        path, _, query = self.path.partition("?")
        query = urllib.parse.parse_qs(query)
        if path == "/v1/projects/test":
            self.answer({"slug": "test"})
        elif path == "/v1/projects/test/services":
            self.answer({"services": self.newest(query, 100, 300, lambda n: {"id": f"s{n}", "name": f"app{n}"})})
        elif path == "/v1/services/s1/releases":
            self.answer({"releases": self.newest(query, 20, 40, lambda n: {
                "id": f"r{n}", "version": f"v{n}", "status": "ready" if n == 1 else "rejected"})})
        elif path == "/v1/services/s1/builds":
            self.answer({"builds": self.newest(query, 20, 40, lambda n: {"id": f"b{n}", "number": n})})
        elif path.startswith("/v1/builds/") and path.endswith("/logs"):
            self.answer({"lines": [{"step": "build", "text": "of " + path.split("/")[3]}]})
        elif path == "/v1/releases/r1/verify":
            self.answer({"verified": True, "image": "r/app1@sha256:0"})
        else:
            self.answer({"detail": "no such path"}, 404)
cli_api.serve(Handler)
PY
api_start
says "the oldest of 40 releases of the oldest of 300 services is found by its version" '^v1 verified' \
    "$enclii" verify app1 --release v1
says "and as the newest one that is ready" '^v1 verified' "$enclii" verify app1
for name in one two; do
    printf -- '---\napiVersion: enclii.dev/v1\nkind: Service\nmetadata: {name: %s}\nspec: {}\n' $name
done > "$work/two.yaml"
says "a file of two services is refused, not half of it taken" 'has 2 documents of kind Service' \
    "$enclii" service create -f "$work/two.yaml"
says "and nothing was sent" '^no$' eval '[ -e "$work/sent" ] || echo no'
rm -f "$work/sent"
says "a build's output is found by the build's number" '^build of b3$' "$enclii" logs app1 --build 3
says "and as the latest" '^build of b40$' "$enclii" logs app1 --build latest
says "a number that no build has says where they are listed" 'has no build "99".*enclii builds app1' \
    "$enclii" logs app1 --build 99
says "options stand before the command, too" '^build of b3$' "$enclii" -p test logs app1 --build 3
git init -q -b main "$work/repo"
git -C "$work/repo" -c user.name=a -c user.email=a@b commit -q --allow-empty -m one
sha=$(git -C "$work/repo" rev-parse HEAD)
cd "$work/repo" || exit 1
for name in "${sha:0:8}" main HEAD; do
    "$enclii" deploy app1 --commit "$name" > "$work/deploy"
    says "deploy --commit takes what git knows: $name" "/s1/build .*$sha" cat "$work/sent"
    rm "$work/sent"
done
says "and says what it does not know" 'no commit "nope" in the git repository here' "$enclii" deploy app1 --commit nope
says "watch, too" 'no commit "nope"' "$enclii" watch app1 --commit nope
says "a misspelt command of two words is understood" 'did you mean "service list"' "$enclii" servce list
says "and one whose second word is wrong" 'there is no "uo". There are:' "$enclii" local uo
says "help takes two words" '^enclii service create' "$enclii" help service create
says "and the first of two" 'enclii local backup FILE' "$enclii" help local
says "a number that is none is not taken for one" 'whole number above 0 must follow -n, not "x"' "$enclii" logs app1 -n x
cd / || exit 1
