"""The charm on this machine, with the real tinyproxy: what operators and clients see."""

import collections.abc
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from ops import testing

import charm
import tinyproxy
from tests import asking, slugs
from tests.functional import archive, life, machine

PORT_TAKEN = "blocked: Port 8000 is taken: stop the program that uses it"
# After each of these events, the unit must serve.
EVENTS = ["start", "config_changed", "update_status"]
FAULTS = pytest.mark.parametrize(
    "fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"]
)


def serves(slug: str) -> bool:
    """Return whether the proxy serves this slug and no other."""
    answers = {path: machine.get(f"/{path}/") for path in {"example", "foo", slug}}
    return answers == {path: 200 if path == slug else 400 for path in answers}


def test_life_of_a_unit(new_unit: machine.Unit):
    for step in life.LIFE:
        new_unit.config(slug=step.slug)
        assert new_unit.run(step.event) == step.status
        if step.served:
            assert new_unit.state.opened_ports == {testing.TCPPort(8000)}
            assert serves(step.served)
        else:
            assert new_unit.state.opened_ports == set()
            assert machine.tinyproxies() == []
    assert new_unit.state.workload_version
    assert machine.refusal() == ""


@contextlib.contextmanager
def unmanaged_program(*command: str, executable: str | None = None):
    """Run a program that the charm must not end. Without a command, it sleeps."""
    with subprocess.Popen(
        command or ["sleep", "60"],
        executable=executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process.pid
            assert process.poll() is None
        finally:
            process.kill()


@contextlib.contextmanager
def zombie():
    """Return the number of a process that has ended, and that its parent hasn't waited for."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@contextlib.contextmanager
def ended_process():
    """Return a number that no process has."""
    with subprocess.Popen(["true"]) as process:
        pass
    yield process.pid


@pytest.fixture(
    params=[
        "",
        " \n",
        "garbage",
        "0",
        "-1",
        "4194305",
        "9" * 30,
        ended_process,
        unmanaged_program,
        zombie,
    ]
)
def wrong_pid(request: pytest.FixtureRequest):
    """Return contents of a PID file that don't name the unit's tinyproxy."""
    if isinstance(request.param, str):
        yield request.param
    else:
        with request.param() as pid:
            yield f"{pid}\n"


def test_wrong_pid_file_is_ignored(unit: machine.Unit, wrong_pid: str):
    tinyproxy.PID_FILE.write_text(wrong_pid)
    assert not tinyproxy.is_running()
    assert unit.run("start") == "active"
    [pid] = machine.tinyproxies()
    for event, slug in [("config_changed", "foo"), ("update_status", "foo"), ("start", "example")]:
        tinyproxy.PID_FILE.write_text(wrong_pid)
        unit.config(slug=slug)
        assert unit.run(event) == "active"
        assert serves(slug)
        assert machine.tinyproxies() == [pid]
    tinyproxy.PID_FILE.write_text(wrong_pid)
    unit.run("stop")
    assert machine.tinyproxies() == []


@pytest.mark.parametrize("event", EVENTS)
def test_deleted_pid_file(serving_unit: machine.Unit, event: str):
    [pid] = machine.tinyproxies()
    tinyproxy.PID_FILE.unlink()
    for slug in ("foo", "example"):
        serving_unit.config(slug=slug)
        assert serving_unit.run(event) == "active"
        assert serves(slug)
        assert machine.tinyproxies() == [pid]
    serving_unit.run("stop")
    assert machine.tinyproxies() == []


@pytest.mark.parametrize(
    ("event", "fault"),
    [*((event, signal.SIGKILL) for event in EVENTS), ("update_status", signal.SIGSTOP)],
)
def test_killed_or_hanging_tinyproxy_is_restarted(
    serving_unit: machine.Unit, event: str, fault: signal.Signals
):
    [pid] = machine.tinyproxies()
    os.kill(pid, fault)
    assert serving_unit.run(event) == "active"
    assert serves("example")
    assert len(machine.tinyproxies()) == 1


@FAULTS
def test_killed_or_hanging_tinyproxy_gets_a_new_slug(
    serving_unit: machine.Unit, fault: signal.Signals
):
    [pid] = machine.tinyproxies()
    os.kill(pid, fault)
    serving_unit.config(slug="foo")
    assert serving_unit.run("config_changed") == "active"
    assert serves("foo")
    assert len(machine.tinyproxies()) == 1


@FAULTS
def test_killed_or_hanging_tinyproxy_can_be_stopped(
    serving_unit: machine.Unit, fault: signal.Signals
):
    [pid] = machine.tinyproxies()
    os.kill(pid, fault)
    serving_unit.run("stop")
    assert machine.tinyproxies() == []
    assert serving_unit.state.opened_ports == set()


def test_stop_without_a_running_tinyproxy(unit: machine.Unit):
    unit.run("stop")
    unit.run("stop")
    assert machine.tinyproxies() == []


def test_reboot(serving_unit: machine.Unit):
    machine.kill_tinyproxies()
    tinyproxy.PID_FILE.unlink()
    assert serving_unit.run("start") == "active"
    assert serves("example")


@pytest.mark.parametrize("event", EVENTS)
def test_reboot_while_the_slug_is_invalid(serving_unit: machine.Unit, event: str):
    serving_unit.config(slug="foo/bar")
    assert serving_unit.run("config_changed") == life.INVALID_SLUG
    machine.kill_tinyproxies()
    tinyproxy.PID_FILE.unlink()
    assert serving_unit.run(event) == life.INVALID_SLUG
    assert serves("example")


@pytest.mark.parametrize("content", ["\n", "word\n", "Port\n", "Port 99999\nReversePath x\n"])
def test_invalid_slug_with_a_damaged_config_file(unit: machine.Unit, content: str):
    tinyproxy.CONFIG_FILE.parent.mkdir()
    tinyproxy.CONFIG_FILE.write_text(content)
    unit.config(slug="foo/bar")
    for event in EVENTS:
        assert unit.run(event) == life.INVALID_SLUG
    assert machine.tinyproxies() == []


@pytest.fixture(params=["IPv4", "IPv6", "both", "loopback"])
def free_port(request: pytest.FixtureRequest):
    """Let another program listen on the unit's port. Return a function that ends this."""
    addresses = {
        "IPv4": [(socket.AF_INET, "")],
        "IPv6": [(socket.AF_INET6, "")],
        "both": [(socket.AF_INET, ""), (socket.AF_INET6, "")],
        "loopback": [(socket.AF_INET, "127.0.0.1")],
    }
    with contextlib.ExitStack() as servers:
        for family, address in addresses[request.param]:
            server = socket.create_server((address, charm.PORT), family=family)
            servers.enter_context(server)
        yield servers.close


def test_taken_port_blocks_until_it_is_free(
    unit: machine.Unit, free_port: collections.abc.Callable[[], None]
):
    for event in ("start", "update_status"):
        assert unit.run(event) == PORT_TAKEN
        assert machine.tinyproxies() == []
        assert unit.state.opened_ports == set()
    free_port()
    assert unit.run("update_status") == "active"
    assert unit.state.opened_ports == {testing.TCPPort(8000)}
    assert serves("example")


@pytest.fixture
def unmanaged_tinyproxy(tmp_path: pathlib.Path, unit: machine.Unit):
    """Run a tinyproxy of another program, on the unit's port and slug. Return its number."""
    config = tmp_path / "tinyproxy.conf"
    config.write_text(
        f'Port {charm.PORT}\nReverseOnly Yes\nReversePath "/example/" "http://127.0.0.1:1/"\n'
    )
    with unmanaged_program("tinyproxy", "-d", "-c", str(config)) as pid:
        machine.wait_for_port(charm.PORT)
        yield pid


def test_unmanaged_tinyproxy_is_left_alone(unit: machine.Unit, unmanaged_tinyproxy: int):
    for event in (*EVENTS, "stop"):
        tinyproxy.PID_FILE.write_text(str(unmanaged_tinyproxy))
        status = unit.run(event)
        assert status == PORT_TAKEN or event == "stop"
        assert machine.tinyproxies() == [unmanaged_tinyproxy]


def test_program_with_the_command_line_of_tinyproxy_is_left_alone(unit: machine.Unit):
    grep = shutil.which("grep")  # It takes these arguments, and waits for its input.
    with unmanaged_program("tinyproxy", "-c", str(tinyproxy.CONFIG_FILE), executable=grep):
        assert not tinyproxy.is_running()
        assert unit.run("start") == "active"
        unit.run("stop")


@pytest.fixture
def container(tmp_path: pathlib.Path, unit: machine.Unit):
    """Run the unit's command in a container, and return the number of its process."""
    script = f"""
        mkdir -p bin lib lib64 usr .{tinyproxy.CONFIG_FILE.parent}
        echo 'Port 8001' > .{tinyproxy.CONFIG_FILE}
        for folder in bin lib lib64 usr; do mount --bind /$folder $folder; done
        exec chroot . tinyproxy -d -c {tinyproxy.CONFIG_FILE}
    """
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            machine.wait_for_port(8001)
            [pid] = (
                pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
                .read_text()
                .split()
            )
            yield int(pid)
            assert process.poll() is None
        finally:
            process.kill()


def test_tinyproxy_in_a_container_is_left_alone(unit: machine.Unit, container: int):
    assert not tinyproxy.is_running()
    assert unit.run("start") == "active"
    assert serves("example")
    assert container not in machine.tinyproxies()
    machine.kill_tinyproxies()
    assert unit.run("update_status") == "active"
    unit.run("stop")
    assert machine.tinyproxies() == []


def test_hook_killed_before_the_signal(serving_unit: machine.Unit):
    tinyproxy.ensure_config(charm.PORT, "foo")  # tinyproxy still serves the former slug.
    serving_unit.config(slug="foo")
    assert serving_unit.run("update_status") == "active"
    assert serves("foo")


def test_hook_killed_after_the_launch(unit: machine.Unit):
    tinyproxy.ensure_config(charm.PORT, "example")
    # It hasn't opened its port or installed its signal handlers yet.
    subprocess.run(["tinyproxy"], check=True)
    begin = time.monotonic()
    assert unit.run("config_changed") == "active"
    assert time.monotonic() - begin < 1
    assert serves("example")
    assert len(machine.tinyproxies()) == 1


def delete(path: pathlib.Path) -> None:
    path.unlink()


def empty(path: pathlib.Path) -> None:
    path.write_text("")


def make_unreadable(path: pathlib.Path) -> None:
    path.chmod(0)


def replace(path: pathlib.Path) -> None:
    path.write_text("Port 8001\nReversePath somewhere\nNonsense\n" * 10_000)


def delete_folder(path: pathlib.Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("fault", [delete, empty, make_unreadable, replace, delete_folder])
def test_config_file_is_repaired(
    serving_unit: machine.Unit, event: str, fault: collections.abc.Callable[[pathlib.Path], None]
):
    config = tinyproxy.CONFIG_FILE.read_text()
    [pid] = machine.tinyproxies()
    fault(tinyproxy.CONFIG_FILE)
    assert serving_unit.run(event) == "active"
    assert tinyproxy.CONFIG_FILE.read_text() == config
    serving_unit.config(slug="foo")
    assert serving_unit.run("config_changed") == "active"
    assert serves("foo")
    assert machine.tinyproxies() == [pid]


def test_settings_changed_by_hand_are_undone(serving_unit: machine.Unit):
    config = tinyproxy.CONFIG_FILE.read_text()
    tinyproxy.CONFIG_FILE.write_text(config.replace("ReverseOnly Yes", "ReverseOnly No"))
    tinyproxy.reload_config()
    assert machine.wait_until(lambda: machine.get("http://127.0.0.1:1/") == 500)
    assert serving_unit.run("update_status") == "active"
    assert machine.get("http://127.0.0.1:1/") == 400


@pytest.mark.parametrize("slug", [*slugs.INVALID, *slugs.TOO_LONG])
def test_invalid_slug_blocks_and_changes_nothing(serving_unit: machine.Unit, slug: str):
    before = (tinyproxy.CONFIG_FILE.read_text(), machine.tinyproxies())
    for event in EVENTS:
        serving_unit.config(slug=slug)
        status = serving_unit.run(event)
        assert status.startswith("blocked: Invalid slug: '")
        assert len(status) < 200
    assert (tinyproxy.CONFIG_FILE.read_text(), machine.tinyproxies()) == before
    assert serves("example")
    serving_unit.config(slug="foo")
    assert serving_unit.run("config_changed") == "active"
    assert serves("foo")


def test_invalid_slug_starts_nothing(unit: machine.Unit):
    unit.config(slug="foo/bar")
    for event in EVENTS:
        assert unit.run(event).startswith("blocked: Invalid slug: 'foo/bar'")
    assert machine.tinyproxies() == []
    assert not tinyproxy.CONFIG_FILE.exists()
    assert unit.state.opened_ports == set()


def test_longest_slug_is_served(serving_unit: machine.Unit):
    serving_unit.config(slug="a" * 200)
    assert serving_unit.run("config_changed") == "active"
    assert serves("a" * 200)


def test_remove_twice_after_install(new_unit: machine.Unit):
    new_unit.run("install")
    for _ in range(2):
        new_unit.run("stop")
        new_unit.run("remove")
        assert machine.refusal() == ""


def test_remove_after_a_blocked_start(unit: machine.Unit):
    with socket.create_server(("", charm.PORT)), unmanaged_program() as pid:
        assert unit.run("start") == PORT_TAKEN
        tinyproxy.PID_FILE.write_text(f"{pid}\n")
        unit.run("stop")
        unit.run("remove")
    assert machine.refusal() == ""


def test_remove_keeps_other_files(serving_unit: machine.Unit):
    other = tinyproxy.CONFIG_FILE.with_name("filter")
    other.write_text("kept")
    serving_unit.run("stop")
    serving_unit.run("remove")
    assert list(other.parent.iterdir()) == [other]
    assert other.read_text() == "kept"


def test_package_removed_by_hand(serving_unit: machine.Unit):
    subprocess.run(
        ["apt-get", "remove", "--yes", "tinyproxy-bin"], check=True, capture_output=True
    )
    assert serving_unit.run("update_status") == (
        "maintenance: Waiting for tinyproxy to be installed"
    )
    machine.kill_tinyproxies()
    assert serving_unit.run("update_status") == (
        "maintenance: Waiting for tinyproxy to be installed"
    )
    serving_unit.run("stop")
    serving_unit.run("remove")
    assert machine.refusal() == ""


def reinstall() -> None:
    """Install the package again, as an upgrade would."""
    command = ["apt-get", "install", "--reinstall", "--yes", "tinyproxy-bin"]
    subprocess.run(command, check=True, capture_output=True)


def test_upgraded_package_takes_effect(serving_unit: machine.Unit):
    [pid] = machine.tinyproxies()
    reinstall()
    assert os.readlink(f"/proc/{pid}/exe").endswith("(deleted)")
    serving_unit.state = dataclasses.replace(serving_unit.state, workload_version="old")
    with asking.Client("/example") as client:
        assert serving_unit.run("update_status") == "active"
    assert serving_unit.state.workload_version == tinyproxy.get_version()
    [pid] = machine.tinyproxies()
    assert os.readlink(f"/proc/{pid}/exe") == "/usr/bin/tinyproxy"
    assert serves("example")
    print(f"{client.outage() * 1000:.0f} ms without an answer")
    assert client.outage() < 1
    serving_unit.run("update_status")
    assert machine.tinyproxies() == [pid]


@contextlib.contextmanager
def apt_lock(path: str, seconds: float):
    """Hold one of APT's locks for some seconds, as another process that uses APT does."""
    with open(path, "a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        timer = threading.Timer(seconds, fcntl.lockf, (lock, fcntl.LOCK_UN))
        timer.start()
        yield
        timer.join()


def fail_to_install(unit: machine.Unit) -> str:
    """Run an install hook that fails, and return the error in Juju's log."""
    with pytest.raises(testing.errors.UncaughtCharmError) as excinfo:
        unit.run("install")
    return str(excinfo.value.__cause__)


def test_install_fails_and_succeeds_the_next_time(new_unit: machine.Unit, tmp_path: pathlib.Path):
    unreachable = tmp_path / "unreachable"
    unreachable.mkdir()
    with archive.used("deb http://127.0.0.1:1/ stable main\n", unreachable):
        assert "Could not connect to 127.0.0.1:1" in fail_to_install(new_unit)

    vacant = tmp_path / "vacant"
    vacant.mkdir()
    with archive.used("", vacant):
        assert "Unable to locate package tinyproxy-bin" in fail_to_install(new_unit)

    assert not tinyproxy.is_installed()
    new_unit.run("install")
    assert new_unit.state.workload_version == tinyproxy.get_version()


@pytest.mark.parametrize(
    ("event", "lock"),
    [("install", "/var/lib/apt/lists/lock"), ("remove", "/var/lib/dpkg/lock-frontend")],
)
def test_lock_of_apt_is_waited_for(
    unit: machine.Unit, event: str, lock: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="tinyproxy")
    begin = time.monotonic()
    with apt_lock(lock, seconds=2):
        unit.run(event)
    assert time.monotonic() - begin >= 2
    wait = f"Waiting until another process releases {lock}"
    assert testing.MaintenanceStatus(wait) in unit.context.unit_status_history
    assert [record.message for record in caplog.records if record.name == "tinyproxy"] == [wait]
    assert tinyproxy.is_installed() == (event == "install")


@pytest.fixture
def preferences(tmp_path: pathlib.Path):
    """Make APT find two versions of a package with this name, and prefer the older one."""
    for version in ("0.1", "9.9"):
        program = tmp_path / version / "usr" / "bin" / "tinyproxy"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho tinyproxy {version}\n")
        program.chmod(0o755)
        control = tmp_path / version / "DEBIAN" / "control"
        control.parent.mkdir()
        control.write_text(
            f"Package: tinyproxy-bin\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: Nobody <nobody@example.com>\nDescription: test\n"
        )
        command = ["dpkg-deb", "--build", str(tmp_path / version), f"{tmp_path / version}.deb"]
        subprocess.run(command, check=True, capture_output=True)
    preferences = tmp_path / "preferences"
    preferences.write_text("Package: tinyproxy-bin\nPin: version 0.1\nPin-Priority: 900\n")
    with archive.used(archive.create(tmp_path), tmp_path):
        yield preferences
    machine.clean()


def test_install_takes_the_version_that_apt_prefers(
    new_unit: machine.Unit, preferences: pathlib.Path
):
    new_unit.run("install")
    assert new_unit.state.workload_version == "0.1"
    preferences.unlink()
    new_unit.run("install")
    assert new_unit.state.workload_version == "9.9"


@pytest.fixture
def second_unit(serving_unit: machine.Unit):
    """Return a second unit on the machine of a unit that serves."""
    return machine.Unit(neighbour=serving_unit)


OTHER_UNIT = "blocked: Port 8000 is taken by another unit on this machine"


def test_second_unit_on_the_machine(serving_unit: machine.Unit, second_unit: machine.Unit):
    before = (tinyproxy.CONFIG_FILE.read_text(), machine.tinyproxies())
    second_unit.config(slug="foo")
    for event in ("install", "leader_elected", *EVENTS, "upgrade_charm", "stop", "remove"):
        assert second_unit.run(event) == OTHER_UNIT
        assert second_unit.state.opened_ports == set()
        assert (tinyproxy.CONFIG_FILE.read_text(), machine.tinyproxies()) == before
    assert tinyproxy.is_installed()
    assert serving_unit.run("update_status") == "active"
    assert serves("example")


def test_second_unit_takes_over(serving_unit: machine.Unit, second_unit: machine.Unit):
    second_unit.config(slug="foo")
    assert second_unit.run("update_status") == OTHER_UNIT
    serving_unit.run("stop")
    serving_unit.run("remove")
    assert not tinyproxy.is_installed()
    assert second_unit.run("update_status") == "active"
    assert second_unit.state.workload_version == tinyproxy.get_version()
    assert serves("foo")


def test_second_unit_takes_over_between_stop_and_remove(
    serving_unit: machine.Unit, second_unit: machine.Unit
):
    serving_unit.neighbour = second_unit
    serving_unit.run("stop")
    assert second_unit.run("update_status") == "active"
    assert serving_unit.run("remove") == OTHER_UNIT
    assert second_unit.run("update_status") == "active"
    assert serves("example")


PROXY_PORT = 8002


@pytest.fixture
def proxy(tmp_path: pathlib.Path, unit: machine.Unit):
    """Run a proxy that requires a password, and return its URL with the password."""
    config = tmp_path / "proxy.conf"
    config.write_text(f"Port {PROXY_PORT}\nBasicAuth user secret\nDisableViaHeader No\n")
    with unmanaged_program("tinyproxy", "-d", "-c", str(config)):
        machine.wait_for_port(PROXY_PORT)
        yield f"http://user:secret@127.0.0.1:{PROXY_PORT}"


def test_model_proxy(
    unit: machine.Unit,
    proxy: str,
    upstream: machine.Upstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("DEBUG")

    def proxies() -> int:
        """Return how many proxies a request passes on its way to the upstream."""
        upstream.via.clear()
        assert machine.get("/example/") == 200
        return (upstream.via[0] or "").count("tinyproxy")

    assert unit.run("start") == "active"
    assert proxies() == 1

    monkeypatch.setenv("JUJU_CHARM_HTTP_PROXY", proxy)
    assert unit.run("update_status") == "active"
    assert proxies() == 2

    monkeypatch.setenv("JUJU_CHARM_NO_PROXY", "localhost,127.0.0.1")
    assert unit.run("update_status") == "active"
    assert proxies() == 1

    monkeypatch.delenv("JUJU_CHARM_NO_PROXY")
    assert unit.run("update_status") == "active"
    assert proxies() == 2

    monkeypatch.setenv("JUJU_CHARM_HTTP_PROXY", proxy.replace("http:", "https:"))
    assert unit.run("update_status") == (
        "blocked: Invalid juju-http-proxy: use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
    )
    assert proxies() == 2

    monkeypatch.delenv("JUJU_CHARM_HTTP_PROXY")
    assert unit.run("update_status") == "active"
    assert proxies() == 1
    assert "secret" not in caplog.text


def test_model_proxy_password_is_private(
    unit: machine.Unit, proxy: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUJU_CHARM_HTTP_PROXY", proxy)
    assert unit.run("start") == "active"
    assert "secret" in tinyproxy.CONFIG_FILE.read_text()
    command = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "cat"]
    result = subprocess.run([*command, tinyproxy.CONFIG_FILE], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    unit.config(slug="foo")
    assert unit.run("config_changed") == "active"
    assert machine.get("/foo/") == 200
