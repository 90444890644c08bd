#!/bin/bash
# What the local git server tells the webhook service of a push, field by field: no platform runs, a receiver of our
# own keeps what comes. TAP.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d /tmp/enclii-hook-test.XXXXXX)
enclii=$PWD/build/bin/enclii
count=0 receiver=''
finish() {
    [ -z "$receiver" ] || kill "$receiver"
    rm -rf "$work"
    echo "1..$count"
}
trap finish EXIT
is() { # what, expected, got
    count=$((count + 1))
    if [ "$2" = "$3" ]; then echo "ok $count - $1"; else printf 'not ok %d - %s\n# expected %s\n# got %s\n' $count "$1" "$2" "$3"; fi
}

python3 - "$work" << 'PY' &
import hashlib, hmac, http.server, os, sys
work = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        want = "sha256=" + hmac.new(b"hush", body, hashlib.sha256).hexdigest()
        good = self.path == "/v1/webhooks/github" and self.headers["X-GitHub-Event"] == "push" \
            and self.headers["X-Hub-Signature-256"] == want
        with open(work + "/last.new", "wb") as f:
            f.write(body)
        os.rename(work + "/last.new", work + "/last")
        self.send_response(200 if good else 400)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(work + "/port.new", "w") as f:
    f.write(str(server.server_port))
os.rename(work + "/port.new", work + "/port")
server.serve_forever()
PY
receiver=$!
for _ in $(seq 100); do [ ! -s "$work/port" ] || break; sleep 0.05; done
export ENCLII_HOME=$work/home ENCLII_LOCAL_WEBHOOK_PORT XDG_CONFIG_HOME=$work/config
ENCLII_LOCAL_WEBHOOK_PORT=$(cat "$work/port")
export GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=a@b.c GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=a@b.c GIT_CONFIG_NOSYSTEM=1
mkdir -p "$work/home/secrets"
echo hush > "$work/home/secrets/webhook"
new_repo() {
    "$enclii" local repo "acme/$1" > /dev/null
    git init -q -b main "$work/$1"
    git -C "$work/$1" remote add origin "$ENCLII_HOME/git/acme/$1.git"
}
commit() { # repo, file
    echo "$RANDOM" > "$work/$1/$2"
    git -C "$work/$1" add -A
    git -C "$work/$1" commit -q -m "change $2"
}
push() { git -C "$work/$1" push -q "${@:2}" origin HEAD:main 2> "$work/said" || cat "$work/said"; }
last() { jq -c "$1" "$work/last"; }
head_of() { git -C "$work/$1" rev-parse HEAD; }

new_repo shop
new_repo blog
commit shop one && push shop
is "a first push is told, signed" "[true,false,\"refs/heads/main\",\"acme/shop\"]" "$(last '[.created, .forced, .ref, .repository.full_name]')"
shop_id=$(last .repository.id)
commit blog one && push blog
is "two repositories have two ids" different "$([ "$shop_id" = "$(last .repository.id)" ] || echo different)"
commit shop two && push shop
is "one keeps its id" "$shop_id" "$(last .repository.id)"
is "a push onwards is not forced" '[false,["two"]]' "$(last '[.forced, .commits[0].added]')"
git -C "$work/shop" commit -q --amend -m other && push shop -f
is "one that takes a commit away is" true "$(last .forced)"
git -C "$work/shop" reset -q --hard HEAD~1 && push shop -f
is "so is one back to an older commit" "[true,0,\"$(head_of shop)\"]" "$(last '[.forced, (.commits | length), .after]')"
for n in $(seq 60); do commit shop "file$n"; done
push shop
is "every commit of sixty is listed, the first one too" '[60,["file1"]]' "$(last '[(.commits | length), .commits[0].added]')"
latin=$(printf 'caf\351')
echo x > "$work/shop/$latin"
git -C "$work/shop" add -A
git -C "$work/shop" commit -q -m "open"
push shop
is "bytes that are no UTF-8 hide neither commit nor path" "[\"$(head_of shop)\",[\"caf$(printf '\357\277\275')\"]]" \
    "$(last '[.head_commit.id, .head_commit.added]')"
