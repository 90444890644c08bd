"""The git host: real repositories on disk, real commits, and deliveries as GitHub sends them: signed, and sent again
under the same id until they are accepted; some are sent again although they were.

Half of the services are pushed to one commit after another (`paced`: each is pushed once the one before is HEALTHY, so
every commit must be deployed); the other half in bursts (a newer push supersedes what is not built yet, so of each
burst at least the last must be deployed).
"""
import hashlib, hmac, http.client, json, os, random, subprocess, threading, time, uuid

ZEROS = "0" * 40


def make_repositories(platform, names, commits):
    """Bare repositories with `commits` commits each; gives name -> shas. A branch shows a commit once it is pushed."""
    shas = {}
    for name in names:
        folder = platform.path(f"git/acme/{name}.git")
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", folder], check=True)
        for key, value in {"uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true",
                           "transfer.hideRefs": "refs/kept", "gc.auto": "0"}.items():
            subprocess.run(["git", "-C", folder, "config", key, value], check=True)
        stream = ["blob\nmark :1\ndata 32\nFROM scratch\nCOPY version /version\n"[:0]]
        dockerfile = 'FROM scratch\nCOPY version /version\nCMD ["/version"]\n'
        stream.append(f"blob\nmark :1\ndata {len(dockerfile)}\n{dockerfile}\n")
        for i in range(1, commits + 1):
            text, message = f"{name} {i}\n", f"{name} {i}"
            parent = f"from :{1000 + i - 1}\n" if i > 1 else ""
            stream.append(f"commit refs/kept/all\nmark :{1000 + i}\ncommitter Ada <ada@example.org> {1700000000 + i} +0000\n"
                          f"data {len(message)}\n{message}\n{parent}M 100644 :1 Dockerfile\nM 100644 inline version\n"
                          f"data {len(text)}\n{text}\n")
        subprocess.run(["git", "-C", folder, "fast-import", "--quiet"], input="".join(stream), text=True, check=True)
        log = subprocess.run(["git", "-C", folder, "rev-list", "--reverse", "refs/kept/all"], capture_output=True,
                             text=True, check=True)
        shas[name] = log.stdout.split()
    return shas


class Watch(threading.Thread):
    """Which deployments became HEALTHY, and when, as their topic tells: for pacing and for the figures."""

    def __init__(self, platform):
        super().__init__(daemon=True)
        self.healthy, self.news = {}, threading.Condition()
        self.platform, self.process = platform, None

    def run(self):
        while not self.platform.stopping:
            self.process = subprocess.Popen(
                ["kcat", "-b", self.platform.brokers, "-C", "-q", "-t", "enclii.deployment.events", "-o", "beginning", "-u",
                 "-f", "%S %h\\n%s\\n"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            while self.take(self.process.stdout):
                pass
            time.sleep(0.5)

    def take(self, stream):
        size, _, headers = stream.readline().partition(b" ")
        if not size.isdigit():
            return False
        body = stream.read(int(size) + 1)
        if b"ce_type=dev.enclii.deployment.healthy.v1" in headers:
            sha = next((s for s in (body[i + 2:i + 42] for i in range(len(body)) if body[i:i + 2] == b"\x0a\x28")
                        if len(s) == 40 and all(c in b"0123456789abcdef" for c in s)), b"").decode()
            with self.news:
                self.healthy.setdefault(sha, time.time())
                self.news.notify_all()
        return True

    def stop(self):
        if self.process:
            self.process.kill()


class Pusher(threading.Thread):
    def __init__(self, platform, watch, name, shas, paced, seed, gap, patience):
        super().__init__(daemon=True)
        self.platform, self.watch, self.name_of, self.shas, self.paced = platform, watch, name, shas, paced
        self.random, self.gap, self.patience = random.Random(f"{seed}/{name}"), gap, patience
        self.sent, self.tries, self.again, self.must, self.gave_up = {}, 0, 0, [], ""

    def run(self):
        time.sleep(self.random.uniform(0, 3))
        at = 0
        while at < len(self.shas) and not self.platform.stopping:
            burst = 1 if self.paced else self.random.randint(2, 6)
            last = min(at + burst, len(self.shas)) - 1
            for i in range(at, last + 1):
                self.push(i)
            self.must.append(self.shas[last])
            at = last + 1
            if not self.wait_for(self.shas[last]):
                self.gave_up = f"{self.name_of}: {self.shas[last][:7]} (number {last + 1}) was not HEALTHY after {self.patience} s"
                return
            time.sleep(self.random.uniform(0, self.gap))

    def wait_for(self, sha):
        end = time.time() + self.patience
        with self.watch.news:
            while sha not in self.watch.healthy and time.time() < end and not self.platform.stopping:
                self.watch.news.wait(1)
            return sha in self.watch.healthy

    def push(self, i):
        sha, before = self.shas[i], self.shas[i - 1] if i else ZEROS
        ref = self.platform.path(f"git/acme/{self.name_of}.git/refs/heads/main")
        with open(ref + ".new", "w") as f:
            f.write(sha + "\n")
        os.rename(ref + ".new", ref)
        body, headers = self.delivery(sha, before)
        self.sent[sha] = time.time()
        while not self.deliver(body, headers) and not self.platform.stopping:
            self.tries += 1
            time.sleep(self.random.uniform(0.2, 1))
        if self.random.random() < 0.05:  # a person pressed "Redeliver"
            self.again += 1
            self.deliver(body, headers)

    def delivery(self, sha, before):
        url = f"git://127.0.0.1:{self.platform.port['git']}/acme/{self.name_of}"
        who = {"name": "Ada", "email": "ada@example.org", "username": "Ada"}
        commit = {"id": sha, "message": self.name_of, "timestamp": "2026-01-01T00:00:00Z", "author": who, "committer": who,
                  "added": [], "removed": [], "modified": ["version"]}
        body = json.dumps({"ref": "refs/heads/main", "before": before, "after": sha, "created": before == ZEROS,
                           "deleted": False, "forced": False, "commits": [commit], "head_commit": commit, "pusher": who,
                           "repository": {"full_name": f"acme/{self.name_of}", "html_url": url, "clone_url": url + ".git",
                                          "default_branch": "main"}}).encode()
        return body, {"Content-Type": "application/json", "X-GitHub-Event": "push",
                      "X-GitHub-Delivery": str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
                      "X-Hub-Signature-256": "sha256=" + hmac.new(self.platform.secret.encode(), body,
                                                                  hashlib.sha256).hexdigest()}

    def deliver(self, body, headers):
        try:
            hook = http.client.HTTPConnection("127.0.0.1", self.platform.port["webhook"], timeout=10)
            hook.request("POST", "/v1/webhooks/github", body, headers)
            answer = hook.getresponse()
            text = answer.read()
            hook.close()
        except (OSError, http.client.HTTPException):
            return False
        if answer.status not in (202, 404, 429) and answer.status < 500:
            raise RuntimeError(f"the webhook answered {answer.status}: {text.decode()}")
        return answer.status == 202
