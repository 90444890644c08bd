"""Pushes through the whole platform while its parts are killed, stalled and cut off; then the checker judges.

  chaos.py [--pushes N] [--services N] [--seed N] [--planted BUG] [--pause S] [--port-base P] [--keep]

Ends with the figures and exit status 0 when nothing was lost, doubled, out of order or left undone.
"""
import argparse, json, os, random, shutil, signal, subprocess, sys, tempfile, threading, time, http.client

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import parts, pushes, sabotage  # noqa: E402

SPEC = """apiVersion: enclii.dev/v1
kind: Service
metadata:
  name: {name}
  project: {project}
spec:
  source:
    git:
      repository: {url}
      branch: main
      autoDeploy: true
  build:
    type: dockerfile
  runtime:
    port: 8080
    replicas: 1
    healthCheck: /health
  deployment:
    strategy: canary
    canary:
      steps:
        - weight: 50
          pause: 200ms
        - weight: 100
  routes:
    - host: {name}.apps.localhost
"""


def say(text):
    print(text, flush=True)


def at_share(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0


def call(platform, method, path, body=None):
    api = http.client.HTTPConnection("127.0.0.1", platform.port["api"], timeout=30)
    api.request(method, path, json.dumps(body) if body else None,
                {"Authorization": "Bearer " + platform.token, "Content-Type": "application/json"})
    answer = api.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
    return json.loads(text)


def make_services(platform, names):
    projects = [f"team{i}" for i in range(1, min(5, len(names)) + 1)]
    for project in projects:
        call(platform, "POST", "/v1/projects", {"slug": project, "name": project})
    for i, name in enumerate(names):
        url = f"git://127.0.0.1:{platform.port['git']}/acme/{name}.git"
        call(platform, "POST", f"/v1/projects/{projects[i % len(projects)]}/services",
             {"spec_yaml": SPEC.format(name=name, project=projects[i % len(projects)], url=url)})


UNDONE = """select (select count(*) from enclii.outbox) + (select count(*) from enclii.build where state <> upper(state))
+ (select count(*) from enclii.release where state <> upper(state))
+ (select count(*) from enclii.deployment where state <> upper(state))"""


def settle(platform, seconds):
    """Nothing is broken any more: everything begun must end."""
    end, quiet = time.time() + seconds, 0
    while time.time() < end and quiet < 4:
        try:
            quiet = quiet + 1 if platform.sql(UNDONE)[0][0] == "0" else 0
        except (RuntimeError, subprocess.TimeoutExpired):
            quiet = 0
        time.sleep(0.5)


def figures(options, platform, watch, pushers, breaker, took):
    sent = {sha: at for p in pushers for sha, at in p.sent.items()}
    times = [watch.healthy[sha] - sent[sha] for p in pushers for sha in p.must if sha in watch.healthy]
    ends = sorted(watch.healthy.values())
    gap = max((b - a for a, b in zip(ends, ends[1:])), default=0)
    kills = " ".join(f"{p.name}:{p.kills}" for p in platform.parts.values() if p.kills)
    lines = [f"pushes       {len(sent)} in {took:.0f} s ({len(sent) / took:.1f}/s), {len(options.names)} services, seed {options.seed}",
             f"deployed     {len(watch.healthy)} commits HEALTHY; longest time without one {gap:.1f} s",
             f"push→HEALTHY p50 {at_share(times, .5):.1f} s  p99 {at_share(times, .99):.1f} s  worst {max(times, default=0):.1f} s, sabotage included",
             f"deliveries   {sum(p.tries for p in pushers)} had to be sent again, {sum(p.again for p in pushers)} were sent twice on purpose",
             f"kill -9      {sum(p.kills for p in platform.parts.values())}: {kills}",
             f"sabotage     {' '.join(f'{n}×{k}' for k, n in breaker.done.items())}"]
    say("\n".join(lines))


def write_case(platform, pushers):
    case = {"services": {p.name_of: {"paced": p.paced, "must": p.must} for p in pushers},
            "git": platform.path("git/acme"), "registry": f"127.0.0.1:{platform.port['registry']}",
            "brokers": platform.brokers, "journal": platform.path("engine/journal"), "database": platform.database}
    return platform.write("case.json", json.dumps(case))


def run(options, platform):
    began = time.time()
    platform.up()
    shas = pushes.make_repositories(platform, options.names, options.pushes // len(options.names))
    make_services(platform, options.names)
    say(f"up after {time.time() - began:.0f} s: {len(platform.parts)} processes, {len(options.names)} services; seed {options.seed}")
    watch = pushes.Watch(platform)
    watch.start()
    pushers = [pushes.Pusher(platform, watch, name, shas[name], i % 2 == 0, options.seed, options.gap, options.patience)
               for i, name in enumerate(options.names)]
    breaker = sabotage.Sabotage(platform, options.seed, options.pause, say)
    began = time.time()
    for pusher in pushers:
        pusher.start()
    breaker.start()
    told = time.time()
    while any(p.is_alive() for p in pushers):
        time.sleep(0.5)
        if time.time() - told > 20:
            told = time.time()
            say(f"{told - began:7.1f} s  {sum(len(p.sent) for p in pushers)} pushed, {len(watch.healthy)} healthy, "
                f"load {os.getloadavg()[0]:.1f}")
    took = time.time() - began
    breaker.stop()
    platform.wait([p.name for p in platform.parts.values()], 60)
    settle(platform, options.settle)
    time.sleep(1)  # what the topics say reaches us, too
    for pusher in pushers:
        if pusher.gave_up:
            say(f"STUCK: {pusher.gave_up}")
    checked = subprocess.run([sys.executable, os.path.join(parts.HERE, "checker.py"), write_case(platform, pushers)])
    figures(options, platform, watch, pushers, breaker, took)
    watch.stop()
    return checked.returncode or int(any(p.gave_up for p in pushers))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pushes", type=int, default=2000)
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1000000))
    parser.add_argument("--planted", default="", choices=["", "outbox_mark", "fresh_ids", "all"])
    parser.add_argument("--pause", type=float, default=4, help="seconds between two acts of sabotage, about")
    parser.add_argument("--gap", type=float, default=1, help="longest pause of a pusher")
    parser.add_argument("--patience", type=float, default=300, help="seconds a push may take before it counts as stuck")
    parser.add_argument("--settle", type=float, default=120)
    parser.add_argument("--port-base", type=int, default=29000)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    options = parser.parse_args()
    options.names = [f"app{i:02}" for i in range(options.services)]
    home = tempfile.mkdtemp(prefix="enclii-chaos.")
    platform = parts.Platform(home, options.port_base, options.planted)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    status = 1
    try:
        status = run(options, platform)
    finally:
        platform.down()
        if status and not options.planted or options.keep:
            say(f"logs and data: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    say("chaos: " + ("nothing lost, doubled, out of order or stuck" if status == 0 else "FAILED"))
    return status


if __name__ == "__main__":
    sys.exit(main())
