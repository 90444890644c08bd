"""Pushes a trivial image again and again and prints where the time goes, step by step.

Each push is real: a commit goes into the platform's git server, a signed webhook into `webhook`, and the
clock runs until the router gives the new version all traffic. The times are those that the platform
itself keeps for users (builds, releases and deployments of the API), all of this machine's clock.

  push.py FOLDER COUNT    FOLDER: a clone with Dockerfile, and the app with @@@@@@@@@@ where its page has the version
"""
import datetime, hashlib, hmac, http.client, json, os, subprocess, sys, time, uuid

folder, count = sys.argv[1], int(sys.argv[2])
port = {n: int(os.environ[f"ENCLII_LOCAL_{n.upper()}_PORT"]) for n in ("api", "webhook", "http", "git")}
home, name = os.environ["ENCLII_HOME"], os.path.basename(folder)
secret = open(f"{home}/secrets/webhook", "rb").read().strip()
mark = b"@" * 10
app = open(f"{folder}/shop", "rb").read()
api = http.client.HTTPConnection("127.0.0.1", port["api"], timeout=30)
hooks = http.client.HTTPConnection("127.0.0.1", port["webhook"], timeout=30)


def git(*args):
    done = subprocess.run(["git", "-C", folder, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {' '.join(args)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def ask(path):
    api.request("GET", path, headers={"Authorization": "Bearer " + os.environ["ENCLII_API_TOKEN"]})
    return json.loads(api.getresponse().read())


def first(kind, sha):
    found = ask(f"/v1/services/{service}/{kind}?limit=5")
    return next((row for row in found[kind] if row["git_sha"] == sha), None)


def page():
    router = http.client.HTTPConnection("127.0.0.1", port["http"], timeout=5)
    router.request("GET", "/", headers={"Host": f"{name}.apps.localhost"})
    return router.getresponse().read()


def deliver(before, after):
    url = f"http://127.0.0.1:{port['git']}/acme/{name}"
    who = {"name": "Ada", "email": "ada@example.org", "username": "Ada"}
    commit = {"id": after, "message": "bench", "timestamp": "2026-01-01T00:00:00Z", "author": who, "committer": who,
              "added": [], "removed": [], "modified": ["shop"]}
    body = json.dumps({"ref": "refs/heads/main", "before": before, "after": after, "created": False, "deleted": False,
                       "forced": False, "commits": [commit], "head_commit": commit, "pusher": who,
                       "repository": {"full_name": f"acme/{name}", "html_url": url, "clone_url": url + ".git",
                                      "default_branch": "main"}}).encode()
    hooks.request("POST", "/v1/webhooks/github", body, {
        "Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()})
    answer = hooks.getresponse()
    text = answer.read()
    if answer.status != 202:
        sys.exit(f"the webhook answered {answer.status}: {text.decode()}")


def ms(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def push(number):
    version = b"v%09d" % number
    with open(f"{folder}/shop", "wb") as f:
        f.write(app.replace(mark, version))
    before = git("rev-parse", "HEAD")
    git("commit", "-qam", f"version {number}")
    sha = git("rev-parse", "HEAD")
    # Without the server's hook: the delivery is ours, so that its answer can be timed.
    git("push", "-q", "--receive-pack=git -c core.hooksPath=/dev/null receive-pack",
        f"{home}/git/acme/{name}.git", "HEAD:main")
    began = time.time() * 1000
    deliver(before, sha)
    accepted = time.time() * 1000
    while True:
        time.sleep(0.1)
        row = first("deployments", sha)
        if row and row["state"].isupper():
            break
        build = first("builds", sha)
        if (build and build["state"] not in ("queued", "leased", "running", "SUCCEEDED")) or time.time() * 1000 - began > 60000:
            sys.exit(f"push {number} did not end: {build}")
    if row["state"] != "HEALTHY" or version not in page():
        sys.exit(f"push {number} is not served: {row}")
    return times_of(began, accepted, first("builds", sha), first("releases", sha), row)


def times_of(began, accepted, build, release, deployment):
    """Spans one after another from the webhook's first byte to the last traffic switch."""
    took = {"webhook accept": accepted - began}
    at = began

    def until(label, moment):
        nonlocal at
        took[label] = took.get(label, 0) + moment - at
        at = moment

    def steps(row, *names):
        for step in row["steps"]:
            if step["name"] in names:
                until("between " + row["kind"], step["started_unix_ms"])
                until(step["name"], step["started_unix_ms"] + step["duration_ms"])

    build["kind"], release["kind"], deployment["kind"] = "build steps", "signing steps", "rollout steps"
    until("decide", ms(build["created_at"]))
    until("queue", ms(build["leased_at"]))
    until("build start", build["steps"][0]["started_unix_ms"])
    steps(build, "fetch", "detect", "build", "push")
    until("release made", ms(release["created_at"]))
    until("signing start", release["steps"][0]["started_unix_ms"])
    steps(release, "check", "sbom", "provenance", "sign", "store", "verify")
    until("deployment made", ms(deployment["created_at"]))
    until("rollout start", deployment["steps"][0]["started_unix_ms"])
    steps(deployment, "pull", "start")
    healthy = next(s for s in deployment["steps"] if s["name"] == "healthy")
    until("health", healthy["started_unix_ms"] + healthy["duration_ms"])
    last = [s for s in deployment["steps"] if s["name"] == "weight"][-1]
    until("route", last["started_unix_ms"] + last["duration_ms"])
    took["serving"] = at - began
    took["tools"] = sum(took.get(s, 0) for s in TOOLS)
    took["platform"] = took["serving"] - took["tools"]
    until("done", ms(deployment["finished_at"]))
    return took


# Other programs at work: git, buildah, syft, the container engine with the app's own start.
TOOLS = ("fetch", "build", "push", "sbom", "pull", "start")
NOTES = {"webhook accept": "answer 202, beside the rest", "decide": "delivery to queued build, in the database",
         "queue": "until a builder has the lease", "fetch": "git", "build": "buildah", "push": "buildah", "sbom": "syft",
         "pull": "container engine", "start": "container engine and the app", "health": "from started to healthy",
         "route": "router gives all traffic", "serving": "webhook to all traffic", "done": "until the database says HEALTHY",
         "tools": "git, buildah, syft, container engine", "platform": "everything else"}


def at_share(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


service = next(s["id"] for s in ask("/v1/projects/test/services")["services"] if s["name"] == name)
push(0)
rows = [push(i) for i in range(1, count + 1)]
order = list(dict.fromkeys(k for row in rows for k in row))
print(f"  {'ms':16} {'p50':>8} {'p99':>8} {'worst':>8}   of {count} pushes")
for key in order:
    values = [row.get(key, 0) for row in rows]
    if key in ("serving", "done"):
        print()
    print(f"  {key:16} {at_share(values, .5):8.0f} {at_share(values, .99):8.0f} {max(values):8.0f}   {NOTES.get(key, '')}".rstrip())
