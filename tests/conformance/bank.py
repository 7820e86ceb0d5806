#!/usr/bin/env python3
"""A bank of 100 accounts under the clients of all languages at once, through three daemons over one ZooKeeper, one of which is
killed and started again and again. Ends with "N passed, N failed".

    bank.py STMD DRIVER... [--seconds 30] [--planted twice|torn]

DRIVER is a program, as tests/conformance/go/driver. What must hold: in every snapshot that any client takes the accounts add up to
what they began with; every transfer that was acknowledged is in the log once, every other at most once; and what a client
was told is what each account's transfers come to. --planted does something wrong, which must be found out.
"""

import argparse
import collections
import json
import os
import random
import sys
import threading
import time

import edn
from processes import DEADLINE_S, Daemon, Driver, Failed, ZooKeeper, language

ACCOUNTS = 100
BALANCE = 1000
CALLERS = 4  # of each client, that transfer; one more looks on
DAEMONS = 3
KILL_EVERY_S = (1.0, 3.0)
DOWN_S = (0.1, 1.0)
LAST = {"commit-unknown"}  # what a transfer may fail by while daemons are killed


def account(number):
    return f"/bank/{number:03}"


class Teller:
    """One client: transfers by some callers, sums by another."""

    def __init__(self, name, driver, addresses, planted):
        self.name, self.driver, self.planted = name, driver, planted
        self.client = "bank"
        driver.do(do="connect", client=self.client, address=",".join(addresses), client_name=name, unavailable_ms=30000)
        self.lock = threading.Lock()
        self.next = 0
        self.acknowledged, self.unknown, self.snapshots = set(), set(), 0
        self.wrong = []

    def transfer(self, chance):
        with self.lock:
            self.next += 1
            number = self.next
        one, two = chance.sample(range(ACCOUNTS), 2)
        amount = chance.randrange(1, 20)
        moved = edn.read(f'#bank.Moved{{:by "{self.name}" :n {number} :from {one} :to {two} :amount {amount}}}')
        body = [["alter-add", account(one), -amount], ["alter-add", account(two), amount], ["record", moved]]
        if self.planted == "torn" and number == 5:
            body.pop(1)
        for _ in range(2 if self.planted == "twice" and number == 5 else 1):
            message = self.driver.ask(do="transact", client=self.client, timeout_ms=40000, body=body)
        with self.lock:
            if "ok" in message:
                self.acknowledged.add(number)
            elif message["error"]["reason"] in LAST:
                self.unknown.add(number)
            else:
                self.wrong.append(f"transfer {number} of {self.name}: {json.dumps(message)}")

    def look(self):
        message = self.driver.ask(do="transact", client=self.client, timeout_ms=40000, body=[["list", "/bank/"]])
        if "ok" not in message:
            self.wrong.append(f"a snapshot of {self.name}: {json.dumps(message)}")
            return
        entries = message["ok"]["results"][0]
        total = sum(int(value["integer"]) for _, value in entries)
        self.snapshots += 1
        if len(entries) != ACCOUNTS or total != ACCOUNTS * BALANCE:
            self.wrong.append(f"{self.name} saw {len(entries)} accounts that add up to {total}, not {ACCOUNTS * BALANCE}")


def killing(daemons, until, chance, kills):
    while time.monotonic() < until:
        time.sleep(chance.uniform(*KILL_EVERY_S))
        victim = chance.choice(daemons)
        victim.kill()
        kills.append(victim.port)
        time.sleep(chance.uniform(*DOWN_S))
        victim.start()


def judge(tellers, records, balances, wrong):
    """Compares the log with what clients were told. `records`: all bank.Moved."""
    told, moved = collections.Counter(), collections.Counter()
    for record in records:
        fields = {entry["key"]["keyword"]: entry["value"] for entry in record["tagged"]["value"]["map"]["entries"]}
        told[(fields["by"]["text"], int(fields["n"]["integer"]))] += 1
        moved[int(fields["from"]["integer"])] -= int(fields["amount"]["integer"])
        moved[int(fields["to"]["integer"])] += int(fields["amount"]["integer"])
    for teller in tellers:
        for number in range(1, teller.next + 1):
            times = told.pop((teller.name, number), 0)
            if times > 1:
                wrong.append(f"transfer {number} of {teller.name} happened {times} times")
            elif number in teller.acknowledged and times == 0:
                wrong.append(f"transfer {number} of {teller.name} was acknowledged, and is not in the log")
    if told:
        wrong.append(f"nobody made {sorted(told)}")
    for number in range(ACCOUNTS):
        if balances.get(account(number)) != BALANCE + moved[number]:
            wrong.append(f"account {number} has {balances.get(account(number))}, and the log makes it {BALANCE + moved[number]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stmd")
    parser.add_argument("driver", nargs="+")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--planted", choices=["twice", "torn"])
    options = parser.parse_args()
    zookeeper = ZooKeeper()
    store = zookeeper.store()
    daemons = [Daemon(options.stmd, zookeeper=zookeeper, store=store) for _ in range(DAEMONS)]
    addresses = [daemon.address for daemon in daemons]
    drivers = [Driver([os.path.abspath(one)]) for one in options.driver]
    chance = random.Random(options.seed)
    tellers, kills, wrong, threads = [], [], [], []
    try:
        for index, driver in enumerate(drivers):
            mine = addresses[index % DAEMONS:] + addresses[:index % DAEMONS]
            tellers.append(Teller(f"{language(options.driver[index])}-{index}", driver, mine, options.planted if index == 0 else None))
        first = tellers[0]
        first.driver.do(do="transact", client=first.client,
                        body=[["set", account(n), edn.read(str(BALANCE))] for n in range(ACCOUNTS)])
        until = time.monotonic() + options.seconds

        def caller(teller, seed, does):
            mine = random.Random(seed)
            try:
                while time.monotonic() < until:
                    does(teller, mine)
            except Failed as failed:
                teller.wrong.append(f"{teller.name}: {failed}")

        for teller in tellers:
            for _ in range(CALLERS):
                threads.append(threading.Thread(target=caller, args=(teller, chance.random(), Teller.transfer)))
            threads.append(threading.Thread(target=caller, args=(teller, 0, lambda one, _: one.look())))
        threads.append(threading.Thread(target=killing, args=(daemons, until, random.Random(chance.random()), kills)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for teller in tellers:
            teller.look()
            wrong += teller.wrong
        message = first.driver.do(do="transact", client=first.client, body=[["list", "/bank/"]])
        balances = {name: int(value["integer"]) for name, value in message["results"][0]}
        records = first.driver.do(DEADLINE_S, do="records", client=first.client, tags=["bank.Moved"])
        judge(tellers, records, balances, wrong)
    except Failed as failed:
        wrong.append(str(failed))
    finally:
        for driver in drivers:
            if driver.end() != 0:
                wrong.append("a driver did not end well")
        for daemon in daemons:
            daemon.close()
        zookeeper.close()
    for teller in tellers:
        print(f"{teller.name:12} {len(teller.acknowledged)} transfers acknowledged, {len(teller.unknown)} in doubt, "
              f"{teller.snapshots} snapshots")
        if not teller.acknowledged or not teller.snapshots:
            wrong.append(f"{teller.name} did nothing")
    print(f"{len(kills)} kills, seed {options.seed}")
    if not kills:
        wrong.append("no daemon was killed")
    for one in wrong[:20]:
        print(f"FAILED: {one}")
    good = bool(wrong) if options.planted else not wrong
    if options.planted and not wrong:
        print(f"FAILED: nobody found out what was planted: {options.planted}")
    print("1 passed, 0 failed" if good else "0 passed, 1 failed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
