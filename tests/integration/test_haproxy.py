"""Three units behind Canonical's haproxy charm, from Charmhub."""

import pathlib

import jubilant

from tests import asking

APP = "tinyproxy"


def is_settled(status: jubilant.Status) -> bool:
    """Return whether all applications are active and idle."""
    return jubilant.all_active(status) and jubilant.all_agents_idle(status)


def test_unit_is_removed_under_load(juju: jubilant.Juju, charm: pathlib.Path):
    juju.deploy("haproxy", channel="2.8/stable", base="ubuntu@24.04")
    juju.deploy(charm, APP, num_units=3)
    juju.integrate(f"{APP}:website", "haproxy:reverseproxy")
    status = juju.wait(is_settled, error=jubilant.any_error)

    [haproxy] = status.get_units("haproxy").values()
    first = next(iter(status.get_units(APP)))
    with asking.Client("/example", host=haproxy.public_address, port=80) as client:
        juju.remove_unit(first)
        juju.wait(
            lambda status: len(status.get_units(APP)) == 2 and is_settled(status),
            error=jubilant.any_error,
        )
    assert client.failed == 0
    assert len(client.answered) > 1000
