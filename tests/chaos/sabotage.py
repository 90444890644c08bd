"""What goes wrong meanwhile, in an order that follows from the seed."""
import os, random, signal, subprocess, threading, time


class Sabotage(threading.Thread):
    def __init__(self, platform, seed, pause, say):
        super().__init__(daemon=True)
        self.platform, self.random, self.pause, self.say = platform, random.Random(f"{seed}/sabotage"), pause, say
        self.over, self.done, self.began = threading.Event(), {}, time.time()
        services = [p.name for p in platform.services]
        self.deck = ([(self.kill, name) for name in services] * 2 +
                     [(self.kill, name) for name in ("engine", "registry", "router")] +
                     [(self.fence, name) for name in ("pipeline-1", "pipeline-2", "builder-1", "builder-2")] +
                     [(self.lose_broker, f"kafka{i}") for i in (1, 2, 3)] +
                     [(self.crash_database, "postgres"), (self.stall_database, "postgres"),
                      (self.slow_wire, "all"), (self.cut_wire, "all"), (self.cut_wire, "one"), (self.stall_service, "any")])

    def run(self):
        """Every trick comes once before any comes again."""
        while not self.over.is_set():
            self.random.shuffle(self.deck)
            for trick, name in list(self.deck):
                if self.over.wait(self.random.uniform(0.5, 1.5) * self.pause):
                    return
                what = trick(name)
                self.done[trick.__name__] = self.done.get(trick.__name__, 0) + 1
                self.say(f"{time.time() - self.began:7.1f} s  {what}")

    def stop(self):
        self.over.set()
        self.join()
        self.wire("ok", range(1, 4))

    def kill(self, name):
        self.platform.kill(self.platform.parts[name])
        return f"kill -9 {name}"

    def lose_broker(self, name):
        part, away = self.platform.parts[name], self.random.uniform(1, 8)
        part.held = True
        self.platform.kill(part)
        self.over.wait(away)
        part.held = False
        self.back(part, 60)
        return f"kill -9 {name}, back after {away:.1f} s"

    def crash_database(self, name):
        """The postmaster goes by kill -9, so do the others as they notice; they recover from the log."""
        part, away = self.platform.parts[name], self.random.uniform(0, 3)
        children = self.children(part.process.pid)
        part.held = True
        self.platform.kill(part)
        for pid in children:
            self.signal(pid, signal.SIGKILL)
        self.over.wait(away)
        part.held = False
        self.back(part, 60)
        return f"PostgreSQL killed -9, back after {away:.1f} s"

    def stall_database(self, name):
        stall, pid = self.random.uniform(1, 8), self.platform.parts[name].process.pid
        stopped = [pid, *self.children(pid)]
        for each in stopped:
            self.signal(each, signal.SIGSTOP)
        self.over.wait(stall)
        for each in reversed(stopped):
            self.signal(each, signal.SIGCONT)
        return f"PostgreSQL stood still for {stall:.1f} s"

    def stall_service(self, _):
        """A process that sleeps through its leases and sessions, then goes on as if nothing had been."""
        part, stall = self.random.choice(self.platform.services), self.random.uniform(3, 15)
        pid = part.process.pid
        self.signal(pid, signal.SIGSTOP)
        self.over.wait(stall)
        self.signal(pid, signal.SIGCONT)
        return f"{part.name} stood still for {stall:.1f} s"

    def fence(self, member):
        """Somebody else joins the group under the name of a member of ours, reads, commits nothing, and is killed."""
        time_s = self.random.uniform(1, 8)
        group, topic = ("pipeline", "enclii.intake") if member.startswith("pipeline") else \
                       (f"builder.{member}", "enclii.build.commands")
        brokers = ",".join(f"127.0.0.1:{self.platform.port[f'kafka{i}']}" for i in (1, 2, 3))
        other = subprocess.Popen(["kcat", "-b", brokers, "-G", group, "-X", f"group.instance.id={member}", "-X",
                                  "partition.assignment.strategy=range", "-X", "enable.auto.commit=false", topic],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.over.wait(time_s)
        other.kill()
        other.wait()
        return f"another {member} for {time_s:.1f} s"

    def slow_wire(self, _):
        ms, time_s = self.random.randint(20, 300), self.random.uniform(2, 8)
        self.wire(str(ms), range(1, 4))
        self.over.wait(time_s)
        self.wire("ok", range(1, 4))
        return f"{ms} ms to every broker for {time_s:.1f} s"

    def cut_wire(self, which):
        nodes = range(1, 4) if which == "all" else [self.random.randint(1, 3)]
        how, time_s = self.random.choice(["cut", "stall"]), self.random.uniform(1, 8)
        self.wire(how, nodes)
        self.over.wait(time_s)
        self.wire("ok", nodes)
        return f"wire to broker {', '.join(map(str, nodes))}: {how} for {time_s:.1f} s"

    def wire(self, state, nodes):
        for node in nodes:
            path = self.platform.path(f"wire/{node}")
            with open(path + ".new", "w") as f:
                f.write(state)
            os.rename(path + ".new", path)

    def back(self, part, seconds):
        end = time.time() + seconds
        while time.time() < end and not (part.alive() and part.ready()):
            time.sleep(0.1)

    def children(self, parent):
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat") as f:
                        if int(f.read().rsplit(")", 1)[1].split()[1]) == parent:
                            found.append(int(name))
                except OSError:
                    pass
        return found

    def signal(self, pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
