"""State-transition tests: one event each, with the helper replaced."""

import dataclasses
import inspect
import os

import ops
import pytest
from ops import testing

import charm
import tinyproxy
from tests import conflict

Context = testing.Context[charm.TinyproxyCharm]

PORTS = {testing.TCPPort(8000)}
INVALID_SLUG = {"slug": "foo/bar"}
INVALID_SLUG_STATUS = testing.BlockedStatus(
    "Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
)
NOT_INSTALLED_STATUS = testing.MaintenanceStatus("Waiting for tinyproxy to be installed")
NOT_RUNNING_STATUS = testing.MaintenanceStatus("Waiting for tinyproxy to start")
FULL_STATUS = testing.ActiveStatus("Full: new clients wait until others leave")
PORT_TAKEN_STATUS = testing.BlockedStatus("Port 8000 is taken: stop the program that uses it")
OTHER_UNIT_STATUS = testing.BlockedStatus("Port 8000 is taken by another unit on this machine")
PROXY_STATUS = testing.BlockedStatus("Invalid juju-http-proxy: use http://HOST:PORT")


class MockTinyproxy:
    """Replaces the helper's functions, and records what they would do.

    By default, tinyproxy isn't installed, and nothing is wrong with the machine.
    """

    def __init__(self) -> None:
        self.installed = False
        self.running = False
        self.serving = True
        self.outdated = False
        self.full = False
        self.port_taken = False
        self.apt_wait = ""
        self.proxy_problem = ""
        self.failure = ""  # The error of install and start
        self.ends_at_once = False
        self.config: tuple[int, str] | None = None
        self.calls: list[str] = []

    def ensure_config(self, port: int, slug: str) -> bool:
        self.get_proxy()
        changed = self.config != (port, slug)
        self.config = (port, slug)
        return changed

    def _fail(self) -> None:
        if self.failure:
            raise RuntimeError(self.failure)

    def get_apt_wait(self) -> str:
        return self.apt_wait

    def get_proxy(self) -> str:
        if self.proxy_problem:
            raise ValueError(self.proxy_problem)
        return ""

    def get_version(self) -> str:
        return "1.11.1"

    def install(self) -> None:
        self.calls.append("install")
        self._fail()
        self.installed = True

    def is_configured(self) -> bool:
        return self.config is not None

    def is_full(self) -> bool:
        return self.full

    def is_installed(self) -> bool:
        return self.installed

    def is_outdated(self) -> bool:
        return self.outdated

    def is_port_taken(self, port: int) -> bool:
        return self.port_taken and port == charm.PORT

    def is_running(self) -> bool:
        return self.running

    def is_serving(self) -> bool:
        return self.serving

    def reload_config(self) -> None:
        self.calls.append("reload_config")

    def start(self) -> None:
        self.calls.append("start")
        self._fail()
        self.running = not (self.port_taken or self.ends_at_once)

    def stop(self) -> None:
        self.calls.append("stop")
        self.running = False

    def uninstall(self) -> None:
        self.calls.append("uninstall")
        self.installed = False
        self.config = None


@pytest.fixture
def context():
    return testing.Context(charm.TinyproxyCharm)


@pytest.fixture
def tinyproxy_absent(monkeypatch: pytest.MonkeyPatch):
    """Replace each public function of the helper, for a machine without tinyproxy.

    A function that the mock doesn't have fails the test that calls it.
    """
    mock = MockTinyproxy()

    def fail(*args: object) -> None:
        pytest.fail("The mock doesn't have this function.")

    for name, _ in inspect.getmembers(tinyproxy, inspect.isfunction):
        if name != "check_slug":  # It doesn't touch the machine.
            monkeypatch.setattr(f"charm.tinyproxy.{name}", getattr(mock, name, fail))
    return mock


@pytest.fixture
def tinyproxy_installed(tinyproxy_absent: MockTinyproxy):
    """Replace the helper's functions, for a machine on which tinyproxy is installed."""
    tinyproxy_absent.installed = True
    return tinyproxy_absent


@pytest.fixture
def tinyproxy_running(tinyproxy_installed: MockTinyproxy):
    """Replace the helper's functions, for a machine on which tinyproxy serves the default slug."""
    tinyproxy_installed.config = (charm.PORT, "example")
    tinyproxy_installed.running = True
    return tinyproxy_installed


@pytest.fixture
def tinyproxy_crashed(tinyproxy_running: MockTinyproxy):
    """Replace the helper's functions, for a machine on which a running tinyproxy has ended."""
    tinyproxy_running.running = False
    return tinyproxy_running


@pytest.fixture
def tinyproxy_hanging(tinyproxy_running: MockTinyproxy):
    """Replace the helper's functions, for a tinyproxy that doesn't answer."""
    tinyproxy_running.serving = False
    return tinyproxy_running


@pytest.fixture
def tinyproxy_outdated(tinyproxy_running: MockTinyproxy):
    """Replace the helper's functions, for a tinyproxy that is older than its package."""
    tinyproxy_running.outdated = True
    return tinyproxy_running


@pytest.fixture
def tinyproxy_full(tinyproxy_running: MockTinyproxy):
    """Replace the helper's functions, for a tinyproxy without a free place."""
    tinyproxy_running.full = True
    return tinyproxy_running


@pytest.fixture
def port_taken(tinyproxy_crashed: MockTinyproxy):
    """Replace the helper's functions, for a port that another program has taken."""
    tinyproxy_crashed.port_taken = True
    return tinyproxy_crashed


@pytest.fixture
def apt_locked(tinyproxy_absent: MockTinyproxy):
    """Replace the helper's functions, for a machine on which another process uses APT."""
    tinyproxy_absent.apt_wait = "Waiting until another process releases /var/lib/dpkg/lock"
    return tinyproxy_absent


@pytest.fixture
def apt_failing(tinyproxy_absent: MockTinyproxy):
    """Replace the helper's functions, for an archive that doesn't have the package."""
    tinyproxy_absent.failure = "Unable to locate package"
    return tinyproxy_absent


@pytest.fixture
def package_removed(tinyproxy_crashed: MockTinyproxy):
    """Replace the helper's functions, for a package that an operator has removed."""
    tinyproxy_crashed.installed = False
    return tinyproxy_crashed


@pytest.fixture
def start_failing(tinyproxy_installed: MockTinyproxy):
    """Replace the helper's functions, for a tinyproxy that can't start."""
    tinyproxy_installed.failure = "Syntax error on line 3"
    return tinyproxy_installed


@pytest.fixture
def start_without_effect(tinyproxy_installed: MockTinyproxy):
    """Replace the helper's functions, for a tinyproxy that ends right after its start."""
    tinyproxy_installed.ends_at_once = True
    return tinyproxy_installed


@pytest.fixture
def proxy_invalid(tinyproxy_running: MockTinyproxy):
    """Replace the helper's functions, for a model with a proxy that tinyproxy can't use."""
    tinyproxy_running.proxy_problem = "use http://HOST:PORT"
    return tinyproxy_running


@pytest.fixture
def port_of_another_unit(tinyproxy_running: MockTinyproxy, monkeypatch: pytest.MonkeyPatch):
    """Make Juju refuse the port, because another unit on the machine has it and serves."""
    monkeypatch.setattr("ops.Unit.open_port", conflict.open_port)
    return tinyproxy_running


@pytest.fixture
def juju_failing(tinyproxy_installed: MockTinyproxy, monkeypatch: pytest.MonkeyPatch):
    """Make Juju fail to open a port, but not because of another unit."""

    def open_port(unit: ops.Unit, protocol: str, port: int) -> None:
        raise ops.ModelError("ERROR connection is shut down")

    monkeypatch.setattr("ops.Unit.open_port", open_port)
    return tinyproxy_installed


def test_slug_valid():
    """A slug that matches the regex is accepted."""
    config = charm.TinyproxyConfig(slug="foo-1")

    assert config.slug == "foo-1"


def test_slug_invalid():
    """A slug that doesn't match the regex is an error."""
    with pytest.raises(ValueError, match=r"^Invalid slug: 'foo/bar'"):
        charm.TinyproxyConfig(slug="foo/bar")


def test_config_is_frozen():
    """A slug that was checked can't be replaced by one that wasn't."""
    config = charm.TinyproxyConfig()

    with pytest.raises(dataclasses.FrozenInstanceError):
        config.slug = "foo/bar"  # pyright: ignore[reportAttributeAccessIssue]


def test_install(context: Context, tinyproxy_absent: MockTinyproxy):
    """The install event installs tinyproxy and tells Juju its version."""
    state_out = context.run(context.on.install(), testing.State())

    assert tinyproxy_absent.calls == ["install"]
    assert state_out.workload_version == "1.11.1"
    assert testing.MaintenanceStatus("Installing tinyproxy") in context.unit_status_history
    assert state_out.unit_status == NOT_RUNNING_STATUS
    assert state_out.opened_ports == set()


def test_install_again(context: Context, tinyproxy_installed: MockTinyproxy):
    """The install event upgrades a tinyproxy that is installed already."""
    state_out = context.run(context.on.install(), testing.State())

    assert tinyproxy_installed.calls == ["install"]
    assert state_out.workload_version == "1.11.1"


def test_install_apt_locked(context: Context, apt_locked: MockTinyproxy):
    """While the install event waits for APT, the status says so."""
    context.run(context.on.install(), testing.State())

    assert testing.MaintenanceStatus(apt_locked.apt_wait) in context.unit_status_history
    assert apt_locked.calls == ["install"]


def test_install_fails(context: Context, apt_failing: MockTinyproxy):
    """An error of APT fails the hook, so that Juju tries it again."""
    with pytest.raises(testing.errors.UncaughtCharmError) as excinfo:
        context.run(context.on.install(), testing.State())

    assert str(excinfo.value.__cause__) == apt_failing.failure


def test_start(context: Context, tinyproxy_installed: MockTinyproxy):
    """The start event starts tinyproxy with the default slug."""
    state_out = context.run(context.on.start(), testing.State())

    assert tinyproxy_installed.calls == ["start"]
    assert tinyproxy_installed.config == (8000, "example")
    assert state_out.opened_ports == PORTS
    assert state_out.workload_version == "1.11.1"
    assert state_out.unit_status == testing.ActiveStatus()


def test_start_not_installed(context: Context, tinyproxy_absent: MockTinyproxy):
    """The start event does nothing if tinyproxy isn't installed."""
    state_out = context.run(context.on.start(), testing.State())

    assert tinyproxy_absent.calls == []
    assert tinyproxy_absent.config is None
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_INSTALLED_STATUS


def test_start_invalid_config(context: Context, tinyproxy_installed: MockTinyproxy):
    """The start event does nothing if no slug was ever valid."""
    state_out = context.run(context.on.start(), testing.State(config=INVALID_SLUG))

    assert tinyproxy_installed.calls == []
    assert tinyproxy_installed.config is None
    assert state_out.opened_ports == set()
    assert state_out.unit_status == INVALID_SLUG_STATUS


def test_start_invalid_config_after_a_valid_one(
    context: Context, tinyproxy_crashed: MockTinyproxy
):
    """The start event serves the former slug if the slug is invalid."""
    state_out = context.run(context.on.start(), testing.State(config=INVALID_SLUG))

    assert tinyproxy_crashed.calls == ["start"]
    assert tinyproxy_crashed.config == (8000, "example")
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == INVALID_SLUG_STATUS


def test_start_fails(context: Context, start_failing: MockTinyproxy):
    """An error of tinyproxy fails the hook, so that Juju tries it again."""
    with pytest.raises(testing.errors.UncaughtCharmError) as excinfo:
        context.run(context.on.start(), testing.State())

    assert str(excinfo.value.__cause__) == start_failing.failure


def test_start_without_effect(context: Context, start_without_effect: MockTinyproxy):
    """The status says if tinyproxy ends right after its start."""
    state_out = context.run(context.on.start(), testing.State())

    assert start_without_effect.calls == ["start"]
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_RUNNING_STATUS


def test_start_port_taken(context: Context, port_taken: MockTinyproxy):
    """A port that another program has is closed in Juju, and blocks the unit."""
    state_out = context.run(context.on.start(), testing.State(opened_ports=PORTS))

    assert state_out.opened_ports == set()
    assert state_out.unit_status == PORT_TAKEN_STATUS


def test_config_changed(context: Context, tinyproxy_running: MockTinyproxy):
    """A new slug is written and loaded."""
    state_out = context.run(context.on.config_changed(), testing.State(config={"slug": "foo"}))

    assert tinyproxy_running.calls == ["reload_config"]
    assert tinyproxy_running.config == (8000, "foo")
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_config_changed_before_start(context: Context, tinyproxy_installed: MockTinyproxy):
    """The config-changed event before the first start event starts tinyproxy."""
    state_out = context.run(context.on.config_changed(), testing.State(config={"slug": "foo"}))

    assert tinyproxy_installed.calls == ["start"]
    assert tinyproxy_installed.config == (8000, "foo")
    assert state_out.unit_status == testing.ActiveStatus()


def test_config_changed_invalid_config(context: Context, tinyproxy_running: MockTinyproxy):
    """An invalid slug blocks the unit, and the former slug stays in force."""
    state_in = testing.State(config=INVALID_SLUG, opened_ports=PORTS)

    state_out = context.run(context.on.config_changed(), state_in)

    assert tinyproxy_running.calls == []
    assert tinyproxy_running.config == (8000, "example")
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == INVALID_SLUG_STATUS


def test_config_changed_invalid_proxy(context: Context, proxy_invalid: MockTinyproxy):
    """An invalid proxy of the model blocks the unit, and the former config stays in force."""
    state_out = context.run(context.on.config_changed(), testing.State(config={"slug": "foo"}))

    assert proxy_invalid.calls == []
    assert proxy_invalid.config == (8000, "example")
    assert state_out.unit_status == PROXY_STATUS


def test_config_changed_model_proxy(
    context: Context, tinyproxy_running: MockTinyproxy, monkeypatch: pytest.MonkeyPatch
):
    """The helper finds the model's proxy in the standard environment variables."""
    monkeypatch.setenv("JUJU_CHARM_HTTP_PROXY", "http://squid.internal:3128")
    monkeypatch.setenv("JUJU_CHARM_NO_PROXY", "localhost")

    with context(context.on.config_changed(), testing.State()) as manager:
        environment = {name: os.environ[name] for name in ("http_proxy", "no_proxy")}
        manager.run()

    assert environment == {"http_proxy": "http://squid.internal:3128", "no_proxy": "localhost"}


def test_config_changed_no_model_proxy(
    context: Context, tinyproxy_running: MockTinyproxy, monkeypatch: pytest.MonkeyPatch
):
    """The model decides that there's no proxy, even if the agent's environment names one."""
    monkeypatch.setenv("http_proxy", "http://squid.internal:3128")
    monkeypatch.setenv("no_proxy", "localhost")

    with context(context.on.config_changed(), testing.State()) as manager:
        environment = {name: os.environ[name] for name in ("http_proxy", "no_proxy")}
        manager.run()

    assert environment == {"http_proxy": "", "no_proxy": ""}


def test_update_status(context: Context, tinyproxy_running: MockTinyproxy):
    """The update-status event doesn't touch a tinyproxy that serves."""
    state_out = context.run(context.on.update_status(), testing.State())

    assert tinyproxy_running.calls == []
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_hanging(context: Context, tinyproxy_hanging: MockTinyproxy):
    """The update-status event reloads a tinyproxy that doesn't answer."""
    state_out = context.run(context.on.update_status(), testing.State())

    assert tinyproxy_hanging.calls == ["reload_config"]
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_crashed(context: Context, tinyproxy_crashed: MockTinyproxy):
    """The update-status event starts a tinyproxy that has ended."""
    state_out = context.run(context.on.update_status(), testing.State())

    assert tinyproxy_crashed.calls == ["start"]
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_outdated(context: Context, tinyproxy_outdated: MockTinyproxy):
    """The update-status event restarts an outdated tinyproxy, and tells Juju the version."""
    state_out = context.run(context.on.update_status(), testing.State(workload_version="1.11.0"))

    assert tinyproxy_outdated.calls == ["start"]
    assert state_out.workload_version == "1.11.1"
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_full(context: Context, tinyproxy_full: MockTinyproxy):
    """The update-status event doesn't restart a full tinyproxy. The status says it's full."""
    state_out = context.run(context.on.update_status(), testing.State())

    assert tinyproxy_full.calls == []
    assert state_out.unit_status == FULL_STATUS


def test_update_status_takes_over(context: Context, tinyproxy_absent: MockTinyproxy):
    """A unit that gets the port from a removed unit installs and starts tinyproxy."""
    state_out = context.run(context.on.update_status(), testing.State())

    assert tinyproxy_absent.calls == ["install", "start"]
    assert state_out.opened_ports == PORTS
    assert state_out.workload_version == "1.11.1"
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_invalid_config(context: Context, tinyproxy_installed: MockTinyproxy):
    """The update-status event doesn't install tinyproxy again if no slug was ever valid."""
    state_out = context.run(context.on.update_status(), testing.State(config=INVALID_SLUG))

    assert tinyproxy_installed.calls == []
    assert state_out.unit_status == INVALID_SLUG_STATUS


def test_update_status_package_removed_by_hand(context: Context, package_removed: MockTinyproxy):
    """The update-status event doesn't install a package that an operator has removed."""
    state_out = context.run(context.on.update_status(), testing.State(opened_ports=PORTS))

    assert package_removed.calls == []
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_INSTALLED_STATUS


def test_stop(context: Context, tinyproxy_running: MockTinyproxy):
    """The stop event stops tinyproxy and closes the port."""
    state_out = context.run(context.on.stop(), testing.State(opened_ports=PORTS))

    assert tinyproxy_running.calls == ["stop"]
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_RUNNING_STATUS


def test_remove(context: Context, tinyproxy_installed: MockTinyproxy):
    """The remove event removes tinyproxy."""
    state_out = context.run(context.on.remove(), testing.State())

    assert tinyproxy_installed.calls == ["uninstall"]
    assert testing.MaintenanceStatus("Removing tinyproxy") in context.unit_status_history
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_INSTALLED_STATUS


def test_remove_apt_locked(context: Context, apt_locked: MockTinyproxy):
    """While the remove event waits for APT, the status says so."""
    context.run(context.on.remove(), testing.State())

    assert testing.MaintenanceStatus(apt_locked.apt_wait) in context.unit_status_history
    assert apt_locked.calls == ["uninstall"]


@pytest.mark.parametrize(
    "event", ["install", "start", "config_changed", "update_status", "stop", "remove"]
)
def test_port_of_another_unit(context: Context, port_of_another_unit: MockTinyproxy, event: str):
    """A unit that doesn't get the port changes nothing on the machine."""
    state_in = testing.State(config={"slug": "foo"})

    state_out = context.run(getattr(context.on, event)(), state_in)

    assert port_of_another_unit.calls == []
    assert port_of_another_unit.config == (8000, "example")
    assert state_out.opened_ports == set()
    assert state_out.unit_status == OTHER_UNIT_STATUS


def test_open_port_fails(context: Context, juju_failing: MockTinyproxy):
    """Another error of Juju than a conflict fails the hook."""
    with pytest.raises(testing.errors.UncaughtCharmError) as excinfo:
        context.run(context.on.start(), testing.State())

    assert isinstance(excinfo.value.__cause__, ops.ModelError)
    assert juju_failing.calls == []


WEBSITE = testing.Relation("website", id=1)
PUBLISHED = {"hostname": "192.0.2.0", "port": "8000"}


def published(state: testing.State) -> dict[str, str]:
    """Return what the unit has published for load balancers."""
    data = state.get_relation(WEBSITE.id).local_unit_data
    return {key: value for key, value in data.items() if key in PUBLISHED}


def test_website_relation_joined(context: Context, tinyproxy_running: MockTinyproxy):
    """A unit that serves publishes its address and port."""
    state_in = testing.State(relations={WEBSITE})

    state_out = context.run(context.on.relation_joined(WEBSITE), state_in)

    assert published(state_out) == PUBLISHED


def test_website_relation_joined_crashed(context: Context, tinyproxy_crashed: MockTinyproxy):
    """A new relation starts a tinyproxy that has ended, so that the unit is published."""
    state_in = testing.State(relations={WEBSITE})

    state_out = context.run(context.on.relation_joined(WEBSITE), state_in)

    assert tinyproxy_crashed.calls == ["start"]
    assert published(state_out) == PUBLISHED


def test_website_relation_joined_port_taken(context: Context, port_taken: MockTinyproxy):
    """A unit that doesn't serve publishes nothing."""
    state_in = testing.State(relations={WEBSITE})

    state_out = context.run(context.on.relation_joined(WEBSITE), state_in)

    assert published(state_out) == {}


def test_website_relation_joined_port_of_another_unit(
    context: Context, port_of_another_unit: MockTinyproxy
):
    """A unit without the port doesn't publish the other unit's tinyproxy."""
    state_in = testing.State(relations={WEBSITE})

    state_out = context.run(context.on.relation_joined(WEBSITE), state_in)

    assert published(state_out) == {}


def test_website_no_address(context: Context, tinyproxy_running: MockTinyproxy):
    """A unit without an address on the relation's network publishes nothing."""
    network = testing.Network("website", ingress_addresses=[])
    state_in = testing.State(relations={WEBSITE}, networks={network})

    state_out = context.run(context.on.relation_joined(WEBSITE), state_in)

    assert published(state_out) == {}


def test_website_address_changed(context: Context, tinyproxy_running: MockTinyproxy):
    """A unit publishes the address that it has now."""
    relation = testing.Relation(
        "website", id=1, local_unit_data={"hostname": "10.0.0.1", "port": "8000"}
    )
    network = testing.Network("website", ingress_addresses=["10.0.0.2"])
    state_in = testing.State(relations={relation}, networks={network})

    state_out = context.run(context.on.config_changed(), state_in)

    assert published(state_out) == {"hostname": "10.0.0.2", "port": "8000"}


def test_website_invalid_config(context: Context, tinyproxy_running: MockTinyproxy):
    """A unit with an invalid slug stays published, because it serves the former slug."""
    state_in = testing.State(config=INVALID_SLUG, relations={WEBSITE})

    state_out = context.run(context.on.config_changed(), state_in)

    assert published(state_out) == PUBLISHED


def test_website_stop(context: Context, tinyproxy_running: MockTinyproxy):
    """A unit that stops withdraws its address and port, and nothing else."""
    data = {"hostname": "192.0.2.0", "port": "8000", "private-address": "192.0.2.0"}
    relation = testing.Relation("website", id=1, local_unit_data=data)
    state_in = testing.State(relations={relation}, opened_ports=PORTS)

    state_out = context.run(context.on.stop(), state_in)

    data_out = state_out.get_relation(1).local_unit_data
    assert data_out == {"private-address": "192.0.2.0"}


@pytest.mark.parametrize(
    "event", ["start", "config_changed", "update_status", "leader_elected", "upgrade_charm"]
)
@pytest.mark.parametrize(
    ("machine", "config", "status"),
    [
        ("tinyproxy_running", {}, testing.ActiveStatus()),
        ("tinyproxy_full", {}, FULL_STATUS),
        ("tinyproxy_running", INVALID_SLUG, INVALID_SLUG_STATUS),
        ("tinyproxy_absent", INVALID_SLUG, INVALID_SLUG_STATUS),
        ("port_of_another_unit", {}, OTHER_UNIT_STATUS),
        ("port_taken", {}, PORT_TAKEN_STATUS),
        ("proxy_invalid", {}, PROXY_STATUS),
    ],
)
def test_status_is_the_same_after_every_event(
    context: Context,
    request: pytest.FixtureRequest,
    machine: str,
    config: dict[str, str],
    status: testing.ActiveStatus | testing.BlockedStatus,
    event: str,
):
    """A status depends on Juju and the machine, not on the event."""
    request.getfixturevalue(machine)
    state_in = testing.State(config={**config})

    state_out = context.run(getattr(context.on, event)(), state_in)

    assert state_out.unit_status == status


@pytest.mark.parametrize("event", ["leader_elected", "upgrade_charm", "stop"])
@pytest.mark.parametrize(
    ("machine", "status"),
    [("tinyproxy_absent", NOT_INSTALLED_STATUS), ("tinyproxy_crashed", NOT_RUNNING_STATUS)],
)
def test_status_while_nothing_heals(
    context: Context,
    request: pytest.FixtureRequest,
    machine: str,
    status: testing.MaintenanceStatus,
    event: str,
):
    """A unit waits if its event neither installs nor starts tinyproxy."""
    request.getfixturevalue(machine)

    state_out = context.run(getattr(context.on, event)(), testing.State(opened_ports=PORTS))

    assert state_out.opened_ports == set()
    assert state_out.unit_status == status
