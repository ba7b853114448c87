"""The machine that the functional tests and the demo use, and a unit that lives on it."""

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
import threading
import time

from ops import testing

import charm
import tinyproxy


def refusal() -> str:
    """Return why this machine must not be used, or an empty string if it can be."""
    if not shutil.which("apt-get"):
        return "This needs Debian or Ubuntu."
    if os.geteuid() != 0:
        return "This needs root, to install tinyproxy and to write its files."
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
    """Return the numbers of the processes on this machine that are a tinyproxy, ours or not."""
    pids: list[int] = []
    for exe in pathlib.Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if "/usr/bin/tinyproxy" in os.readlink(exe):
                pids.append(int(exe.parent.name))
    return pids


def kill_tinyproxies() -> None:
    """Kill every tinyproxy. There was none before this began, so all of them are its own."""
    for pid in tinyproxies():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove_files() -> None:
    """Remove the files that tinyproxy and the tests leave. There were none before."""
    shutil.rmtree(tinyproxy.CONFIG_FILE.parent, ignore_errors=True)
    tinyproxy.PID_FILE.unlink(missing_ok=True)


def clean() -> None:
    """Leave the machine as it was before, also when APT was interrupted."""
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
    """Clean when the block ends, also if Ctrl-C or SIGTERM ends it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
        clean()


def wait_until(condition: collections.abc.Callable[[], bool], seconds: float = 5) -> bool:
    """Return whether the condition comes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def wait_for_port(port: int) -> None:
    """Wait until a program on this machine listens on a port."""

    def is_open() -> bool:
        with socket.socket() as client:
            return not client.connect_ex(("127.0.0.1", port))

    if not wait_until(is_open):
        raise TimeoutError(f"Nobody listens on port {port}.")


def get(path: str, host: str = "127.0.0.1") -> int:
    """Return the status of the proxy's answer to a request for a path."""
    with contextlib.closing(http.client.HTTPConnection(host, charm.PORT, timeout=5)) as client:
        client.request("GET", path)
        return client.getresponse().status


class Upstream:
    """A web server on this machine, with a page and a log of the requests that reached it."""

    page = b"<!doctype html><title>Example</title><h1>A page of the upstream</h1>\n"

    def __init__(self) -> None:
        upstream = self
        self.requests: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # The name is http.server's.
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(upstream.page)))
                self.end_headers()
                self.wfile.write(upstream.page)

            def log_message(self, format: str, *args: object) -> None:
                upstream.requests.append(self.requestline)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> "Upstream":
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Unit:
    """A unit of the charm, with nothing simulated but Juju."""

    def __init__(self) -> None:
        self.context = testing.Context(charm.TinyproxyCharm)
        self.state = testing.State()

    def config(self, **config: str) -> None:
        """Set the options, those not named to their defaults."""
        self.state = dataclasses.replace(self.state, config=config)

    def run(self, event: str) -> str:
        """Run the charm for an event, and return the unit's status and message after it."""
        self.state = self.context.run(getattr(self.context.on, event)(), self.state)
        status = self.state.unit_status
        return f"{status.name}: {status.message}" if status.message else status.name
