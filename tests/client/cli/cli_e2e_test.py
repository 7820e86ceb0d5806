#!/usr/bin/env python3
"""Every command of stmctl against a real stmd: what it prints, and its exit code.

usage: cli_e2e_test.py STMD STMCTL [TEST...]
"""
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

STMD, STMCTL = (os.path.abspath(path) for path in sys.argv[1:3])
DEADLINE_S = 60
BAR = r"\[[#.]{30}\] +\d+% "  # of a progress


def eventually(claim, check):
    """Until check() is true; the deadline is only for failures."""
    end = time.monotonic() + DEADLINE_S
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S} s: {claim}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Daemon:
    """stmd: in memory, or on a directory and then on a port of its own that outlives restarts. planted: a bug of it."""

    def __init__(self, directory=None, planted=None, flags=()):
        self.directory = directory
        self.planted = planted
        self.flags = list(flags)
        self.address = f"127.0.0.1:{free_port()}" if directory else None
        self.start()

    def start(self):
        if self.directory:
            self.process = subprocess.Popen(
                [STMD, "--data-dir", self.directory, "--listen", self.address, "--http", "off", "--log-level", "warn",
                 *self.flags], stdin=subprocess.PIPE)
            eventually("stmd is ready", lambda: ctl(self, "health", "--ready", check=None).returncode == 0)
        else:
            command = [STMD, "--ephemeral", "--log-level", "warn"]
            if self.planted:
                command.append(f"--test-canary={self.planted}")
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                            env=dict(os.environ, STMD_TEST_CANARIES="1"))
            self.address = re.search(r':stmd/address "([^"]+)"', self.process.stdout.readline()).group(1)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(DEADLINE_S)
        self.process.stdin.close()
        if self.process.stdout:
            self.process.stdout.close()


def ctl(daemon, *arguments, input=None, check=0, address=None):
    """Runs stmctl; check: the exit code that it must have, None for any."""
    environment = dict(os.environ, STM_ADDRESS=address or daemon.address, USER="tester")
    done = subprocess.run([STMCTL, *arguments], input=input, capture_output=True, text=True, env=environment,
                          timeout=DEADLINE_S)
    if check is not None and done.returncode != check:
        raise AssertionError(f"stmctl {' '.join(arguments)[:200]}: exit {done.returncode}, expected {check}\n"
                             f"{done.stdout[:2000]}{done.stderr[:2000]}")
    if check not in (0, None):
        assert done.stderr.startswith("stmctl: ") and done.stderr.count("\n") == 1, done.stderr[:2000]
    return done


def on_terminal(daemon, *arguments, input=None):
    """Runs stmctl with a terminal as its standard error alone: (its exit code, what it printed, what the terminal showed)."""
    terminal, side = pty.openpty()
    shown = []

    def read():
        try:
            while data := os.read(terminal, 1 << 16):
                shown.append(data)
        except OSError:
            pass  # the other side is closed

    process = subprocess.Popen([STMCTL, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=side,
                               text=True, env=dict(os.environ, STM_ADDRESS=daemon.address))
    os.close(side)
    reader = threading.Thread(target=read)
    reader.start()
    printed = process.communicate(input, timeout=DEADLINE_S)[0]
    reader.join()
    os.close(terminal)
    return process.returncode, printed, b"".join(shown).decode()


def shows(pattern, work):
    """work(scale) runs a command on a terminal and beside it in a pipe. What takes long is shown: until then, twice the
    work."""
    for doublings in range(14):
        (code, _, shown), pipe = work(1 << doublings)
        assert (code, pipe.stderr) == (0, ""), (code, shown, pipe.stderr)
        if re.search(pattern, shown):
            # Nothing is left of it.
            assert shown.endswith("\r\x1b[K"), shown[-200:]
            return
    raise AssertionError(f"{pattern} is never shown")


class Proxy:
    """A TCP proxy that does something to the connection that first carries `marker` towards the daemon."""

    def __init__(self, target, marker, act):
        host, port = target.rsplit(":", 1)
        self.target, self.marker, self.act = (host, int(port)), marker, act
        self.acted = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            self.sockets += [client, server]
            threading.Thread(target=self.up, args=(client, server), daemon=True).start()
            threading.Thread(target=self.down, args=(server, client), daemon=True).start()

    def up(self, client, server):
        try:
            while True:
                data = client.recv(1 << 16)
                if not data:
                    break
                if self.marker in data and not self.acted.is_set():
                    self.acted.set()
                    if self.act == "lose request":
                        break
                    server.sendall(data)
                    if self.act == "lose answer":
                        break
                    continue
                server.sendall(data)
        except OSError:
            pass
        self.cut(client, server)

    def down(self, server, client):
        try:
            while True:
                data = server.recv(1 << 16)
                if not data:
                    break
                if self.acted.is_set() and self.act == "hush":
                    continue
                client.sendall(data)
        except OSError:
            pass
        self.cut(client, server)

    @staticmethod
    def cut(client, server):
        # The daemon's side is closed after it has had time to read what was sent: by its own shutdown of writes.
        for one, how in ((client, socket.SHUT_RDWR), (server, socket.SHUT_WR)):
            try:
                one.shutdown(how)
            except OSError:
                pass

    def close(self):
        self.listener.close()
        for one in self.sockets:
            one.close()


class OneDaemon(unittest.TestCase):
    """Against one daemon in memory; each test has names of its own."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()

    def ctl(self, *arguments, **options):
        return ctl(self.daemon, *arguments, **options)

    def out(self, *arguments, **options):
        return self.ctl(*arguments, **options).stdout


class Memory(OneDaemon):
    """Every command."""

    def test_get_and_set(self):
        self.assertRegex(self.ctl("get", "/g/a", check=3).stderr, "/g/a: absent")
        version = int(self.out("set", "/g/a", "{:k [1 2.0 nil]}"))
        self.assertEqual(self.out("get", "/g/a"), "{:k [1 2.0 nil]}\n")
        self.assertEqual(self.out("get", "/g/a", "--output", "json"), '{":k":[1,2.0,null]}\n')
        later = int(self.out("set", "/g/a", "-7"))
        self.assertGreater(later, version)
        self.assertEqual(self.out("get", "/g/a", "--at", str(version)), "{:k [1 2.0 nil]}\n")
        self.out("set", "/g/b", "-", input='"two words"')
        self.assertEqual(self.out("get", "/g/b", "--output", "raw"), "two words\n")
        both = self.ctl("get", "/g/a", "/g/b", "/g/none", check=3)
        self.assertEqual(both.stdout, '{:name "/g/a", :value -7}\n{:name "/g/b", :value "two words"}\n{:name "/g/none"}\n')
        self.assertRegex(self.out("get", "/g/a", "--meta"),
                         rf'^{{:name "/g/a", :value -7, :version {later}, :kind :ref, :written-at #inst "[^"]+"}}\n$')
        self.assertRegex(self.out("get", "/g/a", "/g/b", "--output", "table"),
                         r"^NAME +VALUE\n/g/a +-7\n/g/b +\"two words\"\n$")
        self.out("set", "/g/j", '{"a": [1, ":k"]}', "--json")
        self.assertEqual(self.out("get", "/g/j"), '{"a" [1 :k]}\n')
        self.out("set", "/g/s", "--", "->symbol")
        self.assertEqual(self.out("get", "/g/s"), "->symbol\n")
        self.assertEqual(self.ctl("get", "/g/a", "--at", "2001-01-01", check=None).returncode in (1, 3), True)

    def test_set_if(self):
        version = self.out("set", "/if/a", "1", "--if-absent").strip()
        self.assertIn("expected absent", self.ctl("set", "/if/a", "2", "--if-absent", check=4).stderr)
        self.assertIn("expected version", self.ctl("set", "/if/a", "2", "--if-version", "1000000", check=4).stderr)
        self.out("set", "/if/a", "2", "--if-version", version)
        self.ctl("set", "/if/a", "3", "--if-version", version, check=4)
        self.assertEqual(self.out("get", "/if/a"), "2\n")
        self.ctl("set", "/if/none", "3", "--if-version", version, check=4)

    def test_ttl(self):
        self.out("set", "/ttl/a", "1", "--ttl", "1h")
        self.assertIn(":ttl-ms 3600000", self.out("get", "/ttl/a", "--meta"))
        self.out("set", "/ttl/a", "2", "--ttl", "50ms")
        eventually("the entry expires", lambda: self.ctl("get", "/ttl/a", check=None).returncode == 3)
        self.assertIn(":kind :expired", self.out("history", "/ttl/a", "--limit", "1"))

    def test_apply(self):
        self.out("set", "/ap/n", "1")
        self.assertEqual(self.out("apply", "/ap/n", "(add 41)"), "42\n")
        self.assertIn("found an integer", self.ctl("apply", "/ap/n", "(conj 1)", check=5).stderr)
        self.assertIn("stmctl set /ap/none", self.ctl("apply", "/ap/none", "(add 1)", check=3).stderr)
        self.ctl("apply", "/ap/n", "(nope)", check=2)
        self.out("set", "/ap/q", "[1 2 3]")
        self.assertEqual(self.out("apply", "/ap/q", "(shift)"), "1\n")
        self.assertEqual(self.out("apply", "/ap/q", "-", input="(at [0] (add 10))"), "[12 3]\n")
        self.ctl("apply", "/ap/n", "(cas 41 0)", check=4)
        self.out("set", "/ap/max", "9223372036854775807")
        self.ctl("apply", "/ap/max", "(add 1)", check=5)

    def test_delete(self):
        self.out("tx", "-", input='{:set {"/de/a" 1 "/de/b" 2}}')
        self.assertIn("/de/none", self.ctl("delete", "/de/a", "/de/none", check=3).stderr)
        self.assertEqual(self.out("list", "/de/"), '"/de/a"\n"/de/b"\n')
        self.out("delete", "/de/a", "/de/b", "/de/a")
        self.assertEqual(self.out("list", "/de/"), "")
        # In batches, atoms one by one.
        for i in range(3):
            entries = " ".join(f'"/many/{i}/{j}" {j}' for j in range(700))
            self.out("tx", "-", input=f"{{:set {{{entries}}}}}")
        self.out("atom", "reset", "/many/atom", "1")
        self.assertEqual(self.out("list", "/many/", "--count"), "2101\n")
        self.assertEqual(len(self.out("list", "/many/").splitlines()), 2101)
        self.ctl("delete", "--prefix", "/many/", check=2)
        self.assertRegex(self.out("delete", "--prefix", "/many/", "--yes"), r"^{:deleted 2101, :version \d+}\n$")
        self.assertEqual(self.out("list", "/many/", "--count"), "0\n")

    def test_list(self):
        self.out("tx", "-", input='{:set {"/li/b" [1] "/li/a/x" 2}}')
        self.assertEqual(self.out("list", "/li/", "--output", "raw"), "/li/a/x\n/li/b\n")
        self.assertEqual(self.out("list", "/li/", "--values"),
                         '{:name "/li/a/x", :value 2}\n{:name "/li/b", :value [1]}\n')
        self.ctl("list", "/li", check=2)

    def test_tx(self):
        self.out("set", "/tx/a", "1")
        done = self.out("tx", "-", input="""{:check {"/tx/a" 1 "/tx/b" :stm/absent} :set {"/tx/a" 2} :create {"/tx/q" []}
            :apply {"/tx/q" [(conj 1) (conj 2)]} :records [#tx.T{:x 1}] :label "why"}""")
        self.assertRegex(done, r'^{:version \d+, :results {"/tx/q" \[\[1\] \[1 2\]\]}}\n$')
        failed = self.ctl("tx", "-", input='{:check {"/tx/a" 1} :set {"/tx/a" 3}}', check=4).stderr
        self.assertIn("check /tx/a: found 2, expected 1", failed)
        self.assertEqual(self.out("get", "/tx/a"), "2\n")
        self.assertIn('"why"', self.out("history", "/tx/a", "--limit", "1"))
        self.assertIn("did you mean :set?", self.ctl("tx", "-", input="{:st {}}", check=2).stderr)
        self.ctl("tx", "/no/such/file", check=1)
        self.out("tx", "-", "--json", input='{"delete": ["/tx/a"], "apply": {"/tx/q": "(conj 3)"}}')
        self.ctl("get", "/tx/a", check=3)
        self.out("atom", "reset", "/tx/atom", "1")
        self.ctl("tx", "-", input='{:set {"/tx/atom" 2 "/tx/a" 2}}', check=5)
        self.ctl("get", "/tx/a", check=3)

    def test_tx_checks_hold_at_the_commit(self):
        self.out("set", "/race/n", "0")
        won = []

        def add():
            for _ in range(10):
                n = int(self.out("get", "/race/n"))
                code = self.ctl("tx", "-", input=f'{{:check {{"/race/n" {n}}} :set {{"/race/n" {n + 1}}}}}',
                                check=None).returncode
                self.assertIn(code, (0, 4))
                won.append(code)

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(won), 40)
        self.assertEqual(int(self.out("get", "/race/n")), won.count(0))

    def test_validator(self):
        self.ctl("validator", "get", "/va/n", check=3)
        self.out("set", "/va/n", "1")
        self.assertEqual(self.out("validator", "get", "/va/n"), "nil\n")
        self.out("validator", "set", "/va/n", "[:and :int [:min 0]]")
        self.assertEqual(self.out("validator", "get", "/va/n"), "[:and :int [:min 0]]\n")
        self.assertIn("[:min 0]", self.ctl("set", "/va/n", "-1", check=5).stderr)
        self.ctl("validator", "set", "/va/n", "[:min 10]", check=5)
        self.assertEqual(self.ctl("validator", "set", "/va/n", "[:nope]", check=None).returncode in (1, 2), True)
        self.out("validator", "clear", "/va/n")
        self.out("set", "/va/n", "-1")

    def test_atom(self):
        self.out("atom", "cas", "/at/a", ":stm/absent", "1")
        self.ctl("atom", "cas", "/at/a", ":stm/absent", "1", check=4)
        self.out("atom", "cas", "/at/a", "1", "2")
        self.assertIn("found 2", self.ctl("atom", "cas", "/at/a", "1", "2", check=4).stderr)
        self.out("atom", "reset", "/at/a", "[3]")
        # set and apply take either kind.
        self.out("set", "/at/a", "4")
        self.assertEqual(self.out("apply", "/at/a", "(add 1)"), "5\n")
        self.assertIn(":kind :atom", self.out("get", "/at/a", "--meta"))
        self.out("delete", "/at/a")
        self.out("set", "/at/ref", "1")
        self.ctl("atom", "reset", "/at/ref", "1", check=5)

    def test_history(self):
        self.ctl("history", "/hi/none", check=3)
        self.out("set", "/hi/a", "1", "--label", "first")
        self.out("set", "/hi/a", "2")
        self.out("delete", "/hi/a")
        lines = self.out("history", "/hi/a").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertIn(":kind :deleted, :before 2", lines[0])
        self.assertIn(":before 1, :after 2", lines[1])
        self.assertIn(':by {:label "first", :client "stmctl tester@', lines[2])
        self.assertEqual(len(self.out("history", "/hi/a", "--limit", "2").splitlines()), 2)
        self.assertRegex(self.out("history", "/hi/a", "--output", "table"), r"/hi/a  1 -> 2  \(stmctl tester@")
        self.assertEqual(json.loads(self.out("history", "/hi/a", "--output", "json").splitlines()[0])["changes"],
                         [{"name": "/hi/a", "kind": "deleted", "before": 2}])

    def watch(self, *arguments):
        process = subprocess.Popen([STMCTL, "watch", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=dict(os.environ, STM_ADDRESS=self.daemon.address))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def test_watch(self):
        version = self.out("set", "/wa/a", "1").strip()
        process = self.watch("/wa/", "/wx", "--initial", "--count", "3")
        self.assertRegex(process.stdout.readline(), rf'^{{:name "/wa/a", :value 1, :version {version}, :initial true}}$')
        self.assertRegex(process.stdout.readline(), r"^{:synced \d+}$")
        self.out("set", "/wa/a", "2")
        self.out("set", "/elsewhere", "2")
        self.out("tx", "-", input='{:set {"/wx" 1 "/wa/b" nil "/elsewhere" 3} :records [#wa.T{}]}')
        self.out("delete", "/wa/a")
        lines = process.communicate(timeout=DEADLINE_S)[0].splitlines()
        self.assertEqual(process.returncode, 0)
        self.assertEqual(len(lines), 3)
        self.assertIn('[{:name "/wa/a", :kind :set, :before 1, :after 2}]', lines[0])
        self.assertIn('{:name "/wa/b", :kind :set, :after nil}', lines[1])
        self.assertIn(":records [#wa.T{}]", lines[1])
        self.assertNotIn("/elsewhere", lines[1])
        self.assertIn(":kind :deleted, :before 2", lines[2])
        again = self.out("watch", "/wa/", "/wx", "--from", version, "--count", "3").splitlines()
        self.assertEqual(again, lines)
        self.assertIn("synced", self.out("watch", "/wa/", "--initial", "--count", "0"))
        self.assertIn("--from", self.ctl("watch", "/wa/", "--timeout", "200ms", check=124).stderr)

    def test_watch_exec(self):
        first = int(self.out("set", "/we/a", "1"))
        self.out("set", "/we/a", "2")
        with tempfile.TemporaryDirectory() as folder:
            self.out("watch", "/we/", "--from", str(first - 1), "--count", "2", "--exec", f"cat >> {folder}/changes")
            with open(f"{folder}/changes", encoding="utf-8") as changes:
                self.assertEqual([re.search(r":after (\d)", line).group(1) for line in changes], ["1", "2"])
        failed = self.ctl("watch", "/we/", "--from", str(first - 1), "--exec",
                          "grep -q ':after 1' || exit 3", check=1).stderr
        self.assertIn(f"exited 3: resume with --from {first}", failed)

    def test_log_tail_and_records(self):
        first = int(self.out("tx", "-", input="{:records [#lo.A{:x 1} #other.B{}]}").split()[1].rstrip("}"))
        for i in range(30):
            self.out("set", "/lo/n", str(i))
        self.out("tx", "-", input='{:set {"/lo/n" 99} :records [#lo.C{:when #inst "2026-11-22T03:00:00.123456789Z"}]}')
        tail = self.out("log", "tail", "--limit", "3").splitlines()
        self.assertEqual(len(tail), 3)
        self.assertIn(":after 99", tail[2])
        self.assertEqual(len(self.out("log", "tail").splitlines()), 10)
        # Far apart, so that the tail is looked for in more than one window.
        self.assertEqual(len(self.out("log", "tail", "--tag", "lo.*", "--limit", "2").splitlines()), 2)
        self.assertEqual(len(self.out("log", "tail", "--from", str(first)).splitlines()), 32)
        self.assertEqual(self.out("log", "records", "--tag", "lo.*"),
                         '#lo.A{:x 1}\n#lo.C{:when #inst "2026-11-22T03:00:00.123456789Z"}\n')
        self.assertEqual(self.out("log", "records", "--tag", "other.B", "--tag", "lo.A"), "#lo.A{:x 1}\n#other.B{}\n")
        self.assertIn("#other.B{}", self.out("log", "records"))
        self.assertEqual(self.out("log", "records", "--tag", "lo.A", "--output", "json"), '{"#lo.A":{":x":1}}\n')
        self.assertRegex(self.out("log", "tail", "--limit", "1", "--output", "table"), r"^\d+ +\S+Z  /lo/n  29 -> 99")

        follow = subprocess.Popen([STMCTL, "log", "records", "-f", "--tag", "lo.D", "--limit", "2"], text=True,
                                  stdout=subprocess.PIPE, env=dict(os.environ, STM_ADDRESS=self.daemon.address))
        tail_f = subprocess.Popen([STMCTL, "log", "tail", "-f", "--tag", "lo.D", "--limit", "2"], text=True,
                                  stdout=subprocess.PIPE, env=dict(os.environ, STM_ADDRESS=self.daemon.address))
        for i in range(2):
            self.out("tx", "-", input=f"{{:records [#lo.D{{:i {i}}}]}}")
        self.assertEqual(follow.communicate(timeout=DEADLINE_S)[0], "#lo.D{:i 0}\n#lo.D{:i 1}\n")
        self.assertEqual(len(tail_f.communicate(timeout=DEADLINE_S)[0].splitlines()), 2)

    def test_import(self):
        records = ['#im.CreateUser{:name "Bob", :email "b@example.com", '
                   ':start-date #inst "2012-04-19T16:00:35.901-00:00"}',
                   '#im.CreateUser{:name "Alice", :email\n"a@example.com"}', '; a comment', '#im.DeleteUser{:email "x"}']
        with tempfile.NamedTemporaryFile("w", suffix=".clj", delete=False) as file:
            file.write("\n".join(records) + "\n")
        self.addCleanup(os.unlink, file.name)
        self.assertRegex(self.out("log", "import", file.name, "--into", "/im/users"), r"^{:imported 3, :version \d+}\n$")
        printed = self.out("log", "records", "--tag", "im.*")
        self.assertEqual(printed, '#im.CreateUser{:name "Bob", :email "b@example.com", '
                                  ':start-date #inst "2012-04-19T16:00:35.901Z"}\n'
                                  '#im.CreateUser{:name "Alice", :email "a@example.com"}\n#im.DeleteUser{:email "x"}\n')
        self.assertEqual(self.out("get", "/im/users"), "[" + " ".join(printed.splitlines()) + "]\n")
        # What log records prints can be imported again.
        self.assertIn(":imported 3", self.out("log", "import", "-", "--batch", "2", input=printed))
        self.assertEqual(self.out("log", "records", "--tag", "im.*"), printed * 2)

    def test_import_tells_where_it_failed_and_resumes(self):
        big = "#ir.T{:x \"" + "x" * 2000000 + "\"}"
        text = f"#ir.T{{:x 1}}\n#ir.T{{:x 2}}\n{big}\n"
        failed = self.ctl("log", "import", "-", input=text, check=None)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn("stdin:3: record 3: ", failed.stderr)
        self.assertIn("the 2 before are committed: go on with --skip 2", failed.stderr)
        self.assertIn(":imported 1", self.out("log", "import", "-", "--skip", "2",
                                              input="#ir.T{:x 1}\n#ir.T{:x 2}\n#ir.T{:x 3}\n"))
        self.assertEqual(self.out("log", "records", "--tag", "ir.T"), "#ir.T{:x 1}\n#ir.T{:x 2}\n#ir.T{:x 3}\n")

    def test_long_work_shows_its_progress_on_a_terminal_and_nothing_in_a_pipe(self):
        def run(*arguments, input=None):
            return on_terminal(self.daemon, *arguments, input=input), self.ctl(*arguments, input=input)

        shows(rf"\rlog import {BAR}\d+ records, \d+/s",
              lambda n: run("log", "import", "-", input="#pr.T{:x 1}\n" * 250 * n))

        def recorded(n):
            self.out("log", "import", "-", "--batch", "10", input=f'#pr.T{{:x "{"x" * 100}"}}\n' * 10000 * n)
            return run("log", "records", "--tag", "pr.T")

        shows(rf"\rlog {BAR}\d+ commits, \d+/s", recorded)

        def fill(entries):
            for first in range(0, entries, 5000):
                names = " ".join(f'"/pr/{i} {"x" * 400}" 1' for i in range(first, first + 5000))
                self.out("tx", "-", input=f"{{:set {{{names}}}}}")

        def listed(n):
            fill(5000 * n)
            return run("list", "/pr/", "--values")

        def deleted(n):
            fill(5000 * n)
            terminal = on_terminal(self.daemon, "delete", "--prefix", "/pr/", "--yes")
            return terminal, self.ctl("delete", "--prefix", "/pr/", "--yes")

        shows(r"\rlist \d+ entries, \d+/s", listed)
        shows(rf"\rdelete {BAR}\d+ entries, \d+/s", deleted)

    def test_many_at_once(self):
        self.out("set", "/mo/n", "0")
        processes = [subprocess.Popen([STMCTL, "apply", "/mo/n", "(add 1)"], stdout=subprocess.DEVNULL,
                                      env=dict(os.environ, STM_ADDRESS=self.daemon.address)) for _ in range(30)]
        self.assertEqual([process.wait(DEADLINE_S) for process in processes], [0] * 30)
        self.assertEqual(self.out("get", "/mo/n"), "30\n")

    def test_wait(self):
        self.out("set", "/wait/a", "1")
        self.assertEqual(self.out("wait", "/wait/a", "--is", "[:min 1]"), "1\n")
        waiting = subprocess.Popen([STMCTL, "wait", "/wait/a", "--is", "[:min 3]"], stdout=subprocess.PIPE, text=True,
                                   env=dict(os.environ, STM_ADDRESS=self.daemon.address))
        self.out("set", "/wait/a", "2")
        self.out("set", "/wait/a", "3")
        self.assertEqual(waiting.communicate(timeout=DEADLINE_S)[0], "3\n")
        self.assertEqual(waiting.returncode, 0)
        self.assertEqual(self.out("wait", "/wait/none", "--is", ":stm/absent"), "")
        self.assertIn("it is 3", ctl(self.daemon, "wait", "/wait/a", "--is", ":string", "--timeout", "200ms",
                                     check=124).stderr)
        self.assertIn("--is", ctl(self.daemon, "wait", "/wait/a", "--is", ":no-such-rule", check=2).stderr)

    def test_diff(self):
        one = self.out("set", "/diff/a", "{:same 1 :gone 2 :list [1 2 3]}").strip()
        two = self.out("set", "/diff/a", "{:same 1 :new 4 :list [1 5]}").strip()
        self.assertEqual(sorted(self.out("diff", "/diff/a", one, two).splitlines()),
                         ["{:path [:gone], :before 2}", "{:path [:list 1], :before 2, :after 5}",
                          "{:path [:list 2], :before 3}", "{:path [:new], :after 4}"])
        self.assertEqual(self.out("diff", "/diff/a", two, two), "")
        self.out("delete", "/diff/a")
        self.assertIn("absent", ctl(self.daemon, "diff", "/diff/none", one, two, check=3).stderr)

    def test_export_and_import(self):
        self.out("set", "/port/a", '{"k" [1 2]}')
        self.out("set", "/port/ttl", "1", "--ttl", "1h")
        self.out("atom", "reset", "/port/atom", '"x"')
        self.out("validator", "set", "/port/a", ":map")
        for form in ([], ["--output", "json"]):
            lines = self.out("export", "/port/", *form)
            self.assertEqual(lines.count("\n"), 3)
            self.out("delete", "--prefix", "/port/", "--yes")
            said = self.out("import", "/port/", "-", *(["--json"] if form else []), input=lines)
            self.assertRegex(said, ":imported 3, :version ")
            self.assertEqual(self.out("get", "/port/a"), '{"k" [1 2]}\n')
            self.assertEqual(self.out("validator", "get", "/port/a"), ":map\n")
            self.assertRegex(self.out("get", "/port/ttl", "--meta"), ":ttl-ms 3600000")
            self.assertRegex(self.out("get", "/port/atom", "--meta"), ":kind :atom")
        outside = ctl(self.daemon, "import", "/else/", "-", input='{:name "/port/a" :value 1}', check=2)
        self.assertIn("is not under", outside.stderr)
        bad = '{:name "/port/n" :value 1}\n{:name "/port/m"}\n'
        self.assertIn("stdin:2", ctl(self.daemon, "import", "/port/", "-", input=bad, check=2).stderr)
        ctl(self.daemon, "get", "/port/n", check=3)

    def test_completion(self):
        script = self.out("completion", "bash") + '''
            at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _stmctl; echo "${COMPREPLY[*]}"; }
            at stmctl hi; at stmctl log ""; at stmctl --json watch --init; at stmctl get /a --output t
            at stmctl lock ""; at stmctl lock /a --sh; at stmctl elect sh; at stmctl session e; at stmctl demo lock --ho'''
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0], "history")
        self.assertIn("tail records import verify seal drop", lines[1])
        self.assertEqual(lines[2:4], ["--initial", "table"])
        self.assertRegex(lines[4], r"^list show break .*--permits")
        self.assertEqual(lines[5:], ["--shared", "show", "expire", ""])  # what is for stmctl itself is not offered
        self.assertEqual(done.stderr, "")
        self.assertIn("bashcompinit", self.out("completion", "zsh"))
        self.assertRegex(self.out("completion", "fish"), r"complete -c stmctl -f -n '__fish_use_subcommand' -a backup -d ")
        ctl(self.daemon, "completion", "csh", check=2)

    def test_the_manual_page_has_every_command_of_the_help(self):
        page = self.out("completion", "man")
        commands = re.search(r"Subcommands:\n((?:  .*\n)+)", self.out("help")).group(1)
        names = [name for name in re.findall(r"(?m)^  ([a-z]+) ", commands)]
        self.assertGreater(len(names), 25)
        for name in names:
            self.assertRegex(page, rf"(?m)^\.SS {name}( |$)", name)
        for name in ("lock NAME COMMAND", "lock list PREFIX/", "lock show NAME", "lock break NAME", "elect NAME COMMAND",
                     "elect show NAME", "session list", "session show ID", "session expire ID", "demo lock"):
            self.assertRegex(page, rf"(?m)^\.SS {name}$")
        self.assertNotIn(r"\-\-holder", page)  # what is for stmctl itself
        self.assertIn("stmctl lock [OPTIONS] [NAME] [COMMAND...] [SUBCOMMAND]", self.out("help", "lock"))
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../client/cli/stmctl.1"),
                  encoding="utf-8") as file:
            self.assertEqual(file.read(), page, "write it anew: stmctl completion man > client/cli/stmctl.1")

    def test_container_check_is_of_containers_and_says_what_else_it_found(self):
        # What it does to a container: tests/examples.
        daemon = ctl(self.daemon, "container", "check", self.daemon.address, check=1)
        self.assertIn("serves no stm.v1.ContainerService", daemon.stderr)
        nobody = ctl(self.daemon, "container", "check", f"grpc://127.0.0.1:{free_port()}", check=6)
        self.assertRegex(nobody.stderr, "refused|connect")
        for arguments in (["host"], ["http://127.0.0.1:1"], ["127.0.0.1:1", "--refs", "--atoms"], []):
            ctl(self.daemon, "container", "check", *arguments, check=2)
        for done in (daemon, nobody):
            self.assertEqual(done.stdout, "")

    def test_repl(self):
        lines = """
            ; a comment
            (ref-set "/repl/a" 1)
            (alter "/repl/a" (add 41))
            @"/repl/a"
            (dosync (ref-set "/repl/b" [1 2])
                    (alter "/repl/a" (add 1)))
            get /repl/a '/repl/b'
            set /repl/c '"x y"'
            @"/repl/c"
            (dosync (delete "/repl/c"))
            """
        said = self.out("repl", input=lines).splitlines()
        self.assertEqual(said[1:3], ["42", "42"])
        self.assertEqual(said[4:6], ['{:name "/repl/a", :value 43}', '{:name "/repl/b", :value [1 2]}'])
        self.assertEqual(said[7], '"x y"')
        ctl(self.daemon, "get", "/repl/c", check=3)
        done = self.ctl("repl", input='(alter "/repl/a" (no-such 1))\nget /none\nget /repl/a\nexit\nget /repl/b\n',
                        check=None)
        self.assertEqual((done.returncode, done.stdout), (1, "43\n"))
        self.assertIn("no-such", done.stderr)
        self.assertIn("/none: absent", done.stderr)

    def test_repl_completes_on_a_terminal_and_keeps_its_history(self):
        home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, home)
        self.out("set", "/repl/typed", "7")
        terminal, side = pty.openpty()
        repl = subprocess.Popen([STMCTL, "repl"], stdin=side, stdout=side, stderr=side, start_new_session=True,
                                env=dict(os.environ, STM_ADDRESS=self.daemon.address, HOME=home, TERM="xterm"))
        os.close(side)
        shown = b""

        def until(text):
            nonlocal shown
            while text not in shown:
                shown += os.read(terminal, 4096)
            shown = shown.split(text, 1)[1]

        until(b"stm> ")
        os.write(terminal, b'@"/repl/typed"\n')
        until(b"7\r\n")
        until(b"stm> ")
        os.write(terminal, b"conf\t\n")
        until(b"drain-grace")
        until(b"stm> ")
        os.write(terminal, b"exit\n")
        try:
            while os.read(terminal, 4096):
                pass
        except OSError:
            pass
        self.assertEqual(repl.wait(DEADLINE_S), 0)
        os.close(terminal)
        with open(home + "/.stmctl_history", encoding="utf-8") as history:
            self.assertIn("typed", history.read())

    def test_top(self):
        rows = self.out("top", "--count", "2", "--every", "10ms").splitlines()
        self.assertEqual(len(rows), 2)
        self.assertRegex(rows[1], r"{:version \d+, :commits/s \d+, :ready true, ")

    def test_status_and_health(self):
        status = json.loads(self.out("status", "--output", "json"))
        self.assertEqual(status["coordinator"], "memory")
        self.assertEqual(status["ready"], True)
        self.assertEqual(status["limits"]["value_bytes_max"], 1048576)
        self.assertRegex(self.out("status", "--output", "table"), r"coordinator +memory\n")
        self.assertEqual(self.out("health"), ":serving\n")
        self.assertEqual(self.out("health", "--ready"), ":ready\n")
        self.assertEqual(self.out("version", "--output", "raw").strip(), status["version"])

    def test_limits_are_named(self):
        done = self.ctl("set", "/big", "-", input='"' + "x" * 1100000 + '"', check=1)
        self.assertIn("value_bytes_max=1048576", done.stderr)

    def test_addresses(self):
        dead = f"127.0.0.1:{free_port()}"
        self.assertIn(dead, self.ctl("get", "/a", address=dead, check=6).stderr)
        self.out("set", "/ad/a", "1", address=f"{dead}, {self.daemon.address}")
        self.assertEqual(self.out("get", "/ad/a", "--address", f"unix:/no/such,{self.daemon.address}"), "1\n")

    def test_a_lost_answer_is_asked_for_again_and_the_commit_done_once(self):
        for act in ("lose answer", "lose request"):
            with self.subTest(act):
                name = "/px/" + act.split()[1]
                self.out("set", name, "[]")
                proxy = Proxy(self.daemon.address, b"marked-" + act[5:].encode(), act)
                self.addCleanup(proxy.close)
                self.assertEqual(self.out("apply", name, f'(conj "marked-{act[5:]}")', address=proxy.address),
                                 f'["marked-{act[5:]}"]\n')
                self.assertTrue(proxy.acted.is_set())
                self.assertEqual(self.out("get", name), f'["marked-{act[5:]}"]\n')

    def test_an_unknown_outcome_is_a_word_that_outcome_takes(self):
        proxy = Proxy(self.daemon.address, b"hushed-value", "hush")
        self.addCleanup(proxy.close)
        failed = self.ctl("set", "/px/hush", '"hushed-value"', "--timeout", "500ms", address=proxy.address, check=1)
        word = re.search(r"stmctl outcome (\S+)", failed.stderr).group(1)
        self.assertRegex(self.out("outcome", word), r"^{:outcome :committed, :version \d+")
        self.assertEqual(self.out("get", "/px/hush"), '"hushed-value"\n')
        # The same writer and store, an id that was never sent.
        parts = word.split(".")
        parts[0] = "0" * 12 + "4" + "0" * 3 + "8" + "0" * 15
        never = ".".join(parts[:4])
        check = 2166136261
        for byte in never.encode():
            check = ((check ^ byte) * 16777619) & 0xFFFFFFFF
        self.assertIn("not committed", self.ctl("outcome", f"{never}.{(check >> 16) ^ (check & 0xFFFF):04x}", check=4).stderr)
        self.ctl("outcome", word[:-1], check=2)


class Locks(OneDaemon):
    """What runs while something is held, what becomes of it, and who holds what."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="stmctl-lock-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.name = "/locks/" + self.id().rsplit(".", 1)[1]

    def start(self, *arguments, daemon=None):
        """A stmctl that goes on meanwhile; commands that it runs find stmctl in their PATH and have $DIR."""
        environment = dict(os.environ, STM_ADDRESS=(daemon or self.daemon).address, USER="tester", DIR=self.folder,
                           PATH=os.path.dirname(STMCTL) + ":" + os.environ["PATH"])
        process = subprocess.Popen([STMCTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=environment)

        def end():
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

        self.addCleanup(end)
        return process

    def run_to_end(self, *arguments):
        process = self.start(*arguments)
        printed, said = process.communicate(timeout=DEADLINE_S)
        return process.returncode, printed, said

    def written(self, file):
        """The lines of a file that commands write."""
        try:
            with open(f"{self.folder}/{file}", encoding="utf-8") as lines:
                return lines.read().splitlines()
        except FileNotFoundError:
            return []

    def await_written(self, line, file="log"):
        eventually(f"{line} is written", lambda: line in self.written(file))

    def free(self):
        return self.ctl("lock", "show", self.name, check=None).returncode == 3

    def queue(self):
        return self.ctl("lock", "show", self.name, check=None).stdout.count(":state :waits")

    # A command that tells what becomes of it, and ends only when it is told to.
    HOLD = ('trap "echo INT >>$DIR/log; exit 9" INT; trap "echo TERM >>$DIR/log; exit 10" TERM; '
            'echo held $STM_LOCK_TOKEN >>$DIR/log; while [ ! -e $DIR/end ]; do sleep 0.02; done; exit 11')

    def hold(self, *options, command=HOLD, verb="lock", daemon=None):
        process = self.start(verb, self.name, *options, "--", "sh", "-c", command, daemon=daemon)
        eventually("the lock is held", lambda: self.written("log"))
        return process

    def end(self):
        with open(self.folder + "/end", "w", encoding="utf-8"):
            pass

    def test_a_command_runs_under_the_lock_and_its_exit_code_is_passed_on(self):
        code, printed, said = self.run_to_end(
            "lock", self.name, "--", "sh", "-c",
            "echo $STM_LOCK $STM_LOCK_TOKEN $STM_ADDRESS; stmctl lock show $STM_LOCK; exit 5")
        self.assertEqual((code, said), (5, ""))
        lines = printed.splitlines()
        token = re.fullmatch(rf"{self.name} (\d+) {self.daemon.address}", lines[0]).group(1)
        self.assertRegex(lines[1], rf'^{{:state :holds, :owner "tester@[^"]+/\d+", :session "[0-9a-f-]{{36}}", '
                                   rf':mode :exclusive, :token {token}, :holds 1, :since #inst "[^"]+"}}$')
        self.assertTrue(self.free())
        self.assertEqual(self.run_to_end("lock", self.name, "--", "true"), (0, "", ""))
        # Options of the command are its own.
        self.assertEqual(self.run_to_end("lock", self.name, "--", "echo", "--wait", "-1", "--", "list"),
                         (0, "--wait -1 -- list\n", ""))
        self.assertEqual(self.run_to_end("lock", self.name, "--", "sh", "-c", "kill -KILL $$"), (137, "", ""))

    def test_a_command_that_cannot_be_started_leaves_no_lock(self):
        code, _, said = self.run_to_end("lock", self.name, "--", "/no/such/command")
        self.assertEqual(code, 127)
        self.assertIn("/no/such/command: No such file", said)
        self.assertTrue(self.free())
        code, _, said = self.run_to_end("lock", self.name, "--", self.folder)
        self.assertEqual(code, 126)
        self.assertIn("Permission denied", said)
        self.assertTrue(self.free())

    def test_a_lock_that_is_busy_is_exit_7_and_says_who_holds_it(self):
        holder = self.hold("--as", "the holder")
        for wait in ("0", "100ms"):
            done = self.ctl("lock", self.name, "--wait", wait, "--", "true", check=7)
            self.assertIn("is held by the holder (session ", done.stderr)
        self.assertEqual(self.queue(), 0)
        waiting = self.start("lock", self.name, "--wait", "1h", "--", "true")
        eventually("it waits", lambda: self.queue() == 1)
        self.assertRegex(self.out("lock", "show", self.name).splitlines()[1],
                         r'^{:state :waits, :place 1, :owner "tester@.*:mode :exclusive, :since #inst "[^"]+"}$')
        self.end()
        self.assertEqual((holder.wait(DEADLINE_S), waiting.wait(DEADLINE_S)), (11, 0))

    def test_readers_and_permits(self):
        first = self.hold("--shared")
        self.assertEqual(self.run_to_end("lock", self.name, "--shared", "--wait", "0", "--", "true")[0], 0)
        self.ctl("lock", self.name, "--wait", "0", "--", "true", check=7)
        self.end()
        self.assertEqual(first.wait(DEADLINE_S), 11)
        self.name += "_permits"
        os.remove(self.folder + "/end")
        os.remove(self.folder + "/log")
        second = self.hold("--permits", "2")
        third = self.start("lock", self.name, "--permits", "2", "--", "sh", "-c", self.HOLD)
        eventually("two have permits", lambda: len(self.written("log")) == 2)
        self.ctl("lock", self.name, "--permits", "2", "--wait", "0", "--", "true", check=7)
        self.assertRegex(
            self.out("lock", "list", "/locks/"),
            rf'"{self.name}", :held-by \["t.*" "t.*"\], :last-token \d+, :mode :permits, :permits-max 2')
        self.end()
        self.assertEqual((second.wait(DEADLINE_S), third.wait(DEADLINE_S)), (11, 11))

    def test_a_holder_that_is_killed_loses_the_lock_after_its_ttl_and_its_command_is_told(self):
        holder = self.hold("--ttl", "2s")
        token = int(self.written("log")[0].split()[1])
        waiting = self.start("lock", self.name, "--", "sh", "-c", "echo granted $STM_LOCK_TOKEN")
        eventually("it waits", lambda: self.queue() == 1)
        holder.kill()
        self.await_written("TERM")
        printed, said = waiting.communicate(timeout=DEADLINE_S)
        self.assertEqual((waiting.returncode, said), (0, ""))
        self.assertGreater(int(printed.split()[1]), token)
        late = self.ctl("set", "/locks/late", "1", "--fence", f"{self.name}:{token}", check=8)
        self.assertIn(f"token {token} is gone", late.stderr)

    def test_a_broken_lock_ends_its_command_and_all_that_it_started(self):
        holder = self.hold(command='(trap "echo grandchild >>$DIR/log; exit" TERM; echo started >>$DIR/log; '
                                   'while :; do sleep 0.02; done) & ' + self.HOLD)
        self.await_written("started")
        self.assertEqual(self.out("lock", "break", self.name, "--label", "a test"), ":broken\n")
        printed, said = holder.communicate(timeout=DEADLINE_S)
        self.assertEqual((holder.returncode, printed), (8, ""))
        self.assertRegex(said, rf"(?m)^stmctl: lock: {self.name}: lost .*: sh was ended by SIGTERM$")
        self.assertIn("TERM", self.written("log"))
        self.await_written("grandchild")
        self.assertIn('"a test"', self.out("log", "tail", "--limit", "50"))
        self.assertIn("nobody holds it", self.ctl("lock", "break", self.name, check=3).stderr)

    def test_a_command_that_ignores_its_end_is_killed_after_its_grace(self):
        holder = self.hold("--grace", "200ms", command='trap "" TERM; echo held >>$DIR/log; while :; do sleep 0.02; done')
        self.out("lock", "break", self.name)
        said = holder.communicate(timeout=DEADLINE_S)[1]
        self.assertEqual(holder.returncode, 8)
        self.assertIn("ended by SIGKILL, --grace 200ms after SIGTERM", said)

    def test_signals_are_passed_on_and_the_lock_is_held_until_the_command_ends(self):
        for sent, code in ((signal.SIGINT, 9), (signal.SIGTERM, 10)):
            holder = self.hold()
            holder.send_signal(sent)
            self.assertEqual(holder.wait(DEADLINE_S), code)
            self.assertTrue(self.free())
            os.remove(self.folder + "/log")
        holder = self.hold(command='trap "echo INT >>$DIR/log" INT; echo held >>$DIR/log; '
                                   'while [ ! -e $DIR/end ]; do sleep 0.02; done; stmctl lock list /locks/ >>$DIR/log')
        holder.send_signal(signal.SIGINT)
        self.await_written("INT")
        self.end()
        self.assertEqual(holder.wait(DEADLINE_S), 0)
        self.assertTrue(any(self.name in line and "tester@" in line for line in self.written("log")))

    def test_who_is_interrupted_while_it_waits_leaves_no_place(self):
        holder = self.hold()
        for verb in (("lock", self.name), ("elect", self.name, "--as", "x")):
            waiting = self.start(*verb, "--", "true")
            eventually("it waits", lambda: self.queue() == 1)
            waiting.send_signal(signal.SIGINT)
            self.assertEqual(waiting.communicate(timeout=DEADLINE_S), ("", ""))
            self.assertEqual(waiting.returncode, -signal.SIGINT)
            self.assertEqual(self.queue(), 0)
        self.assertIn("timed out", self.ctl("lock", self.name, "--timeout", "100ms", "--", "true", check=124).stderr)
        self.assertEqual(self.queue(), 0)
        self.end()
        self.assertEqual(holder.wait(DEADLINE_S), 11)

    def test_a_daemon_that_is_gone_ends_the_command_when_the_ttl_is_over(self):
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        holder = self.hold("--ttl", "2s", daemon=daemon)
        daemon.process.kill()
        said = holder.communicate(timeout=DEADLINE_S)[1]
        self.assertEqual(holder.returncode, 8)
        self.assertIn("no daemon answered", said)
        self.assertIn("TERM", self.written("log"))

    def test_a_daemon_that_comes_back_in_time_costs_nothing(self):
        daemon = Daemon(self.folder + "/data")
        self.addCleanup(daemon.stop)
        holder = self.hold("--ttl", "60s", "--as", "me", daemon=daemon)
        shown = ctl(daemon, "lock", "show", self.name).stdout
        daemon.kill()
        daemon.start()
        self.assertEqual(ctl(daemon, "lock", "show", self.name).stdout, shown)
        self.end()
        self.assertEqual(holder.wait(DEADLINE_S), 11)
        self.assertEqual(len(self.written("log")), 1)
        ctl(daemon, "lock", "show", self.name, check=3)

    def on_terminal(self, command):
        """(the pid of a stmctl lock that leads a session on a terminal of its own, that terminal)."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(STM_ADDRESS=self.daemon.address, DIR=self.folder)
            os.execv(STMCTL, [STMCTL, "lock", self.name, "--", "sh", "-c", command])
        self.addCleanup(os.close, terminal)
        self.addCleanup(self.kill_and_reap, pid)
        return pid, terminal

    @staticmethod
    def kill_and_reap(pid):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass

    def wait_for(self, pid, options=0):
        """The status of a process that ends, or stops."""
        def look():
            ended, status = os.waitpid(pid, options | os.WNOHANG)
            return (status,) if ended == pid else None
        return eventually(f"{pid} ends or stops", look)[0]

    def test_on_a_terminal_the_command_reads_it_and_has_its_keys(self):
        pid, terminal = self.on_terminal('read line; echo "read $line" >>$DIR/log; exit 3')
        os.write(terminal, b"a word\n")
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_for(pid)), 3)
        self.assertEqual(self.written("log"), ["read a word"])
        os.remove(self.folder + "/log")
        pid, terminal = self.on_terminal(self.HOLD)
        eventually("the lock is held", lambda: self.written("log"))
        os.write(terminal, b"\x03")
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_for(pid)), 9)
        self.assertEqual(self.written("log")[1:], ["INT"])

    def test_on_a_terminal_the_job_stops_and_goes_on_as_one(self):
        # It starts nothing: a shell that is stopped within its vfork does not stop before what it started has gone on.
        pid, terminal = self.on_terminal('trap "exit 9" INT; echo held >>$DIR/log; read line; exit 12')
        eventually("the lock is held", lambda: self.written("log"))
        os.write(terminal, b"\x1a")
        self.assertTrue(os.WIFSTOPPED(self.wait_for(pid, os.WUNTRACED)))
        os.kill(pid, signal.SIGCONT)
        eventually("the command has the terminal again", lambda: os.tcgetpgrp(terminal) != pid)
        os.write(terminal, b"\x03")
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_for(pid)), 9)

    def test_a_job_in_the_background_that_wants_to_read_stops_until_it_has_the_terminal(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(STM_ADDRESS=self.daemon.address, DIR=self.folder)
            os.execvp("bash", ["bash", "--norc", "--noediting", "-i"])
        self.addCleanup(os.close, terminal)
        self.addCleanup(self.kill_and_reap, pid)
        threading.Thread(target=self.drain, args=(os.dup(terminal),), daemon=True).start()
        os.write(terminal, f"{STMCTL} lock {self.name} --as me/$$ -- sh -c 'echo held >>$DIR/log; "
                           f"read line; echo read $line >>$DIR/log; exit 3' & echo $! >$DIR/job\n".encode())
        self.await_written("held")

        def state():
            with open(f"/proc/{self.written('job')[0]}/stat", encoding="utf-8") as status:
                return status.read().rsplit(")", 1)[1].split()[0]

        eventually("the job stops", lambda: state() == "T")
        os.write(terminal, b"fg\n")
        eventually("it goes on", lambda: state() != "T")
        os.write(terminal, b"a word\n")
        self.await_written("read a word")
        os.write(terminal, b"echo $? >>$DIR/log\n")
        self.await_written("3")
        os.write(terminal, b"exit\n")
        self.assertEqual(os.waitstatus_to_exitcode(self.wait_for(pid)), 0)

    @staticmethod
    def drain(terminal):
        """What a shell shows would fill its terminal."""
        try:
            while os.read(terminal, 4096):
                pass
        except OSError:
            pass  # the other side is closed
        os.close(terminal)

    def test_list_and_show(self):
        self.ctl("lock", "show", self.name, check=3)
        holder = self.hold("--as", "me")
        row = rf'{{:name "{self.name}", :held-by ["me"], :last-token '
        self.assertIn(row, self.out("lock", "list"))
        self.assertIn(row, self.out("lock", "list", "/locks/"))
        self.assertNotIn(row, self.out("lock", "list", "/elsewhere/"))
        self.assertRegex(self.out("lock", "list", "/locks/", "--output", "table"),
                         rf'NAME +HELD-BY +LAST-TOKEN +MODE.*\n(.*\n)*{self.name} +\["me"\] +\d+ +exclusive\n')
        self.end()
        holder.wait(DEADLINE_S)

    def test_elect(self):
        self.assertIn("nobody leads", self.ctl("elect", "show", self.name, check=3).stderr)
        follow = self.start("elect", "show", self.name, "--follow")
        self.assertRegex(follow.stdout.readline(), r"^{:version \d+, :leader nil}$")
        code, printed, said = self.run_to_end(
            "elect", self.name, "--as", "a", "--", "sh", "-c",
            "echo $STM_LEADER $STM_LEADER_TOKEN $STM_LOCK_TOKEN; stmctl elect show $STM_LOCK; exit 4")
        self.assertEqual((code, said), (4, ""))
        first, shown = printed.splitlines()
        token = first.split()[1]
        self.assertEqual(first, f"a {token} {token}")
        self.assertRegex(shown, rf'^{{:leader "a", :token {token}, :session "[^"]+", :since #inst "[^"]+"}}$')
        self.ctl("elect", "show", self.name, check=3)
        self.assertRegex(follow.stdout.readline(), r'^{:version \d+, :leader "a"}$')
        self.assertRegex(follow.stdout.readline(), r"^{:version \d+, :leader nil}$")

    def test_when_a_leader_is_killed_another_leads_after_its_ttl(self):
        leader = self.hold("--as", "a", "--ttl", "2s", verb="elect")
        self.assertIn(':leader "a"', self.out("elect", "show", self.name))
        second = self.start("elect", self.name, "--as", "b", "--", "sh", "-c", "stmctl get $STM_LOCK")
        eventually("it waits", lambda: self.queue() == 1)
        self.assertIn(':leader "a"', self.out("elect", "show", self.name))
        leader.kill()
        self.assertEqual(second.communicate(timeout=DEADLINE_S), ('"b"\n', ""))
        self.assertEqual(second.returncode, 0)

    def test_who_was_broken_leads_no_more(self):
        leader = self.hold("--as", "a", verb="elect", command='trap "" TERM; echo held >>$DIR/log; '
                           'while [ ! -e $DIR/end ]; do sleep 0.02; done')
        self.out("lock", "break", self.name)
        self.ctl("elect", "show", self.name, check=3)
        self.end()
        self.assertEqual(leader.wait(DEADLINE_S), 8)

    def test_sessions(self):
        holder = self.hold()
        session = re.search(r':session "([^"]+)"', self.out("lock", "show", self.name)).group(1)
        row = self.out("session", "show", session)
        self.assertIn(row.split(":left-ms")[0], self.out("session", "list"))
        self.assertRegex(row, rf'^{{:session "{session}", :client "[^"]+/stmctl tester@[^"]+/{holder.pid}", :ttl-ms 15000, '
                              rf':left-ms \d+, :since #inst "[^"]+", :locks \["{self.name}"\], :entries \[\]}}$')
        never = "00000000-0000-4000-8000-000000000000"
        self.assertIn("no such session", self.ctl("session", "show", never, check=3).stderr)
        self.ctl("session", "expire", never, check=3)
        self.assertEqual(self.out("session", "expire", session, "--label", "a test"), ":expired\n")
        self.assertEqual(holder.wait(DEADLINE_S), 8)
        self.assertIn("TERM", self.written("log"))

    def test_a_fenced_set_goes_through_only_while_its_grant_stands(self):
        entry = self.name + "/entry"
        code, printed, said = self.run_to_end(
            "lock", self.name, "--", "sh", "-c",
            f'stmctl set {entry} 1 --fence "$STM_LOCK:$STM_LOCK_TOKEN" && echo $STM_LOCK_TOKEN; '
            f'stmctl set {entry} 2 --ttl 1h --fence "$STM_LOCK:$STM_LOCK_TOKEN"')
        self.assertEqual((code, said), (0, ""))
        fence = f"{self.name}:{printed.splitlines()[1]}"
        for options in ([], ["--ttl", "2h"], ["--if-absent"]):
            code = 4 if "--if-absent" in options else 8
            self.ctl("set", entry, "3", "--fence", fence, *options, check=code)
        self.assertEqual(self.out("get", entry), "2\n")
        self.out("atom", "reset", entry + "/atom", "1")
        self.ctl("set", entry + "/atom", "2", "--fence", fence, check=8)
        for bad in ("x", "/x", "/x:", "/x:a", "x:1", "/x:0", ":1"):
            self.ctl("set", entry, "3", "--fence", bad, check=2)

    def presence(self, *options):
        process = self.start("set", self.name, *options)
        eventually("it is there", lambda: self.ctl("get", self.name, check=None).returncode == 0)
        return process

    def test_an_ephemeral_entry_is_there_until_its_command_ends(self):
        code, printed, said = self.run_to_end("set", self.name, '"here"', "--ephemeral", "--", "sh", "-c",
                                              f"stmctl get {self.name} --meta; exit 6")
        self.assertEqual((code, said), (6, ""))
        version, meta = printed.splitlines()
        self.assertRegex(meta, rf':value "here", :version {version}, .*:session "[0-9a-f-]{{36}}"')
        self.ctl("get", self.name, check=3)
        for sent in (signal.SIGINT, signal.SIGTERM):
            process = self.presence("1", "--ephemeral")
            process.send_signal(sent)
            self.assertEqual(process.wait(DEADLINE_S), -sent)
            self.ctl("get", self.name, check=3)
        # The command ends with what it was run for.
        process = self.presence("1", "--ephemeral", "--", "sh", "-c", self.HOLD)
        eventually("it runs", lambda: self.written("log"))
        session = re.search(r':session "([^"]+)"', self.out("get", self.name, "--meta")).group(1)
        self.out("session", "expire", session)
        self.assertEqual(process.wait(DEADLINE_S), 8)
        self.assertIn("TERM", self.written("log"))

    def test_an_ephemeral_entry_outlives_who_was_killed_by_its_ttl_and_goes_over_to_who_sets_it_again(self):
        first = self.presence("1", "--ephemeral", "--session-ttl", "2s")
        first.kill()
        eventually("it goes", lambda: self.ctl("get", self.name, check=None).returncode == 3)
        first = self.presence("1", "--ephemeral")
        self.out("validator", "set", self.name, ":int")
        self.ctl("set", self.name, "2", "--ephemeral", "--if-absent", check=4)
        second = self.start("set", self.name, "2", "--ephemeral")
        second.stdout.readline()
        first.send_signal(signal.SIGINT)
        first.wait(DEADLINE_S)
        self.assertEqual(self.out("get", self.name), "2\n")
        self.assertEqual(self.out("validator", "get", self.name), ":int\n")
        session = re.search(r':session "([^"]+)"', self.out("get", self.name, "--meta")).group(1)
        self.out("session", "expire", session)
        said = second.communicate(timeout=DEADLINE_S)[1]
        self.assertEqual(second.returncode, 8)
        self.assertIn("set it again", said)

    def test_usage(self):
        for line in (["lock"], ["lock", "/a"], ["lock", "a", "--", "true"], ["lock", "/a", "list"], ["elect", "/a", "--", "true"],
                     ["elect", "/a", "--as", "x"], ["lock", "/a", "--wait", "soon", "--", "true"],
                     ["lock", "/a", "--grace", "x", "--", "true"], ["lock", "/a", "--shared", "--permits", "2", "--", "true"],
                     ["lock", "list", "/a"], ["lock", "show"], ["lock", "break", "a"], ["session"], ["session", "show"],
                     ["set", "/a", "1", "--", "true"], ["set", "/a", "1", "--session-ttl", "5s"],
                     ["set", "/a", "1", "--ephemeral", "--grace", "1s"], ["demo", "lock", "--ttl", "x"]):
            self.ctl(*line, check=2)
        self.assertIn("session_ttl_min=2s", self.ctl("lock", "/a", "--ttl", "1s", "--", "true", check=2).stderr)


class Demos(OneDaemon):
    """The demonstrations hold, and what does not hold is found out."""

    def start(self, *arguments, environment=None):
        """A demonstration that goes on meanwhile."""
        process = subprocess.Popen([STMCTL, "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=dict(os.environ, STM_ADDRESS=self.daemon.address, **(environment or {})))
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(lambda: process.poll() is not None or process.kill())
        return process

    def begun(self, kind):
        """The prefix of the newest run."""
        runs = self.ctl("get", f"/demo/{kind}/runs", check=None)
        return f"/demo/{kind}/{int(runs.stdout) if runs.returncode == 0 else 0}/"

    def start_next(self, kind, *arguments):
        before = self.begun(kind)
        process = self.start(kind, *arguments)
        eventually(f"demo {kind} has begun", lambda: self.begun(kind) != before)
        return process, self.begun(kind)

    def broken(self, process):
        """What a demonstration says that found something broken."""
        printed, said = process.communicate(timeout=DEADLINE_S)
        self.assertEqual(process.returncode, 1, printed + said)
        self.assertIn(":invariants :broken", printed)
        self.assertEqual(said.count("\n"), 1)
        return said

    def test_queue(self):
        row = self.out("demo", "queue", "--takers", "20", "--jobs", "200")
        run = int(re.match(r'{:queue "/demo/queue/(\d+)/jobs", :takers 20, :jobs 200, :taken 200, :conflicts \d+, '
                           r':idle-wake-ups 0, :wake-ups \d+, :wake-ups-per-job [\d.]+, :jobs-per-second \d+, '
                           r':invariants :held}\n$', row).group(1))
        self.assertEqual(self.out("get", f"/demo/queue/{run}/jobs"), "[]\n")
        # Without the demonstration's own reckoning.
        orders = {"Put": [], "Taken": []}
        for record, of, job in re.findall(r"#demo\.(\w+){:run (\d+), :job (\d+)",
                                          self.out("log", "records", "--tag", "demo.Put", "--tag", "demo.Taken")):
            if int(of) == run:
                orders[record].append(int(job))
        self.assertEqual(sorted(orders["Put"]), list(range(200)))
        self.assertEqual(orders["Taken"], orders["Put"])
        # Another run has a queue of its own.
        again = json.loads(self.out("demo", "queue", "--takers", "1", "--jobs", "20", "--output", "json"))
        self.assertEqual((again["taken"], again["invariants"]), (20, "held"))
        self.assertNotEqual(again["queue"], f"/demo/queue/{run}/jobs")
        self.assertRegex(self.out("demo", "queue", "--jobs", "1", "--output", "table"), r"(?m)^invariants +held$")
        self.ctl("demo", "queue", "--takers", "0", check=2)

    def test_queue_shows_its_progress_on_a_terminal_alone(self):
        def run(n):
            arguments = ("demo", "queue", "--jobs", str(50 * n))
            return on_terminal(self.daemon, *arguments), self.ctl(*arguments)

        shows(rf"\rdemo queue {BAR}\d+ jobs, \d+/s, \d+ takers asleep, \d+ wake-ups", run)

    def test_queue_tells_what_others_took_and_put(self):
        # One taker alone is slower than the producers: there are jobs to take.
        process, prefix = self.start_next("queue", "--takers", "1", "--jobs", "2000")
        taken = eventually("a job waits", lambda: self.ctl("apply", prefix + "jobs", "(shift)", check=None).stdout)
        self.assertRegex(taken, r"^\d+\n$")
        self.assertIn(f"job {taken.strip()} was put and never taken", self.broken(process))
        process, prefix = self.start_next("queue", "--jobs", "2000")
        self.out("apply", prefix + "jobs", "(conj 2000)")
        self.assertIn("job 2000 was taken at version ", self.broken(process))

    def test_queue_finds_out_a_daemon_that_checks_no_reads(self):
        daemon = Daemon(planted="skip_read_check")
        self.addCleanup(daemon.stop)
        self.assertRegex(ctl(daemon, "demo", "queue", "--jobs", "300", check=1).stderr, "twice|not waiting|never taken")

    def interrupt(self, process):
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=DEADLINE_S)
        self.assertEqual((process.returncode, said), (-signal.SIGINT, ""))
        self.assertRegex(printed, r"^{.*, :interrupted true}\n$")
        self.assertNotIn(":invariants", printed)

    def test_queue_that_is_interrupted_says_how_far_it_came(self):
        self.interrupt(self.start_next("queue", "--jobs", "1000000")[0])
        late = self.ctl("demo", "queue", "--jobs", "1000000", "--timeout", "500ms", check=124)
        self.assertRegex(late.stdout, r"^{:queue .*:wake-ups \d+")
        self.assertNotIn(":invariants", late.stdout)


    def test_lock(self):
        lines = self.out("demo", "lock").splitlines()
        self.assertEqual([line.split('"')[3] for line in lines[:-1]],
                         ["is granted the lock", "writes under its fence", "is paused, by kill -STOP", "is granted the lock",
                          "writes under its fence", "wakes, and goes on as if nothing had been",
                          "writes under its fence: refused", "writes without it: B's work is lost"])
        self.assertEqual([line.split('"')[1] for line in lines[:-1]], ["A", "A", "A", "B", "B", "A", "A", "A"])
        run, token_a, token_b = re.fullmatch(
            r'{:lock "/demo/lock/(\d+)/lock", :ttl-ms 2000, :token-a (\d+), :token-b (\d+), :fenced :refused, :in-log 3, '
            r':invariants :held}', lines[-1]).groups()
        self.assertGreater(int(token_b), int(token_a))
        # Without the demonstration's own reckoning: the refused one is not there.
        history = self.out("history", f"/demo/lock/{run}/work")
        self.assertEqual(re.findall(r':after "([^"]+)"', history), ["A's late work", "B's work", "A's work"])
        self.assertEqual(self.ctl("lock", "show", f"/demo/lock/{run}/lock", check=None).returncode, 3)

    def test_lock_finds_out_another_writer(self):
        process, prefix = self.start_next("lock", "--ttl", "5s")
        self.out("wait", prefix + "work", "--is", ":string")
        version = self.out("set", prefix + "work", '"another\'s"').strip()
        self.assertRegex(self.broken(process),
                         rf'the log has, in {prefix}work, "another\'s" at version {version}, and what was told is "B\'s work"')

    def test_lock_finds_out_a_daemon_that_checks_no_fences(self):
        daemon = Daemon(planted="skip_fences")
        self.addCleanup(daemon.stop)
        self.assertIn("A, who was paused past its session's end, wrote under its fence",
                      ctl(daemon, "demo", "lock", check=1).stderr)

    def test_lock_that_is_interrupted_leaves_no_holder(self):
        process, prefix = self.start_next("lock", "--ttl", "600s")
        eventually("B waits", lambda: ":state :waits" in self.ctl("lock", "show", prefix + "lock", check=None).stdout)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=DEADLINE_S)
        self.assertEqual((process.returncode, said), (-signal.SIGINT, ""))
        self.assertRegex(printed.splitlines()[-1], r"^{.*, :interrupted true}$")
        self.assertNotIn(":invariants", printed)
        shown = self.out("lock", "show", prefix + "lock")
        self.assertNotIn(":state :waits", shown)
        holder = re.search(r':session "([^"]+)"', shown).group(1)
        pid = re.search(r':client "[^"]+/(\d+)"', self.out("session", "show", holder)).group(1)
        eventually("A is gone", lambda: not os.path.exists(f"/proc/{pid}"))

    def test_transfer(self):
        row = self.out("demo", "transfer", "--accounts", "5", "--callers", "4", "--transfers", "500")
        run = int(re.match(r'{:prefix "/demo/transfer/(\d+)/", :accounts 5, :callers 4, :committed 500, :conflicts \d+, '
                           r':resends 0, :unknown-at-first 0, :sums-checked [1-9]\d*, :sum 500, :per-second \d+, :in-log 500, '
                           r':invariants :held}\n$', row).group(1))
        # Without the demonstration's own reckoning.
        balances = [100] * 5
        numbers = []
        for number, source, target, amount in re.findall(
                rf"#demo\.Transfer{{:run {run}, :number (\d+), :from (\d+), :to (\d+), :amount (\d+)}}",
                self.out("log", "records", "--tag", "demo.Transfer")):
            numbers.append(int(number))
            balances[int(source)] -= int(amount)
            balances[int(target)] += int(amount)
        self.assertEqual(sorted(numbers), list(range(500)))
        listed = self.out("list", f"/demo/transfer/{run}/", "--values")
        self.assertEqual([int(value) for value in re.findall(r":value (\d+)}", listed)], balances)
        self.assertEqual(sum(balances), 500)
        again = json.loads(self.out("demo", "transfer", "--seconds", "0.3", "--output", "json"))
        self.assertNotEqual(again["prefix"], f"/demo/transfer/{run}/")
        self.assertEqual((again["committed"], again["invariants"]), (again["in-log"], "held"))
        self.assertEqual(self.out("list", f"/demo/transfer/{run}/", "--values"), listed)
        self.ctl("demo", "transfer", "--accounts", "1", check=2)
        self.ctl("demo", "transfer", "--seconds", "1", "--transfers", "1", check=2)

    def test_transfer_shows_its_progress_on_a_terminal_alone(self):
        def run(n):
            arguments = ("demo", "transfer", "--transfers", str(100 * n))
            return on_terminal(self.daemon, *arguments), self.ctl(*arguments)

        shows(rf"\rdemo transfer {BAR}\d+ committed, \d+/s, \d+ conflicts, 0 resends, \d+ sums checked", run)

    def test_transfer_ends_at_a_wrong_sum_and_names_who_made_it(self):
        process, prefix = self.start_next("transfer", "--seconds", "3600")
        version = self.out("tx", "-", input=f'{{:apply {{"{prefix}3" (add 7)}} :label "thief"}}').split()[1].rstrip(",")
        said = self.broken(process)
        self.assertRegex(said, rf"the 10 accounts under {prefix} sum up to 1007, expected 10 and 1000")
        # What was stolen may have been passed on: then the records alone are below zero.
        self.assertRegex(said, rf'{prefix}3 is \d+, the records add up to -?\d+: version {version}, by "thief" of stmctl')
        process, prefix = self.start_next("transfer", "--seconds", "3600")
        self.out("delete", prefix + "0")
        self.assertRegex(self.broken(process), rf"the 9 accounts under {prefix}|found no account {prefix}0")

    def test_transfer_finds_out_what_leaves_the_sum_as_it_is(self):
        process, prefix = self.start_next("transfer", "--seconds", "3")
        self.out("tx", "-", input=f'{{:apply {{"{prefix}1" (add 1) "{prefix}2" (add -1)}}}}')
        said = self.broken(process)
        self.assertRegex(said, rf"{prefix}1 is -?\d+, the records add up to -?\d+: version \d+, by stmctl")
        self.assertRegex(said, rf"{prefix}2 is \d+, the records add up to \d+: version \d+, by stmctl")
        self.assertNotIn("sum up", said)
        # A transfer that the log has and nobody was told of.
        process, prefix = self.start_next("transfer", "--seconds", "3")
        run = prefix.split("/")[3]
        self.out("tx", "-", input=f"{{:records [#demo.Transfer{{:run {run} :number 0 :from 0 :to 1 :amount 0}} "
                                  f"#demo.Transfer{{:run {run} :number 9999999 :from 0 :to 1 :amount 0}}]}}")
        said = self.broken(process)
        self.assertIn("transfer 0 is in the log twice", said)
        self.assertIn("the log has transfer 9999999 at version ", said)

    def test_transfer_finds_out_a_daemon_that_checks_no_reads(self):
        daemon = Daemon(planted="skip_read_check")
        self.addCleanup(daemon.stop)
        self.assertIn("sum up to", ctl(daemon, "demo", "transfer", "--seconds", "3600", check=1).stderr)

    def test_transfer_that_is_interrupted_says_how_far_it_came(self):
        self.interrupt(self.start_next("transfer", "--seconds", "3600")[0])

    def start_kill(self, *arguments, planted=""):
        """demo transfer --kill, and the folder that it has for its own: there is its daemon's pid, too."""
        folder = tempfile.mkdtemp(prefix="stmctl-kill-")
        self.addCleanup(shutil.rmtree, folder)
        with open(folder + "/stmd", "w", encoding="utf-8") as script:
            script.write(f'#!/bin/sh\necho $$ >{folder}/new && mv {folder}/new {folder}/pid\nexec {STMD} "$@" {planted}\n')
        os.chmod(folder + "/stmd", 0o755)
        os.mkdir(folder + "/tmp")
        process = self.start("transfer", "--kill", "--stmd", folder + "/stmd", *arguments,
                             environment={"TMPDIR": folder + "/tmp", "STMD_TEST_CANARIES": "1"})
        return process, folder

    @staticmethod
    def daemon_runs(folder):
        try:
            with open(folder + "/pid", encoding="utf-8") as pid, \
                    open(f"/proc/{int(pid.read())}/stat", encoding="utf-8") as status:
                return status.read().rsplit(")", 1)[1].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def test_kill_loses_nothing_and_leaves_nothing(self):
        before = self.out("get", "/demo/transfer/runs") if self.begun("transfer") != "/demo/transfer/0/" else None
        process, folder = self.start_kill("--transfers", "50", "--accounts", "4")
        printed, said = process.communicate(timeout=DEADLINE_S)
        self.assertEqual((process.returncode, said), (0, ""))
        row = re.match(r'{:prefix "/demo/transfer/1/", :accounts 4, :callers 8, :committed (\d+), :conflicts \d+, :resends \d+, '
                       r':unknown-at-first \d+, :sums-checked [1-9]\d*, :sum 400, :per-second \d+, :kills (\d+), :in-log (\d+), '
                       r':files-verified [1-9]\d*, :invariants :held}\n$', printed)
        self.assertGreaterEqual(int(row.group(1)), 50)
        self.assertGreater(int(row.group(2)), 3)
        self.assertEqual(row.group(1), row.group(3))
        self.assertFalse(self.daemon_runs(folder))
        self.assertEqual(os.listdir(folder + "/tmp"), [])
        # The daemon at --address had nothing to do with it.
        self.assertEqual(self.out("health"), ":serving\n")
        self.assertEqual(self.out("get", "/demo/transfer/runs") if before else None, before)

    def test_kill_finds_out_a_daemon_that_forgets_ids(self):
        def found():
            process, folder = self.start_kill("--seconds", "1", planted="--test-canary=forget_ids_on_recovery")
            printed, said = process.communicate(timeout=DEADLINE_S)
            # No kill may have met a commit under way.
            if process.returncode == 0:
                return None
            self.assertIn(":invariants :broken", printed + said)
            kept = re.search(r"the files of the daemon are kept in (\S+)\n$", said).group(1)
            self.assertTrue(kept.startswith(folder + "/tmp/"))
            self.assertIn("log-0000000000000000001.edn", os.listdir(kept))
            return said

        # The first of them are told: one that was made twice is met at the version that nobody was told, and then again.
        self.assertRegex(eventually("a forgotten id is found out", found),
                         r"transfer \d+ is in the log (twice|at version \d+, its caller was told \d+)")

    def test_kill_that_is_interrupted_or_killed_leaves_no_daemon(self):
        process, folder = self.start_kill("--seconds", "3600")
        eventually("the daemon runs", lambda: self.daemon_runs(folder))
        self.interrupt(process)
        self.assertFalse(self.daemon_runs(folder))
        self.assertEqual(os.listdir(folder + "/tmp"), [])
        process, folder = self.start_kill("--seconds", "3600")
        eventually("the daemon runs", lambda: self.daemon_runs(folder))
        process.kill()
        process.wait(DEADLINE_S)
        eventually("the daemon ends", lambda: not self.daemon_runs(folder))

    def test_kill_says_which_stmd_it_cannot_start(self):
        self.assertIn("--stmd /no/stmd", self.ctl("demo", "transfer", "--kill", "--stmd", "/no/stmd", check=2).stderr)
        self.assertIn("/bin/false: ended by itself, exit code 1",
                      self.ctl("demo", "transfer", "--kill", "--stmd", "/bin/false", check=1).stderr)


class Durable(unittest.TestCase):
    """Against a daemon with a log of its own, which is stopped, killed and edited."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="stmctl-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.daemon = Daemon(self.folder + "/data")
        self.addCleanup(lambda: self.daemon.stop())

    def out(self, *arguments, **options):
        return ctl(self.daemon, *arguments, **options).stdout

    def logs(self):
        return sorted(f"{self.folder}/data/{name}" for name in os.listdir(self.folder + "/data")
                      if re.fullmatch(r"log-\d+\.edn", name))

    def test_streams_and_commits_outlive_a_killed_daemon(self):
        self.out("set", "/a", "0")
        watch = subprocess.Popen([STMCTL, "watch", "/a", "--initial", "--count", "2"], stdout=subprocess.PIPE, text=True,
                                 env=dict(os.environ, STM_ADDRESS=self.daemon.address))
        self.addCleanup(watch.stdout.close)
        self.assertIn(":value 0", watch.stdout.readline())
        self.assertIn(":synced", watch.stdout.readline())
        self.out("apply", "/a", "(add 1)")
        self.assertIn(":after 1", watch.stdout.readline())
        self.daemon.kill()
        self.daemon.start()
        self.out("apply", "/a", "(add 1)")
        self.assertIn(":before 1, :after 2", watch.communicate(timeout=DEADLINE_S)[0])
        self.assertEqual(watch.returncode, 0)
        self.assertEqual(self.out("get", "/a"), "2\n")

    def test_backup_and_restore(self):
        file, other = self.folder + "/stm.backup", self.folder + "/other"
        for i in range(0, 2000, 100):
            self.out("tx", "-", input="{:set {" + " ".join(f'"/n/{n}" [{n} "é"]' for n in range(i, i + 100)) + "}}")
        self.out("set", "/ttl", "true", "--ttl", "1h")
        self.out("validator", "set", "/n/1", ":vector")
        stop = threading.Event()

        def write():
            n = 0
            while not stop.is_set():
                self.out("apply", f"/n/{n % 2000}", f"(conj {n})")
                n += 13

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        said = self.out("backup", file)
        stop.set()
        for writer in writers:
            writer.join()
        version = re.search(r":version (\d+)", said).group(1)
        self.assertIn(":entries 2001", said)
        self.assertEqual(os.stat(file).st_mode & 0o777, 0o600)
        with open(file, encoding="utf-8") as text:
            self.assertIn('"/n/7"', text.read())
        self.assertIn("not empty", ctl(self.daemon, "restore", file, check=5).stderr)
        fresh = Daemon(other)
        self.addCleanup(fresh.stop)
        with open(file, "rb") as whole:
            text = whole.read()
        with open(file + ".bad", "wb") as bad:
            bad.write(text.replace(b'"/n/7" :value [7 ', b'"/n/7" :value [8 '))
        self.assertRegex(ctl(fresh, "restore", file + ".bad", check=1).stderr, r"line \d+: the sum does not fit")
        self.assertIn("is empty", ctl(fresh, "restore", "/dev/null", check=1).stderr)
        ctl(fresh, "restore", self.folder + "/nowhere", check=1)
        # Killed in the middle, it is empty still.
        pipe = subprocess.Popen([STMCTL, "restore", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, env=dict(os.environ, STM_ADDRESS=fresh.address))
        pipe.stdin.write(text[:-100])
        pipe.stdin.flush()
        eventually("some of it has come", lambda: "restore.tmp" in os.listdir(other) or len(text) < 1 << 20)
        fresh.kill()
        pipe.stdin.close()
        pipe.wait(DEADLINE_S)
        fresh.start()
        self.assertEqual(ctl(fresh, "list", "/", "--count").stdout, "0\n")
        said = ctl(fresh, "restore", file).stdout
        self.assertIn(f":version {version}", said)
        everything = ("list", "/", "--values", "--at", version)
        entries = self.out(*everything)
        self.assertEqual(entries.count("\n"), 2001)
        self.assertEqual(ctl(fresh, *everything).stdout, entries)
        fresh.kill()
        fresh.start()
        self.assertEqual(ctl(fresh, *everything[:3]).stdout, entries)
        self.assertEqual(ctl(fresh, "validator", "get", "/n/1").stdout, ":vector\n")
        self.assertEqual(ctl(fresh, "set", "/new", "1").stdout, f"{int(version) + 1}\n")
        # By a pipe, too.
        self.assertEqual(self.out("backup", "-", "--at", version).split(":store")[0], text.decode().split(":store")[0])

    def test_containers(self):
        self.assertEqual(self.out("containers"), "")
        self.assertIn("inline", ctl(self.daemon, "set", "/c/a", "1", "--container", "files", check=5).stderr)
        self.assertIn("container", ctl(self.daemon, "set", "/c/a", "1", "--container", "No", check=2).stderr)
        values, other = self.folder + "/values", self.folder + "/other"
        os.mkdir(other)
        daemon = Daemon(other, flags=[f"--container=files=file://{values}",
                                      "--container", "mongo=mongodb://app:s3cret@127.0.0.1:1/app"])
        self.addCleanup(daemon.stop)
        ctl(daemon, "set", "/c/a", '"kept elsewhere"', "--container", "files")
        found = [name for folder, _, names in os.walk(values) for name in names
                 if "kept elsewhere" in open(os.path.join(folder, name)).read()]
        self.assertTrue(found)
        self.assertIn(':container "files"', ctl(daemon, "get", "/c/a", "--meta").stdout)
        # Where it is is fixed at creation.
        ctl(daemon, "set", "/c/a", "2")
        ctl(daemon, "set", "/c/a", "3", "--container", "files")
        self.assertIn("fixed at creation", ctl(daemon, "set", "/c/a", "4", "--container", "inline", check=5).stderr)
        ctl(daemon, "set", "/c/b", "4", "--container", "inline", "--ttl", "1h")
        self.assertIn("fixed at creation", ctl(daemon, "set", "/c/b", "4", "--container", "files", check=5).stderr)
        self.assertEqual(ctl(daemon, "get", "/c/a").stdout, "3\n")

        rows = [json.loads(line) for line in ctl(daemon, "containers", "--output", "json").stdout.splitlines()]
        self.assertEqual([row["name"] for row in rows], ["files", "mongo"])
        self.assertTrue(rows[0]["healthy"])
        self.assertGreater(rows[0]["calls"], 3)
        self.assertEqual(rows[0]["keeps"], ["refs", "atoms"])
        self.assertEqual(rows[0]["uri"], f"file://{values}")
        self.assertEqual(rows[1]["uri"], "mongodb://app:***@127.0.0.1:1/app")
        self.assertRegex(ctl(daemon, "containers").stdout, r'(?m)^{:name "files", :healthy true, :keeps \[:refs :atoms\], ')
        self.assertRegex(ctl(daemon, "containers", "--output", "table").stdout, r"^NAME +HEALTHY +KEEPS +P50-US +CALLS ")
        shown = ctl(daemon, "config").stdout
        self.assertIn("app:***@", shown)
        self.assertNotIn("s3cret", shown)

        # An export goes back to where it was.
        exported = ctl(daemon, "export", "/c/").stdout
        ctl(daemon, "delete", "/c/a", "/c/b")
        ctl(daemon, "import", "/c/", "-", input=exported)
        self.assertIn(':container "files"', ctl(daemon, "get", "/c/a", "--meta").stdout)
        self.assertEqual(ctl(daemon, "get", "/c/a").stdout, "3\n")

    def test_config_and_drain(self):
        self.assertRegex(self.out("config"), r'{:name "listen", :value ".*", :origin :flag}')
        self.assertIn("--grace x", ctl(self.daemon, "drain", "--grace", "x", check=2).stderr)
        self.assertEqual(self.out("drain", "--grace", "5s"), ":drained\n")
        self.assertEqual(self.daemon.process.wait(DEADLINE_S), 0)

    def test_verify_seal_and_drop(self):
        self.out("tx", "-", input='{:set {"/name" "Carol"} :records [#d.T{:name "Carol"}]}')
        log = self.logs()[0]
        running = ctl(self.daemon, "log", "seal", log, check=1).stderr
        self.assertRegex(running, "lock|running|in use|another")
        self.daemon.stop()
        self.assertRegex(self.out("log", "verify", self.folder + "/data"), r":commits 1")
        self.assertRegex(self.out("log", "verify", log), r"^{:name \"log-\d+\.edn\", .*}\n$")
        with open(log, encoding="utf-8") as file:
            text = file.read()
        with open(log, "w", encoding="utf-8") as file:
            file.write(text.replace("Carol", "Caroline"))
        self.assertIn("line", ctl(self.daemon, "log", "verify", log, check=1).stderr)
        self.assertIn(":changed true", self.out("log", "seal", log))
        self.assertNotIn(":problem", self.out("log", "verify", log))
        self.assertIn(":changed false", self.out("log", "seal", log))
        self.daemon.start()
        self.assertEqual(self.out("get", "/name"), '"Caroline"\n')
        self.assertEqual(self.out("log", "records"), '#d.T{:name "Caroline"}\n')
        self.daemon.stop()
        # No snapshot holds what is in it.
        ctl(self.daemon, "log", "drop", log, check=1)
        self.assertTrue(os.path.exists(log))
        ctl(self.daemon, "log", "verify", self.folder + "/nowhere/log.edn", check=1)

    def test_long_work_on_log_files_shows_its_progress_on_a_terminal_and_nothing_in_a_pipe(self):
        def on_more(n, *arguments):
            if self.daemon.process.poll() is not None:
                self.daemon.start()
            self.out("log", "import", "-", "--batch", "10", input=f'#d.T{{:x "{"x" * 100}"}}\n' * 10000 * n)
            self.daemon.stop()
            arguments += (self.logs()[0],)
            return on_terminal(self.daemon, *arguments), ctl(self.daemon, *arguments)

        shows(rf"\rlog verify {BAR}\d+ bytes, \d+/s", lambda n: on_more(n, "log", "verify"))
        shows(rf"\rlog seal {BAR}\d+ bytes, \d+/s", lambda n: on_more(n, "log", "seal"))


if __name__ == "__main__":
    signal.alarm(900)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
