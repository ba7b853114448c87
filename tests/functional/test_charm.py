"""The charm on the real machine: what an operator sees, on good days and on bad ones."""

import collections.abc
import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import machine
import pytest
import slugs
from ops import testing

import charm
import tinyproxy

PORT_TAKEN = "blocked: Port 8000 is taken: stop the program that uses it"
# The events after which the unit must serve, whatever happened before.
EVENTS = ["start", "config_changed", "update_status"]
FAULTS = pytest.mark.parametrize(
    "fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"]
)


def serves(slug: str) -> bool:
    """Return whether the proxy answers on this slug, and not on one of the others."""
    answers = {path: machine.get(f"/{path}/") for path in {"example", "foo", slug}}
    return answers == {path: 200 if path == slug else 400 for path in answers}


def test_life_of_a_unit(new_unit: machine.Unit):
    unit = new_unit
    assert unit.run("install") == "maintenance: Waiting for tinyproxy to start"
    assert unit.state.workload_version == tinyproxy.get_version()
    assert unit.run("config_changed") == "active"
    assert unit.run("start") == "active"
    assert unit.state.opened_ports == {testing.TCPPort(8000)}
    assert serves("example")

    unit.config(slug="foo")
    assert unit.run("config_changed") == "active"
    assert serves("foo")

    unit.config(slug="foo/bar")
    assert unit.run("config_changed") == (
        "blocked: Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
    )
    assert serves("foo")

    unit.config()
    assert unit.run("config_changed") == "active"
    assert serves("example")

    unit.run("stop")
    assert unit.state.opened_ports == set()
    assert machine.tinyproxies() == []
    unit.run("remove")
    assert machine.refusal() == ""


@contextlib.contextmanager
def stranger(*command: str, executable: str | None = None):
    """Run a program that is not ours and must survive: without arguments, one that sleeps."""
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
    """Have a process that has ended and that nobody has waited for."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@contextlib.contextmanager
def nobody():
    """Have a number that no process has."""
    with subprocess.Popen(["true"]) as process:
        pass
    yield process.pid


@pytest.fixture(
    params=["", " \n", "garbage", "0", "-1", "4194305", "9" * 30, nobody, stranger, zombie]
)
def wrong_pid(request: pytest.FixtureRequest):
    """Return what a PID file can say without naming our tinyproxy."""
    if isinstance(request.param, str):
        yield request.param
    else:
        with request.param() as pid:
            yield f"{pid}\n"


def test_pid_file_is_not_believed(unit: machine.Unit, wrong_pid: str):
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
def test_deleted_pid_file_does_not_hide_tinyproxy(serving_unit: machine.Unit, event: str):
    [pid] = machine.tinyproxies()
    tinyproxy.PID_FILE.unlink()
    for slug in ("foo", "example"):
        serving_unit.config(slug=slug)
        assert serving_unit.run(event) == "active"
        assert serves(slug)
        assert machine.tinyproxies() == [pid]
    serving_unit.run("stop")
    assert machine.tinyproxies() == []


@pytest.mark.parametrize("event", EVENTS)
@FAULTS
def test_killed_or_hanging_tinyproxy_comes_back(
    serving_unit: machine.Unit, event: str, fault: signal.Signals
):
    [pid] = machine.tinyproxies()
    os.kill(pid, fault)
    assert serving_unit.run(event) == "active"
    assert serves("example")
    assert len(machine.tinyproxies()) == 1


@FAULTS
def test_killed_or_hanging_tinyproxy_takes_a_new_slug(
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


@pytest.fixture(params=["IPv4", "IPv6", "both", "loopback"])
def free_port(request: pytest.FixtureRequest):
    """Let another program listen on our port, and return a function that ends this."""
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
    for event in EVENTS:
        assert unit.run(event) == PORT_TAKEN
        assert machine.tinyproxies() == []
        assert unit.state.opened_ports == set()
    free_port()
    assert unit.run("update_status") == "active"
    assert unit.state.opened_ports == {testing.TCPPort(8000)}
    assert serves("example")


@pytest.fixture
def strange_tinyproxy(tmp_path: pathlib.Path, unit: machine.Unit):
    """Run a tinyproxy that is not ours, on our port and with our slug; return its number."""
    config = tmp_path / "tinyproxy.conf"
    config.write_text(
        f'Port {charm.PORT}\nReverseOnly Yes\nReversePath "/example/" "http://127.0.0.1:1/"\n'
    )
    with stranger("tinyproxy", "-d", "-c", str(config)) as pid:
        machine.wait_for_port(charm.PORT)
        yield pid


def test_strange_tinyproxy_is_left_alone(unit: machine.Unit, strange_tinyproxy: int):
    for event in (*EVENTS, "stop"):
        tinyproxy.PID_FILE.write_text(str(strange_tinyproxy))
        status = unit.run(event)
        assert status == PORT_TAKEN or event == "stop"
        assert machine.tinyproxies() == [strange_tinyproxy]


def test_program_with_the_command_line_of_tinyproxy_is_left_alone(unit: machine.Unit):
    grep = shutil.which("grep")  # It takes these arguments, and waits for its input.
    with stranger("tinyproxy", "-c", str(tinyproxy.CONFIG_FILE), executable=grep):
        assert not tinyproxy.is_running()
        assert unit.run("start") == "active"
        unit.run("stop")


@pytest.fixture
def container(tmp_path: pathlib.Path, unit: machine.Unit):
    """Run our own command where / is another folder, as in a container; return its number."""
    script = f"""
        mkdir -p bin lib lib64 usr .{tinyproxy.CONFIG_FILE.parent}
        echo 'Port 8001' > .{tinyproxy.CONFIG_FILE}
        for folder in bin lib lib64 usr; do mount --bind /$folder $folder; done
        exec chroot . tinyproxy -c {tinyproxy.CONFIG_FILE}
    """
    subprocess.run(["unshare", "--mount", "sh", "-ec", script], check=True, cwd=tmp_path)
    machine.wait_for_port(8001)
    [pid] = machine.tinyproxies()
    yield pid
    assert pid in machine.tinyproxies()


def test_tinyproxy_in_a_container_is_left_alone(unit: machine.Unit, container: int):
    assert not tinyproxy.is_running()
    assert unit.run("start") == "active"
    assert serves("example")
    unit.run("stop")
    assert machine.tinyproxies() == [container]


def test_hook_killed_before_the_signal(serving_unit: machine.Unit):
    tinyproxy.ensure_config(charm.PORT, "foo")  # The file is new, the process still old.
    serving_unit.config(slug="foo")
    assert serving_unit.run("update_status") == "active"
    assert serves("foo")


def test_hook_killed_after_the_launch(unit: machine.Unit):
    tinyproxy.ensure_config(charm.PORT, "example")
    # Tinyproxy is still about to open its port and to install its signal handlers.
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


def test_settings_made_by_hand_are_undone(serving_unit: machine.Unit):
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


def test_remove_twice_after_nothing_but_install(new_unit: machine.Unit):
    new_unit.run("install")
    for _ in range(2):
        new_unit.run("stop")
        new_unit.run("remove")
        assert machine.refusal() == ""


def test_remove_after_a_blocked_start(unit: machine.Unit):
    with socket.create_server(("", charm.PORT)), stranger() as pid:
        assert unit.run("start") == PORT_TAKEN
        tinyproxy.PID_FILE.write_text(f"{pid}\n")
        unit.run("stop")
        unit.run("remove")
    assert machine.refusal() == ""


def test_remove_leaves_the_files_of_others(serving_unit: machine.Unit):
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


def test_package_upgraded_by_hand(serving_unit: machine.Unit):
    [pid] = machine.tinyproxies()
    command = ["apt-get", "install", "--reinstall", "--yes", "tinyproxy-bin"]
    subprocess.run(command, check=True, capture_output=True)
    serving_unit.config(slug="foo")
    assert serving_unit.run("config_changed") == "active"
    assert serves("foo")
    assert machine.tinyproxies() == [pid]


@contextlib.contextmanager
def archive(sources: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """Let APT use the archive of a sources.list, and no other."""
    (folder / "sources.list").write_text(sources)
    (folder / "lists").mkdir()
    (folder / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{folder}/lists";\n'
    )
    with monkeypatch.context() as patch:
        patch.setenv("APT_CONFIG", str(folder / "apt.conf"))
        yield


@contextlib.contextmanager
def apt_lock(path: str):
    """Hold a lock of APT or dpkg, as another process that uses them would."""
    with open(path, "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def fail_to_install(unit: machine.Unit) -> str:
    """Return what Juju's log says about an install hook that fails."""
    with pytest.raises(testing.errors.UncaughtCharmError) as excinfo:
        unit.run("install")
    return str(excinfo.value.__cause__)


def test_install_fails_and_succeeds_the_next_time(
    new_unit: machine.Unit, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    unreachable = tmp_path / "unreachable"
    unreachable.mkdir()
    with archive("deb http://127.0.0.1:1/ stable main\n", unreachable, monkeypatch):
        assert "Could not connect to 127.0.0.1:1" in fail_to_install(new_unit)

    vacant = tmp_path / "vacant"
    vacant.mkdir()
    with archive("", vacant, monkeypatch):
        assert "No packages found" in fail_to_install(new_unit)

    with apt_lock("/var/lib/apt/lists/lock"):
        assert "It is held by process" in fail_to_install(new_unit)

    with apt_lock("/var/lib/dpkg/lock-frontend"):
        assert "It is held by process" in fail_to_install(new_unit)

    assert not tinyproxy.is_installed()
    new_unit.run("install")
    assert new_unit.state.workload_version == tinyproxy.get_version()
