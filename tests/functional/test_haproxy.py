"""Two units behind a real HAProxy, while a client sends requests without a pause."""

import contextlib
import pathlib
import time

import pytest

from tests import asking
from tests.functional import balancing, machine

CAP_NET_ADMIN = 12  # https://manpages.ubuntu.com/manpages/noble/en/man7/capabilities.7.html


@pytest.fixture
def units(installed_machine: None):
    """Return two units that serve, each on a machine of its own."""
    status = pathlib.Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    if not capabilities >> CAP_NET_ADMIN & 1:
        pytest.skip("This needs the capability CAP_NET_ADMIN.")
    with machine.debian_packages("haproxy", "iproute2"), contextlib.ExitStack() as stack:
        units = [stack.enter_context(balancing.IsolatedUnit(number)) for number in (1, 2)]
        for unit in units:
            assert unit.run("start") == "active"
        yield units


@pytest.fixture
def haproxy(units: list[balancing.IsolatedUnit], tmp_path: pathlib.Path):
    """Run HAProxy with the units' relation data."""
    haproxy = balancing.HAProxy(tmp_path)
    haproxy.configure(units)
    with haproxy.running():
        yield haproxy


def assert_both_are_used(units: list[balancing.IsolatedUnit]) -> None:
    """Send 100 requests, and check how many reach the upstream of each unit."""
    before = [(unit.run("update_status"), unit.requests)[1] for unit in units]
    with asking.Client("/example/", port=balancing.PORT) as client:
        assert machine.wait_until(lambda: len(client.answered) > 100, seconds=20)
    assert client.failed == 0
    after = [(unit.run("update_status"), unit.requests)[1] for unit in units]
    used = [now - then for then, now in zip(before, after, strict=True)]
    print(f"requests to each unit: {used}")
    assert min(used) > 0.3 * sum(used)


def test_no_request_fails(units: list[balancing.IsolatedUnit], haproxy: balancing.HAProxy):
    assert [unit.published for unit in units] == [
        {"hostname": "10.213.1.2", "port": "8000"},
        {"hostname": "10.213.2.2", "port": "8000"},
    ]
    assert_both_are_used(units)

    with asking.Client("/example/", pause=0, port=balancing.PORT) as client:
        for unit in units:
            for _ in range(2):
                assert unit.run("kill") == "killed"
                time.sleep(0.2)
                assert unit.run("update_status") == "active"
                haproxy.wait(units)

            unit.run("stop")
            assert unit.published == {}
            haproxy.reload(units)
            time.sleep(0.5)
            assert unit.run("start") == "active"
            haproxy.reload(units)
            haproxy.wait(units)

            unit.run("upgrade_charm")
            assert unit.run("config_changed") == "active"
    print(f"{len(client.answered) + client.failed} requests, {client.failed} failed")
    assert client.failed == 0
    assert len(client.answered) > 100

    assert_both_are_used(units)
