#!/usr/bin/env python3
"""Runs the examples of a page (README.md) against a live stmd and compares what they print with what the page says.

readme_test.py [--update] PAGE BIN_DIR: PAGE's ```console blocks are run in order, in one shell, in a folder of their
own. A line "$ COMMAND" is a command ("> " goes on with it); what follows is what it prints, where "…" stands for any
text. A command with nothing after it must succeed, whatever it prints. deploy/up and deploy/down in that folder start
and stop a stmd of the test's own; 127.0.0.1:7440 and :7441 stand for its ports.
Ends with "N passed, N failed", an example each. --update writes what was printed into the page, with "…" for what varies each time.
"""
import difflib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

COMMAND_SECONDS_MAX = 60

# What --update writes as "…".
VARYING = [
    (r'"(header|opened)": \{\s*"store"[^}]*\}', r'"\1": {…}'),
    (r'"\d{4}-\d\d-\d\dT[0-9:.]+Z"', '"…"'),
    (r'#inst "\d{4}-\d\d-\d\dT[0-9:.]+Z"', '#inst "…"'),
    (r'#uuid "[0-9a-f-]{36}"', '#uuid "…"'),
    (r' ;(\d+) [0-9a-f]{8}$', r' ;\1 …'),
    (r'"stmctl[ @][^"]*"', '"stmctl…"'),
]

UP = """#!/bin/bash
# Stands in for the checkout's: the same daemon, on the test's ports and folder.
mkdir -p .stmd/data
setsid .stmd/bin/stmd --data-dir .stmd/data --listen "$STM_ADDRESS" --http "$README_HTTP" >>.stmd/stmd.log 2>&1 </dev/null &
echo $! >.stmd/stmd.pid
for ((i = 0; i < 600; i++)); do
  { exec 3<>"/dev/tcp/${README_HTTP%:*}/${README_HTTP##*:}" && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 \\
    && read -r -t 5 status <&3; } 2>/dev/null
  case ${status:-} in *' 200 '*) exit 0 ;; esac
  kill -0 "$(cat .stmd/stmd.pid)" 2>/dev/null || break
  sleep 0.05
done
tail -n 20 .stmd/stmd.log
exit 1
"""
DOWN = """#!/bin/bash
pid=$(cat .stmd/stmd.pid)
kill -TERM "$pid" 2>/dev/null
while read -r _ _ state _ 2>/dev/null <"/proc/$pid/stat" && [ "$state" != Z ]; do sleep 0.02; done
rm -f .stmd/stmd.pid
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def examples(page):
    """(line number, command, expected lines or None, span of the expected lines) of each example."""
    found, inside, lines = [], False, page.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            found.append([number, line[2:], []])
        elif inside and line.startswith("> ") and found and not found[-1][2]:
            found[-1][1] += "\n" + line[2:]
        elif inside and found:
            found[-1][2].append(line)
    return found


def squeeze(text):
    """Indentation and runs of blanks mean nothing: JSON printers of Go vary them on purpose."""
    return "\n".join(re.sub(r"\s+", " ", line).strip() for line in text.strip().split("\n"))


def matches(expected, printed):
    pattern = ".*?".join(re.escape(part) for part in squeeze(expected).split("…"))
    return re.fullmatch(pattern, squeeze(printed), re.DOTALL) is not None


class Shell:
    def __init__(self, folder, environment):
        self.process = subprocess.Popen(["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        start_new_session=True)

    def run(self, command):
        """(what it printed, its exit code; None: it did not end in time, and the shell is gone)."""
        end = "end-of-example"
        self.process.stdin.write(f"{command}\ncode=$?; echo; echo {end} $code\n")
        self.process.stdin.flush()
        printed, timer = [], threading.Timer(COMMAND_SECONDS_MAX, os.killpg, (self.process.pid, signal.SIGKILL))
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith(end + " "):
                    return "".join(printed), int(line.split()[1])
                printed.append(line)
        finally:
            timer.cancel()
        return "".join(printed), None


def main():
    arguments = [a for a in sys.argv[1:] if a != "--update"]
    update = len(arguments) < len(sys.argv) - 1
    path, programs = os.path.abspath(arguments[0]), os.path.abspath(arguments[1])
    page = open(path, encoding="utf-8").read()
    folder = tempfile.mkdtemp(prefix="readme-")
    os.makedirs(f"{folder}/.stmd/bin")
    os.makedirs(f"{folder}/deploy")
    for name in ("stmd", "stmctl", "hello_world", "user_database"):
        for root, _, files in os.walk(programs, followlinks=True):
            if name in files:
                os.symlink(os.path.join(root, name), f"{folder}/.stmd/bin/{name}")
                break
        else:
            sys.exit(f"readme: no program {name} under {programs}: build it first")
    for name, text in (("up", UP), ("down", DOWN)):
        with open(f"{folder}/deploy/{name}", "w", encoding="utf-8") as script:
            script.write(text)
        os.chmod(f"{folder}/deploy/{name}", 0o755)
    address, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    environment = dict(os.environ, STM_ADDRESS=address, README_HTTP=http, HOME=folder, LC_ALL="C.UTF-8",
                       PATH=f"{folder}/.stmd/bin:{os.environ.get('PATH', '')}")

    def local(text):
        return text.replace("127.0.0.1:7440", address).replace("127.0.0.1:7441", http)

    def public(text):
        return text.replace(address, "127.0.0.1:7440").replace(http, "127.0.0.1:7441").replace(folder, "…")

    shell, passed, failed, lines = Shell(folder, environment), 0, 0, page.split("\n")
    shift = 0
    try:
        code = shell.run("deploy/up")[1]
        if code != 0:
            print("readme: stmd does not start:")
            subprocess.call(["tail", "-n", "20", f"{folder}/.stmd/stmd.log"])
            print("0 passed, 1 failed")
            return 1
        for number, command, expected in examples(page):
            printed, code = shell.run(local(command))
            printed = public(printed)
            expected_text = "\n".join(expected)
            good = code is not None and (matches(expected_text, printed) if expected_text.strip() else code == 0)
            if good:
                passed += 1
            else:
                failed += 1
                print(f"{os.path.basename(path)}:{number + 1}: $ {command}\n  (exit code {code})")
                if expected_text.strip():
                    sys.stdout.writelines(line + "\n" for line in difflib.unified_diff(
                        squeeze(expected_text).split("\n"), squeeze(printed).split("\n"), "the page", "printed",
                        lineterm=""))
                else:
                    print(printed)
                sys.stdout.flush()
            if update and not good and expected_text.strip():
                first = number + shift + command.count("\n") + 1
                for varying, written in VARYING:
                    printed = re.sub(varying, written, printed)
                new = printed.strip("\n").split("\n")
                lines[first:first + len(expected)] = new
                shift += len(new) - len(expected)
            if code is None:
                print(f"readme: no end after {COMMAND_SECONDS_MAX} s; the examples after it were not run")
                break
    finally:
        # Not by the shell: it may be gone.
        subprocess.call(["deploy/down"], cwd=folder)
        shell.process.stdin.close()
        shell.process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    if update:
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join(lines))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
