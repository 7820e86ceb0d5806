#!/usr/bin/env python3
"""Values of every type, drawn by chance: each language writes them, each reads what each wrote, and writes it back as it was read.
Ends with "N passed, N failed", pairs of languages.

    values.py STMD DRIVER... [--count 300] [--seed N] [--planted]

DRIVER is a program, as tests/conformance/go/driver. --planted changes one value on its way, which must be found out.
"""

import argparse
import base64
import itertools
import json
import math
import os
import random
import string
import struct
import sys

import edn
from processes import Daemon, Driver, Failed, language

AT_ONCE = 50  # values of one entry
EDGES = [0, 1, -1, 2 ** 31 - 1, 2 ** 31, -2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 53 + 1, -2 ** 53 - 1, 2 ** 63 - 1, -2 ** 63]
FLOATS = [0.0, -0.0, 1.0, -1.5, 0.1, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2.0 ** 53, 2.0 ** 63, 1e21,
          math.inf, -math.inf]
SPANS = [(0x20, 0x7e), (0, 0x1f), (0x80, 0x7ff), (0x800, 0xd7ff), (0xe000, 0xfffd), (0x10000, 0x10ffff)]
FIRST = string.ascii_letters + "*!_?<>=&%$"
REST = FIRST + string.digits + "+-."
EPOCH_SECONDS = (-62135596800 + 86400, 253402300799 - 86400)  # of the years 1 to 9999, which all languages hold


class Draw:
    def __init__(self, seed):
        self.chance = random.Random(seed)

    def one_of(self, *choices):
        return self.chance.choice(choices)

    def text(self):
        return "".join(chr(self.chance.randint(*self.chance.choice(SPANS))) for _ in range(self.chance.randrange(12)))

    def word(self):
        def segment():
            return self.chance.choice(FIRST) + "".join(self.chance.choice(REST) for _ in range(self.chance.randrange(6)))
        word = segment()
        if word in ("true", "false", "nil"):
            word += "x"
        return f"{segment()}/{word}" if self.chance.random() < 0.3 else word

    def digits(self, most):
        return str(self.chance.randrange(10 ** self.chance.randrange(1, most)))

    def instant(self):
        seconds = self.one_of(0, -1, self.chance.randrange(*EPOCH_SECONDS), self.chance.randrange(0, 2 ** 31))
        days, rest = divmod(seconds, 86400)
        return f"{date_of(days)}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}{self.fraction()}Z"

    def fraction(self):
        return self.one_of("", f".{self.chance.randrange(1000):03}", f".{self.chance.randrange(10 ** 6):06}",
                           f".{self.chance.randrange(10 ** 9):09}")

    def uuid(self):
        digits = f"{self.chance.randrange(1 << 128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def scalar(self, as_key):
        kinds = {
            "nil": lambda: {"nil": True},
            "boolean": lambda: {"boolean": self.one_of(True, False)},
            "integer": lambda: {"integer": str(self.one_of(self.chance.choice(EDGES), self.chance.randrange(-2 ** 63, 2 ** 63),
                                                           self.chance.randrange(-100, 100)))},
            "float64": lambda: {"float64": floating(self.one_of(
                self.chance.choice(FLOATS), struct.unpack("d", self.chance.randbytes(8))[0], self.chance.randrange(-100, 100) + 0.0,
                math.nan), as_key)},
            "bigint": lambda: {"bigint": self.one_of("", "-") + "1" + self.digits(60)},
            "decimal": lambda: {"decimal": self.one_of("", "-") + "1" + self.digits(30) + self.one_of("", ".0", "." + self.digits(20))},
            "text": lambda: {"text": self.text()},
            "character": lambda: {"character": self.chance.randint(*self.chance.choice(SPANS))},
            "keyword": lambda: {"keyword": self.word()},
            "symbol": lambda: {"symbol": self.word()},
            "instant": lambda: {"instant": self.instant()},
            "uuid": lambda: {"uuid": self.uuid()},
            "blob": lambda: {"blob": base64.b64encode(self.chance.randbytes(self.chance.randrange(20))).decode()},
        }
        return self.chance.choice(list(kinds.values()))()

    def distinct(self, depth):
        found = {}
        for _ in range(self.chance.randrange(4)):
            value = self.value(depth - 1, as_key=True)
            found[edn.same(value)] = value
        return list(found.values())

    def value(self, depth=4, as_key=False):
        if depth == 0 or self.chance.random() < 0.5:
            return self.scalar(as_key)
        items = [self.value(depth - 1, as_key) for _ in range(self.chance.randrange(4))]
        return self.one_of(
            lambda: {"vector": {"items": items}},
            lambda: {"list": {"items": items}},
            lambda: {"set": {"items": self.distinct(depth)}},
            lambda: {"map": {"entries": [{"key": key, "value": self.value(depth - 1, as_key)} for key in self.distinct(depth)]}},
            lambda: {"tagged": {"tag": f"my.{self.word().replace('/', '-')}", "value": self.value(depth - 1, as_key)}},
        )()


def floating(number, as_key):
    if number != number:
        return 7.5 if as_key else "NaN"  # which equals nothing, and so is no key
    if as_key and number == 0:
        return 0.0  # equal to its negative in some languages
    return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(number, number)


def date_of(days):
    """Of days since 1970, by the proleptic Gregorian calendar, which has years before datetime's."""
    days += 719468
    era, day = divmod(days, 146097)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    return f"{year + era * 400 + (month >= 10):04}-{month + 3 if month < 10 else month - 9:02}-{day - (153 * month + 2) // 5 + 1:02}"


def differs(found, expected):
    """Where two values are not the same; None: they are."""
    if edn.same(found) == edn.same(expected):
        return None
    for (kind, content), other in zip(expected.items(), found.values() if isinstance(found, dict) else []):
        if kind in ("vector", "list") and isinstance(other, dict) and kind in found:
            for one, two in itertools.zip_longest(other.get("items", []), content.get("items", []), fillvalue={}):
                inner = differs(one, two)
                if inner:
                    return inner
    return f"{json.dumps(found)} where {json.dumps(expected)} was written"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stmd")
    parser.add_argument("driver", nargs="+")
    parser.add_argument("--count", type=int, default=300, help="values that each language writes")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    daemon = Daemon(options.stmd)
    names = [language(one) for one in options.driver]
    drivers = [Driver([os.path.abspath(one)]) for one in options.driver]
    draw = Draw(options.seed)
    written = {}
    passed = failed = 0
    for index, driver in enumerate(drivers):
        driver.do(do="connect", client="v", address=daemon.address)
        for number in range(0, options.count, AT_ONCE):
            value = {"vector": {"items": [draw.value() for _ in range(AT_ONCE)]}}
            name = f"/{index}/{number}"
            sent = json.loads(json.dumps(value))
            if options.planted and number == 0:
                sent["vector"]["items"][7] = {"text": "planted"}
            try:
                driver.do(do="set", client="v", name=name, value=sent)
            except Failed as why:
                failed += 1
                print(f"FAILED: {names[index]} can't write: {str(why)[-500:]}")
            written[name] = (names[index], value)
    for reader, driver in zip(names, drivers):
        wrong = {}
        for name, (writer, value) in written.items():
            try:
                found = driver.do(do="get", client="v", name=name)
                where = differs(found, value)
                if not where:
                    driver.do(do="set", client="v", name=name, value=found)
                    where = differs(drivers[0].do(do="get", client="v", name=name), value)
            except Failed as why:
                where = str(why)[:2000]
            wrong.setdefault(writer, where)
            wrong[writer] = wrong[writer] or where
        for writer, where in wrong.items():
            if where:
                failed += 1
                print(f"FAILED: written by {writer}, {reader} reads {where}")
            else:
                passed += 1
    for driver in drivers:
        driver.end()
    daemon.close()
    if options.planted:
        passed, failed = (1, 0) if failed else (0, 1)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
