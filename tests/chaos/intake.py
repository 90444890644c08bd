"""The intake alone: a Kafka of one node and webhook, with one repository bound."""
import threading

from parts import ROOT, Platform

URL = "https://git.example/acme/shop"
KEY = "git.example/acme/shop"


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

    def up(self):
        self.format_brokers()
        self.start(self.parts["kafka1"])
        self.wait(["kafka1"], 60)
        self.run([f"{ROOT}/build/chaos/make_topics", self.brokers, "1"])
        self.bind()
        self.start(self.parts["webhook"])
        self.wait(["webhook"], 30)
        threading.Thread(target=self.supervise, daemon=True).start()

    def bind(self):
        """Says in enclii.repos that a service is bound to the repository."""
        message = b"\x0a" + bytes([len(KEY)]) + KEY.encode()
        headers = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/enclii/api", "ce_type": "dev.enclii.repo.bound.v1"}
        with open(self.write("bound", ""), "wb") as f:
            f.write(message)
        self.run(["kcat", "-b", self.brokers, "-P", "-t", "enclii.repos", "-k", KEY,
                  *(word for name, value in headers.items() for word in ("-H", f"{name}={value}")), self.path("bound")])
