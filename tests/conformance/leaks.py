#!/usr/bin/env python3
"""Does a client leak? Transactions, watches opened and closed, and reconnects, each in four quarters: the memory of the driver's
process may grow by less than 1 % from the second quarter to the last. Ends with "N passed, N failed", claims.

    leaks.py STMD DRIVER [--transactions 1000000] [--watches 10000] [--reconnects 1000]

DRIVER is a program, as tests/conformance/go/driver. Some minutes for each language.
"""

import argparse
import os
import statistics
import sys
import time

import edn
from processes import Daemon, Driver, Failed
from proxy import Proxy

GROWTH_MAX = 0.01
CALLERS = 8
SAMPLES = 20  # of each quarter


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def quarters(pid, times, does):
    """Does `times` in all; the median RSS of each quarter's samples, in KiB. Collectors and allocators let memory come and go by
    more than 1 %: the middle is what a leak raises for good."""
    medians = []
    each = max(1, times // (4 * SAMPLES))
    for _ in range(4):
        samples = []
        for _ in range(SAMPLES):
            does(each)
            samples.append(rss_kib(pid))
        medians.append(round(statistics.median(samples)))
    return medians


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stmd")
    parser.add_argument("driver")
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--watches", type=int, default=10_000)
    parser.add_argument("--reconnects", type=int, default=1_000)
    options = parser.parse_args()
    daemon = Daemon(options.stmd)
    proxy = Proxy(daemon.port)
    driver = Driver([os.path.abspath(options.driver)])
    pid = driver.process.pid
    driver.do(do="connect", client="a", address=daemon.address)
    driver.do(do="connect", client="p", address=proxy.address)
    driver.do(do="set", client="a", name="/x", value=edn.read("1"))

    def repeat(times, client, command):
        told = driver.do(3600, do="repeat", client=client, times=times, callers=CALLERS, command=command)
        if told["failed"]:
            raise Failed(f"{told['failed']} of {times} failed: {told.get('first_error')}")

    def transactions(times):
        repeat(times, "a", {"do": "transact", "body": [["get", "/x"], ["set", "/x", edn.read("1")], ["commute", "/n", "add", [edn.read("1")]]]})

    def watches(times):
        repeat(times, "a", {"do": "watch", "names": ["/w/"]})

    def reconnects(times):
        for _ in range(times):
            proxy.do("cut")
            driver.do(do="get", client="p", name="/x")

    driver.do(do="set", client="a", name="/n", value=edn.read("0"))
    passed = failed = 0
    for what, times, does in (("transactions", options.transactions, transactions), ("watches opened and closed", options.watches, watches),
                              ("reconnects", options.reconnects, reconnects)):
        if not times:
            continue
        began = time.monotonic()
        try:
            medians = quarters(pid, times, does)
        except Failed as why:
            failed += 1
            print(f"FAILED: {what}: {why}")
            continue
        growth = medians[3] / medians[1] - 1
        good = growth < GROWTH_MAX
        passed, failed = passed + good, failed + (not good)
        print(f"{'' if good else 'FAILED: '}{times} {what}: {' '.join(map(str, medians))} KiB in the middle of each quarter, "
              f"{growth:+.2%} from the second to the last, {time.monotonic() - began:.0f} s", flush=True)
    driver.end()
    proxy.close()
    daemon.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
