#!/usr/bin/env python3
"""Plays the scenarios of tests/conformance/scenarios by the driver of one language. Ends with "N passed, N failed".

    play.py STMD DRIVER... [--only TEXT] [--faults] [--zookeeper] [--list] [--rules] [--show] [--planted]

DRIVER is the command that starts it. README.md has the words of scenarios and of drivers.
"""

import argparse
import collections
import concurrent.futures
import itertools
import json
import os
import re
import sys
import threading
import time

import edn
from processes import DEADLINE_S, HERE, Daemon, Driver, Failed, ZooKeeper
from proxy import Proxy

# Words of commands and steps that hold a value, and where.
VALUE_FIELDS = ("value", "init", "expected", "validator")
STEP_VALUES = {"get": 2, "set": 2, "retry-if": 2, "record": 1}


def load(only=""):
    """All scenarios, in order. A file holds a list of them."""
    scenarios = []
    for name in sorted(os.listdir(os.path.join(HERE, "scenarios"))):
        with open(os.path.join(HERE, "scenarios", name), encoding="utf-8") as file:
            for scenario in json.load(file):
                scenario["file"] = name
                if only in scenario["scenario"] or only in scenario["rules"]:
                    scenarios.append(scenario)
    return scenarios


def rules():
    """The rules of client/CONTRACT.md, in order."""
    with open(os.path.join(HERE, "..", "..", "client", "CONTRACT.md"), encoding="utf-8") as file:
        return re.findall(r"^- \*\*([A-Z]+-\d+)\*\*", file.read(), re.MULTILINE)


def is_fault(scenario):
    """Is something done to the network or to a daemon?"""
    return any("proxy" in step or "daemon" in step for step in scenario["steps"])


def plant(scenario):
    """The scenario with its last expectation wrong: who plays it must find that out."""
    steps = [dict(step) for step in scenario["steps"]]
    for step in reversed(steps):
        if "until" in step:
            continue
        if "error" in step:
            step["error"] = "planted"
        elif "gives" in step:
            step["gives"] = ["planted"] if not isinstance(step["gives"], bool) else not step["gives"]
        elif "runs" in step:
            step["runs"] += 100
        elif "repeated" in step:
            step["repeated"] = not step["repeated"]
        else:
            continue
        return {**scenario, "steps": steps}
    return None


def values(command):
    """The command with its EDN texts as values."""
    out = {}
    for key, value in command.items():
        if key in VALUE_FIELDS:
            value = edn.read(value)
        elif key == "body":
            value = [step_values(step) for step in value]
        elif key == "op":
            value = [value[0], [edn.read(one) for one in value[1:]]]
        out[key] = value
    return out


def step_values(step):
    verb, rest = step[0], list(step[1:])
    if verb in STEP_VALUES and len(step) > STEP_VALUES[verb]:
        rest[STEP_VALUES[verb] - 1] = edn.read(rest[STEP_VALUES[verb] - 1])
    if verb == "commute":
        return [verb, rest[0], rest[1], [edn.read(one) for one in rest[2:]]]
    if verb in ("or-else", "swallow", "try-join"):
        rest = [[step_values(inner) for inner in body] for body in rest]
    if verb == "join":
        rest = [rest[0], [step_values(inner) for inner in rest[1]]]
    return [verb, *rest]


def is_value(found, expected):
    """Is what a driver said what a scenario expects? Lists of pairs of a name and a value are listings."""
    if isinstance(expected, list):
        return (isinstance(found, list) and len(found) == len(expected) and
                all(is_value(f, e) for f, e in zip(found, expected)))
    if isinstance(expected, (bool, int)):
        return found == expected
    if isinstance(found, str):
        return found == expected
    return edn.same(found) == edn.same(edn.read(expected))


class Play:
    def __init__(self, stmd, driver, scenario, shared, zookeeper, number):
        self.scenario = scenario
        self.driver = driver
        durable = any(step.get("daemon") in ("kill", "stop") for step in scenario["steps"])
        own = any("daemon" in step for step in scenario["steps"])
        self.daemon = Daemon(stmd, durable, zookeeper) if own else None
        self.port = (self.daemon or shared).port
        self.proxies = {}
        self.clients = {}
        self.under_way = {}
        self.kept = {}
        self.number = number

    def run(self):
        try:
            for index, step in enumerate(self.scenario["steps"]):
                try:
                    self.step(step)
                except Failed as failed:
                    raise Failed(f"step {index + 1}, {json.dumps(step)}: {failed}") from None
        finally:
            self.close()

    def close(self):
        # Whatever a scenario left frozen or lost goes on, so that clients can end.
        for proxy in self.proxies.values():
            proxy.lose_up = proxy.lose_down = proxy.refusing = False
        if self.driver.process.poll() is None:
            for number in self.under_way.values():
                self.driver.send(do="stop", of=number)
                self.driver.send(do="go", of=number)
        if self.daemon:
            self.daemon.do("thaw")
        for name in list(self.clients):
            try:
                self.driver.take(self.driver.begin({"do": "close", "client": self.clients[name]}), "the end of a client")
            except (Failed, OSError):
                pass  # the driver has ended: the next scenario has another
        for proxy in self.proxies.values():
            proxy.close()
        if self.daemon:
            self.daemon.close()

    def step(self, step):
        if "proxy" in step:
            return self.proxy(step["proxy"]).do(step["do"], step.get("value"))
        if "daemon" in step:
            return self.daemon.do(step["daemon"])
        if "go" in step:
            return self.driver.send(do="go", of=self.under_way[step["go"]])
        if "stop" in step:
            return self.driver.send(do="stop", of=self.under_way[step["stop"]])
        if "await" in step:
            return self.check(step, self.under_way[step["await"]])
        if "sent" in step:
            return self.await_sent(step["sent"])
        if "until" in step:
            return self.until(step)
        command = self.command(step)
        number = self.driver.begin(command)
        if "as" in step:
            self.under_way[step["as"]] = number
            return None
        return self.check(step, number)

    def command(self, step):
        command = {key: value for key, value in step.items()
                   if key not in ("as", "gives", "error", "keep", "runs", "via", "causes", "on_commits", "repeated",
                                "blames", "says", "lacks", "cause", "limit")}
        name = command.get("client", "a")
        if command["do"] == "connect":
            self.clients[name] = f"{self.number}.{name}"
            addresses = [self.proxy(one).address for one in step.get("via", [])] or [f"127.0.0.1:{self.port}"]
            command.setdefault("address", ",".join(addresses))
            # Scenarios share a daemon, each below a prefix of its own.
            if not self.daemon:
                command["prefix"] = f"/s{self.number}" + command.get("prefix", "")
        elif name not in self.clients and command["do"] not in ("release", "lost"):
            self.step({"do": "connect", "client": name})
        command["client"] = self.clients.get(name, name)
        if "held" in command:
            command["held"] = f"{self.number}.{command['held']}"
        for key in ("word", "version", "after"):
            if key in command and str(command[key]).startswith("$"):
                command[key] = self.kept[command[key][1:]]
        if "body" in command:
            command["body"] = [[step[0], f"{self.number}.{step[1]}"] if step[0] == "fence" else step
                               for step in command["body"]]
        return values(command)

    def proxy(self, name):
        if name not in self.proxies:
            self.proxies[name] = Proxy(self.port)
        return self.proxies[name]

    def await_sent(self, name):
        """Until the client behind the proxy has sent something more, which the daemon need not have answered."""
        proxy = self.proxy(name)
        begin, until = proxy.up_bytes, time.monotonic() + DEADLINE_S
        while proxy.up_bytes == begin:
            if time.monotonic() > until:
                raise Failed("nothing was sent")
            time.sleep(0.005)

    def until(self, step):
        command, until = self.command(step["until"]), time.monotonic() + DEADLINE_S
        while True:
            message = self.driver.take(self.driver.begin(command), "an answer")
            if "ok" in message and is_value(message["ok"], step["gives"]):
                return
            if time.monotonic() > until:
                raise Failed(f"still {json.dumps(message)}")
            time.sleep(0.01)

    def check(self, step, number):
        if "event" in step:
            return self.check_event(step, self.driver.take(number, f"the event {step['event']}"))
        message = self.driver.take(number, "an answer")
        if "event" in message:
            raise Failed(f"an answer was due, and an event came: {json.dumps(message)}")
        if "error" in step:
            return self.check_error(step, message)
        if "ok" not in message:
            raise Failed(f"it failed: {json.dumps(message)}")
        ok = message["ok"]
        if "keep" in step:
            self.kept[step["keep"]] = ok["version"] if isinstance(ok, dict) and "version" in ok else ok
        for word in ("runs", "on_commits", "repeated"):
            if word in step and ok[word] != step[word]:
                raise Failed(f"{word} is {ok[word]}")
        if "causes" in step and ok["causes"] != step["causes"]:
            raise Failed(f"causes are {ok['causes']}")
        if "gives" not in step:
            return None
        if isinstance(ok, dict) and "results" in ok:
            ok = ok["results"]
        if step.get("do") in ("history",):
            ok = [[one[0][0], one[0][2]] for one in (commit["changes"] for commit in ok)]
        if not is_value(ok, step["gives"]):
            raise Failed(f"it gave {json.dumps(ok)}")
        return None

    def check_error(self, step, message):
        if "error" not in message:
            raise Failed(f"it did not fail: {json.dumps(message)}")
        error = message["error"]
        if error["reason"] != step["error"]:
            raise Failed(f"it failed by {json.dumps(error)}")
        if "keep" in step:
            self.kept[step["keep"]] = error["word"]
        if step.get("blames", error.get("name", "")) != error.get("name", ""):
            raise Failed(f"the error blames {error.get('name', '')}")
        if step.get("says", "") not in error["message"]:
            raise Failed(f"the error says {error['message']}")
        if "lacks" in step and step["lacks"] in error["message"]:
            raise Failed(f"the error says {error['message']}")
        if step.get("limit", error.get("limit", "")) != error.get("limit", ""):
            raise Failed(f"the error names the bound {error.get('limit', '')}")
        if step.get("cause", error.get("cause", "")) != error.get("cause", ""):
            raise Failed(f"its cause is {error.get('cause', '')}")
        if "causes" in step and [one[:len(two)] for one, two in zip(error["causes"], step["causes"])] != step["causes"]:
            raise Failed(f"its causes are {error['causes']}")

    def check_event(self, step, message):
        if message.get("event") != step["event"]:
            raise Failed(f"it said {json.dumps(message)}")
        if "keep" in step:
            self.kept[step["keep"]] = message["version"]
        if step["event"] == "paused" and step.get("run", message["run"]) != message["run"]:
            raise Failed(f"it is run {message['run']}")
        if step["event"] == "value" and not is_value(message["value"], step["gives"]):
            raise Failed(f"it gave {json.dumps(message['value'])}")
        if step["event"] == "warning" and step["says"] not in message["text"]:
            raise Failed(f"it says {message['text']}")
        if step["event"] != "commit":
            return
        commit = message["commit"]
        if commit["initial"] != step.get("initial", False):
            raise Failed(f"it is {json.dumps(commit)}")
        found = sorted(commit["changes"]) if commit["initial"] else commit["changes"]
        if "gives" in step and not is_value(found, step["gives"]):
            raise Failed(f"it changed {json.dumps(commit['changes'])}")
        if "label" in step and commit["label"] != step["label"]:
            raise Failed(f"its label is {commit['label']}")
        if "by" in step and commit["by"] != step["by"]:
            raise Failed(f"it is by {commit['by']}")


class Company:
    """What scenarios are played with. Any thread."""

    def __init__(self, options):
        self.options = options
        self.zookeeper = ZooKeeper() if options.zookeeper else None
        self.daemon = Daemon(options.stmd, zookeeper=self.zookeeper)
        self.lock = threading.Lock()
        self.driver = Driver(options.driver)

    def living(self):
        """The driver, or another after one that has ended."""
        with self.lock:
            if self.driver.process.poll() is not None:
                self.driver = Driver(self.options.driver)
            return self.driver

    def play(self, scenario, number):
        """Did it pass?"""
        began = time.monotonic()
        try:
            Play(self.options.stmd, self.living(), scenario, self.daemon, self.zookeeper, number).run()
        except Failed as why:
            if not self.options.planted:
                print(f"FAILED: {scenario['scenario']} ({scenario['file']}, {' '.join(scenario['rules'])})\n  {why}", flush=True)
            return self.options.planted
        if self.options.planted:
            print(f"FAILED: nobody saw what was planted: {scenario['scenario']}", flush=True)
        elif self.options.show:
            print(f"{time.monotonic() - began:6.2f} s  {scenario['scenario']}", flush=True)
        return not self.options.planted

    def end(self):
        """Did the driver end well?"""
        well = self.driver.end() == 0
        self.daemon.close()
        if self.zookeeper:
            self.zookeeper.close()
        return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stmd")
    parser.add_argument("driver", nargs="+")
    parser.add_argument("--only", default="", help="a part of the name, or a rule")
    parser.add_argument("--faults", action="store_true", help="only those that do something to the network or to a daemon")
    parser.add_argument("--zookeeper", action="store_true", help="the daemons keep what they have in a ZooKeeper of this run's own")
    parser.add_argument("--at-once", type=int, default=4, help="scenarios; most of their time they wait")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--rules", action="store_true", help="how many scenarios name each rule of client/CONTRACT.md")
    parser.add_argument("--planted", action="store_true", help="each scenario with one expectation wrong: it must fail")
    parser.add_argument("--show", action="store_true", help="each scenario as it passes, with its seconds")
    options = parser.parse_args()
    scenarios = [one for one in load(options.only) if (is_fault(one) or not options.faults) and
                 one.get("coordinator") != ("local" if options.zookeeper else "zookeeper")]
    if options.list:
        for scenario in scenarios:
            print(f"{' '.join(scenario['rules']):24} {scenario['scenario']}")
        return 0
    named = collections.Counter(rule for scenario in scenarios for rule in scenario["rules"])
    if options.rules:
        for rule in rules():
            print(f"{rule:10} {named[rule]}")
        return 0
    unknown = sorted(set(named) - set(rules()))
    if unknown:
        print(f"FAILED: scenarios name rules that client/CONTRACT.md has not: {' '.join(unknown)}")
        return 1
    if options.planted:
        scenarios = [planted for planted in map(plant, scenarios) if planted]
    company = Company(options)
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as players:
        passed = sum(players.map(company.play, scenarios, itertools.count(1)))
    failed = len(scenarios) - passed
    if not company.end():
        print("FAILED: the driver did not end well")
        failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
