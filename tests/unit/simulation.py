"""A simulated machine for the unit tests of the helper, without real processes or a clock."""

import contextlib
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess

import pytest

import tinyproxy

PID = 4321

original_stat = os.stat


class Machine:
    """A machine in a folder, on which commands and signals have effects on a tinyproxy."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.config = folder / "etc/tinyproxy/tinyproxy.conf"
        self.pid_file = folder / "var/run/tinyproxy.pid"
        self.proc = folder / "proc"
        self.program = folder / "usr/bin/tinyproxy"
        self.seconds = 0.0
        self.step = 0
        self.commands: list[str] = []
        self.timeouts: list[float] = []  # Of each command, in seconds
        self.outputs: dict[str, str | Exception] = {}
        self.signals: list[tuple[int, int]] = []
        self.ended_by = {signal.SIGTERM, signal.SIGKILL}
        self.in_force = ""  # The slug that tinyproxy serves, if any.
        self.reloads = True
        self.starts = True
        self.threads = 2  # Of each process
        self.programs = {"tinyproxy": str(self.program)}
        self.bind_errors: dict[int, int] = {}  # By the family of addresses
        for path in (self.pid_file, self.proc / "locks", self.program):
            path.parent.mkdir(parents=True)
        (self.proc / "locks").touch()
        self.program.touch()

    def add(
        self,
        pid: int = PID,
        name: str = "tinyproxy",
        command: str = "",
        cgroup: str = "0::/system.slice/juju-tinyproxy.service\n",
        numbers: str = "",
    ):
        process = self.proc / str(pid)
        process.mkdir()
        numbers = numbers or str(pid)
        (process / "status").write_text(f"Name:\t{name}\nState:\tS\nNSpid:\t{numbers}\n")
        command = command or f"tinyproxy -c {self.config}"
        (process / "cmdline").write_text("".join(f"{word}\0" for word in command.split()))
        (process / "cgroup").write_text(f"1:name=systemd:/\n{cgroup}")

    def lock(self, path: str) -> str:
        """Let another process lock a file of APT, and return the message about it."""
        lock = self.folder / path
        lock.parent.mkdir(parents=True)
        lock.touch()
        line = f"1: POSIX  ADVISORY  WRITE 1234 fe:00:{lock.stat().st_ino} 0 EOF\n"
        (self.proc / "locks").write_text(line)
        return f"Waiting until another process releases {lock}"

    def run(self, pid: int = PID, slug: str = "example"):
        """Let tinyproxy run and serve, with a PID file."""
        tinyproxy.ensure_config(8000, slug)
        self.add(pid)
        self.pid_file.write_text(f"{pid}\n")
        self.in_force = slug

    def slug(self) -> str:
        return self.config.read_text().partition('ReversePath "/')[2].partition("/")[0]

    def kill(self, pid: int, number: int):
        self.signals.append((pid, number))
        if number in self.ended_by:
            shutil.rmtree(self.proc / str(pid))
            self.in_force = ""
        elif number == signal.SIGUSR1 and self.reloads:
            self.in_force = self.slug()

    def listdir(self, path: pathlib.Path) -> list[str]:
        if path.name == "task":
            return [str(number) for number in range(self.threads)]
        with os.scandir(path) as entries:
            return [entry.name for entry in entries]

    def stat(self, path: str | pathlib.Path, **options: bool) -> os.stat_result:
        result = original_stat(path, **options)
        if path == str(self.program):
            return os.stat_result((*result[:9], 1000))  # Its ctime: when it was installed
        return result

    def check_output(
        self, command: tuple[str, ...], stderr: int, text: bool, timeout: float
    ) -> str:
        assert stderr == subprocess.PIPE
        assert text
        self.commands.append(" ".join(command))
        self.timeouts.append(timeout)
        output = self.outputs.get(command[0], "")
        if isinstance(output, Exception):
            raise output
        if str(self.config) in command and self.starts:
            self.run(PID + 1, self.slug())
        return output

    def create_server(self, address: tuple[str, int], family: int = socket.AF_INET):
        assert address == ("", 8000)
        if number := self.bind_errors.get(family):
            raise OSError(number, os.strerror(number))
        return contextlib.ExitStack()

    def sleep(self, seconds: float):
        self.seconds += self.step or seconds


class Connection:
    """A connection to tinyproxy, which redirects a request for its slug and refuses others."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self.timeout = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *args: object):
        pass

    def settimeout(self, seconds: float):
        self.timeout = seconds

    def connect(self, address: tuple[str, int]):
        assert self.timeout == 1
        assert address[1] < 65536  # With another port, a real socket raises OverflowError.
        if not self.machine.in_force:
            raise ConnectionRefusedError
        assert address == ("127.0.0.1", 8000)

    def sendall(self, request: bytes):
        self.found = request == f"GET /{self.machine.in_force} HTTP/1.0\r\n\r\n".encode()

    def recv(self, size: int) -> bytes:
        assert size == 32
        return b"HTTP/1.0 301 Moved" if self.found else b"HTTP/1.0 400 Bad Request"


def chown(path: pathlib.Path, group: str):
    """Do nothing, because only root can change the group."""


def inside(folder: pathlib.Path, path: str | pathlib.Path) -> pathlib.Path:
    """Return the path that a path on the machine has in the machine's folder."""
    return folder / pathlib.Path(path).relative_to("/")


def simulate(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Replace what the helper uses of the system, and return a machine without systemd."""
    machine = Machine(tmp_path)
    for name in ("CONFIG_FILE", "PID_FILE", "_PROC", "_SYSTEMD"):
        monkeypatch.setattr(f"tinyproxy.{name}", inside(tmp_path, getattr(tinyproxy, name)))
    locks = tuple(str(inside(tmp_path, path)) for path in tinyproxy._APT_LOCKS)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr("tinyproxy._APT_LOCKS", locks)
    monkeypatch.setattr("os.kill", machine.kill)
    monkeypatch.setattr("os.listdir", machine.listdir)
    monkeypatch.setattr("os.stat", machine.stat)
    monkeypatch.setattr("socket.socket", functools.partial(Connection, machine))
    monkeypatch.setattr("socket.create_server", machine.create_server)
    monkeypatch.setattr("subprocess.check_output", machine.check_output)
    monkeypatch.setattr("time.monotonic", lambda: machine.seconds)
    monkeypatch.setattr("time.sleep", machine.sleep)
    monkeypatch.setattr("shutil.which", machine.programs.get)
    monkeypatch.setattr("shutil.chown", chown)
    for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return machine
