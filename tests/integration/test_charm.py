"""The packed charm on a real Juju controller with a cloud of machines.

The tests leave one application with one unit and default configuration behind, so that they can
run in a model that an earlier run has kept. See https://github.com/canonical/pytest-jubilant
"""

import collections.abc
import contextlib
import http.client
import pathlib

import jubilant
import pytest

APP = "tinyproxy"
PORT = 8000


def is_served(unit: jubilant.statustypes.UnitStatus, slug: str) -> bool:
    """Return whether a unit serves this slug, and none of the others.

    Tinyproxy answers a request for the slug without its last slash itself, with a redirect, so
    this needs no upstream and no internet.
    """
    answers: dict[str, int] = {}
    for path in {"example", "foo", slug}:
        client = http.client.HTTPConnection(unit.public_address, PORT, timeout=10)
        with contextlib.closing(client), contextlib.suppress(OSError, http.client.HTTPException):
            client.request("GET", f"/{path}")
            answers[path] = client.getresponse().status
    return answers == {path: 301 if path == slug else 400 for path in {"example", "foo", slug}}


def settled(slug: str, number: int = 1) -> collections.abc.Callable[[jubilant.Status], bool]:
    """Return a condition for waiting: so many units are active and idle, and serve this slug."""

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


@pytest.mark.juju_setup
def test_deploy(juju: jubilant.Juju, charm: pathlib.Path):
    # Something else may use APT on a machine that has only begun to run. Then Juju tries again,
    # unless the model forbids it, as those of Concierge do.
    juju.model_config({"automatically-retry-hooks": True})
    if APP not in juju.status().apps:
        juju.deploy(charm, APP)
    juju.wait(settled("example"))


def test_port_is_open_in_juju(juju: jubilant.Juju):
    _, unit = only_unit(juju)
    assert unit.open_ports == [f"{PORT}/tcp"]


def test_version_is_that_of_the_program(juju: jubilant.Juju):
    name, _ = only_unit(juju)
    task = juju.exec("tinyproxy -v", unit=name)
    assert task.stdout.split() == ["tinyproxy", juju.status().apps[APP].version]


def test_slug_moves_the_proxy(juju: jubilant.Juju):
    juju.config(APP, {"slug": "foo"})
    juju.wait(settled("foo"), error=jubilant.any_error)
    juju.config(APP, reset="slug")
    juju.wait(settled("example"), error=jubilant.any_error)


def test_invalid_slug_blocks_until_it_is_reset(juju: jubilant.Juju):
    juju.config(APP, {"slug": "foo/bar"})
    status = juju.wait(lambda status: jubilant.all_blocked(status, APP), error=jubilant.any_error)
    [unit] = status.get_units(APP).values()
    assert unit.workload_status.message == (
        "Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
    )
    assert is_served(unit, "example")
    juju.config(APP, reset="slug")
    juju.wait(settled("example"), error=jubilant.any_error)


def test_killed_tinyproxy_comes_back_on_update_status(juju: jubilant.Juju):
    name, _ = only_unit(juju)
    juju.model_config({"update-status-hook-interval": "10s"})
    try:
        pid = juju.exec("cat /var/run/tinyproxy.pid", unit=name).stdout
        juju.exec(f"kill -KILL {pid}", unit=name)
        juju.wait(settled("example"), error=jubilant.any_error)
        assert juju.exec("cat /var/run/tinyproxy.pid", unit=name).stdout != pid
    finally:
        juju.model_config(reset="update-status-hook-interval")


def test_refresh_keeps_serving(juju: jubilant.Juju, charm: pathlib.Path):
    def is_settled(status: jubilant.Status) -> bool:
        [unit] = status.get_units(APP).values()
        assert is_served(unit, "example")
        return settled("example")(status)

    juju.refresh(APP, path=charm)
    juju.wait(is_settled, error=jubilant.any_error, successes=10)


def test_second_unit_serves_on_its_own(juju: jubilant.Juju):
    first, _ = only_unit(juju)
    juju.add_unit(APP)
    status = juju.wait(settled("example", number=2))
    [second] = set(status.get_units(APP)) - {first}
    juju.remove_unit(second)
    juju.wait(settled("example"), error=jubilant.any_error)
    assert only_unit(juju)[0] == first


@pytest.mark.juju_teardown
def test_remove(juju: jubilant.Juju):
    juju.remove_application(APP)
    juju.wait(lambda status: APP not in status.apps, error=jubilant.any_error)
