"""The packed charm, run as Juju runs it: one process for each event."""

import os
import pathlib
import zipfile

import pytest

import tinyproxy
from tests.functional import life, machine
from tests.functional.packed_unit import PackedUnit


def test_package_contents(charm_path: pathlib.Path):
    with zipfile.ZipFile(charm_path) as archive:
        names = archive.namelist()
    assert {name for name in names if name.startswith("src/") and name != "src/"} == {
        "src/charm.py",
        "src/tinyproxy.py",
    }
    assert {name.partition("/")[0] for name in names} == {
        "config.yaml",
        "dispatch",
        "manifest.yaml",
        "metadata.yaml",
        "src",
        "venv",
    }
    packages = {name.partition("site-packages/")[2].partition("/")[0] for name in names}
    assert {"ops", "charmlibs"} <= packages
    assert not packages & {"pytest", "_pytest", "scenario", "ruff", "coverage", "jubilant"}


def serves(slug: str) -> bool:
    """Return whether the proxy serves this slug and no other, without using the upstream."""
    answers = {path: machine.get(f"/{path}") for path in ("example", "foo")}
    return answers == {path: 301 if path == slug else 400 for path in answers}


@pytest.mark.usefixtures("new_machine")
def test_life_of_a_packed_unit(packed: PackedUnit):
    assert os.access(packed.charm / "src" / "charm.py", os.X_OK)
    for step in life.LIFE:
        packed.config(slug=step.slug)
        assert packed.run(step.event) == step.status
        if step.event == "install":
            assert "maintenance: Installing tinyproxy" in packed.arguments("status-set")
            assert packed.arguments("application-version-set") == [tinyproxy.get_version()]
        if step.served:
            assert set(packed.arguments("open-port")) == {"8000/tcp"}
            assert packed.arguments("close-port") == []
            assert serves(step.served)
        else:
            assert packed.arguments("close-port") == ["8000/tcp"]
            assert machine.tinyproxies() == []
    assert machine.refusal() == ""


def test_log_lines_for_operators(packed: PackedUnit):
    def log() -> list[str]:
        """Return the lines for operators in Juju's log."""
        lines = packed.arguments("juju-log")
        return [line.removeprefix("INFO: ") for line in lines if line.startswith("INFO: ")]

    packed.run("install")
    assert log() == []
    packed.run("start")
    assert log() == ["Started tinyproxy: it serves /example/"]
    packed.run("update-status")
    assert log() == []
    packed.config(slug="foo")
    packed.run("config-changed")
    assert log() == ["tinyproxy serves /foo/ now"]
    machine.kill_tinyproxies()
    packed.run("update-status")
    assert log() == ["Started tinyproxy: it serves /foo/"]


def test_hook_without_the_right_to_trace(packed: PackedUnit):
    launcher = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    packed.run("install", *launcher)
    assert packed.run("start", *launcher) == "active"
    [pid] = machine.tinyproxies()
    packed.config(slug="foo")
    assert packed.run("config-changed", *launcher) == "active"
    tinyproxy.PID_FILE.unlink()
    assert packed.run("update-status", *launcher) == "active"
    assert machine.tinyproxies() == [pid]
    assert serves("foo")
    packed.run("stop", *launcher)
    assert machine.tinyproxies() == []
