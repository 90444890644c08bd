"""A double of the Docker Engine API, for `make chaos`: what the reconciler uses of it, and strict about it.

  container_engine.py SOCKET FOLDER FIRST_PORT LAST_PORT

Containers live in FOLDER/journal, so that a kill -9 of this program costs none of them: like dockerd with live
restore. Each start opens a port that answers health probes. An image is there only after a pull, which reads
manifest and config from the real registry and checks their digests. The journal is never cut: it is the record
of what was ever started on this target, and what the checker reads.
"""
import asyncio, hashlib, json, os, re, sys, time, urllib.error, urllib.parse, urllib.request

socket_path, folder, first_port, last_port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
containers, images, watchers, listening = {}, set(), set(), {}
os.makedirs(folder, exist_ok=True)
journal_path = f"{folder}/journal"
next_port = first_port
journal = None


def note(**entry):
    journal.write(json.dumps({"t": time.time(), **entry}) + "\n")
    journal.flush()


def apply(entry):
    op, name = entry["op"], entry.get("name")
    if op == "pull":
        images.add(entry["image"])
    elif op == "create":
        containers[name] = {"id": entry["id"], "image": entry["image"], "labels": entry["labels"],
                            "inside": entry["inside"], "state": "created", "port": 0}
    elif op == "start":
        containers[name].update(state="running", port=entry["port"])
    elif op == "stop":
        containers[name].update(state="exited", port=0)
    elif op == "remove":
        del containers[name]


def recall():
    """What the killed one knew; a torn last line was never answered for."""
    global journal
    whole = b""
    if os.path.exists(journal_path):
        with open(journal_path, "rb") as f:
            whole = f.read()
        whole = whole[:whole.rfind(b"\n") + 1]
        for line in whole.splitlines():
            apply(json.loads(line))
        os.truncate(journal_path, len(whole))
    journal = open(journal_path, "a")


# ---- the apps ----
async def app(reader, writer):
    try:
        while await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
            break
    except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()


async def listen(name, port=0):
    global next_port
    for _ in range(last_port - first_port + 1):
        at = port or next_port
        next_port = next_port + 1 if next_port < last_port else first_port
        try:
            listening[name] = await asyncio.start_server(app, "127.0.0.1", at)
            return at
        except OSError:
            if port:
                raise
    raise Refused(500, "no free port")


def hush(name):
    server = listening.pop(name, None)
    if server:
        server.close()


# ---- the API ----
class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def fetch(url, digest):
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        body = answer.read()
    if "sha256:" + hashlib.sha256(body).hexdigest() != digest:
        raise ValueError(f"{url} is not {digest}")
    return body


def pull(image):
    at = re.fullmatch(r"(127\.0\.0\.1:\d+)/([^@]+)@(sha256:[0-9a-f]{64})", image)
    if not at:
        raise ValueError(f"{image} is not named by digest")
    host, path, digest = at.groups()
    manifest = json.loads(fetch(f"http://{host}/v2/{path}/manifests/{digest}", digest))
    for part in [manifest["config"], *manifest["layers"]]:
        fetch(f"http://{host}/v2/{path}/blobs/{part['digest']}", part["digest"])


def changed(action, name):
    line = json.dumps({"Type": "container", "Action": action, "Actor": {"ID": name}}).encode() + b"\n"
    for queue in watchers:
        queue.put_nowait(line)


def find(name):
    if name not in containers:
        raise Refused(404, f"no such container: {name}")
    return containers[name]


def on_list(query, body):
    wanted = json.loads(query["filters"])["label"]
    return 200, [{"Id": c["id"], "Names": ["/" + name], "Image": c["image"], "State": c["state"],
                  "Status": "Exited (0) 1 second ago" if c["state"] == "exited" else "Up 1 second",
                  "Labels": c["labels"],
                  "Ports": [{"PrivatePort": c["inside"], "PublicPort": c["port"], "Type": "tcp"}] if c["port"] else []}
                 for name, c in containers.items()
                 if all(c["labels"].get(w.split("=", 1)[0]) == w.split("=", 1)[1] for w in wanted)]


def on_image(query, body, image):
    if image not in images:
        raise Refused(404, f"no such image: {image}")
    return 200, {"Id": image}


async def on_pull(query, body):
    image = query["fromImage"]
    try:
        await asyncio.get_running_loop().run_in_executor(None, pull, image)
    except urllib.error.HTTPError as e:
        return 200, {"error": f"the registry answered {e.code} for {image}"}
    except OSError as e:
        return 200, {"error": f"dial tcp: connection refused ({e})"}
    except ValueError as e:
        return 200, {"error": str(e)}
    if image not in images:
        note(op="pull", image=image)
        images.add(image)
    return 200, {"status": "Download complete"}


def on_create(query, body):
    name, spec = query["name"], json.loads(body)
    if name in containers:
        raise Refused(409, f"the name {name} is in use")
    if spec["Image"] not in images:
        raise Refused(404, f"no such image: {spec['Image']}")
    port, = spec["ExposedPorts"]
    entry = {"op": "create", "name": name, "id": hashlib.sha256(os.urandom(16)).hexdigest(), "image": spec["Image"],
             "labels": spec["Labels"], "inside": int(port.split("/")[0])}
    note(**entry)
    apply(entry)
    changed("create", name)
    return 201, {"Id": entry["id"], "Warnings": []}


async def on_start(query, body, name):
    if find(name)["state"] == "running":
        return 304, None
    port = await listen(name)
    note(op="start", name=name, port=port)
    apply({"op": "start", "name": name, "port": port})
    changed("start", name)
    return 204, None


def on_stop(query, body, name):
    if find(name)["state"] != "running":
        return 304, None
    hush(name)
    note(op="stop", name=name)
    apply({"op": "stop", "name": name})
    changed("die", name)
    return 204, None


def on_remove(query, body, name):
    if find(name)["state"] == "running" and query.get("force") != "true":
        raise Refused(409, f"{name} is running")
    hush(name)
    note(op="remove", name=name)
    apply({"op": "remove", "name": name})
    changed("destroy", name)
    return 204, None


ROUTES = [(method, re.compile(path), handler) for method, path, handler in [
    ("GET", r"/_ping", lambda query, body: (200, {})),
    ("GET", r"/v1\.41/containers/json", on_list),
    ("POST", r"/v1\.41/images/create", on_pull),
    ("GET", r"/v1\.41/images/(.+)/json", on_image),
    ("POST", r"/v1\.41/containers/create", on_create),
    ("POST", r"/v1\.41/containers/([^/]+)/start", on_start),
    ("POST", r"/v1\.41/containers/([^/]+)/stop", on_stop),
    ("GET", r"/v1\.41/containers/([^/]+)/logs", lambda query, body, name: (200, {})),
    ("DELETE", r"/v1\.41/containers/([^/]+)", on_remove)]]


async def answer(method, target, body):
    path, _, query = target.partition("?")
    query = dict(urllib.parse.parse_qsl(query))
    for its_method, pattern, handler in ROUTES:
        found = pattern.fullmatch(urllib.parse.unquote(path)) if method == its_method else None
        if found:
            try:
                result = handler(query, body, *found.groups())
                return await result if asyncio.iscoroutine(result) else result
            except Refused as e:
                return e.status, {"message": str(e)}
    return 404, {"message": f"this double has no {method} {path}"}


async def follow(writer):
    queue = asyncio.Queue(10000)
    watchers.add(queue)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        while True:
            await writer.drain()
            line = await queue.get()
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
    finally:
        watchers.discard(queue)


async def client(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if target.startswith("/v1.41/events"):
                await follow(writer)
            status, value = await answer(method, target, body)
            text = b"" if value is None else json.dumps(value).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(text)}\r\n\r\n".encode() + text)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    recall()
    for name, c in containers.items():
        if c["state"] == "running":
            await listen(name, c["port"])
    if os.path.exists(socket_path):
        os.unlink(socket_path)
    server = await asyncio.start_unix_server(client, socket_path, limit=1 << 20)
    async with server:
        await server.serve_forever()

asyncio.run(main())
