"""Fixtures of the functional tests. They leave the machine as it was before."""

import pathlib

import pytest

import tinyproxy
from tests import packed as the_package
from tests.functional import machine as the_machine
from tests.functional import packed_unit


@pytest.fixture(scope="session", autouse=True)
def machine():
    """Stop if the machine uses tinyproxy already. Afterwards, restore the machine."""
    if reason := the_machine.refusal():
        pytest.exit(f"Nothing was touched. {reason}", returncode=1)
    with the_machine.cleaning():
        yield


@pytest.fixture(scope="session")
def _upstream():
    with the_machine.Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def upstream(_upstream: the_machine.Upstream, monkeypatch: pytest.MonkeyPatch):
    """Point tinyproxy at an upstream on this machine."""
    monkeypatch.setattr(tinyproxy, "UPSTREAM_URL", _upstream.url)
    _upstream.requests.clear()
    return _upstream


@pytest.fixture
def new_unit():
    """Return a new unit, on a machine without tinyproxy."""
    the_machine.clean()
    yield the_machine.Unit()
    the_machine.kill_tinyproxies()


@pytest.fixture
def unit():
    """Return a unit that is installed, but not configured or started."""
    if not tinyproxy.is_installed():
        tinyproxy.install()
    yield the_machine.Unit()
    the_machine.kill_tinyproxies()
    the_machine.remove_files()


@pytest.fixture
def serving_unit(unit: the_machine.Unit):
    """Return a unit that serves the default slug."""
    assert unit.run("start") == "active"
    return unit


@pytest.fixture(scope="session")
def charm_path():
    """Return the path of the packed charm."""
    try:
        return the_package.find()
    except FileNotFoundError as e:
        pytest.skip(str(e))


@pytest.fixture
def new_machine():
    """Remove tinyproxy from the machine before and after a test."""
    the_machine.clean()
    yield
    the_machine.clean()


@pytest.fixture
def packed(charm_path: pathlib.Path, new_machine: None, tmp_path: pathlib.Path):
    """Return a unit of the packed charm, on a machine without tinyproxy."""
    return packed_unit.PackedUnit(charm_path, tmp_path)
