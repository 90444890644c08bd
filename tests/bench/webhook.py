"""webhook beside its peers: the same signed push of 10 kB, the same generator, the same broker, in one run.

  webhook.py [--seconds 6] [--rate 2000] [--only webhook,go] [--port-base P]

For each program: as many deliveries as 64 connections bring (per CPU-second of the program, its children included),
then an open loop of 2,000/s whose latency counts from when a delivery was due, then the memory it has taken.
"""
import argparse, json, os, shutil, socket, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "chaos")]
import delivery, intake, parts  # noqa: E402

ROOT, TICKS = parts.ROOT, os.sysconf("SC_CLK_TCK")
LOAD = f"{ROOT}/build/chaos/webhook_load"
HEAD = ("", "durable", "CPU-s", "ratio", "/s", "p50", "p99", "p99.9", "not 2xx", "p50", "p99", "p99.9", "MiB")
ROW = "  {:<29} {:>7} {:>7} {:>6} {:>7} {:>6} {:>6} {:>6} {:>8} {:>7} {:>6} {:>6} {:>6}"


def say(text):
    print(text, flush=True)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return sum(map(int, words[11:15])) / TICKS


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024


class Bench:
    def __init__(self, platform, options):
        self.platform, self.options, self.rates = platform, options, {}
        self.secret = platform.write("secret", platform.secret)
        self.body = platform.write("body", delivery.delivery(intake.URL))
        self.free_port = options.port_base + 60

    def load(self, port, path, *words):
        done = subprocess.run([LOAD, "-p", path, *words, str(port), self.body, self.secret], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError("the load generator failed")
        return {name: float(value) for name, value in (w.split("=") for w in done.stdout.split())}

    def measure(self, name, durable, pid, port, path):
        seconds = str(self.options.seconds)
        self.load(port, path, "-s", "1")
        cpu = cpu_seconds(pid)
        full = self.load(port, path, "-s", seconds)
        per_cpu = full["answered"] / (cpu_seconds(pid) - cpu)
        open_loop = self.load(port, path, "-s", seconds, "-r", str(self.options.rate))
        self.rates[name] = per_cpu
        ratio = self.rates.get("webhook", per_cpu) / per_cpu
        say(ROW.format(name, "yes" if durable else "no", f"{per_cpu:.0f}", f"{ratio:.1f}",
                       f"{full['answered'] / full['seconds']:.0f}", *(f"{full[k]:.1f}" for k in ("p50_ms", "p99_ms", "p999_ms")),
                       f"{full['refused'] + open_loop['refused']:.0f}",
                       *(f"{open_loop[k]:.1f}" for k in ("p50_ms", "p99_ms", "p999_ms")), f"{resident_mib(pid):.0f}"))

    def peer(self, name, durable, command, port, path="/v1/webhooks/github"):
        log = open(self.platform.path("logs/peer.log"), "ab")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.platform.home)
        try:
            end = time.time() + 30
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if time.time() > end or process.poll() is not None:
                    raise RuntimeError(f"{name} does not come up")
                time.sleep(0.1)
            self.measure(name, durable, process.pid, port, path)
        except RuntimeError as why:
            say(f"  {name}: {why}")
        finally:
            process.kill()
            process.wait()

    # ---- the peers; each says when it cannot be had here ----
    def port(self):
        self.free_port += 1
        return self.free_port

    def made(self, name, *command, cwd=None):
        try:
            subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=180)
            return True
        except (OSError, subprocess.SubprocessError):
            say(f"  {name}: cannot be had here ({' '.join(command[:2])})")
            return False

    def go(self):
        program, port = self.platform.path("bin/peer"), self.port()
        if self.made("Go", "go", "build", "-o", program, ".", cwd=f"{HERE}/peer"):
            self.peer("Go: net/http, franz-go", True, [program, f"127.0.0.1:{port}", self.platform.brokers, "bench.peer",
                                                       self.platform.secret], port)

    def node(self):
        folder, port = f"{self.platform.cache}/bench/node", self.port()
        shutil.copytree(f"{HERE}/peer_node", folder, dirs_exist_ok=True)
        if os.path.isdir(f"{folder}/node_modules/@octokit") or self.made(
                "Node", "npm", "install", "--no-audit", "--no-fund", cwd=folder):
            self.peer("Node: octokit, kafkajs", True, ["node", f"{folder}/peer.mjs", str(port), self.platform.brokers,
                                                                 "bench.peer", self.platform.secret], port)

    def adnanh(self):
        """Debian's package, unpacked beside us: nothing is installed. It has no broker, so it answers at once: once when
        its rule says no (HMAC and JSON only), once when it starts /bin/true."""
        folder = f"{self.platform.cache}/bench/adnanh"
        os.makedirs(folder, exist_ok=True)
        program = f"{folder}/usr/bin/webhook"
        if not os.path.exists(program) and not (
                self.made("adnanh/webhook", "sh", "-c", "apt-get -q download webhook && dpkg-deb -x webhook_*.deb .", cwd=folder)):
            return
        signed = {"match": {"type": "payload-hmac-sha256", "secret": self.platform.secret,
                            "parameter": {"source": "header", "name": "X-Hub-Signature-256"}}}
        for what, ref in (("only HMAC, JSON", "refs/heads/none"), ("runs /bin/true", "refs/heads/bench")):
            about = {"match": {"type": "value", "value": ref, "parameter": {"source": "payload", "name": "ref"}}}
            hooks = self.platform.write("hooks.json", json.dumps([{
                "id": "push", "execute-command": "/bin/true", "http-methods": ["POST"],
                "success-http-response-code": 202, "trigger-rule-mismatch-http-response-code": 202,
                "trigger-rule": {"and": [signed, about]}}]))
            port = self.port()
            self.peer(f"adnanh/webhook: {what}", False, [program, "-hooks", hooks, "-ip", "127.0.0.1", "-port", str(port)],
                      port, "/hooks/push")

    def run(self):
        say(f"  {'':<29} {'':>7} {'saturation, 64 connections':^48}   {f'{self.options.rate}/s':^21}")
        say(ROW.format(*HEAD) + "   (ms)")
        wanted = self.options.only.split(",")
        self.measure("webhook", True, self.platform.parts["webhook"].process.pid, self.platform.port["webhook"],
                     "/v1/webhooks/github")
        for name in ("go", "node", "adnanh"):
            if self.options.only == "" or name in wanted:
                getattr(self, name)()
        alone = float(subprocess.run([LOAD, "-H", "0", self.body, self.secret], stdout=subprocess.PIPE, check=True).stdout)
        say(f"\n  HMAC-SHA256 over these {os.path.getsize(self.body)} bytes alone: {alone:.0f} per CPU-second; webhook is at "
            f"{100 * self.rates['webhook'] / alone:.0f} % of that limit")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--only", default="")
    parser.add_argument("--port-base", type=int, default=28700)
    options = parser.parse_args()
    home = tempfile.mkdtemp(prefix="enclii-bench.")
    os.chmod(home, 0o711)
    platform = intake.Intake(home, options.port_base)
    try:
        platform.up()
        say("webhook: signed pushes, answered 2xx; durable = only once Kafka has them (acks=all)")
        Bench(platform, options).run()
    finally:
        platform.down()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
