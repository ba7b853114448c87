"""Fixtures of the functional tests. They leave the machine as it was before."""

import pathlib
import subprocess

import pytest

import tinyproxy
from tests import packed as the_package
from tests.functional import archive, packed_unit
from tests.functional import machine as the_machine


@pytest.fixture(scope="session", autouse=True)
def machine():
    """Stop if the machine uses tinyproxy already. Afterwards, restore the machine."""
    if reason := the_machine.refusal():
        pytest.exit(f"Nothing was touched. {reason}", returncode=1)
    with the_machine.cleaning():
        yield


@pytest.fixture(scope="session", autouse=True)
def small_archive(machine: None, tmp_path_factory: pytest.TempPathFactory):
    """Make APT use an archive of tinyproxy alone. Hooks of the packed charm use Debian's."""
    folder = tmp_path_factory.mktemp("archive")
    assert the_machine.wait_until(lambda: not tinyproxy.get_apt_wait(), seconds=300)
    for command in (["apt-get", "update"], ["apt-get", "download", "tinyproxy-bin"]):
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    with archive.used(archive.create(folder), folder):
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
def tidy_machine():
    """Leave at most the package after a test: no process and no other file of tinyproxy."""
    yield
    the_machine.kill_tinyproxies()
    the_machine.remove_files()


@pytest.fixture
def new_machine(tidy_machine: None):
    """Remove tinyproxy before a test."""
    the_machine.clean()


@pytest.fixture
def installed_machine(tidy_machine: None):
    """Install tinyproxy before a test, unless an earlier test has left it."""
    if not tinyproxy.is_installed():
        tinyproxy.install()


@pytest.fixture
def new_unit(new_machine: None):
    """Return a new unit, on a machine without tinyproxy."""
    return the_machine.Unit()


@pytest.fixture
def unit(installed_machine: None):
    """Return a unit that is installed, but not configured or started."""
    return the_machine.Unit()


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
def packed(charm_path: pathlib.Path, tidy_machine: None, tmp_path: pathlib.Path):
    """Return a unit of the packed charm, before its first event."""
    return packed_unit.PackedUnit(charm_path, tmp_path)
