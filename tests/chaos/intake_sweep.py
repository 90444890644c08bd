"""A git host that delivers each push once and never again: what webhook did not take is for sweeper to find.

Each push makes a branch of its own, so that each is there to be found afterwards. The host moves the ref first, then it
delivers, as hosts do.
"""
import concurrent.futures, hashlib, hmac, http.client, json, os, subprocess, threading, time, uuid

import checker

ZEROS = "0" * 40
SETTLE_S = 180


class SweptHost(threading.Thread):
    def __init__(self, platform, seconds, rate):
        super().__init__(daemon=True)
        self.platform, self.gap = platform, 1 / rate
        self.folder = platform.path("git/acme/swept")
        self.shas = self.make_commits(int(seconds * rate))
        self.answers = {}  # sha -> (status, event id); status 0: no answer

    def make_commits(self, count):
        stream = []
        for i in range(1, count + 1):
            text = f"push {i}\n"
            stream.append(f"commit refs/kept/all\nmark :{i}\ncommitter Ada <ada@example.org> {1700000000 + i} +0000\n"
                          f"data {len(text)}\n{text}\n" + (f"from :{i - 1}\n" if i > 1 else "") +
                          f"M 100644 inline version\ndata {len(text)}\n{text}\n")
        subprocess.run(["git", "-C", self.folder, "fast-import", "--quiet"], input="".join(stream), text=True, check=True)
        log = subprocess.run(["git", "-C", self.folder, "rev-list", "--reverse", "refs/kept/all"], capture_output=True,
                             text=True, check=True)
        return log.stdout.split()

    def run(self):
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(128) as pool:
            for i, sha in enumerate(self.shas):
                time.sleep(max(0, began + i * self.gap - time.monotonic()))
                path = f"{self.folder}/refs/heads/s-{i:05}"
                with open(path + ".lock", "w") as f:
                    f.write(sha + "\n")
                os.rename(path + ".lock", path)
                pool.submit(self.deliver, i, sha)

    def deliver(self, i, sha):
        url = self.platform.swept_url
        who = {"name": "Ada", "email": "ada@example.org", "username": "ada"}
        commit = {"id": sha, "message": f"push {i + 1}", "timestamp": "2026-01-01T00:00:00Z", "author": who,
                  "committer": who, "added": [], "removed": [], "modified": ["version"]}
        body = json.dumps({"ref": f"refs/heads/s-{i:05}", "before": ZEROS, "after": sha, "created": True, "deleted": False,
                           "forced": False, "commits": [], "head_commit": commit, "pusher": who,
                           "repository": {"full_name": "acme/swept", "clone_url": url + ".git"}}).encode()
        signature = hmac.new(self.platform.secret.encode(), body, hashlib.sha256).hexdigest()
        try:
            hook = http.client.HTTPConnection("127.0.0.1", self.platform.port["webhook"], timeout=10)
            hook.request("POST", "/v1/webhooks/github", body, {
                "Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": str(uuid.uuid4()),
                "X-Hub-Signature-256": "sha256=" + signature})
            answer = hook.getresponse()
            self.answers[sha] = answer.status, json.loads(answer.read()).get("event_id", "")
            hook.close()
        except (OSError, http.client.HTTPException, ValueError):
            self.answers[sha] = 0, ""

    def settle(self):
        """Until sweeper has heard of all refs, from webhook or from itself."""
        got = self.platform.wait_sql(f"select count(*) from sweeper.ref where repo_key = '{self.platform.swept_key}' "
                                     f"and odd_sha is null and sha <> '{ZEROS}'", str(len(self.shas)), SETTLE_S)
        if got != str(len(self.shas)):
            checker.violation(f"sweeper knows {got} of {len(self.shas)} refs after {SETTLE_S} s")

    def judge(self, heard):
        """heard: sha -> {event id: recovered} of what the topic has. Gives a line of figures."""
        for sha in heard.keys() - set(self.shas):
            checker.violation(f"the topic has a push of {sha}, which the swept host never had")
        taken = recovered = twice = 0
        for i, sha in enumerate(self.shas):
            status, event_id = self.answers.get(sha, (0, ""))
            ids = heard.get(sha, {})
            taken += status == 202
            recovered += any(ids.values())
            twice += len(ids) > 1
            if not ids:
                checker.violation(f"swept host: push {i} was answered {status} and nobody ever heard of it")
            elif status == 202 and event_id not in ids:
                checker.violation(f"swept host: push {i} was answered 202 as {event_id}, which is not in the topic")
            elif len(ids) > 1:
                checker.violation(f"swept host: push {i} is there under {len(ids)} ids")
        lost, counted = (self.platform.counter(f"enclii_pushes_{what}_total") for what in ("lost", "recovered"))
        if lost:
            checker.violation(f"enclii_pushes_lost_total is {lost:.0f}")
        if recovered == 0:
            checker.violation("nothing had to be swept: that proves nothing")
        return (f"swept host: {len(self.shas)} pushes, each delivered once, {taken} answered 202, {recovered} recovered by "
                f"sweeper (it counts {counted:.0f}), {twice} twice; enclii_pushes_lost_total {lost:.0f}")
