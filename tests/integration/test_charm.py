"""The packed charm on a real Juju controller with a cloud of machines.

After each test but the last, there is one unit that serves the default slug. So the tests can run
in a model that an earlier run kept. See
https://github.com/canonical/pytest-jubilant
"""

import collections.abc
import contextlib
import http.client
import pathlib
import time

import jubilant
import pytest

from tests import asking

APP = "tinyproxy"
PORT = 8000


def is_served(unit: jubilant.statustypes.UnitStatus, slug: str) -> bool:
    """Return whether a unit serves this slug and no other.

    tinyproxy redirects a request for the slug without its last slash itself. So this needs no
    upstream and no internet access.
    """
    answers: dict[str, int] = {}
    for path in {"example", "foo", slug}:
        client = http.client.HTTPConnection(unit.public_address, PORT, timeout=10)
        with contextlib.closing(client), contextlib.suppress(OSError, http.client.HTTPException):
            client.request("GET", f"/{path}")
            answers[path] = client.getresponse().status
    return answers == {path: 301 if path == slug else 400 for path in {"example", "foo", slug}}


def settled(slug: str, number: int = 1) -> collections.abc.Callable[[jubilant.Status], bool]:
    """Return a condition: a number of units are active and idle, and serve this slug."""

    def is_settled(status: jubilant.Status) -> bool:
        units = status.get_units(APP).values()
        return (
            len(units) == number
            and jubilant.all_active(status, APP)
            and jubilant.all_agents_idle(status, APP)
            and all(is_served(unit, slug) for unit in units)
        )

    return is_settled


def only_unit(juju: jubilant.Juju) -> tuple[str, jubilant.statustypes.UnitStatus]:
    """Return the name and the status of the only unit."""
    [unit] = juju.status().get_units(APP).items()
    return unit


@contextlib.contextmanager
def frequent_update_status(juju: jubilant.Juju):
    """Run update-status every ten seconds instead of every five minutes."""
    juju.model_config({"update-status-hook-interval": "10s"})
    try:
        yield
    finally:
        juju.model_config(reset="update-status-hook-interval")


def run(juju: jubilant.Juju, command: str) -> str:
    """Return what a command prints on the machine of the only unit."""
    name, _ = only_unit(juju)
    return juju.exec(command, unit=name).stdout.strip()


def pid(juju: jubilant.Juju) -> str:
    """Return the number of the only unit's tinyproxy process."""
    return run(juju, "cat /var/run/tinyproxy.pid")


def message(status: jubilant.Status, app: str) -> str:
    """Return the status message of an application's only unit."""
    [unit] = status.get_units(app).values()
    return unit.workload_status.message


@pytest.mark.juju_setup
def test_deploy(juju: jubilant.Juju, charm: pathlib.Path):
    if APP not in juju.status().apps:
        juju.deploy(charm, APP)
    juju.wait(settled("example"), error=jubilant.any_error)


def test_port_is_open_in_juju(juju: jubilant.Juju):
    _, unit = only_unit(juju)
    assert unit.open_ports == [f"{PORT}/tcp"]


def test_version_is_that_of_the_program(juju: jubilant.Juju):
    version = run(juju, "tinyproxy -v").split()
    assert version == ["tinyproxy", juju.status().apps[APP].version]


def test_new_slug_is_served(juju: jubilant.Juju):
    juju.config(APP, {"slug": "foo"})
    juju.wait(settled("foo"), error=jubilant.any_error)
    juju.config(APP, {"slug": "example"})
    juju.wait(settled("example"), error=jubilant.any_error)


def test_invalid_slug_blocks_the_unit(juju: jubilant.Juju):
    juju.config(APP, {"slug": "foo/bar"})
    status = juju.wait(lambda status: jubilant.all_blocked(status, APP), error=jubilant.any_error)
    assert message(status, APP) == "Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
    assert is_served(only_unit(juju)[1], "example")
    juju.config(APP, {"slug": "example"})
    juju.wait(settled("example"), error=jubilant.any_error)


def test_reset_slug_is_served_after_update_status(juju: jubilant.Juju):
    juju.config(APP, {"slug": "foo"})
    juju.wait(settled("foo"), error=jubilant.any_error)
    with frequent_update_status(juju):
        juju.config(APP, reset="slug")
        juju.wait(settled("example"), error=jubilant.any_error)


def test_restart_of_the_agent_fails_no_request(juju: jubilant.Juju):
    _, unit = only_unit(juju)
    before = pid(juju)
    with asking.Client("/example", pause=0.01, host=unit.public_address) as client:
        # The command must end before the agent that runs it does.
        run(juju, "systemd-run --on-active=1 systemctl restart 'jujud-machine-*'")
        time.sleep(10)
        juju.wait(settled("example"), error=jubilant.any_error)
    assert client.failed == 0
    assert pid(juju) == before


def test_crash_heals_without_a_hook(juju: jubilant.Juju):
    _, unit = only_unit(juju)
    with asking.Client("/example", pause=0.01, host=unit.public_address) as client:
        run(juju, "kill -SEGV $(cat /var/run/tinyproxy.pid)")
        time.sleep(2)
    assert is_served(unit, "example")
    assert client.outage() < 1


def test_upgraded_package_takes_effect(juju: jubilant.Juju):
    before = pid(juju)
    run(juju, "apt-get install --reinstall --yes tinyproxy-bin")
    with frequent_update_status(juju):
        juju.wait(lambda _: pid(juju) != before, error=jubilant.any_error, successes=1)
    juju.wait(settled("example"), error=jubilant.any_error)
    assert "(deleted)" not in run(juju, "readlink /proc/$(cat /var/run/tinyproxy.pid)/exe")


@pytest.mark.parametrize("slug", ["example", "foo/bar"])
def test_reboot(juju: jubilant.Juju, slug: str):
    def has_rebooted(status: jubilant.Status) -> bool:
        with contextlib.suppress(jubilant.CLIError, jubilant.TaskError, TimeoutError):
            return run(juju, "cat /proc/sys/kernel/random/boot_id") != before
        return False

    juju.config(APP, {"slug": slug})
    before = run(juju, "cat /proc/sys/kernel/random/boot_id")
    run(juju, "systemd-run --on-active=1 systemctl reboot")
    juju.wait(has_rebooted, successes=1)
    juju.wait(lambda _: is_served(only_unit(juju)[1], "example"))
    juju.config(APP, {"slug": "example"})
    juju.wait(settled("example"), error=jubilant.any_error)


def test_model_proxy(juju: jubilant.Juju):
    _, unit = only_unit(juju)
    line = f"Upstream http {unit.public_address}:8002"
    upstreams = "grep Upstream /etc/tinyproxy/tinyproxy.conf || true"
    run(juju, "echo Port 8002 >/tmp/proxy.conf")
    run(juju, "systemd-run --unit=proxy tinyproxy -d -c /tmp/proxy.conf")
    with frequent_update_status(juju):
        juju.model_config({"juju-http-proxy": f"http://{unit.public_address}:8002"})
        juju.wait(lambda _: run(juju, upstreams) == line, successes=1)
        juju.wait(settled("example"), error=jubilant.any_error)
        juju.model_config(reset="juju-http-proxy")
        juju.wait(lambda _: run(juju, upstreams) == "", successes=1)
    run(juju, "systemctl stop proxy")
    juju.wait(settled("example"), error=jubilant.any_error)


def test_refresh_keeps_serving(juju: jubilant.Juju, charm: pathlib.Path):
    _, unit = only_unit(juju)
    before = pid(juju)
    with asking.Client("/example", pause=0.01, host=unit.public_address) as client:
        juju.refresh(APP, path=charm)
        juju.wait(settled("example"), error=jubilant.any_error, successes=10)
    assert client.failed == 0
    assert pid(juju) == before


def test_second_unit_serves_on_its_own(juju: jubilant.Juju):
    first, _ = only_unit(juju)
    juju.add_unit(APP)
    status = juju.wait(settled("example", number=2), error=jubilant.any_error)
    [second] = set(status.get_units(APP)) - {first}
    juju.remove_unit(second)
    juju.wait(settled("example"), error=jubilant.any_error)
    assert only_unit(juju)[0] == first


@pytest.mark.juju_teardown
def test_second_application_on_the_machine_takes_over(juju: jubilant.Juju, charm: pathlib.Path):
    _, unit = only_unit(juju)
    juju.deploy(charm, "second", config={"slug": "foo"}, to=unit.machine)
    status = juju.wait(lambda status: jubilant.all_blocked(status, "second"))
    assert message(status, "second") == "Port 8000 is taken by another unit on this machine"
    assert settled("example")(juju.status())

    with frequent_update_status(juju):
        juju.remove_application(APP)
        juju.wait(lambda status: APP not in status.apps, error=jubilant.any_error)
        juju.wait(lambda status: jubilant.all_active(status, "second"), error=jubilant.any_error)
    assert is_served(unit, "foo")

    juju.remove_application("second")
    juju.wait(lambda status: "second" not in status.apps, error=jubilant.any_error)
