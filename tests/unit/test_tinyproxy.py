"""Unit tests of the helper, with a simulated machine: no real process, socket or clock."""

import errno
import os
import pathlib
import signal
import socket
import subprocess

import pytest
from charmlibs import apt, pathops

import tinyproxy
from tests import slugs
from tests.unit.simulation import PID, Machine, simulate

SERVICE = (
    "systemd-run --unit=juju-tinyproxy.service --collect --quiet -p Restart=always"
    " -p RestartSec=200ms -p StartLimitIntervalSec=0 -p TimeoutStopSec=2s -p LimitNOFILE=16384"
    " tinyproxy -d -c"
)
PATH = 'ReversePath "/example/" "http://www.example.com/"'
LOGIN = "http://user:secr%s@squid:3128"
INVALID_PROXIES = [
    *("squid", "http://", "http://:3128", "http://a/b", "http://user:secret@"),
    *("http://squid:0", "http://squid:65536", "http://squid:x", "http://[::1]:3128"),
    *("https://squid:3128", "socks5://squid:3128", "http://user@squid:3128"),
    *(LOGIN % "@", LOGIN % "%40", LOGIN % "'", LOGIN % '"', LOGIN % ("x" * 229)),
    *(LOGIN % "%0APort 1", f"{LOGIN % ''}\nPort 1"),
]


@pytest.fixture(autouse=True)
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """Replace what the helper uses of the system."""
    return simulate(tmp_path, monkeypatch)


@pytest.fixture
def systemd(machine: Machine):
    """Let systemd run on the machine."""
    (machine.folder / "run/systemd/system").mkdir(parents=True)


@pytest.mark.parametrize("slug", ["a", "0", "-", "foo", "foo-bar", "2024", "a" * 200])
def test_check_slug_accepts(slug: str):
    tinyproxy.check_slug(slug)


@pytest.mark.parametrize("slug", slugs.INVALID)
def test_check_slug_refuses(slug: str):
    with pytest.raises(ValueError) as excinfo:  # noqa: PT011  # The whole message follows.
        tinyproxy.check_slug(slug)
    assert str(excinfo.value) == f"Invalid slug: '{slug}'. Slug must match the regex [a-z0-9-]+"


@pytest.mark.parametrize("slug", slugs.TOO_LONG)
def test_check_slug_shortens_a_long_slug(slug: str):
    rule = r"Slug must match the regex \[a-z0-9-\]\+ and have at most 200 characters$"
    with pytest.raises(ValueError, match=rf"^Invalid slug: '\w{{20}}\.\.\.'. {rule}"):
        tinyproxy.check_slug(slug)


def test_ensure_config_writes_the_file(machine: Machine):
    assert tinyproxy.ensure_config(8000, "example")
    assert machine.config.read_text().splitlines() == [
        "# Managed by Juju: changes are overwritten.",
        f'PidFile "{machine.pid_file}"',
        "Port 8000",
        "Timeout 600",
        "ReverseOnly Yes",
        'ReversePath "/example/" "http://www.example.com/"',
        "User nobody",
        "Group nogroup",
        "MaxClients 4096",
        "Syslog On",
        "LogLevel Notice",
    ]


@pytest.mark.parametrize("exists", [False, True])
def test_ensure_config_writes_into_a_private_file(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, exists: bool
):
    if exists:
        machine.config.parent.mkdir(parents=True)
        machine.config.touch(0o644)
    calls: list[tuple[int, object]] = []

    def ensure_contents(path: pathlib.Path, contents: str, **options: object) -> bool:
        calls.append((path.stat().st_mode & 0o777, options))
        return False

    monkeypatch.setattr(pathops, "ensure_contents", ensure_contents)
    assert not tinyproxy.ensure_config(8000, "example")
    assert calls == [(0o640, {"mode": 0o640, "group": "nogroup"})]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://squid.internal:3128", "squid.internal:3128"),
        ("http://squid.internal", "squid.internal:80"),
        ("http://10.0.0.1:65535/", "10.0.0.1:65535"),
        ("http://10.0.0.1:1/", "10.0.0.1:1"),
        ("http://user:secret@squid:3128", "user:secret@squid:3128"),
        ("http://user:%24%2F:%25@squid:3128", "user:$/:%@squid:3128"),
        (f"http://user:{'x' * 232}@squid:3128", f"user:{'x' * 232}@squid:3128"),
    ],
)
def test_ensure_config_writes_the_proxy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, url: str, line: str
):
    monkeypatch.setenv("http_proxy", url)
    tinyproxy.ensure_config(8000, "example")
    assert machine.config.read_text().splitlines()[-1] == f"Upstream http {line}"


@pytest.mark.parametrize("no_proxy", ["*", "example.com", "localhost,www.example.com"])
def test_get_proxy_exception(monkeypatch: pytest.MonkeyPatch, no_proxy: str):
    monkeypatch.setenv("http_proxy", "http://squid.internal:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert tinyproxy.get_proxy() == ""


@pytest.mark.parametrize("url", INVALID_PROXIES)
def test_get_proxy_refuses(machine: Machine, monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("http_proxy", url)
    with pytest.raises(
        ValueError, match=r"^use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT$"
    ):
        tinyproxy.ensure_config(8000, "example")
    assert not machine.config.exists()


def test_get_version(machine: Machine):
    machine.outputs["tinyproxy"] = "tinyproxy 1.11.1\n"
    assert tinyproxy.get_version() == "1.11.1"
    assert (machine.commands, machine.timeouts) == (["tinyproxy -v"], [10])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("No such file"), "No such file "),
        (subprocess.TimeoutExpired("tinyproxy", 10), r".* timed out after 10 seconds "),
        (subprocess.CalledProcessError(7, "tinyproxy", "", "Error"), r".* exit status 7\. Error"),
    ],
)
def test_get_version_fails(machine: Machine, error: Exception, message: str):
    machine.outputs["tinyproxy"] = error
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        tinyproxy.get_version()


@pytest.fixture
def apt_wait(machine: Machine):
    """Let APT be locked for good, on a machine on which time passes by the second."""
    machine.step = 1
    return machine.lock("var/lib/dpkg/lock")


@pytest.mark.parametrize(
    "path", ["var/lib/apt/lists/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock"]
)
def test_get_apt_wait(machine: Machine, path: str):
    message = machine.lock(path)
    assert tinyproxy.get_apt_wait() == message
    (machine.proc / "locks").write_text("")
    assert tinyproxy.get_apt_wait() == ""


def test_install(machine: Machine, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    tinyproxy.install()
    assert machine.commands == [
        "apt-get update --error-on=any",
        "apt-get --yes -oDPkg::Lock::Timeout=60 install tinyproxy-bin",
    ]
    assert machine.timeouts == [300, 600]
    assert caplog.messages == []


def test_install_waits_for_the_lock(
    machine: Machine, apt_wait: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    tinyproxy.install()
    assert machine.seconds == 300
    assert len(machine.commands) == 2
    assert caplog.messages == [apt_wait]


def test_install_fails(machine: Machine):
    error = subprocess.CalledProcessError(100, "apt-get", "", "E: Unable to fetch some archives")
    machine.outputs["apt-get"] = error
    with pytest.raises(RuntimeError, match="E: Unable to fetch some archives"):
        tinyproxy.install()


def test_is_installed(machine: Machine):
    assert tinyproxy.is_installed()
    machine.programs.clear()
    assert not tinyproxy.is_installed()


@pytest.mark.parametrize(
    "content",
    ["", "word\n\n", "Port 8000\n", f"{PATH}\n", f"Port x\n{PATH}\n", "Port 1\nReversePath x\n"],
)
def test_is_configured_incomplete(machine: Machine, content: str):
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text(content)
    assert not tinyproxy.is_configured()


def test_is_configured(machine: Machine):
    assert not tinyproxy.is_configured()
    tinyproxy.ensure_config(8000, "example")
    machine.config.write_bytes(b"\n\nword\xff\n" + machine.config.read_bytes())
    assert tinyproxy.is_configured()


def test_is_full(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    def sleep(seconds: float):
        machine.sleep(seconds)
        (machine.proc / str(PID) / "status").write_text("voluntary_ctxt_switches:\t5\n")

    machine.add()
    machine.threads = 4097
    monkeypatch.setattr("time.sleep", sleep)
    assert tinyproxy.is_full()


def test_is_full_hanging(machine: Machine):
    machine.add()
    machine.threads = 4097
    assert not tinyproxy.is_full()
    assert machine.seconds == pytest.approx(1, abs=0.01)


def test_is_full_one_place_left(machine: Machine):
    machine.add()
    machine.threads = 4096
    assert tinyproxy.is_full() is False
    assert machine.seconds == 0


@pytest.mark.parametrize(
    ("started", "now", "outdated"),
    [(999, 2000, True), (1000, 2000, False), (1001, 2000, False), (999, 1000, False)],
)
def test_is_outdated_program(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, started: int, now: int, outdated: bool
):
    machine.run()
    os.utime(machine.pid_file, (started, started))
    monkeypatch.setattr("time.time", lambda: now)
    assert tinyproxy.is_outdated() == outdated


def test_is_outdated_without_a_program(machine: Machine):
    machine.run()
    machine.programs.clear()
    assert tinyproxy.is_outdated() is False


@pytest.mark.usefixtures("systemd")
@pytest.mark.parametrize(
    ("cgroup", "outdated"),
    [
        ("juju-tinyproxy.service", False),
        ("juju-tinyproxy.service/x", True),
        ("jujud.service", True),
    ],
)
def test_is_outdated_service(machine: Machine, cgroup: str, outdated: bool):
    machine.add(cgroup=f"0::/system.slice/{cgroup}\n")
    machine.pid_file.touch()
    assert tinyproxy.is_outdated() == outdated


def test_is_outdated_service_without_systemd(machine: Machine):
    machine.add(cgroup="0::/\n")
    machine.pid_file.touch()
    assert not tinyproxy.is_outdated()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_is_port_taken(machine: Machine, family: int):
    machine.bind_errors[family] = errno.EADDRINUSE
    assert tinyproxy.is_port_taken(8000)
    machine.bind_errors[family] = errno.EAFNOSUPPORT
    assert not tinyproxy.is_port_taken(8000)
    machine.bind_errors.clear()
    assert tinyproxy.is_port_taken(8000) is False


@pytest.mark.parametrize(
    "command", ["tinyproxy", "tinyproxy -c {}", "/usr/bin/tinyproxy -d -c {}"]
)
def test_is_running(machine: Machine, command: str):
    machine.add(command=command.format(machine.config))
    assert tinyproxy.is_running()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "grep"),
        ("command", "tinyproxy -c /etc/other.conf"),
        ("command", "tinyproxy -h"),
        ("numbers", f"{PID}\t77"),  # It runs in a container.
    ],
)
def test_is_running_other_process(machine: Machine, field: str, value: str):
    machine.add(**{field: value})  # pyright: ignore[reportArgumentType]
    machine.pid_file.write_text(str(PID))
    assert not tinyproxy.is_running()


@pytest.mark.parametrize("command", [b"", b"\xff\0"])  # The first one is a zombie's.
def test_is_running_other_command(machine: Machine, command: bytes):
    machine.add()
    (machine.proc / str(PID) / "cmdline").write_bytes(command)
    assert not tinyproxy.is_running()


@pytest.mark.parametrize("content", [b"", b"\n", b"x", b"\xff", b"0", b"-1", b"1", b"9" * 30])
def test_is_running_wrong_pid_file(machine: Machine, content: bytes):
    machine.pid_file.write_bytes(content)
    assert not tinyproxy.is_running()
    machine.add()
    assert tinyproxy.is_running()


def test_is_running_reads_one_process_if_the_pid_file_is_right(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    machine.run()
    monkeypatch.delattr("os.listdir")
    assert tinyproxy.is_running()


def test_is_serving(machine: Machine):
    assert not tinyproxy.is_serving()
    machine.run()
    assert tinyproxy.is_serving()


def test_is_serving_former_slug(machine: Machine):
    machine.run(slug="example")
    tinyproxy.ensure_config(8000, "foo")
    assert not tinyproxy.is_serving()


def test_is_serving_port_too_large(machine: Machine):
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text(f"Port 99999\n{PATH}\n")
    assert not tinyproxy.is_serving()


def test_is_serving_full(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.run()
    machine.in_force = ""
    monkeypatch.setattr("tinyproxy.is_full", lambda: True)
    assert tinyproxy.is_serving()


def test_reload_config(machine: Machine, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    machine.run()
    tinyproxy.ensure_config(8000, "foo")
    tinyproxy.reload_config()
    assert machine.signals == [(PID, signal.SIGUSR1)]
    assert machine.in_force == "foo"
    assert machine.seconds == 0.004
    assert caplog.messages == ["tinyproxy serves /foo/ now"]


def test_reload_config_without_effect(machine: Machine):
    machine.run()
    machine.reloads = False
    tinyproxy.ensure_config(8000, "foo")
    tinyproxy.reload_config()
    assert machine.signals == [(PID, signal.SIGUSR1), (PID, signal.SIGTERM)]
    assert machine.in_force == "foo"
    assert 2 < machine.seconds < 2.1


def test_reload_config_crash(machine: Machine):
    machine.run()
    machine.ended_by = {signal.SIGUSR1}
    tinyproxy.reload_config()
    assert machine.in_force == "example"
    assert machine.seconds < 0.01


def test_reload_config_crash_a_moment_later(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    def sleep(seconds: float):
        machine.sleep(seconds)
        if machine.signals[-1] == (PID, signal.SIGUSR1):
            machine.kill(PID, signal.SIGKILL)

    monkeypatch.setattr("time.sleep", sleep)
    machine.run()
    tinyproxy.reload_config()
    assert machine.in_force == "example"


def test_start_daemon(machine: Machine, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    tinyproxy.ensure_config(8000, "example")
    tinyproxy.start()
    assert machine.commands == [f"prlimit --nofile=16384 tinyproxy -c {machine.config}"]
    assert machine.in_force == "example"
    assert caplog.messages == ["Started tinyproxy: it serves /example/"]


@pytest.mark.usefixtures("systemd")
def test_start_service(machine: Machine):
    tinyproxy.ensure_config(8000, "example")
    tinyproxy.start()
    stop = "systemctl stop juju-tinyproxy.service*"
    assert machine.commands == [stop, f"{SERVICE} {machine.config}"]


def test_start_stops_a_running_one(machine: Machine):
    machine.run()
    tinyproxy.start()
    assert machine.signals == [(PID, signal.SIGTERM)]
    assert machine.in_force == "example"


def test_start_port_taken(machine: Machine):
    tinyproxy.ensure_config(8000, "example")
    machine.bind_errors[socket.AF_INET] = errno.EADDRINUSE
    tinyproxy.start()
    assert machine.commands == []
    assert 1 <= machine.seconds < 1.1


def test_start_without_answer(machine: Machine):
    machine.starts = False
    machine.outputs["prlimit"] = ""
    tinyproxy.ensure_config(8000, "example")
    with pytest.raises(RuntimeError, match=r"doesn't answer: see journalctl -t tinyproxy$"):
        tinyproxy.start()
    assert 10 <= machine.seconds < 10.1


def test_start_ends_what_does_not_answer(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    machine.run()
    machine.ended_by = {signal.SIGKILL}
    monkeypatch.setattr("tinyproxy.is_serving", lambda: False)
    with pytest.raises(RuntimeError, match="doesn't answer"):
        tinyproxy.start()
    assert machine.signals[-1] == (PID + 1, signal.SIGKILL)


def test_stop(machine: Machine):
    machine.run()
    tinyproxy.stop()
    assert machine.signals == [(PID, signal.SIGTERM)]
    assert machine.commands == []


@pytest.mark.usefixtures("systemd")
def test_stop_service(machine: Machine):
    tinyproxy.stop()
    assert machine.commands == ["systemctl stop juju-tinyproxy.service*"]
    assert machine.signals == []


def test_stop_several(machine: Machine):
    machine.add(11)
    machine.add(12)
    machine.add(13, name="sleep")
    tinyproxy.stop()
    assert sorted(machine.signals) == [(11, signal.SIGTERM), (12, signal.SIGTERM)]


def test_stop_ended_meanwhile(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    def kill(pid: int, number: int):
        machine.kill(pid, number)
        raise ProcessLookupError

    monkeypatch.setattr("os.kill", kill)
    machine.run()
    tinyproxy.stop()


def test_stop_by_force(machine: Machine):
    machine.run()
    machine.ended_by = {signal.SIGKILL}
    tinyproxy.stop()
    assert {number for _, number in machine.signals[:-1]} == {signal.SIGTERM}
    assert machine.signals[-1] == (PID, signal.SIGKILL)
    assert 2 <= machine.seconds < 2.1


def test_stop_without_effect(machine: Machine):
    machine.run()
    machine.ended_by = set()
    with pytest.raises(RuntimeError, match=r"^tinyproxy doesn't end$"):
        tinyproxy.stop()


@pytest.fixture
def removed(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    """Return the packages that APT was asked to remove."""
    packages: list[str] = []
    monkeypatch.setattr(apt, "remove_package", packages.append)
    return packages


def test_uninstall(machine: Machine, removed: list[str]):
    tinyproxy.ensure_config(8000, "example")
    machine.pid_file.touch()
    tinyproxy.uninstall()
    assert removed == ["tinyproxy-bin"]
    assert not machine.config.parent.exists()
    assert not machine.pid_file.exists()


@pytest.mark.usefixtures("removed")
def test_uninstall_leaves_other_files(machine: Machine):
    tinyproxy.ensure_config(8000, "example")
    other = machine.config.with_name("other.conf")
    other.touch()
    tinyproxy.uninstall()
    assert list(machine.config.parent.iterdir()) == [other]


@pytest.mark.usefixtures("apt_wait")
def test_uninstall_waits_for_the_lock(machine: Machine, removed: list[str]):
    tinyproxy.uninstall()
    assert machine.seconds >= 300
