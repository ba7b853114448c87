"""State transitions of the charm: one event each, on a tinyproxy that is only remembered."""

import dataclasses

import pytest
from ops import testing

import charm
import tinyproxy

Context = testing.Context[charm.TinyproxyCharm]

INVALID_SLUG = "foo/bar"
INVALID_SLUG_STATUS = testing.BlockedStatus(
    "Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
)
NOT_INSTALLED_STATUS = testing.MaintenanceStatus("Waiting for tinyproxy to be installed")
NOT_RUNNING_STATUS = testing.MaintenanceStatus("Waiting for tinyproxy to start")
PORT_TAKEN_MESSAGE = "Port 8000 is taken: stop the program that uses it"
PORTS = {testing.TCPPort(8000)}


@dataclasses.dataclass
class MockTinyproxy:
    """Stands in for the helper's functions and remembers what they would have done."""

    installed: bool = True
    running: bool = False
    config: tuple[int, str] | None = None
    calls: list[str] = dataclasses.field(default_factory=list[str])

    def ensure_config(self, port: int, slug: str) -> bool:
        changed = self.config != (port, slug)
        self.config = (port, slug)
        return changed

    def get_version(self) -> str:
        return "1.11.1"

    def install(self) -> None:
        self.calls.append("install")
        self.installed = True

    def is_installed(self) -> bool:
        return self.installed

    def is_running(self) -> bool:
        return self.running

    def reload_config(self) -> None:
        self.calls.append("reload_config")

    def start(self) -> None:
        self.calls.append("start")
        self.running = True

    def stop(self) -> None:
        self.calls.append("stop")
        self.running = False


@pytest.fixture
def mock_tinyproxy(monkeypatch: pytest.MonkeyPatch):
    """Replace what most handlers may call; a call of anything else fails the test."""
    mock = MockTinyproxy()
    for name in (
        "ensure_config",
        "get_version",
        "install",
        "is_installed",
        "is_running",
        "reload_config",
        "start",
        "stop",
    ):
        monkeypatch.setattr(f"charm.tinyproxy.{name}", getattr(mock, name))
    for name in ("is_serving", "uninstall"):
        monkeypatch.setattr(f"charm.tinyproxy.{name}", lambda: pytest.fail("not expected"))
    return mock


@pytest.fixture
def context():
    return testing.Context(charm.TinyproxyCharm)


def test_slug_valid():
    assert charm.TinyproxyConfig(slug="foo-1").slug == "foo-1"


def test_slug_invalid():
    with pytest.raises(ValueError, match=r"^Invalid slug: 'foo/bar'"):
        charm.TinyproxyConfig(slug=INVALID_SLUG)


def test_install(context: Context, mock_tinyproxy: MockTinyproxy):
    mock_tinyproxy.installed = False
    state_out = context.run(context.on.install(), testing.State())
    assert mock_tinyproxy.installed
    assert state_out.workload_version == "1.11.1"
    assert testing.MaintenanceStatus("Installing tinyproxy") in context.unit_status_history
    assert state_out.unit_status == NOT_RUNNING_STATUS


def test_install_again(context: Context, mock_tinyproxy: MockTinyproxy):
    state_out = context.run(context.on.install(), testing.State())
    assert mock_tinyproxy.calls == ["install"]
    assert state_out.workload_version == "1.11.1"


def test_start(context: Context, mock_tinyproxy: MockTinyproxy):
    state_out = context.run(context.on.start(), testing.State())
    assert mock_tinyproxy.calls == ["start"]
    assert mock_tinyproxy.config == (charm.PORT, charm.TinyproxyConfig().slug)
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_start_not_installed(context: Context, mock_tinyproxy: MockTinyproxy):
    mock_tinyproxy.installed = False
    state_out = context.run(context.on.start(), testing.State())
    assert mock_tinyproxy.calls == []
    assert mock_tinyproxy.config is None
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_INSTALLED_STATUS


def test_start_invalid_config(context: Context, mock_tinyproxy: MockTinyproxy):
    state_out = context.run(context.on.start(), testing.State(config={"slug": INVALID_SLUG}))
    assert mock_tinyproxy.calls == []
    assert mock_tinyproxy.config is None
    assert state_out.opened_ports == set()
    assert state_out.unit_status == INVALID_SLUG_STATUS


def test_start_port_taken(
    context: Context, mock_tinyproxy: MockTinyproxy, monkeypatch: pytest.MonkeyPatch
):
    def start():
        raise tinyproxy.PortTakenError(PORT_TAKEN_MESSAGE)

    monkeypatch.setattr("charm.tinyproxy.start", start)
    state_out = context.run(context.on.start(), testing.State())
    assert state_out.opened_ports == set()
    assert state_out.unit_status == testing.BlockedStatus(PORT_TAKEN_MESSAGE)


def test_start_without_effect(
    context: Context, mock_tinyproxy: MockTinyproxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("charm.tinyproxy.start", lambda: None)
    state_out = context.run(context.on.start(), testing.State())
    assert state_out.unit_status == NOT_RUNNING_STATUS


def test_config_changed(context: Context, mock_tinyproxy: MockTinyproxy):
    mock_tinyproxy.running = True
    mock_tinyproxy.config = (8000, "example")
    state_out = context.run(context.on.config_changed(), testing.State(config={"slug": "foo"}))
    assert mock_tinyproxy.calls == ["reload_config"]
    assert mock_tinyproxy.config == (8000, "foo")
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_config_changed_before_start(context: Context, mock_tinyproxy: MockTinyproxy):
    state_out = context.run(context.on.config_changed(), testing.State(config={"slug": "foo"}))
    assert mock_tinyproxy.calls == ["start"]
    assert mock_tinyproxy.config == (8000, "foo")
    assert state_out.unit_status == testing.ActiveStatus()


def test_config_changed_invalid_config(context: Context, mock_tinyproxy: MockTinyproxy):
    mock_tinyproxy.running = True
    mock_tinyproxy.config = (8000, "example")
    state_in = testing.State(config={"slug": INVALID_SLUG}, opened_ports=PORTS)
    state_out = context.run(context.on.config_changed(), state_in)
    assert mock_tinyproxy.calls == []
    assert mock_tinyproxy.config == (8000, "example")
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == INVALID_SLUG_STATUS


def test_update_status_when_serving(
    context: Context, mock_tinyproxy: MockTinyproxy, monkeypatch: pytest.MonkeyPatch
):
    mock_tinyproxy.running = True
    mock_tinyproxy.config = (8000, "example")
    monkeypatch.setattr("charm.tinyproxy.is_serving", lambda: True)
    state_out = context.run(context.on.update_status(), testing.State())
    assert mock_tinyproxy.calls == []
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_when_not_serving(
    context: Context, mock_tinyproxy: MockTinyproxy, monkeypatch: pytest.MonkeyPatch
):
    mock_tinyproxy.running = True
    mock_tinyproxy.config = (8000, "example")
    monkeypatch.setattr("charm.tinyproxy.is_serving", lambda: False)
    state_out = context.run(context.on.update_status(), testing.State())
    assert mock_tinyproxy.calls == ["reload_config"]
    assert state_out.unit_status == testing.ActiveStatus()


def test_update_status_when_not_running(context: Context, mock_tinyproxy: MockTinyproxy):
    mock_tinyproxy.config = (8000, "example")
    state_out = context.run(context.on.update_status(), testing.State())
    assert mock_tinyproxy.calls == ["start"]
    assert state_out.opened_ports == PORTS
    assert state_out.unit_status == testing.ActiveStatus()


def test_stop(context: Context, mock_tinyproxy: MockTinyproxy):
    mock_tinyproxy.running = True
    state_out = context.run(context.on.stop(), testing.State(opened_ports=PORTS))
    assert mock_tinyproxy.calls == ["stop"]
    assert state_out.opened_ports == set()
    assert state_out.unit_status == NOT_RUNNING_STATUS


def test_remove(context: Context, mock_tinyproxy: MockTinyproxy, monkeypatch: pytest.MonkeyPatch):
    def uninstall():
        mock_tinyproxy.installed = False

    monkeypatch.setattr("charm.tinyproxy.uninstall", uninstall)
    state_out = context.run(context.on.remove(), testing.State())
    assert not mock_tinyproxy.installed
    assert state_out.unit_status == NOT_INSTALLED_STATUS


def test_invalid_slug_is_graver_than_not_installed(
    context: Context, mock_tinyproxy: MockTinyproxy
):
    mock_tinyproxy.installed = False
    state_in = testing.State(config={"slug": INVALID_SLUG})
    state_out = context.run(context.on.update_status(), state_in)
    assert state_out.unit_status == INVALID_SLUG_STATUS
