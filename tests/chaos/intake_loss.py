"""No delivery that was answered 202 is lost, and none counts twice, while `webhook` and the broker are killed.

A real webhook and a real Kafka (one node, so that its end is the end of all brokers). A git host delivers 2,000 pushes a
second, each another one, and writes down every answer (tests/bench/webhook_load.c). Meanwhile webhook is killed several
times and the broker twice, once with webhook killed while the broker is away. Afterwards the host delivers again what was
not answered 202, as it would be asked to by a sweep of its deliveries. A second host delivers 5 pushes a second, each
once: those are for a real sweeper to find in its refs (intake_sweep.py). Then the whole topic is read and compared.

  intake_loss.py [--seconds 30] [--rate 2000] [--seed N] [--planted early_ack|fresh_ids] [--port-base P] [--keep]

Prints the figures, a line for each violation; exit status 1 when there is any.
"""
import argparse, os, random, shutil, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench"))
import checker, delivery, intake, intake_sweep, parts  # noqa: E402

TOPIC = "enclii.intake"
PUSH, REFUSED = "dev.enclii.push.received.v1", "dev.enclii.delivery.refused.v1"


def say(text):
    print(text, flush=True)


class Kind:
    """Violations of one kind: the first twenty are told one by one, all are counted."""

    def __init__(self, what):
        self.what, self.count = what, 0

    def add(self, text):
        self.count += 1
        if self.count <= 20:
            checker.violation(text)

    def total(self):
        if self.count > 20:
            checker.violation(f"... {self.count} in all: {self.what}")


class Sabotage(threading.Thread):
    """Kills by a plan: webhook alone, the broker with webhook killed while it is away, the broker alone."""

    def __init__(self, platform, seconds, seed):
        super().__init__(daemon=True)
        self.platform, self.random, self.log = platform, random.Random(seed), []
        share = seconds / 30
        self.plan = [(t * share + self.random.uniform(0, 0.5), what) for t, what in (
            (3, "webhook"), (5, "webhook"), (7, "kafka1"), (8.5, "webhook"), (16, "webhook"), (19, "kafka1"), (27, "webhook"))]
        self.plan.sort()

    def run(self):
        began = time.monotonic()
        for at, name in self.plan:
            time.sleep(max(0, began + at - time.monotonic()))
            part = self.platform.parts[name]
            if self.platform.kill(part):
                self.log.append((time.monotonic(), name))


def attempts(journal):
    """(number, status, due, answered, event id), in the order in which they ended."""
    with open(journal) as f:
        for line in f:
            number, status, due, answered, event_id = line.split()
            yield int(number), int(status), int(due) / 1e6, int(answered) / 1e6, event_id


def records(platform):
    """(headers, value) of every record of the topic, read by somebody else's client."""
    process = subprocess.Popen(["kcat", "-b", platform.brokers, "-C", "-q", "-e", "-t", TOPIC, "-o", "beginning", "-f",
                                "%S\\n%h\\n%s\\n"], stdout=subprocess.PIPE)
    stream = process.stdout
    while line := stream.readline():
        headers = dict(h.partition("=")[::2] for h in stream.readline().decode().rstrip("\n").split(","))
        size = max(int(line), 0)
        yield headers, stream.read(size + 1)[:size]
    if process.wait():
        raise RuntimeError("kcat could not read the topic")


class Told:
    """What the host knows: which deliveries it made, and what it was told of each."""

    def __init__(self, journal):
        self.accepted, self.ids, self.statuses = {}, {}, {}
        self.answers, self.made, self.first = [], 0, {}
        for number, status, _, answered, event_id in attempts(journal):
            self.made += 1
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.first.setdefault(number, status)
            if status == 202:
                self.accepted.setdefault(number, event_id)
                self.answers.append(answered)
                if self.accepted[number] != event_id:
                    checker.violation(f"delivery {number} was accepted as {self.accepted[number]} and as {event_id}")
            elif status not in (0, 503):
                checker.violation(f"delivery {number} was answered {status}")
        self.answers.sort()

    def gap_after(self, moment):
        """How long after a kill nothing was accepted: its end is the first answer behind the longest pause that began
        within half a second of it."""
        near = [b - a for a, b in zip(self.answers, self.answers[1:]) if moment - 0.1 <= a <= moment + 0.5]
        return f"{max(near):.2f}" if near else "- (nothing was accepted before either)"


def judge(platform, told):
    seen, repeats, refused, swept = {}, 0, 0, {}
    strange, doubled, lost, renamed = (Kind(what) for what in ("records that were never sent", "deliveries under two ids",
                                                               "accepted and lost", "accepted under an id that is not there"))
    for headers, value in records(platform):
        if headers["ce_type"] == REFUSED:
            refused += 1
            continue
        if headers["ce_type"] != PUSH:
            strange.add(f"a record of type {headers['ce_type']}: nothing of that kind was delivered")
            continue
        push = checker.fields(value)
        if checker.text(push, 3) != intake.KEY:
            swept.setdefault(checker.text(push, 8), {})[headers["ce_id"]] = 20 in push
            continue
        name = checker.text(push, 1)
        number = int(name.removeprefix("load-")) if name.removeprefix("load-").isdigit() else -1
        if number not in told.first or headers["ce_subject"] != name or checker.text(push, 8) != f"{number:040x}":
            strange.add(f"record {headers['ce_id']} is of {name}, {checker.text(push, 8)}: that was never sent")
        elif number not in seen:
            seen[number] = headers["ce_id"]
        elif seen[number] == headers["ce_id"]:
            repeats += 1
        else:
            doubled.add(f"delivery {number} is there twice: as {seen[number]} and as {headers['ce_id']}")
    for number, event_id in told.accepted.items():
        if number not in seen:
            lost.add(f"delivery {number} was answered 202 and is not in the topic")
        elif seen[number] != event_id:
            renamed.add(f"delivery {number} was accepted as {event_id}, the topic has {seen[number]}")
    for kind in (strange, doubled, lost, renamed):
        kind.total()
    left = [n for n in told.first if n not in told.accepted]
    if left:
        checker.violation(f"{len(left)} deliveries were not accepted even when delivered again, number {left[0]} first")
    return len(seen), repeats, refused, swept


def report(platform, told, sabotage, swept_host, printed, options):
    seen, repeats, refused, swept = judge(platform, told)
    first = sorted(told.first.values())
    unwell = len(first) - first.count(202)
    say(f"deliveries: {len(told.first)} at {options.rate}/s for {options.seconds} s, {first.count(202)} answered 202 at once, "
        f"{first.count(503)} answered 503, {first.count(0)} not answered; delivered again {told.made - len(told.first)} times")
    say(f"topic: {seen} deliveries, {repeats} records twice under one id, {refused} refusals in the ledger")
    pauses = [f"{name} {told.gap_after(at)}" for at, name in sabotage.log]
    say(f"kill -9 and the longest pause between two answers 202 that began then, s: {', '.join(pauses)}")
    if swept_host:
        say(swept_host.judge(swept))
    say(f"in all: {printed.split('seconds')[0]}")
    kills = {name: sum(n == name for _, n in sabotage.log) for name in ("webhook", "kafka1")}
    if kills["webhook"] < 4 or kills["kafka1"] < 2:
        checker.violation(f"too little went wrong to prove anything: {kills}")
    if unwell < 50:
        checker.violation(f"only {unwell} deliveries met trouble: that proves nothing")
    say(f"checked: {len(told.first)} deliveries, violations: {len(checker.found)}")


def run(options, home):
    swept_host = None
    kind = intake.Intake if options.planted else intake.SweptIntake
    platform = kind(home, options.port_base, options.planted)
    journal = platform.path("journal")
    try:
        platform.up()
        secret = platform.write("secret", platform.secret)
        body = platform.write("body", delivery.delivery(intake.URL))
        if not options.planted:
            platform.wait_sql(f"select coalesce(bool_or(baselined), false) from sweeper.repo where repo_key = "
                              f"'{platform.swept_key}'", "t", 30)
            swept_host = intake_sweep.SweptHost(platform, options.seconds, 5)
            swept_host.start()
        sabotage = Sabotage(platform, options.seconds, options.seed)
        sabotage.start()
        load = subprocess.run([f"{parts.ROOT}/build/chaos/webhook_load", "-c", "512", "-s", str(options.seconds), "-r",
                               str(options.rate), "-R", "60", "-j", journal, str(platform.port["webhook"]), body, secret],
                              stdout=subprocess.PIPE, text=True)
        if load.returncode not in (0, 3):
            raise RuntimeError("the load generator failed")
        sabotage.join(60)
        if swept_host:
            swept_host.join(60)
            swept_host.settle()
        report(platform, Told(journal), sabotage, swept_host, load.stdout.strip(), options)
    finally:
        platform.down()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--planted", default="", choices=["", "early_ack", "fresh_ids"])
    parser.add_argument("--port-base", type=int, default=21600)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    home = tempfile.mkdtemp(prefix="enclii-intake.")
    try:
        run(options, home)
    finally:
        if options.keep:
            say(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    sys.exit(1 if checker.found else 0)


if __name__ == "__main__":
    main()
