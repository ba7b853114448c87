"""The machine that the functional tests and the demo use, and a unit on it."""

import collections.abc
import contextlib
import dataclasses
import http.client
import http.server
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest.mock

import ops
from ops import testing

import charm
import tinyproxy
from tests import conflict


def refusal() -> str:
    """Return why the tests must not use this machine, or an empty string if they can."""
    if not shutil.which("apt-get"):
        return "This needs Debian or Ubuntu."
    if os.geteuid() != 0:
        return "This needs root, to install tinyproxy and to write its files."
    if running := tinyproxies():
        return f"tinyproxy runs here already, as process {running[0]}, and this would end it."
    if shutil.which("tinyproxy"):
        return "tinyproxy is installed here already, and this would remove it."
    for path in (tinyproxy.CONFIG_FILE.parent, tinyproxy.PID_FILE):
        if path.exists():
            return f"{path} exists already, and this would overwrite or remove it."
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError), socket.socket(family) as client:
            if not client.connect_ex(("localhost", charm.PORT)):
                return f"Port {charm.PORT} is in use by another program."
    return ""


def tinyproxies() -> list[int]:
    """Return the process number of each tinyproxy on this machine, except in containers."""
    parents: dict[int, int] = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = (process / "ns" / "pid").samefile("/proc/self/ns/pid")
            if here and "/usr/bin/tinyproxy" in os.readlink(process / "exe"):
                stat = (process / "stat").read_text().rpartition(")")[2]
                parents[int(process.name)] = int(stat.split()[1])
    # tinyproxy forks to become a daemon. For a moment, its parent still runs.
    return [pid for pid in parents if pid not in parents.values()]


def has_systemd() -> bool:
    """Return whether systemd runs on this machine."""
    return pathlib.Path("/run/systemd/system").is_dir()


def kill_tinyproxies() -> None:
    """Kill the units' tinyproxy, as a reboot does, and wait until it has ended.

    A tinyproxy with another config file is left alone: whoever started it ends it.
    """

    def units_tinyproxies() -> list[int]:
        found: list[int] = []
        for pid in tinyproxies():
            with contextlib.suppress(OSError):
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "-c" not in command or str(tinyproxy.CONFIG_FILE) in command:
                    found.append(pid)
        return found

    if has_systemd():
        subprocess.run(["systemctl", "stop", "juju-tinyproxy.service*"], check=True)
    for pid in units_tinyproxies():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if not wait_until(lambda: not units_tinyproxies() and not is_open(charm.PORT), seconds=10):
        raise TimeoutError("tinyproxy doesn't end.")


def remove_files() -> None:
    """Remove the files of tinyproxy and the tests. Before the tests, there were none."""
    shutil.rmtree(tinyproxy.CONFIG_FILE.parent, ignore_errors=True)
    tinyproxy.PID_FILE.unlink(missing_ok=True)


def clean() -> None:
    """Restore the machine, even if APT was interrupted."""
    kill_tinyproxies()
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", "tinyproxy-bin"]
    status = subprocess.run(query, capture_output=True, text=True).stdout
    if status not in ("", "not-installed"):
        apt_get = ["apt-get", "--yes", "--option=DPkg::Lock::Timeout=60"]
        for command in (["dpkg", "--configure", "-a"], [*apt_get, "remove", "tinyproxy-bin"]):
            subprocess.run(command, check=True, capture_output=True)
    remove_files()


@contextlib.contextmanager
def cleaning() -> collections.abc.Generator[None]:
    """Restore the machine when the block ends, even if Ctrl-C or SIGTERM ends it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
        clean()


@contextlib.contextmanager
def debian_packages(*names: str) -> collections.abc.Generator[None]:
    """Install packages without starting their services. Afterwards, remove the new ones."""

    def installed() -> set[str]:
        command = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {line.split()[1] for line in lines.splitlines() if line.startswith("installed")}

    def apt_get(*arguments: str) -> None:
        # APT_CONFIG can name a small archive. These packages are in Debian's.
        changes = {"APT_CONFIG": os.devnull, "DEBIAN_FRONTEND": "noninteractive"}
        environment = {**os.environ, **changes}
        command = ["apt-get", "--yes", *arguments]
        subprocess.run(command, check=True, capture_output=True, env=environment)

    before = installed()
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    if not set(names) <= before:
        # https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        apt_get("install", *names)
        yield
    finally:
        policy.unlink(missing_ok=True)
        if added := installed() - before:
            apt_get("purge", *added)


def wait_until(condition: collections.abc.Callable[[], bool], seconds: float = 5) -> bool:
    """Return whether the condition comes true within a number of seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def is_open(port: int) -> bool:
    """Return whether a program on this machine listens on a port."""
    with socket.socket() as client:
        return not client.connect_ex(("127.0.0.1", port))


def wait_for_port(port: int) -> None:
    """Wait until a program on this machine listens on a port."""
    if not wait_until(lambda: is_open(port), seconds=20):
        raise TimeoutError(f"No program listens on port {port}.")


def get(path: str, host: str = "127.0.0.1") -> int:
    """Request a path from the proxy, and return the status of the response."""
    with contextlib.closing(http.client.HTTPConnection(host, charm.PORT, timeout=5)) as client:
        client.request("GET", path)
        return client.getresponse().status


@contextlib.contextmanager
def clients(number: int) -> collections.abc.Generator[None]:
    """Run a process with a number of clients that send one request after the other."""
    with subprocess.Popen([sys.executable, "-m", "tests.functional.load", str(number)]) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


class Upstream:
    """A web server on this machine, with one page and a log of its requests."""

    page = b"<!doctype html><title>Example</title><h1>A page of the upstream</h1>\n"

    def __init__(self) -> None:
        upstream = self
        self.requests: list[str] = []
        self.via: list[str | None] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # The name is http.server's.
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(upstream.page)))
                self.end_headers()
                self.wfile.write(upstream.page)

            def log_message(self, format: str, *args: object) -> None:
                upstream.requests.append(self.requestline)
                upstream.via.append(self.headers["Via"])

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> "Upstream":
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Unit:
    """A unit of the charm on this machine. Only Juju is simulated."""

    def __init__(self, neighbour: "Unit | None" = None) -> None:
        self.context = testing.Context(charm.TinyproxyCharm)
        self.state = testing.State()
        self.neighbour = neighbour  # Another unit on the machine, which can have the port.

    def config(self, **config: str) -> None:
        """Set the options. Others get their defaults."""
        self.state = dataclasses.replace(self.state, config={**config})

    def run(self, event: str) -> str:
        """Run the charm for an event, and return the unit's status and message after it."""
        on = getattr(self.context.on, event.replace("-", "_"))
        with self._juju():
            self.state = self.context.run(on(), self.state)
        status = self.state.unit_status
        return f"{status.name}: {status.message}" if status.message else status.name

    @contextlib.contextmanager
    def _juju(self) -> collections.abc.Generator[None]:
        """Make Juju refuse the port if another unit on the machine has it."""
        if self.neighbour and testing.TCPPort(charm.PORT) in self.neighbour.state.opened_ports:
            with unittest.mock.patch.object(ops.Unit, "open_port", conflict.open_port):
                yield
        else:
            yield
