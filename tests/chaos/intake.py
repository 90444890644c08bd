"""The intake alone: a Kafka of one node and webhook, with one repository bound; and the same with sweeper."""
import subprocess, threading, time, urllib.request

from parts import ROOT, Platform

URL = "https://git.example/acme/shop"
KEY = "git.example/acme/shop"


def protobuf_texts(*texts):
    """A message whose first fields are these texts (shorter than 128 bytes)."""
    return b"".join(bytes([i << 3 | 2, len(text)]) + text.encode() for i, text in enumerate(texts, 1))


class Intake(Platform):
    """One broker and webhook, nothing else."""
    nodes, wires, session_ms = 1, False, 3000

    def add_tools(self):
        self.add_brokers()

    def add_services(self):
        extra = {"PLANTED_BUG": self.planted} if self.planted else {}
        self.service("webhook", program=f"{ROOT}/build/chaos/enclii-webhook-planted" if self.planted else None,
                     ENCLII_LISTEN=f"127.0.0.1:{self.port['webhook']}", ENCLII_GITHUB_WEBHOOK_SECRET=self.secret, **extra)
        self.services = [self.parts["webhook"]]

    def prepare(self):
        """What must be there before the services start."""

    def up(self):
        self.format_brokers()
        self.start(self.parts["kafka1"])
        self.wait(["kafka1"], 60)
        self.run([f"{ROOT}/build/chaos/make_topics", self.brokers, "1"])
        self.bind(KEY, URL)
        self.prepare()
        for part in self.services:
            self.start(part)
        self.wait([part.name for part in self.services], 60)
        threading.Thread(target=self.supervise, daemon=True).start()

    def bind(self, key, url):
        """Says in enclii.repos that a service is bound to the repository."""
        headers = {"ce_specversion": "1.0", "ce_id": key, "ce_source": "/enclii/api", "ce_type": "dev.enclii.repo.bound.v1"}
        with open(self.write("bound", ""), "wb") as f:
            f.write(protobuf_texts(key, url))
        self.run(["kcat", "-b", self.brokers, "-P", "-t", "enclii.repos", "-k", key,
                  *(word for name, value in headers.items() for word in ("-H", f"{name}={value}")), self.path("bound")])


class SweptIntake(Intake):
    """Also sweeper with PostgreSQL, and a git server with a second repository that it looks at."""

    def add_tools(self):
        self.add_brokers()
        self.add_postgres()
        self.add_git()
        self.swept_url = f"git://127.0.0.1:{self.port['git']}/acme/swept"
        self.swept_key = self.swept_url.removeprefix("git://")

    def add_services(self):
        super().add_services()
        self.sweeper_admin = self.base + 40 + len(self.parts)
        self.service("sweeper", ENCLII_DATABASE_URL=self.database, ENCLII_SWEEP_INTERVAL="15s", ENCLII_SWEEP_GRACE="1s",
                     ENCLII_GIT_PROTOCOLS="git", ENCLII_WORK_DIR=self.path("sweeper"))
        self.services.append(self.parts["sweeper"])

    def prepare(self):
        self.init_database()
        subprocess.run(["git", "init", "-q", "--bare", self.path("git/acme/swept")], check=True)
        for name in ("postgres", "git"):
            self.start(self.parts[name])
        self.wait(["postgres", "git"], 60)
        self.make_database()
        self.bind(self.swept_key, self.swept_url)

    def counter(self, name):
        """The sum of a counter of sweeper, over its labels."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{self.sweeper_admin}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))

    def wait_sql(self, query, wanted, seconds):
        end, got = time.time() + seconds, None
        while got != wanted and time.time() < end:
            got = self.sql(query)[0][0]
            time.sleep(0.2)
        return got
