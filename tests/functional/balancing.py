"""HAProxy, and units that each have their own network, files and processes."""

import collections.abc
import contextlib
import csv
import json
import pathlib
import signal
import socket
import subprocess
import sys

from tests.functional import machine

PORT = 8080
CONFIG = """\
global
    stats socket {folder}/socket expose-fd listeners
defaults
    mode http
    timeout check 2s
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    retries 3
    option redispatch
    retry-on all-retryable-errors
listen tinyproxy
    bind 127.0.0.1:{port}
    balance leastconn
    option httpchk GET /example
    http-check expect status 301
    default-server check inter 200ms fall 2 rise 2
"""


class IsolatedUnit:
    """A unit in namespaces, with an address on a network that connects it with this machine."""

    def __init__(self, number: int, upstream_url: str | None = None) -> None:
        """Prepare the unit. Without an upstream's URL, it runs its own upstream."""
        self._upstream = [upstream_url] if upstream_url else []
        self.name = f"tinyproxy-{number}"
        self.address = f"10.213.{number}.2"
        self.published: dict[str, str] = {}
        self.requests = 0
        self._number = number

    def __enter__(self) -> "IsolatedUnit":
        veth = f"tinyproxy{self._number}"
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {veth} type veth peer name eth0 netns {self.name}",
            f"ip address add 10.213.{self._number}.1/30 dev {veth}",
            f"ip link set {veth} up",
            f"ip -n {self.name} address add {self.address}/30 dev eth0",
            f"ip -n {self.name} link set eth0 up",
            f"ip -n {self.name} link set lo up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        # Without /run/systemd, tinyproxy is a daemon and stays in the namespaces.
        script = """
            mount -t proc proc /proc
            mount -t tmpfs tmpfs /run
            mkdir -p /etc/tinyproxy
            mount -t tmpfs tmpfs /etc/tinyproxy
            exec "$@"
        """
        command = ["ip", "netns", "exec", self.name, "unshare", "--mount", "--pid", "--fork"]
        command += ["--kill-child", "sh", "-ec", script, "sh"]
        command += [sys.executable, "-m", "tests.functional.isolated", self.address]
        self._process = subprocess.Popen(
            [*command, *self._upstream],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *args: object) -> None:
        self._process.kill()
        self._process.communicate()
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def run(self, event: str) -> str:
        """Run the charm for an event, or ``kill`` tinyproxy, and return the unit's status."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{event}\n")
        self._process.stdin.flush()
        status, data, self.requests = json.loads(self._process.stdout.readline())
        self.published = {key: data[key] for key in ("hostname", "port") if key in data}
        return status


class HAProxy:
    """HAProxy, which balances over the units that publish an address and a port."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._config = folder / "haproxy.cfg"

    def configure(self, units: collections.abc.Iterable[IsolatedUnit]) -> None:
        """Write the config file from the units' relation data, as the haproxy charm does."""
        config = CONFIG.format(folder=self._folder, port=PORT)
        for unit in units:
            if unit.published:
                address = "{hostname}:{port}".format(**unit.published)
                config += f"    server {unit.name} {address}\n"
        self._config.write_text(config)

    @contextlib.contextmanager
    def running(self) -> collections.abc.Generator[None]:
        """Run HAProxy until the block ends."""
        command = ["haproxy", "-W", "-f", str(self._config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as self._process:
            try:
                machine.wait_for_port(PORT)
                yield
            finally:
                self._process.terminate()

    def reload(self, units: collections.abc.Iterable[IsolatedUnit]) -> None:
        """Reload HAProxy with new relation data, without dropping requests."""
        self.configure(units)
        self._process.send_signal(signal.SIGUSR2)

    def wait(self, units: collections.abc.Iterable[IsolatedUnit]) -> None:
        """Wait until HAProxy has checked the units, and uses exactly those that serve."""
        serving = {unit.name for unit in units if unit.published}
        if not machine.wait_until(lambda: self._servers() == serving, seconds=20):
            raise TimeoutError(f"HAProxy uses {self._servers()} instead of {serving}.")

    def _servers(self) -> set[str]:
        """Return the names of the servers that HAProxy has checked and uses."""
        with socket.socket(socket.AF_UNIX) as client, client.makefile() as answer:
            client.connect(str(self._folder / "socket"))
            client.sendall(b"show stat\n")
            rows = list(csv.DictReader(answer))
        # https://docs.haproxy.org/2.8/management.html#9.1
        used = [row for row in rows if row["status"] == "UP" and "L7OK" in row["check_status"]]
        return {row["svname"] for row in used}
