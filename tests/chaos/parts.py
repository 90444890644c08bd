"""The parts of the platform under test, each a process that is started again when it ends.

Real: PostgreSQL, three Kafka brokers (replication 3, two must have a record), registry, HAProxy, git daemon, and
all our services, those that may run twice, twice. Doubles: `buildah` and `syft` as programs the real builder and
signer run, the container engine behind its socket, and a proxy as the wire to each broker.
"""
import base64, os, secrets, shutil, signal, socket, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
NODES = 3
FLAGS = ("-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError "
         "-Djava.net.preferIPv4Stack=true -Djava.awt.headless=true -Dlog4j2.disableJmx=true").split()
KAFKA = """process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller},INTERNAL://127.0.0.1:{internal}
advertised.listeners=CLIENT://127.0.0.1:{wire},INTERNAL://127.0.0.1:{internal}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT
inter.broker.listener.name=INTERNAL
log.dirs={folder}/data
auto.create.topics.enable=false
num.partitions=1
default.replication.factor={replicas}
min.insync.replicas={acks}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={acks}
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.io.buffer.size=131072
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=1
log.segment.bytes=67108864
log.index.size.max.bytes=1048576
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms=1000
metadata.max.idle.interval.ms=5000
"""


class Part:
    def __init__(self, name, command, env=None, needs=(), ready=None, stop=signal.SIGTERM):
        self.name, self.command, self.env, self.needs, self.stop = name, command, env, needs, stop
        self.ready = ready  # a callable: it may be relied upon
        self.process, self.held, self.kills, self.again_at, self.starts = None, False, 0, 0, 0

    def alive(self):
        return self.process is not None and self.process.poll() is None


class Platform:
    """Folders, configuration and the parts, on ports from `base` on."""
    nodes = NODES  # of Kafka; each record is on all of them
    wires = True   # the proxies in front of them
    session_ms = 6000  # a killed broker may not come back before

    def __init__(self, home, base, planted=""):
        self.home, self.base, self.planted = home, base, planted
        self.cache = os.environ.get("ENCLII_CACHE") or os.path.expanduser(
            os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/enclii")
        self.secret, self.seal = secrets.token_hex(16), secrets.token_hex(32)
        self.token, self.cluster = "enclii_" + secrets.token_hex(32), "Y2hhb3MtY2x1c3Rlci0wMA"
        names = ["api", "webhook", "http", "https", "registry", "git", "postgres", "sink"]
        self.port = {name: base + i for i, name in enumerate(names)}
        for i in range(self.nodes):
            for j, what in enumerate(["kafka", "controller", "internal", "wire"]):
                self.port[f"{what}{i + 1}"] = base + 10 + i * 4 + j
            if not self.wires:
                self.port[f"wire{i + 1}"] = self.port[f"kafka{i + 1}"]
        self.brokers = ",".join(f"127.0.0.1:{self.port[f'wire{i}']}" for i in range(1, self.nodes + 1))
        self.database = f"postgres://enclii@127.0.0.1:{self.port['postgres']}/enclii"
        self.parts, self.stopping, self.lock = {}, False, threading.RLock()
        self.classpath = open(f"{self.cache}/kafka/classpath").read().strip()
        for folder in ["run", "logs", "conf", "registry", "git", "objects", "router/certs", "ca", "engine", "wire", "bin"]:
            os.makedirs(f"{home}/{folder}", exist_ok=True)
        os.chmod(home, 0o711)
        self.add_tools()
        self.add_services()

    def path(self, name):
        return f"{self.home}/{name}"

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def add(self, name, command, **more):
        self.parts[name] = Part(name, command, **more)

    def answers(self, port):
        def ask():
            with socket.socket() as s:
                s.settimeout(2)
                return s.connect_ex(("127.0.0.1", port)) == 0
        return ask

    # ---- tools ----
    def java(self, node, *words):
        folder = self.path(f"kafka{node}")
        return ["java", *FLAGS, f"-Dlog4j2.configurationFile={self.path('conf/log4j2.properties')}",
                f"-Dkafka.logs.dir={folder}", f"-Djava.io.tmpdir={folder}", "-Xshare:auto",
                f"-XX:SharedArchiveFile={self.cache}/kafka/kafka.jsa",
                "-cp", self.classpath, *words]

    def add_tools(self):
        self.add_postgres()
        self.add_brokers()
        self.write("conf/registry.yml", f"version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage: "
                   f"{{filesystem: {{rootdirectory: {self.path('registry')}}}, delete: {{enabled: true}}}}\n"
                   f"http: {{addr: 127.0.0.1:{self.port['registry']}}}\n")
        self.add("registry", ["docker-registry", "serve", self.path("conf/registry.yml")],
                 ready=self.answers(self.port["registry"]))
        self.add_git()
        self.write_router()
        self.add("router", ["haproxy", "-db", "-f", self.path("conf/haproxy.cfg")], ready=self.answers(self.port["http"]))
        self.add("engine", [sys.executable, f"{HERE}/container_engine.py", self.path("run/engine.sock"),
                            self.path("engine"), str(self.base + 400), str(self.base + 999)],
                 ready=lambda: os.path.exists(self.path("run/engine.sock")))

    def add_postgres(self):
        as_postgres = (["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else [])
        self.as_postgres = as_postgres
        self.pg_bin = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip() or "/usr/bin"
        if not os.path.exists(f"{self.pg_bin}/postgres"):
            versions = sorted(os.listdir("/usr/lib/postgresql"))
            self.pg_bin = f"/usr/lib/postgresql/{versions[-1]}/bin"
        self.add("postgres", [*as_postgres, f"{self.pg_bin}/postgres", "-D", self.path("pg/data"), "-p",
                              str(self.port["postgres"]), "-h", "127.0.0.1", "-k", self.path("pg"), "-c",
                              "max_connections=200", "-c", "shared_buffers=64MB", "-c", "jit=off", "-c",
                              "dynamic_shared_memory_type=mmap", "-c", "log_min_messages=warning"],
                 ready=self.database_answers, stop=signal.SIGINT)

    def add_git(self):
        self.add("git", ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={self.port['git']}",
                         "--max-connections=0", "--export-all", f"--base-path={self.path('git')}", self.path("git")],
                 ready=self.answers(self.port["git"]))

    def add_brokers(self):
        self.write("conf/log4j2.properties", "status = error\nname = k\nshutdownHook = disable\nappender.f.type = File\n"
                   "appender.f.name = F\nappender.f.fileName = ${sys:kafka.logs.dir}/server.log\n"
                   "appender.f.layout.type = PatternLayout\nappender.f.layout.pattern = %d %p %c{1} - %m%n\n"
                   "rootLogger.level = warn\nrootLogger.appenderRef.f.ref = F\n")
        for node in range(1, self.nodes + 1):
            os.makedirs(self.path(f"kafka{node}"), exist_ok=True)
            self.write(f"kafka{node}/server.properties", KAFKA.format(
                node=node, folder=self.path(f"kafka{node}"), client=self.port[f"kafka{node}"],
                controller=self.port[f"controller{node}"], internal=self.port[f"internal{node}"],
                wire=self.port[f"wire{node}"], replicas=self.nodes, acks=min(self.nodes, 2), session=self.session_ms,
                voters=",".join(f"{i}@127.0.0.1:{self.port[f'controller{i}']}" for i in range(1, self.nodes + 1))))
            self.add(f"kafka{node}", self.java(node, "kafka.Kafka", self.path(f"kafka{node}/server.properties")),
                     env={"MALLOC_ARENA_MAX": "2"}, ready=self.answers(self.port[f"kafka{node}"]))
            if self.wires:
                self.add(f"wire{node}", [sys.executable, f"{HERE}/slow_wire.py", str(self.port[f"wire{node}"]),
                                         str(self.port[f"kafka{node}"]), self.path(f"wire/{node}")],
                         ready=self.answers(self.port[f"wire{node}"]))

    def write_router(self):
        for name in ["router/hosts.map", "router/crt.list"]:
            self.write(name, "")
        with open(f"{ROOT}/docker/haproxy.cfg.in") as f:
            text = "\n".join(line for line in f.read().split("\n") if not line.lstrip().startswith("#"))
        for mark, value in {"@DIR@": self.path("router"), "@SOCKET@": self.path("run/haproxy.sock"),
                            "@HTTP@": f"127.0.0.1:{self.port['http']}", "@HTTPS@": f"127.0.0.1:{self.port['https']}",
                            "@BACKENDS@": "\n".join(f"backend be_{i:03}" for i in range(200))}.items():
            text = text.replace(mark, value)
        self.write("conf/haproxy.cfg", text)

    # ---- services ----
    def service(self, name, number=0, program=None, **settings):
        label = f"{name}{number or ''}"
        at = len(self.parts)
        env = {"ENCLII_KAFKA_BROKERS": self.brokers, "ENCLII_ADMIN_LISTEN": f"127.0.0.1:{self.base + 40 + at}",
               "ENCLII_LOG_LEVEL": "info", **settings}
        self.add(label, [program or f"{ROOT}/build/bin/enclii-{name}"], env=env, needs=("postgres", "topics"),
                 ready=self.healthy(self.base + 40 + at))

    def healthy(self, port):
        def ask():
            try:
                with socket.create_connection(("127.0.0.1", port), 2) as s:
                    s.sendall(b"GET /health/ready HTTP/1.0\r\n\r\n")
                    return b" 200 " in s.recv(200)
            except OSError:
                return False
        return ask

    def add_services(self):
        registry, planted = f"127.0.0.1:{self.port['registry']}", f"{ROOT}/build/chaos/enclii-pipeline-planted"
        os.path.exists(self.path("bin/buildah")) or os.symlink(f"{ROOT}/build/chaos/buildah", self.path("bin/buildah"))
        path = f"{self.path('bin')}:{os.environ['PATH']}"
        for i in (1, 2):
            extra = {"PLANTED_BUG": self.planted} if self.planted else {}
            self.service("pipeline", i, program=planted if self.planted else None, ENCLII_DATABASE_URL=self.database,
                         ENCLII_REGISTRY=registry, ENCLII_MEMBER=f"pipeline-{i}", **extra)
            self.service("builder", i, PATH=path, ENCLII_BUILDER_ID=f"builder-{i}", ENCLII_BUILDER_SLOTS="3",
                         ENCLII_WORK_DIR=self.path(f"builder{i}"), ENCLII_REGISTRY_INSECURE="true",
                         ENCLII_GIT_PROTOCOLS="git")
            self.service("signer", i, ENCLII_SIGNING_KEY_FILE=self.path("signing.pem"), ENCLII_REGISTRY_INSECURE="true",
                         ENCLII_OBJECT_STORE=f"file://{self.path('objects')}", ENCLII_SYFT=f"{HERE}/fast_syft",
                         ENCLII_WORK_DIR=self.path(f"signer{i}"), ENCLII_REGISTRY=registry)
        self.service("webhook", ENCLII_LISTEN=f"127.0.0.1:{self.port['webhook']}",
                     ENCLII_GITHUB_WEBHOOK_SECRET=self.secret, ENCLII_SEAL_KEY=self.seal)
        router = {"ENCLII_HAPROXY_SOCKET": self.path("run/haproxy.sock"), "ENCLII_HAPROXY_DIR": self.path("router"),
                  "ENCLII_ROUTER_HTTPS": f"127.0.0.1:{self.port['https']}"}
        self.service("reconciler", ENCLII_DOCKER_SOCKET=self.path("run/engine.sock"), ENCLII_INSTANCE="chaos",
                     ENCLII_ROUTER_HTTP=f"127.0.0.1:{self.port['http']}", **router)
        self.service("domain", ENCLII_CA_DIR=self.path("ca"), **router)
        self.service("notifier", ENCLII_DATABASE_URL=self.database, ENCLII_SEAL_KEY=self.seal,
                     ENCLII_NOTIFY_PRIVATE="true")
        self.service("api", ENCLII_DATABASE_URL=self.database, ENCLII_LISTEN=f"127.0.0.1:{self.port['api']}",
                     ENCLII_BOOTSTRAP_TOKEN=self.token, ENCLII_SEAL_KEY=self.seal, ENCLII_REGISTRY=registry,
                     ENCLII_REGISTRY_INSECURE="true", ENCLII_PLATFORM_DOMAIN="apps.localhost")
        self.services = [p for p in self.parts.values() if p.needs]

    # ---- life ----
    def sql(self, query, timeout=20):
        done = subprocess.run(["psql", "-qtAX", "-F\t", self.database, "-c", query], capture_output=True, text=True,
                              timeout=timeout)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return [line.split("\t") for line in done.stdout.splitlines()]

    def database_answers(self):
        return subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port["postgres"])],
                              timeout=10).returncode == 0

    def start(self, part):
        log = open(self.path(f"logs/{part.name}.log"), "ab")
        passed = {k: v for k, v in os.environ.items() if not k.startswith("ENCLII_")}
        part.process = subprocess.Popen(part.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home,
                                        env={**passed, "LANG": "C.UTF-8", **(part.env or {})}, start_new_session=True)
        part.starts += 1
        log.close()

    def wait(self, names, seconds):
        end = time.time() + seconds
        for name in names:
            part = self.parts[name]
            while not part.ready():
                if time.time() > end:
                    raise RuntimeError(f"{name} is not ready after {seconds} s: see {self.path(f'logs/{name}.log')}")
                time.sleep(0.1)

    def up(self):
        """Everything fresh, in order; then the supervisor runs."""
        self.init_database()
        self.format_brokers()
        tools = [p.name for p in self.parts.values() if not p.needs]
        for name in tools:
            self.start(self.parts[name])
        self.wait(tools, 120)
        self.make_database()
        for attempt in range(20):
            made = subprocess.run([f"{ROOT}/build/chaos/make_topics", self.brokers], capture_output=True, text=True)
            if made.returncode == 0:
                break
            time.sleep(1)
        else:
            raise RuntimeError(made.stderr)
        for part in self.services:
            self.start(part)
        threading.Thread(target=self.supervise, daemon=True).start()
        self.wait([p.name for p in self.services], 120)

    def init_database(self):
        os.makedirs(self.path("pg"))
        if self.as_postgres:
            subprocess.run(["chown", "postgres", self.path("pg")], check=True)
        self.run([*self.as_postgres, f"{self.pg_bin}/initdb", "-D", self.path("pg/data"), "-U", "enclii", "-A", "trust",
                  "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])

    def make_database(self):
        self.run(["createdb", "-h", "127.0.0.1", "-p", str(self.port["postgres"]), "-U", "enclii", "enclii"])

    def format_brokers(self):
        """One by Kafka's own tool; the others are the same but for their ids, and a JVM start saved."""
        self.run(self.java(1, "kafka.tools.StorageTool", "format", "-t", self.cluster, "-c",
                           self.path("kafka1/server.properties")))
        for node in range(2, self.nodes + 1):
            shutil.copytree(self.path("kafka1/data"), self.path(f"kafka{node}/data"))
            with open(self.path("kafka1/data/meta.properties")) as f:
                lines = [line for line in f if not line.startswith(("node.id", "directory.id", "#"))]
            directory = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            self.write(f"kafka{node}/data/meta.properties",
                       "".join(lines) + f"node.id={node}\ndirectory.id={directory}\n")

    def run(self, command):
        done = subprocess.run(command, capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)[:200]}: {done.stdout}{done.stderr}")

    def supervise(self):
        while not self.stopping:
            with self.lock:
                for part in self.parts.values():
                    if part.alive() or part.held or self.stopping:
                        continue
                    if not part.again_at:
                        part.again_at = time.time() + 0.3
                    elif time.time() >= part.again_at:
                        part.again_at = 0
                        self.start(part)
            time.sleep(0.1)

    def kill(self, part):
        with self.lock:
            if part.alive():
                part.process.kill()
                part.kills += 1
                return True
        return False

    def down(self):
        """Services first: they say goodbye to what they use."""
        self.stopping = True
        with self.lock:
            for these in (self.services, [p for p in self.parts.values() if not p.needs]):
                for part in these:
                    if part.alive():
                        part.process.send_signal(signal.SIGCONT)
                        part.process.send_signal(part.stop)
                end = time.time() + 8
                for part in these:
                    try:
                        part.process and part.process.wait(max(0.1, end - time.time()))
                    except subprocess.TimeoutExpired:
                        part.process.kill()
                        part.process.wait()
