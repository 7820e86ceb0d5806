#!/usr/bin/env python3
"""Checks deploy/Dockerfile and deploy/docker-compose.yml, without a docker: the compose file by the Compose
Specification's schema, and what both say by the programs that they start, which are asked with the same flags and
environment, by the libraries those are linked with, and by deploy/zookeeper. Each check is shown a planted error first.
Ends with "N passed, N failed".
"""
import copy
import json
import os
import re
import shlex
import subprocess
import sys

import jsonschema
import yaml

ROOT = os.path.join(os.environ.get("TEST_SRCDIR", ""), "stmd") if "TEST_SRCDIR" in os.environ else "."
PROGRAMS = {
    "stmd": ("server/stmd", "bazel-bin/server/stmd"),
    "stmctl": ("client/cli/stmctl", "bazel-bin/client/cli/stmctl"),
}
PROGRAM_SECONDS_MAX = 30
USAGE = 2  # the exit code of both
# Of every Debian, or what others bring along.
ALWAYS_THERE = {"libc6", "libstdc++6", "libgcc-s1"}
# Where the image's servers of ZooKeeper listen, by its own zoo.cfg.
ZOOKEEPER_PORT = 2181


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def program(name):
    return next(path for path in (os.path.join(ROOT, p) for p in PROGRAMS[name]) if os.path.exists(path))


class Wrong(Exception):
    """What a check found, and where."""


def run(command, environment):
    """Its exit code, and all that it said."""
    path = "/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run([program(command[0]), *command[1:]], env={"PATH": path, **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_SECONDS_MAX, check=False)
    return done.returncode, done.stdout


class Image:
    """The last stage of a Dockerfile, and all lines."""

    def __init__(self, text):
        joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
        self.lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
        last = max(i for i, line in enumerate(self.lines) if line[0] == "FROM")
        self.stage = self.lines[last:]

    def all(self, instruction, lines=None):
        return [rest for name, rest in lines or self.stage if name == instruction]

    def command(self, instruction):
        return json.loads(self.all(instruction)[0])

    @property
    def environment(self):
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest))

    @property
    def healthcheck(self):
        return json.loads(self.all("HEALTHCHECK")[0].split(" CMD ", 1)[1])

    @property
    def ports(self):
        return {int(port) for rest in self.all("EXPOSE") for port in rest.split()}

    @property
    def packages(self):
        words = shlex.split(next(rest for rest in self.all("RUN") if "apt-get" in rest))
        words = words[words.index("install") + 1:]
        return set(words[:words.index("&&")])


def settings(command, environment):
    """What stmd makes of them, by their names. Wrong if it does not know one."""
    code, said = run([command[0], "--print-config", *command[1:]], environment)
    if code != 0:
        raise Wrong(f"{shlex.join(command)}: exit code {code}: {said.strip()}")
    code, checked = run([command[0], "--check-config", *command[1:]], environment)
    if code != 0:
        raise Wrong(f"{shlex.join(command)}: exit code {code}: {checked.strip()}")
    return dict(re.findall(r'(?m)^\s*([a-z-]+) = "?([^"#\n]*?)"?\s*(?:#.*)?$', said))


def knows(command):
    """stmctl takes it as a command line, whatever it finds where nobody is."""
    code, said = run(["stmctl", "--timeout", "200ms", *command[1:]], {"STM_ADDRESS": "127.0.0.1:1"})
    if code == USAGE:
        raise Wrong(f"{shlex.join(command)}: {said.strip()}")


def ports_served(told):
    """Those that reach others than the container itself."""
    return {port_of(told[name]) for name in ("listen", "http") if not told[name].startswith("127.0.0.1:")}


def port_of(address):
    return int(address.rsplit(":", 1)[1])


# ---- Checks: of (image, compose), they raise Wrong, or a schema's error.


def follows_schema(image, compose):
    jsonschema.Draft7Validator(json.loads(read("third_party/compose_spec/compose-spec.json"))).validate(compose)


def image_serves(image, compose):
    told = settings(image.command("ENTRYPOINT") + image.command("CMD"), image.environment)
    if ports_served(told) != image.ports:
        raise Wrong(f"Dockerfile: stmd serves {sorted(ports_served(told))}, EXPOSE says {sorted(image.ports)}")
    if image.all("VOLUME") != [told["data-dir"]]:
        raise Wrong(f"Dockerfile: stmd keeps its data in {told['data-dir']}, VOLUME says {image.all('VOLUME')}")
    knows(image.healthcheck)


def image_is_no_root(image, compose):
    if image.all("USER") in ([], ["0"], ["root"]):
        raise Wrong("Dockerfile: stmd would run as root")


def image_is_built_as_here(image, compose):
    bases = {rest.split()[0] for rest in image.all("FROM", image.lines)}
    if bases != {"debian:12"}:
        raise Wrong(f"Dockerfile: FROM {bases}, deploy/install is for Debian 12")
    built = " ".join(image.all("RUN", image.lines))
    for word in ("deploy/install", "//server:stmd", "//client/cli:stmctl"):
        if word not in built:
            raise Wrong(f"Dockerfile: nothing runs {word}")


def image_has_libraries(image, compose):
    for name in PROGRAMS:
        headers = subprocess.run(["objdump", "-p", program(name)], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"NEEDED\s+(\S+)", headers):
            found = subprocess.run(["dpkg-query", "-S", f"*/{library}"], capture_output=True, text=True, check=True).stdout
            packages = {line.split(":", 1)[0] for line in found.splitlines()}
            if not packages & (image.packages | ALWAYS_THERE):
                raise Wrong(f"Dockerfile: {name} is linked with {library}, of {' or '.join(sorted(packages))}, "
                            "which is not installed")


def stmds(compose):
    return {name: service for name, service in compose["services"].items()
            if service["image"] == "stmd" and "entrypoint" not in service}


def daemons_know_their_flags(image, compose):
    if len(stmds(compose)) != 3:
        raise Wrong(f"docker-compose.yml: {len(stmds(compose))} stmd")
    for name, service in stmds(compose).items():
        environment = {**image.environment, **service.get("environment", {})}
        told = settings(image.command("ENTRYPOINT") + service["command"], environment)
        if told["advertise"] != f"{name}:{port_of(told['listen'])}":
            raise Wrong(f"docker-compose.yml: {name} is told to be at {told['advertise']}")
        published = {int(port.rsplit(":", 1)[1]) for port in service["ports"]}
        if published != ports_served(told):
            raise Wrong(f"docker-compose.yml: {name}: publishes {sorted(published)} of it")


def daemons_share_one_store(image, compose):
    servers = {name for name, service in compose["services"].items() if service["image"].startswith("zookeeper:")}
    stores = {word for service in compose["services"].values() for word in service.get("command", [])
              if word.startswith("zk://")}
    if len(stores) != 1:
        raise Wrong(f"docker-compose.yml: several stores: {stores}")
    hosts = re.match(r"zk://([^/]+)/", stores.pop()).group(1).split(",")
    if set(hosts) != {f"{name}:{ZOOKEEPER_PORT}" for name in servers}:
        raise Wrong(f"docker-compose.yml: the store is at {hosts}, servers are {sorted(servers)}")
    ids = set()
    for name in servers:
        environment = compose["services"][name]["environment"]
        ids.add(environment["ZOO_MY_ID"])
        said = dict(line.split("=") for line in environment["ZOO_SERVERS"].split())
        if said.get(f"server.{environment['ZOO_MY_ID']}") != f"{name}:2888:3888;{ZOOKEEPER_PORT}":
            raise Wrong(f"docker-compose.yml: {name} is {environment['ZOO_MY_ID']}, which is not so in ZOO_SERVERS")
    if len(ids) != len(servers):
        raise Wrong(f"docker-compose.yml: servers share an id: {sorted(ids)}")


def zookeeper_is_the_tested_one(image, compose):
    tested = re.search(r"(?m)^version=(\S+)$", read("deploy/zookeeper")).group(1)
    for name, service in compose["services"].items():
        base, _, version = service["image"].partition(":")
        if base == "zookeeper" and version != tested:
            raise Wrong(f"docker-compose.yml: {name}: ZooKeeper {version}, deploy/zookeeper has {tested}")


def published_once(image, compose):
    taken = {}
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            address = port.rsplit(":", 1)[0]
            if taken.setdefault(address, name) != name:
                raise Wrong(f"docker-compose.yml: {name} and {taken[address]} publish {address}")
            if not address.startswith("127.0.0.1:"):
                raise Wrong(f"docker-compose.yml: {name}: {address}: strangers reach it")


def waits_for_what_is_there(image, compose):
    services = compose["services"]
    for name, service in services.items():
        check = service.get("healthcheck", {}).get("test")
        if check and check[1] == "stmctl":
            knows(check[1:])
        if "entrypoint" in service:
            knows(service["entrypoint"] + service["command"])
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                raise Wrong(f"docker-compose.yml: {name} waits for {other}, which is not there")
            if how["condition"] == "service_healthy" and "test" not in services[other].get("healthcheck", {}):
                raise Wrong(f"docker-compose.yml: {name} waits for the health of {other}, which has no check")
            if how["condition"] == "service_completed_successfully" and services[other].get("restart") == "unless-stopped":
                raise Wrong(f"docker-compose.yml: {name} waits for the end of {other}, which never ends")
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if volume.split(":")[0] not in compose["volumes"]:
                raise Wrong(f"docker-compose.yml: {name}: no volume {volume}")
    waits = [name for name in stmds(compose) if services[name]["depends_on"]["store"]["condition"]
             != "service_completed_successfully"]
    if waits:
        raise Wrong(f"docker-compose.yml: {waits} would start before the store is made")


def service(name, **changed):
    def plant(dockerfile, compose):
        compose["services"][name].update(changed)
        return dockerfile
    return plant


def line(old, new):
    def plant(dockerfile, compose):
        assert old in dockerfile, old
        return dockerfile.replace(old, new)
    return plant


def depends(condition):
    return {"store": {"condition": condition}}


STORE = "zk://zk1:2181,zk2:2181,zk3:2181/stmd"
# A claim: its check, and errors that the check must find.
CLAIMS = [
    ("the compose file follows the Compose Specification", follows_schema,
     [service("stmd-1", healtcheck={"test": ["CMD", "true"]}), service("zk1", ports=True),
      service("stmd-2", depends_on=depends("service_done"))]),
    ("the image's stmd serves what is exposed, and keeps its data in the volume", image_serves,
     [line("EXPOSE 7440 7441", "EXPOSE 7440"), line('"--data-dir"', '"--data-dr"'),
      line('"/var/lib/stmd"]', '"/var/lib/other"]'), line('"health"]', '"helth"]'), line("STMD_HTTP", "STMD_HTPP")]),
    ("the image's stmd is not root", image_is_no_root, [line("USER 7440", "USER root")]),
    ("the image is built as deploy/install and Bazel have it", image_is_built_as_here,
     [line("FROM debian:12 AS build", "FROM debian:11 AS build"), line("RUN deploy/install", "RUN true")]),
    ("the image has the libraries that stmd and stmctl are linked with", image_has_libraries,
     [line("libre2-9", ""), line("libedit2", "")]),
    ("each stmd knows its flags, and is where it says", daemons_know_their_flags,
     [service("stmd-1", command=["--cordinator", STORE, "--advertise", "stmd-1:7440"]),
      service("stmd-2", command=["--coordinator", STORE, "--advertise", "stmd-1:7440"]),
      service("stmd-3", ports=["127.0.0.1:7460:7450", "127.0.0.1:7461:7441"])]),
    ("all stmd have one store, at the servers that there are", daemons_share_one_store,
     [service("stmd-1", command=["--coordinator", "zk://zk1:2181/other", "--advertise", "stmd-1:7440"]),
      lambda dockerfile, compose: [compose["services"].pop("zk3"), dockerfile][1],
      lambda dockerfile, compose: [compose["services"]["zk2"]["environment"].update(ZOO_MY_ID="1"), dockerfile][1]]),
    ("ZooKeeper is the version that is tested", zookeeper_is_the_tested_one, [service("zk2", image="zookeeper:3.8.4")]),
    ("a port is published once, to this machine alone", published_once,
     [service("stmd-2", ports=["127.0.0.1:7440:7440"]), service("stmd-2", ports=["7450:7440"])]),
    ("what a service waits for is there, and comes", waits_for_what_is_there,
     [service("stmd-1", depends_on=depends("service_started")), service("stmd-1", depends_on={"shop": {"condition": "service_started"}}),
      service("zk1", healthcheck={}), service("store", command=["init", "--if-abset", STORE]),
      service("zk1", volumes=["zk9:/data"])]),
]


def main():
    dockerfile, compose = read("deploy/Dockerfile"), yaml.safe_load(read("deploy/docker-compose.yml"))
    passed = failed = 0
    for claim, check, plants in CLAIMS:
        said = []
        try:
            check(Image(dockerfile), compose)
        except (Wrong, jsonschema.ValidationError) as error:
            said.append(str(error))
        for i, plant in enumerate(plants):
            planted = copy.deepcopy(compose)
            text = plant(dockerfile, planted)
            try:
                check(Image(text), planted)
                said.append(f"planted error {i + 1} is not found")
            except (Wrong, jsonschema.ValidationError, KeyError):
                pass
        passed, failed = passed + (not said), failed + bool(said)
        print(("ok: " if not said else "FAILED: ") + claim, *said, sep="\n    ")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
