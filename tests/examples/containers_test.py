#!/usr/bin/env python3
"""The containers of examples/containers, built and started as their READMEs say, and `stmctl container check` on
them; and on containers with a planted bug, each of which must be found out. Ends with "N passed, N failed".

usage: containers_test.py STMCTL [TEST...]
"""
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

STMCTL = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
DEADLINE_S = 60
WRITERS = 4
AT_ONCE = 4  # planted bugs that are tried
KILLS = 3
WRITES_BETWEEN_KILLS = 20
UNAVAILABLE = 6  # exit codes of stmctl
BROKEN = 1
TIMEOUT = "30s"  # of each call: nothing here is slow, but the machine may be

# Bugs of planted_container.py, and a rule that each breaks.
PLANTED = {
    "AnotherValue": "refs-3",
    "Newest": "refs-8",
    "Forgets": "refs-3",
    "Overwrites": "refs-7",
    "RefusesTwice": "refs-6",
    "DeletesMore": "refs-11",
    "DeletesNothing": "refs-11",
    "DestroysStamps": "refs-13",
    "ForgetsNames": "refs-9",
    "IgnoresCase": "refs-9",
    "LosesNanoseconds": "refs-3",
    "NilIsNothing": "refs-4",
    "KeepsForOneConnection": "refs-18",
    "OlderWins": "atoms-7",
    "DestroysNewer": "atoms-11",
    "KeepsDestroyed": "atoms-10",
}


def eventually(claim, check):
    """Until check() is true; the deadline is only for failures."""
    end = time.monotonic() + DEADLINE_S
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S} s: {claim}")
        time.sleep(0.01)


class Server:
    """A program that says where it serves, and serves there again when it is started again."""

    def __init__(self, *command):
        self.command = command
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        self.address = re.search(r"serving on (\S+)", said).group(1)
        self.command = [f"{self.address}" if word == "127.0.0.1:0" else word for word in self.command]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """Its exit code."""
        self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        return code


def check(address, *options):
    """(the exit code, what was printed, the error)"""
    done = subprocess.run([STMCTL, "container", "check", address, "--timeout", TIMEOUT, "--output", "json", *options],
                          capture_output=True, text=True, timeout=10 * DEADLINE_S)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def built(language, folder):
    """Builds the example. Skipped, in so many words, where its packages can't be had."""
    done = subprocess.run([os.path.join(ROOT, "examples/containers", language, "build"), "--offline", folder],
                          capture_output=True, text=True, timeout=600)
    if done.returncode == 0:
        return
    why = " ".join(done.stderr.split())
    if "run examples/containers" in why or "run deploy/go-toolchain" in why:
        print(f"SKIPPED examples/containers/{language}: its packages are not here: {why}", flush=True)
        raise unittest.SkipTest(why)
    raise AssertionError(why)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, *command):
        server = Server(*command)
        self.addCleanup(lambda: server.process.stdout.closed or server.kill())
        return server

    def path(self, name):
        return os.path.join(self.folder, name)

    def assertHolds(self, address, *options):
        code, rules, error = check(address, *options)
        self.assertEqual((code, error), (0, ""), rules)
        self.assertEqual([rule for rule in rules if rule["verdict"] == "broken"], [])
        return rules

    def verb(self, address, verb, request):
        """By grpcurl, as a person does: (its exit code, what was answered or said)."""
        service = "AtomContainerService" if verb.endswith(("Atom", "State")) else "ContainerService"
        done = subprocess.run(["grpcurl", "-plaintext", "-import-path", os.path.join(ROOT, "proto"), "-proto",
                               "stm/v1/container_service.proto", "-d", "@", address, f"stm.v1.{service}/{verb}"],
                              input=json.dumps(request), capture_output=True, text=True, timeout=DEADLINE_S)
        return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr

    def outlives_kills(self, container, kill):
        """What SetStateAt answered with OK is there after kill(), which kills and starts again."""
        answered, stopping = [], threading.Event()

        def write(writer):
            for n in range(10**6):
                if stopping.is_set():
                    return
                stamp = f"{writer}-{n}"
                code, _ = self.verb(container.address, "SetStateAt",
                                    {"name": "/kept", "stamp": stamp, "value": {"integer": str(n)}})
                if code == 0:
                    answered.append((stamp, str(n)))

        writers = [threading.Thread(target=write, args=(i,)) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(KILLS):
                before = len(answered)
                eventually("writes are answered", lambda: len(answered) >= before + WRITES_BETWEEN_KILLS)
                kill()
        finally:
            stopping.set()
            for writer in writers:
                writer.join()
        for stamp, n in answered:
            code, answer = self.verb(container.address, "GetStateAt", {"name": "/kept", "stamp": stamp})
            self.assertEqual((code, answer), (0, {"value": {"integer": n}}), stamp)
        print(f"{self.id()}: {len(answered)} writes were answered, {KILLS} kills", flush=True)


class Python(Case):
    @classmethod
    def setUpClass(cls):
        cls.built = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.built.cleanup)
        built("python", cls.built.name)

    def states(self, *options, file="states.sqlite"):
        return self.start(os.path.join(self.built.name, "states"), "--listen", "127.0.0.1:0", "--file", self.path(file), *options)

    def container(self, states):
        return self.start(os.path.join(self.built.name, "container"), "--listen", "127.0.0.1:0", "--states",
                          f"http://{states.address}")

    def planted(self, bug, states):
        return self.start(os.path.join(self.built.name, "python"), os.path.join(HERE, "planted_container.py"), bug,
                          f"http://{states.address}")

    def test_it_holds_to_every_rule(self):
        container = self.container(self.states())
        rules = self.assertHolds(container.address)
        self.assertEqual({rule["verdict"] for rule in rules}, {"holds"})
        self.assertGreater(len(rules), 10)
        # With the scheme as well; and what an earlier run left is in nobody's way.
        alone = self.assertHolds(f"grpc://{container.address}", "--refs")
        atoms = self.assertHolds(container.address, "--atoms")
        self.assertEqual({rule["rule"].split("-")[0] for rule in alone}, {"refs"})
        self.assertEqual({rule["rule"].split("-")[0] for rule in atoms}, {"atoms"})
        self.assertEqual(container.stop(), 0)

    def test_the_check_leaves_nothing_behind(self):
        states = self.states()
        self.assertHolds(self.container(states).address)
        self.assertEqual(states.stop(), 0)
        with contextlib.closing(sqlite3.connect(self.path("states.sqlite"))) as db:
            # The greatest version there is can't be destroyed by a newer one.
            left = db.execute("SELECT name FROM states UNION ALL SELECT name FROM atoms WHERE version < ?", (2**63 - 1,))
            self.assertEqual(left.fetchall(), [])

    def test_without_its_web_service_it_is_unavailable_until_that_is_back(self):
        states = self.states()
        container = self.container(states)
        request = {"name": "/a", "stamp": "s-1", "value": {"text": "é"}}
        self.assertEqual(self.verb(container.address, "SetStateAt", request), (0, {}))
        states.kill()
        code, said = self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-1"})
        self.assertRegex(said, "(?s)Code: Unavailable.*refused")
        code, rules, error = check(container.address)
        self.assertEqual(code, UNAVAILABLE, rules)
        self.assertRegex(error, "^stmctl: container check: .*refused")
        states.start()
        self.assertEqual(self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-1"}),
                         (0, {"value": {"text": "é"}}))
        self.assertHolds(container.address, "--atoms")

    def test_its_web_service_that_hangs_is_waited_for_no_longer_than_the_caller_does(self):
        states = self.states()
        container = self.container(states)
        os.kill(states.process.pid, signal.SIGSTOP)
        done = subprocess.run([STMCTL, "container", "check", container.address, "--timeout", "200ms"], capture_output=True,
                              text=True, timeout=DEADLINE_S)
        self.assertIn(done.returncode, (UNAVAILABLE, 124), done.stderr)
        os.kill(states.process.pid, signal.SIGCONT)
        self.assertHolds(container.address, "--atoms")

    def test_a_full_web_service_is_resource_exhausted(self):
        container = self.container(self.states("--bytes-max", str(1 << 18)))
        large = {"name": "/a", "stamp": "s-1", "value": {"text": "x" * (1 << 20)}}
        code, said = self.verb(container.address, "SetStateAt", large)
        self.assertRegex(said, "(?s)Code: ResourceExhausted.*507.*full")
        code, answer = self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-1"})
        self.assertEqual((code, answer), (0, {}))
        self.assertEqual(self.verb(container.address, "SetStateAt", large | {"value": {"text": "x"}}), (0, {}))

    def test_a_web_service_that_forbids_is_permission_denied_and_the_check_says_so(self):
        container = self.container(self.states("--read-only"))
        code, said = self.verb(container.address, "SetStateAt", {"name": "/a", "stamp": "s-1", "value": {"nil": True}})
        self.assertRegex(said, "(?s)Code: PermissionDenied.*403")
        code, rules, error = check(container.address)
        self.assertEqual(code, BROKEN)
        self.assertTrue(any("403" in rule.get("why", "") for rule in rules), rules)

    def test_another_value_under_a_stamp_is_refused_and_what_is_there_stays(self):
        container = self.container(self.states())
        request = {"name": "/a", "stamp": "s-1", "value": {"float64": "NaN"}}
        self.assertEqual(self.verb(container.address, "SetStateAt", request), (0, {}))
        self.assertEqual(self.verb(container.address, "SetStateAt", request), (0, {}))
        _, said = self.verb(container.address, "SetStateAt", request | {"value": {"integer": "1"}})
        self.assertIn("Code: AlreadyExists", said)
        self.assertEqual(self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-1"}),
                         (0, {"value": {"float64": "NaN"}}))

    def test_what_was_answered_outlives_kill_9_of_the_web_service_and_of_the_container(self):
        states = self.states()
        container = self.container(states)

        def kill():
            for server in (states, container):
                server.kill()
            for server in (states, container):
                server.start()

        self.outlives_kills(container, kill)

    def test_its_web_service_says_what_is_wrong_with_a_request(self):
        states = self.states()

        def ask(method, path, body=None):
            connection = http.client.HTTPConnection(states.address, timeout=DEADLINE_S)
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return answer.status, text

        self.assertEqual(ask("GET", "/states/%2Fa/s-1"), (404, "null"))
        self.assertEqual(ask("PUT", "/states/%2Fa/s-1", "{")[0], 400)
        self.assertEqual(ask("PUT", "/states/%2Fa/s%201", "1")[0], 400)
        self.assertEqual(ask("PUT", "/atoms/%2Fa", "1")[0], 400)  # no version
        self.assertEqual(ask("PUT", "/atoms/%2Fa?version=x", "1")[0], 400)
        self.assertEqual(ask("GET", "/other")[0], 400)
        self.assertEqual(ask("POST", "/states/%2Fa/s-1", "1")[0], 501)
        self.assertEqual(ask("PUT", "/states/%2Fa/s-1", '{"a": 1}'), (204, ""))
        self.assertEqual(ask("PUT", "/states/%2Fa/s-1", "2")[0], 409)
        self.assertEqual(ask("GET", "/states/%2Fa/s-1"), (200, '{"a": 1}'))

    def test_another_web_service_is_never_taken_for_one_without_the_value(self):
        states = self.states()
        container = self.start(os.path.join(self.built.name, "container"), "--listen", "127.0.0.1:0", "--states",
                               f"http://{states.address}/elsewhere")
        _, said = self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-1"})
        self.assertIn("Code: InvalidArgument", said)

    def test_verbs_that_are_not_served_are_not_tried_and_a_line_says_so(self):
        states = self.states()
        refs = self.planted("RefsAlone", states)
        rules = self.assertHolds(refs.address)
        self.assertEqual([rule["why"] for rule in rules if rule["verdict"] == "not-tried"],
                         [f"{refs.address} serves no stm.v1.AtomContainerService, so it keeps no atoms: serve it there, or keep the "
                          "atom elsewhere (Method not found!)"])
        code, rules, error = check(refs.address, "--atoms")
        self.assertEqual((code, rules), (1, []))
        self.assertIn("AtomContainerService", error)
        code, rules, error = check(self.planted("Nothing", states).address)
        self.assertEqual((code, rules), (1, []))
        self.assertIn("serves no stm.v1.ContainerService", error)

    def test_where_nobody_listens_is_unavailable(self):
        states = self.states()
        states.kill()
        code, rules, error = check(states.address)
        self.assertEqual((code, rules), (UNAVAILABLE, []), error)
        self.assertTrue(error.startswith("stmctl: container check: ") and error.count("\n") == 1, error)

    def test_planted_bugs_are_found_each_by_its_rule(self):
        states = self.states()

        def run(bug):
            server = self.planted(bug, states)
            result = check(server.address, f"--{PLANTED[bug].split('-')[0]}")
            server.kill()
            return result

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as at_once:
            results = dict(zip(PLANTED, at_once.map(run, PLANTED)))
        for bug, expected in PLANTED.items():
            with self.subTest(bug):
                code, rules, error = results[bug]
                broken = [rule for rule in rules if rule["verdict"] == "broken"]
                self.assertEqual(code, BROKEN, f"{bug} was not found")
                self.assertIn(expected, [rule["rule"] for rule in broken])
                self.assertTrue(all(rule["why"] for rule in broken))
                self.assertRegex(error, rf"^stmctl: container check: .* breaks .*\b{expected}\b.*\n$")
                print(f"planted {bug}: broken: {' '.join(rule['rule'] for rule in broken)}", flush=True)


class Go(Case):
    @classmethod
    def setUpClass(cls):
        cls.built = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.built.cleanup)
        built("go", cls.built.name)

    def container(self, file="container.sqlite"):
        return self.start(os.path.join(self.built.name, "container"), "--listen", "127.0.0.1:0", "--file", self.path(file))

    def test_it_holds_to_every_rule(self):
        container = self.container()
        rules = self.assertHolds(container.address)
        self.assertEqual({rule["verdict"] for rule in rules}, {"holds"})
        self.assertEqual(container.stop(), 0)

    def test_another_value_under_a_stamp_is_refused_and_what_is_there_stays(self):
        container = self.container()
        request = {"name": "/a", "stamp": "s-1", "value": {"float64": "NaN"}}
        self.assertEqual(self.verb(container.address, "SetStateAt", request), (0, {}))
        self.assertEqual(self.verb(container.address, "SetStateAt", request), (0, {}))
        _, said = self.verb(container.address, "SetStateAt", request | {"value": {"integer": "1"}})
        self.assertIn("Code: AlreadyExists", said)
        self.assertEqual(self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-1"}),
                         (0, {"value": {"float64": "NaN"}}))

    def test_a_full_disk_is_resource_exhausted_until_there_is_room(self):
        disk = self.path("disk")
        os.mkdir(disk)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"\nSKIPPED examples/containers/go: a full disk: this machine does not allow it: {done.stderr.strip()}")
            self.skipTest(done.stderr)
        self.addCleanup(lambda: subprocess.run(["umount", "--lazy", disk], check=True))
        container = self.container("disk/container.sqlite")
        small = {"name": "/a", "stamp": "s-1", "value": {"text": "x"}}
        large = {"name": "/a", "stamp": "s-2", "value": {"text": "x" * (1 << 20)}}
        self.assertEqual(self.verb(container.address, "SetStateAt", small), (0, {}))
        _, said = self.verb(container.address, "SetStateAt", large)
        self.assertRegex(said, "(?s)Code: ResourceExhausted.*full")
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        self.assertEqual(self.verb(container.address, "GetStateAt", {"name": "/a", "stamp": "s-2"}), (0, {}))
        self.assertEqual(self.verb(container.address, "SetStateAt", large), (0, {}))

    def test_what_was_answered_outlives_kill_9(self):
        container = self.container()

        def kill():
            container.kill()
            container.start()

        self.outlives_kills(container, kill)


class Counted(unittest.TextTestResult):
    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


if __name__ == "__main__":
    signal.alarm(900)
    program = unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2, exit=False,
                            testRunner=unittest.TextTestRunner(resultclass=Counted, verbosity=2, stream=sys.stdout))
    failed = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
