"""Measure the time of hooks and handlers, the throughput of the proxy, and the package.

This runs as root, on Debian or Ubuntu, and leaves the machine as it was. It asserts nothing.
"""

import argparse
import collections
import collections.abc
import contextlib
import gc
import json
import os
import pathlib
import platform
import pstats
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import charm
import tinyproxy
from tests import asking, packed
from tests.functional import balancing, machine

HERE = pathlib.Path(__file__).parent
PAIRS = 40  # Runs of a hook, each with one of the floor.
CYCLES = 30  # Starts, changes and stops, each with one by hand.
ROUNDS = 3  # Runs of wrk, each configuration in turn.
WRK_SECONDS = 5
HOOK_TOOLS = {
    "application-version-set": "",
    "close-port": "",
    "config-get": """echo "{\\"slug\\": \\"$SLUG\\"}" """,
    "is-leader": "echo false",
    "juju-log": "",
    "open-port": "",
    "relation-ids": "echo []",
    "status-set": "",
}
TUTORIAL_CONFIG = """\
PidFile "{pid_file}"
Port 8000
Timeout 600
ReverseOnly Yes
ReversePath "/example/" "{upstream}"
"""

Result = tuple[float, float]

rows: list[dict[str, str | float]] = []


def report(section: str, what: str, unit: str, pairs: list[tuple[float, float]]) -> None:
    """Print the medians of pairs and of their ratios, and keep them for the JSON file."""
    base, measured = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    if not rows or rows[-1]["section"] != section:
        print(f"\n{section:<52}{'base':>12}{'charm':>12}{'ratio':>8}{'more':>10}")
    name = f"{what}, {unit}"
    print(f"  {name:<50}{base:>12,.1f}{measured:>12,.1f}{ratio:>8.2f}{measured - base:>10,.1f}")
    row = {"section": section, "what": what, "unit": unit, "base": base, "charm": measured}
    rows.append({**row, "ratio": round(ratio, 4)})


# A hook as a process


class Hook:
    """A charm's folder as Juju makes it, and hook tools that do nothing."""

    def __init__(self, source: pathlib.Path, folder: pathlib.Path) -> None:
        self.folder = folder
        shutil.copytree(
            source.parent, folder / "src", ignore=shutil.ignore_patterns("__pycache__")
        )
        self.charm = folder / "src" / source.name
        metadata = "name: tinyproxy\nprovides: {website: {interface: http}}\n"
        (folder / "metadata.yaml").write_text(metadata)
        (folder / "config.yaml").write_text("options: {slug: {type: string, default: example}}\n")
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name, script in HOOK_TOOLS.items():
            (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.tools / name).chmod(0o755)

    def popen(self, event: str, slug: str, *command: str) -> subprocess.Popen[str]:
        """Start the process of one event, by a command that the charm's path completes."""
        return subprocess.Popen(
            [*(command or [sys.executable]), str(self.charm)],
            env={
                "JUJU_CHARM_DIR": str(self.folder),
                "JUJU_DISPATCH_PATH": f"hooks/{event}",
                "JUJU_MODEL_NAME": "benchmark",
                "JUJU_UNIT_NAME": "tinyproxy/0",
                "JUJU_VERSION": "3.6.0",
                "PATH": f"{self.tools}:{os.environ['PATH']}",
                "SLUG": slug,
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def milliseconds(self, event: str, slug: str) -> tuple[float, float]:
        """Return the milliseconds that one event takes, by the clock and of the CPU."""
        begin = time.perf_counter()
        process = self.popen(event, slug)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        with process:
            pass
        if process.returncode:
            sys.exit(f"{self.charm} failed in {event}.")
        return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000

    def peak_mib(self, event: str, slug: str) -> float:
        """Return the peak memory of the Python process of one event, in MiB."""
        # Measured from here, the peak would include memory that the fork copies.
        with self.popen(event, slug, "time", "--format=%M", sys.executable) as process:
            return int(process.communicate()[1]) / 1024


def measure_hooks(folder: pathlib.Path) -> None:
    """Compare the charm with the floor, in the most frequent events."""
    section = "Hook, compared with a charm of ten lines"
    floor = Hook(HERE / "floor.py", folder / "floor")
    measured = Hook(pathlib.Path(charm.__file__), folder / "charm")
    for event in ("update-status", "config-changed"):
        slugs = ["example" if event == "update-status" else f"slug-{i}" for i in range(PAIRS)]
        for slug in slugs[:2]:  # These fill the caches.
            floor.milliseconds(event, slug)
            measured.milliseconds(event, slug)
        pairs = [
            (floor.milliseconds(event, slug), measured.milliseconds(event, slug)) for slug in slugs
        ]
        report(section, event, "wall ms", [(base[0], hook[0]) for base, hook in pairs])
        report(section, event, "CPU ms", [(base[1], hook[1]) for base, hook in pairs])
        pairs = [
            (floor.peak_mib(event, slug), measured.peak_mib(event, slug)) for slug in slugs[:9]
        ]
        report(section, event, "peak MiB", pairs)
    with other_processes(5000):
        pairs = [
            (
                floor.milliseconds("update-status", "")[0],
                measured.milliseconds("update-status", "example")[0],
            )
            for _ in range(PAIRS)
        ]
    report(section, "update-status, 5,000 processes", "wall ms", pairs)
    show_imports(floor, measured)
    show_calls(measured, folder / "profile")


def show_imports(floor: Hook, measured: Hook) -> None:
    """Print the charm's imports that the floor doesn't have, and their milliseconds."""

    def imports(hook: Hook) -> dict[str, float]:
        command = (sys.executable, "-X", "importtime")
        with hook.popen("update-status", "example", *command) as process:
            _, text = process.communicate()
        found = re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", text)
        return {name: int(microseconds) / 1000 for microseconds, name in found}

    known = imports(floor)
    totals = collections.defaultdict[str, float](float)
    for name, milliseconds in imports(measured).items():
        if name not in known:
            totals[".".join(name.split(".")[:2])] += milliseconds
    print("\nImports that the floor doesn't have, ms")
    for name, milliseconds in sorted(totals.items(), key=lambda item: -item[1])[:8]:
        print(f"  {name:<50}{milliseconds:>12.1f}")


def show_calls(measured: Hook, profile: pathlib.Path) -> None:
    """Print how update-status spends its time after the imports."""
    command = (sys.executable, "-m", "cProfile", "-o", str(profile))
    with measured.popen("update-status", "example", *command):
        pass
    # https://docs.python.org/3/library/profile.html#pstats.Stats.get_stats_profile
    functions = pstats.Stats(str(profile)).get_stats_profile().func_profiles
    print("\nCalls in update-status, ms, including the profiler's own time")
    for name, function in sorted(functions.items(), key=lambda item: -item[1].cumtime):
        file = pathlib.Path(function.file_name)
        relevant = file.parent == measured.charm.parent or file.parent.name == "hookcmds"
        if relevant and function.cumtime >= 0.001:
            print(f"  {file.name + ' ' + name:<50}{function.cumtime * 1000:>12.1f}")


@contextlib.contextmanager
def other_processes(number: int) -> collections.abc.Generator[None]:
    """Run a number of processes that do nothing, until the block ends."""
    script = f"for i in $(seq {number}); do sleep 600 & done; echo; wait"
    command = ["sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        process.stdout.read(1)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


# A handler, compared with the program itself


def milliseconds_until(
    action: collections.abc.Callable[[], object], effect: collections.abc.Callable[[], bool]
) -> float:
    """Run an action, and return the milliseconds until it has an effect."""
    begin = time.perf_counter()
    action()
    while not effect():
        time.sleep(0.0005)
    return (time.perf_counter() - begin) * 1000


def is_in_force(slug: str) -> bool:
    try:
        return machine.get(f"/{slug}") == 301
    except OSError:
        return False


def measure_life(
    start: collections.abc.Callable[[], object],
    change: collections.abc.Callable[[int], object],
    stop: collections.abc.Callable[[int], object],
) -> dict[str, float]:
    """Return the milliseconds of each step. The last two get the process number."""
    started = milliseconds_until(start, lambda: is_in_force("example"))
    [pid] = machine.tinyproxies()
    changed = milliseconds_until(lambda: change(pid), lambda: is_in_force("foo"))
    stopped = milliseconds_until(
        lambda: stop(pid), lambda: not pathlib.Path(f"/proc/{pid}/exe").exists()
    )
    return {"start": started, "slug change": changed, "stop": stopped}


def measure_handlers() -> None:
    """Compare the handlers with starting, signalling and stopping tinyproxy by hand."""

    def start_by_hand() -> None:
        tinyproxy.ensure_config(charm.PORT, "example")
        subprocess.run(["tinyproxy"], check=True)

    def change_by_hand(pid: int) -> None:
        tinyproxy.ensure_config(charm.PORT, "foo")
        os.kill(pid, signal.SIGUSR1)

    def run(event: str, slug: str) -> None:
        unit.config(slug=slug)
        unit.run(event)

    unit = machine.Unit()
    pairs = collections.defaultdict[str, list[tuple[float, float]]](list)
    for _ in range(CYCLES):
        base = measure_life(
            start_by_hand, change_by_hand, lambda pid: os.kill(pid, signal.SIGTERM)
        )
        measured = measure_life(
            lambda: run("start", "example"),
            lambda _: run("config_changed", "foo"),
            lambda _: run("stop", "foo"),
        )
        for what, milliseconds in base.items():
            pairs[what].append((milliseconds, measured[what]))
    for what, values in pairs.items():
        report("Handler, compared with the program itself", what, "ms", values)


# The proxy under load


@contextlib.contextmanager
def nginx(folder: pathlib.Path) -> collections.abc.Generator[str]:
    """Run a web server with a page of 1,000 bytes, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    page = "x" * 1000
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr;\n"
        "events { worker_connections 4096; }\n"
        f'http {{ access_log off; server {{ listen {port}; return 200 "{page}"; }} }}\n'
    )
    with subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")]) as process:
        try:
            machine.wait_for_port(port)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


def wrk(url: str, connections: int) -> Result:
    """Return the requests per second, and the 99th percentile of their milliseconds."""
    command = ["wrk", "--latency", "-t2", f"-c{connections}", f"-d{WRK_SECONDS}s", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    [rate] = re.findall(r"Requests/sec: +([\d.]+)", text)
    [(number, unit)] = re.findall(r"99% +([\d.]+)(us|ms|s)", text)
    return float(rate), float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def report_wrk(section: str, what: str, pairs: list[tuple[Result, Result]]) -> None:
    """Report both figures of pairs of runs."""
    for n, unit in enumerate(("requests/s", "99th percentile ms")):
        report(section, what, unit, [(base[n], measured[n]) for base, measured in pairs])


def measure_load(folder: pathlib.Path) -> None:
    """Compare the charm's configuration with the tutorial's, and with no proxy."""

    def write_tutorial_config() -> None:
        tinyproxy.CONFIG_FILE.write_text(
            TUTORIAL_CONFIG.format(pid_file=tinyproxy.PID_FILE, upstream=tinyproxy.UPSTREAM_URL)
        )

    def proxy(configure: collections.abc.Callable[[], object], connections: int):
        configure()
        tinyproxy.start()
        result = wrk(f"http://127.0.0.1:{charm.PORT}/example/", connections)
        tinyproxy.stop()
        return result

    with nginx(folder) as tinyproxy.UPSTREAM_URL:
        for connections in (50, 400):
            tutorial: list[tuple[Result, Result]] = []
            direct: list[tuple[Result, Result]] = []
            for _ in range(ROUNDS):
                measured = proxy(
                    lambda: tinyproxy.ensure_config(charm.PORT, "example"), connections
                )
                tutorial.append((proxy(write_tutorial_config, connections), measured))
                direct.append((wrk(tinyproxy.UPSTREAM_URL, connections), measured))
            for name, results in (("the tutorial", tutorial), ("no proxy", direct)):
                report_wrk(f"{connections} connections, compared with {name}", "wrk", results)


def measure_reloads() -> None:
    """Print the longest time without a response in 1,500 reloads with eight more clients."""
    unit = machine.Unit()
    assert unit.run("start") == "active"
    active = 0
    gc.disable()  # Its pauses would stop the client, too: they grow to 2 s here.
    with machine.clients(8), asking.Client("/foo") as client:
        for i in range(1500):
            unit.config(slug="foo" if i % 2 else "bar")
            active += unit.run("config_changed") == "active"
    gc.enable()
    tinyproxy.stop()
    print(f"\nOf 1,500 reloads with 8 clients, {active} end active")
    print(f"  the longest time without a response: {client.outage() * 1000:.0f} ms")


# Several units


def measure_units(folder: pathlib.Path) -> None:
    """Compare units behind HAProxy with one unit that clients reach directly."""
    section = "HAProxy, 200 connections, compared with one unit"
    with nginx(folder) as url, contextlib.ExitStack() as stack:
        port = url.rstrip("/").rpartition(":")[2]
        units: list[balancing.IsolatedUnit] = []
        haproxy = balancing.HAProxy(folder)
        for number in (1, 2, 3):
            upstream = f"http://10.213.{number}.1:{port}/"
            units.append(stack.enter_context(balancing.IsolatedUnit(number, upstream)))
            assert units[-1].run("start") == "active"
            haproxy.configure(units)
            pairs: list[tuple[Result, Result]] = []
            with haproxy.running():
                haproxy.wait(units)
                for _ in range(ROUNDS):
                    direct = wrk(f"http://{units[0].address}:{charm.PORT}/example/", 200)
                    pairs.append((direct, wrk(f"http://127.0.0.1:{balancing.PORT}/example/", 200)))
            report_wrk(section, f"{number} unit{'s' if number > 1 else ''}", pairs)


# The package


def measure_package() -> None:
    """Print the size of the packed charm and of each dependency."""
    try:
        path = packed.find()
    except FileNotFoundError as e:
        print(f"\nThe package isn't measured. {e}")
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    sizes: collections.Counter[str] = collections.Counter()
    counts: collections.Counter[str] = collections.Counter()
    for member in members:
        _, _, module = member.filename.partition("site-packages/")
        name = re.split(r"[/.-]", module.removeprefix("__pycache__/").removeprefix("_"))[0]
        sizes[name or "the charm itself"] += member.file_size
        counts[name or "the charm itself"] += 1
    print(f"\n{'The package':<52}{'KiB':>12}{'files':>12}")
    for name, size, count in [
        ("the .charm file", path.stat().st_size, 1),
        ("unpacked", sum(sizes.values()), len(members)),
        *((f"  {name}", size, counts[name]) for name, size in sizes.most_common()),
    ]:
        print(f"  {name:<50}{size / 1024:>12,.1f}{count:>12}")
        rows.append(
            {"section": "The package", "what": name.strip(), "bytes": size, "files": count}
        )


def main() -> None:
    """Run all the measurements, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the table here")
    arguments = parser.parse_args()
    if reason := machine.refusal():
        sys.exit(f"Nothing was touched. {reason}")
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with (
        tempfile.TemporaryDirectory() as name,
        machine.cleaning(),
        machine.debian_packages("haproxy", "iproute2", "nginx-light", "time", "wrk"),
    ):
        folder = pathlib.Path(name)
        tinyproxy.install()
        measure_hooks(folder)
        tinyproxy.stop()
        measure_handlers()
        measure_reloads()
        measure_load(folder)
        measure_units(folder)
        measure_package()
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
