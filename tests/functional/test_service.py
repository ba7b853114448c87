"""tinyproxy as a systemd service, on a machine where Juju's agent is another service."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

import charm
import tinyproxy
from tests import asking
from tests.functional import machine
from tests.functional.packed_unit import PackedUnit

pytestmark = pytest.mark.skipif(not machine.has_systemd(), reason="This needs systemd.")

AGENT = "jujud-test.service"


def systemctl(*arguments: str) -> None:
    subprocess.run(["systemctl", *arguments], check=True, capture_output=True)


@pytest.fixture
def agent(packed: PackedUnit):
    """Run a service like Juju's agent: it has no KillMode, and dispatches config-changed."""
    packed.run("install")
    environment = packed.environment("config-changed")
    options = [f"--setenv={name}={value}" for name, value in environment.items()]
    script = "./dispatch && touch settled && exec sleep infinity"
    options += [f"--working-directory={packed.charm}", "--property=StartLimitIntervalSec=0"]
    command = ["systemd-run", "--quiet", f"--unit={AGENT}", *options, "sh", "-c", script]
    subprocess.run(command, check=True)
    settled = packed.charm / "settled"
    assert machine.wait_until(settled.exists, seconds=10)
    settled.unlink()
    yield settled
    systemctl("stop", AGENT)


def cgroup(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/cgroup").read_text()


def test_agent_restarts_under_a_client(agent: pathlib.Path):
    [pid] = machine.tinyproxies()
    assert "/juju-tinyproxy.service" in cgroup(pid)
    with asking.Client("/example", pause=0.01) as client:
        for _ in range(3):
            time.sleep(1)
            systemctl("restart", AGENT)
            assert machine.wait_until(agent.exists, seconds=10)
            agent.unlink()
            time.sleep(0.5)
    print(f"{len(client.answered)} answers, {client.failed} failures")
    assert client.failed == 0
    assert machine.tinyproxies() == [pid]


@pytest.mark.parametrize(
    "number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT, signal.SIGTERM]
)
def test_crash_heals_without_a_hook(serving_unit: machine.Unit, number: signal.Signals):
    for _ in range(3):
        [pid] = machine.tinyproxies()
        with asking.Client("/example") as client:
            os.kill(pid, number)
            assert machine.wait_until(lambda pid=pid: machine.tinyproxies() not in ([], [pid]))
            assert machine.wait_until(tinyproxy.is_serving)
        print(f"{client.outage() * 1000:.0f} ms without an answer after {number.name}")
        assert client.outage() < 1


@pytest.mark.parametrize("event", ["config_changed", "update_status"])
def test_hook_at_every_moment_of_a_restart(serving_unit: machine.Unit, event: str):
    for i in range(25):
        [pid] = machine.tinyproxies()
        os.kill(pid, signal.SIGKILL)
        time.sleep(i / 25 * 0.4)  # systemd starts it again after 0.2 seconds.
        serving_unit.config(slug=f"slug-{i}")
        assert serving_unit.run(event) == "active"
        assert machine.get(f"/slug-{i}/") == 200
        assert len(machine.tinyproxies()) == 1


def test_stop_at_every_moment_of_a_restart(unit: machine.Unit):
    for i in range(25):
        assert unit.run("start") == "active"
        [pid] = machine.tinyproxies()
        os.kill(pid, signal.SIGKILL)
        time.sleep(i / 25 * 0.4)
        unit.run("stop")
        assert machine.tinyproxies() == []
    time.sleep(0.5)
    assert machine.tinyproxies() == []


def test_tinyproxy_of_another_revision_moves_into_the_service(unit: machine.Unit):
    tinyproxy.CONFIG_FILE.parent.mkdir()
    tinyproxy.CONFIG_FILE.write_text(
        f'PidFile "{tinyproxy.PID_FILE}"\nPort 8000\nTimeout 600\nReverseOnly Yes\n'
        'ReversePath "/example/" "http://www.example.com/"\n'
    )
    subprocess.run(["tinyproxy"], check=True)  # The tutorial's charm runs it like this, as root.
    machine.wait_for_port(charm.PORT)
    assert unit.run("upgrade_charm") == "active"
    assert unit.run("config_changed") == "active"
    [pid] = machine.tinyproxies()
    assert "/juju-tinyproxy.service" in cgroup(pid)
    assert pathlib.Path(f"/proc/{pid}").stat().st_uid == 65534
    assert machine.get("/example/") == 200


def test_taken_port_leaves_no_service_behind(unit: machine.Unit):
    with subprocess.Popen(["python3", "-m", "http.server", "8000"], stderr=-3) as process:
        machine.wait_for_port(charm.PORT)
        assert unit.run("start").startswith("blocked: Port 8000 is taken")
        state = subprocess.run(
            ["systemctl", "is-active", "juju-tinyproxy.service"], capture_output=True, text=True
        )
        assert state.stdout == "inactive\n"
        process.kill()
    assert unit.run("update_status") == "active"
