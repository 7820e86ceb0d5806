"""What scenarios run against: stmd, alone or over ZooKeeper, and the driver of a language. All end with whom they serve."""

import collections
import json
import os
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
DEPLOY_ZOOKEEPER = os.path.join(HERE, "..", "..", "deploy", "zookeeper")
DEADLINE_S = float(os.environ.get("DEADLINE_S", "60"))  # of whatever must come
# Below what the kernel gives to outgoing connections: what is down finds its port free when it comes back.
PORT_MIN, PORT_MAX = 12000, 32000


class Failed(Exception):
    pass


def language(driver):
    """Of a driver's program: tests/conformance/go/driver, python/driver_aio, or cpp_driver."""
    folder, name = os.path.split(os.path.abspath(driver))
    return os.path.basename(folder) + name[len("driver"):] if name.startswith("driver") else name.partition("_")[0]


class Ports:
    """Ports of 127.0.0.1 that nobody listens on. A bound UDP socket of the same number is the claim, which other tests see."""

    def __init__(self, count):
        self.claims = []
        while True:
            first = random.randrange(PORT_MIN, PORT_MAX - count)
            try:
                for port in range(first, first + count):
                    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    self.claims.append(claim)
                    claim.bind(("127.0.0.1", port))
                    socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                self.close()
                continue
            self.ports = list(range(first, first + count))
            return

    def close(self):
        for claim in self.claims:
            claim.close()
        self.claims = []


class ZooKeeper:
    """One server of ZooKeeper, with its data in memory where the machine has /dev/shm."""

    def __init__(self):
        self.claimed = Ports(3)
        self.folder = tempfile.mkdtemp(prefix="stmd-zookeeper-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        ports = ":".join(map(str, self.claimed.ports))
        prepared = subprocess.run([DEPLOY_ZOOKEEPER, "prepare", "128m", self.folder, ports], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if prepared.returncode != 0:
            raise Failed(f"no ZooKeeper: {prepared.stderr}")
        self.process = subprocess.Popen([*prepared.stdout.splitlines(), f"{self.folder}/1/zoo.cfg"],
                                        stdin=subprocess.DEVNULL, stdout=open(f"{self.folder}/log", "wb"),
                                        stderr=subprocess.STDOUT)
        self.address = f"127.0.0.1:{self.claimed.ports[0]}"
        self.stores = 0
        until = time.monotonic() + DEADLINE_S
        while not self._serves():
            if time.monotonic() > until or self.process.poll() is not None:
                with open(f"{self.folder}/log", encoding="utf-8") as log:
                    raise Failed(f"ZooKeeper does not serve: {log.read()[-2000:]}")
            time.sleep(0.05)

    def _serves(self):
        try:
            with socket.create_connection(("127.0.0.1", self.claimed.ports[0]), timeout=1) as asked:
                asked.sendall(b"ruok")
                return asked.recv(4) == b"imok"
        except OSError:
            return False

    def store(self):
        """A place that nothing is in yet."""
        self.stores += 1
        return f"zk://{self.address}/conformance{self.stores}"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.claimed.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Daemon:
    """stmd: in memory, or over ZooKeeper; once it is to be killed, on a directory of its own. It keeps its port."""

    def __init__(self, program, durable=False, zookeeper=None, store=None):
        self.program = program
        self.zookeeper = zookeeper
        self.place = store or (zookeeper.store() if zookeeper else None)
        self.folder = tempfile.TemporaryDirectory(prefix="stmd-conformance-") if durable and not zookeeper else None
        self.claimed = Ports(1) if self.folder or self.place else None
        self.port = self.claimed.ports[0] if self.claimed else 0
        self.process = None
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        where = ["--ephemeral"]
        if self.place:
            where = ["--coordinator", self.place, "--create"]
        elif self.folder:
            where = ["--data-dir", self.folder.name]
        self.process = subprocess.Popen(
            [self.program, *where, "--listen", self.address, "--http", "off", "--log-level", "error"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.port:
            return  # clients wait until it is ready
        line = self.process.stdout.readline()
        found = re.search(r':stmd/address "127\.0\.0\.1:(\d+)"', line)
        if not found:
            raise Failed(f"stmd did not start: {line}")
        self.port = int(found[1])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def do(self, what):
        if what == "freeze":
            self.process.send_signal(signal.SIGSTOP)
        elif what == "thaw":
            self.process.send_signal(signal.SIGCONT)
        elif what == "kill":
            self.kill()
        elif what == "stop":
            self.process.terminate()
            self.process.wait(timeout=DEADLINE_S)
        elif what == "wipe":
            self.wipe()
        elif what == "start":
            self.start()
        else:
            raise ValueError(f"no such thing is done to a daemon: {what}")

    def wipe(self):
        """It starts on another store the next time."""
        if self.place:
            self.place = self.zookeeper.store()
            return
        self.folder.cleanup()
        os.mkdir(self.folder.name)

    def close(self):
        self.kill()
        if self.claimed:
            self.claimed.close()
        if self.folder:
            self.folder.cleanup()


class Driver:
    """One language's client: commands go out, each one's lines come back under its number."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = collections.defaultdict(queue.Queue)
        self.sending = threading.Lock()
        self.next = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            self.lines[int(message["id"])].put(message)
        for one in list(self.lines.values()):
            one.put({"broken": "the driver has ended"})

    def send(self, **command):
        line = json.dumps(command) + "\n"
        with self.sending:
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def begin(self, command):
        with self.sending:
            self.next += 1
            number = self.next
            self.lines[number]
        self.send(id=number, **command)
        return number

    def take(self, number, what, seconds=None):
        seconds = seconds or DEADLINE_S
        try:
            message = self.lines[number].get(timeout=seconds)
        except queue.Empty:
            raise Failed(f"nothing came in {seconds} s, and {what} was due") from None
        if "broken" in message:
            raise Failed(f"the driver broke: {message['broken']}")
        return message

    def do(self, seconds=None, **command):
        """What the command gives; Failed, if it fails."""
        message = self.ask(seconds, **command)
        if "ok" not in message:
            raise Failed(f"{json.dumps(command)} failed: {json.dumps(message)}")
        return message["ok"]

    def ask(self, seconds=None, **command):
        number = self.begin(command)
        message = self.take(number, "an answer", seconds)
        del self.lines[number]
        return message

    def end(self):
        try:
            self.process.stdin.close()
            return self.process.wait(timeout=DEADLINE_S)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            return self.process.wait()
