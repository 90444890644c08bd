"""The judge of `make chaos`. It knows nothing of what the platform believes: it reads git, the registry, the target's
own record and the topics, and compares them. The database is asked one thing only: is anything left undone.

  checker.py CASE.json      prints one line per violation; exit status 1 when there is any

CASE.json: {"services": {name: {"paced": bool, "must": [sha...]}}, and where to find things}.
  paced   every commit was pushed when the one before was served: each is deployed, once, in git's order
  others  pushed in bursts: what is deployed is a part of git's order, each once, the last of each burst among them
"""
import hashlib, json, subprocess, sys, urllib.error, urllib.request

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


# ---- reading ----
def fields(data):
    """A protobuf message without its schema: number -> values (bytes or int), as they come."""
    at, found = 0, {}

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            value = varint()
        else:
            size = varint() if tag & 7 == 2 else 8 if tag & 7 == 1 else 4
            value, at = data[at:at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(message, number):
    return message.get(number, [b""])[0].decode()


def part(message, number):
    return fields(message.get(number, [b""])[0])


class Records:
    """All records of a topic, each under its id once: what is there twice under one id is one fact."""

    def __init__(self, brokers):
        self.brokers, self.repeats = brokers, 0

    def raw(self, topic):
        done = subprocess.run(["kcat", "-b", self.brokers, "-C", "-q", "-e", "-t", topic, "-o", "beginning", "-f",
                               "%K %S\\n%k\\n%h\\n%s\\n"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{topic}: {done.stderr.decode()}")
        data, at = done.stdout, 0
        while at < len(data):
            end = data.index(b"\n", at)
            key_size, size = (int(n) for n in data[at:end].split())
            key = data[end + 1:end + 1 + key_size].decode()
            at = end + key_size + 2
            end = data.index(b"\n", at)
            headers = dict(h.partition("=")[::2] for h in data[at:end].decode().split(","))
            body = data[end + 1:end + 1 + max(size, 0)]
            at = end + max(size, 0) + 2
            yield key, headers, body

    def read(self, topic, same=False):
        """same: what has one id must also be one text (what others say twice may carry other times)"""
        seen = {}
        for key, headers, body in self.raw(topic):
            if headers["ce_id"] in seen:
                self.repeats += 1
                if same and seen[headers["ce_id"]] != body:
                    violation(f"{topic}: two different records have the id {headers['ce_id']}")
                continue
            seen[headers["ce_id"]] = body
            yield key, headers["ce_id"], headers["ce_type"].removeprefix("dev.enclii.").removesuffix(".v1"), body


found = []


def violation(what):
    found.append(what)
    print(f"VIOLATION: {what}")


class Registry:
    def __init__(self, address):
        self.address, self.known = address, {}
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path, digest=None):
        request = urllib.request.Request(f"http://{self.address}/v2/{path}", headers={"Accept": f"{MANIFEST}, {INDEX}"})
        with self.opener.open(request, timeout=30) as answer:
            body = answer.read()
        if digest and "sha256:" + hashlib.sha256(body).hexdigest() != digest:
            raise ValueError(f"{path} does not have its digest")
        return body

    def image(self, reference):
        """(commit, content of its only file) as the image itself says."""
        if reference not in self.known:
            name, digest = reference.split("/", 1)[1].split("@")
            manifest = json.loads(self.get(f"{name}/manifests/{digest}", digest))
            config, layer = manifest["config"]["digest"], manifest["layers"][0]["digest"]
            labels = json.loads(self.get(f"{name}/blobs/{config}", config))["config"]["Labels"]
            tar = self.get(f"{name}/blobs/{layer}", layer)
            size = int(tar[124:135], 8)
            self.known[reference] = (labels["org.opencontainers.image.revision"], tar[512:512 + size].decode())
        return self.known[reference]

    def attached(self, reference):
        """The kinds of what is attached to the image: signature, provenance, SBOM."""
        name, digest = reference.split("/", 1)[1].split("@")
        try:
            index = json.loads(self.get(f"{name}/manifests/{digest.replace(':', '-')}"))
        except urllib.error.HTTPError:
            return []
        return [m.get("annotations", {}).get("dev.sigstore.bundle.predicateType", m.get("artifactType", "?"))
                for m in index["manifests"]]


def git_order(folder):
    log = subprocess.run(["git", "-C", folder, "rev-list", "--reverse", "refs/heads/main"], capture_output=True, text=True,
                         check=True)
    return log.stdout.split()


def git_file(folder, sha):
    return subprocess.run(["git", "-C", folder, "show", f"{sha}:version"], capture_output=True, text=True,
                          check=True).stdout


def target_record(path):
    """What was started on the target, in order, and what runs there now."""
    made, started, running = {}, [], {}
    with open(path) as f:
        for entry in map(json.loads, f):
            op, name = entry["op"], entry.get("name")
            if op == "create":
                made[name] = (entry["labels"]["enclii.service"], entry["image"])
            elif op == "start":
                started.append(made[name])
                running[name] = made[name]
            elif op in ("stop", "remove"):
                running.pop(name, None)
    return started, list(running.values())


# ---- judging ----
def in_order(what, got, order, must, all_of_them):
    """`got`: what happened, in order. Each once, in git's order, nothing that must be missing."""
    place = {sha: i for i, sha in enumerate(order)}
    for sha in sorted(set(got), key=lambda s: place.get(s, -1)):
        if sha not in place:
            violation(f"{what}: {sha[:9]} was never pushed")
        elif got.count(sha) > 1:
            violation(f"{what}: commit {place[sha] + 1} ({sha[:9]}) {got.count(sha)} times")
    known = [place[sha] for sha in got if sha in place]
    for before, after in zip(known, known[1:]):
        if after < before:
            violation(f"{what}: commit {after + 1} came after commit {before + 1}")
    for sha in order if all_of_them else must:
        if sha not in got:
            violation(f"{what}: commit {place[sha] + 1} ({sha[:9]}) is missing")


def without_repeats(items):
    return [item for i, item in enumerate(items) if i == 0 or items[i - 1] != item]


def check_deliveries(records, orders):
    heard = {}
    for key, event, kind, body in records.read("enclii.intake"):
        if kind == "push.received":
            heard.setdefault((key.rsplit("/", 1)[1], text(fields(body), 8)), set()).add(event)
    for name, order in orders.items():
        for sha in order:
            count = len(heard.pop((name, sha), ()))
            if count != 1:
                violation(f"{name}: the push of {sha[:9]} is on the intake topic {count} times")
    for name, sha in heard:
        violation(f"{name}: a push of {sha[:9]} on the intake topic that git does not have")


def check_builds(records, orders):
    built = {}
    for _, _, kind, body in records.read("enclii.build.events"):
        if kind == "build.succeeded":
            message = fields(body)
            built.setdefault(text(message, 7), {}).setdefault(text(message, 1), set()).add(text(message, 5))
    for sha, builds in built.items():
        if len(builds) > 1:
            violation(f"{sha[:9]} was built by {len(builds)} builds")
        if len(set.union(*builds.values())) > 1:
            violation(f"{sha[:9]}: its attempts made different images")
    return sum(len(b) for b in built.values())


def check_deployments(records, services, orders):
    healthy, other = {name: [] for name in orders}, {}
    for _, _, kind, body in records.read("enclii.deployment.events"):
        if kind in ("deployment.healthy", "deployment.failed", "deployment.rolled_back", "deployment.superseded",
                    "deployment.cancelled"):
            message = fields(body)
            name, sha = text(part(message, 2), 4), text(part(message, 8), 1)
            if kind == "deployment.healthy":
                healthy[name].append(sha)
            else:
                other.setdefault(kind, []).append((name, sha, text(message, 6)))
    for name, order in orders.items():
        in_order(f"{name}: HEALTHY", healthy[name], order, services[name]["must"], services[name]["paced"])
    for kind, ends in other.items():
        for name, sha, reason in ends:
            if kind != "deployment.superseded" or services[name]["paced"]:
                violation(f"{name}: {kind} of {sha[:9]} ({reason}), although the app is good")
    return sum(map(len, healthy.values())), {kind: len(ends) for kind, ends in other.items()}


def check_desired(records, orders):
    last, revision = {}, {}
    for key, _, _, body in records.read("enclii.desired", same=True):
        message = fields(body)
        name, number = text(part(message, 3), 4), message.get(2, [0])[0]
        if number <= revision.get(key, 0):
            violation(f"{name}: revision {number} of the desired state after revision {revision[key]}")
        revision[key] = number
        last[name] = (text(part(message, 6), 5), message.get(10, [0])[0])
    for name, order in orders.items():
        sha, settled = last.get(name, ("nothing", 0))
        if sha != order[-1] or not settled:
            violation(f"{name}: {sha[:9]} is desired{'' if settled else ', not settled'}, and not the last commit")


def check_target(case, registry, services, orders):
    started, running = target_record(case["journal"])
    by_name, extra = {name: [] for name in orders}, 0
    for name, image in started:
        by_name[name].append(registry.image(image)[0])
    for name, order in orders.items():
        once = without_repeats(by_name[name])
        extra += len(by_name[name]) - len(once)
        in_order(f"{name}: started on the target", once, order, services[name]["must"], services[name]["paced"])
        now = [registry.image(image) for service, image in running if service == name]
        if len(now) != 1:
            violation(f"{name}: {len(now)} containers run, not 1")
        for sha, content in now:
            if sha != order[-1]:
                violation(f"{name}: {sha[:9]} runs, not the last commit {order[-1][:9]}")
            elif content != git_file(f"{case['git']}/{name}.git", sha):
                violation(f"{name}: what runs is not the content of {sha[:9]}")
    return set(image for _, image in started), extra


def check_signatures(registry, images):
    doubled = 0
    for image in sorted(images):
        kinds = registry.attached(image)
        if len(set(kinds)) < 3:
            violation(f"{image[-71:]} was started with only {sorted(set(kinds))} attached")
        doubled += len(kinds) > 3
    return doubled


def check_dead_letters(records):
    listing = subprocess.run(["kcat", "-b", records.brokers, "-L", "-J"], capture_output=True, text=True, timeout=60)
    for topic in json.loads(listing.stdout)["topics"]:
        if topic["topic"].endswith(".dead"):
            for key, headers, _ in records.raw(topic["topic"]):
                violation(f"a dead letter on {topic['topic']} under key {key}: {headers}")


def check_undone(database):
    for what, query in {
            "outbox rows": "select count(*) from enclii.outbox",
            **{f"{table} rows that are not in a final state":
               f"select count(*) from enclii.{table} where state <> upper(state)"
               for table in ("delivery", "build", "release", "deployment")}}.items():
        asked = subprocess.run(["psql", "-qtAX", database, "-c", query], capture_output=True, text=True, timeout=60)
        if asked.stdout.strip() != "0":
            violation(f"{asked.stdout.strip()}{asked.stderr} {what}")


def main():
    with open(sys.argv[1]) as f:
        case = json.load(f)
    services = case["services"]
    records, registry = Records(case["brokers"]), Registry(case["registry"])
    orders = {name: git_order(f"{case['git']}/{name}.git") for name in services}
    check_deliveries(records, orders)
    builds = check_builds(records, orders)
    healthy, other = check_deployments(records, services, orders)
    check_desired(records, orders)
    images, extra = check_target(case, registry, services, orders)
    doubled = check_signatures(registry, images)
    check_dead_letters(records)
    check_undone(case["database"])
    print(f"checked: {sum(map(len, orders.values()))} commits in git, {builds} built, {healthy} deployed, "
          f"{' '.join(f'{n} {k}' for k, n in other.items()) or 'none ended otherwise'}; {records.repeats} records repeated "
          f"under their id; {extra} replicas replaced, {doubled} of {len(images)} images signed more than once")
    print(f"{len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
