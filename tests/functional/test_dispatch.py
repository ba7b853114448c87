"""The packed charm, run as Juju runs it: a process an event, and hook tools on the PATH."""

import json
import os
import pathlib
import signal
import subprocess
import zipfile

import machine
import packed
import pytest

import tinyproxy

# Stands for every hook tool: it notes how it is called, and answers as Juju would.
HOOK_TOOL = """\
#!/bin/sh
{ printf '%s\\037' "${0##*/}" "$@"; printf '\\036'; } >> "$HOOK_TOOLS_LOG"
case ${0##*/} in
    config-get) echo "$HOOK_TOOLS_CONFIG" ;;
    is-leader) echo true ;;
    opened-ports) echo '[]' ;;
    state-get) echo '{}' ;;
    status-get) echo '{"status": "unknown", "message": ""}' ;;
esac
"""
HOOK_TOOLS = (
    "application-version-set",
    "close-port",
    "config-get",
    "is-leader",
    "juju-log",
    "open-port",
    "opened-ports",
    "state-delete",
    "state-get",
    "state-set",
    "status-get",
    "status-set",
)


@pytest.fixture(scope="session")
def charm_path():
    """Return the path of the packed charm."""
    try:
        return packed.find()
    except FileNotFoundError as e:
        pytest.skip(str(e))


class PackedUnit:
    """A unit of the packed charm, with what it told Juju in the hook that ran last."""

    def __init__(self, charm_path: pathlib.Path, folder: pathlib.Path) -> None:
        self.charm = folder / "charm"
        with zipfile.ZipFile(charm_path) as archive:
            for member in archive.infolist():
                path = pathlib.Path(archive.extract(member, self.charm))
                path.chmod(member.external_attr >> 16)
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name in HOOK_TOOLS:
            (self.tools / name).write_text(HOOK_TOOL)
            (self.tools / name).chmod(0o755)
        self.log = folder / "log"
        self.slug = "example"
        self.calls: list[list[str]] = []

    def run(self, event: str) -> str:
        """Dispatch an event, and return the status and message that the unit has then."""
        self.log.unlink(missing_ok=True)
        environment = {
            "CHARM_DIR": str(self.charm),
            "HOOK_TOOLS_CONFIG": json.dumps({"slug": self.slug}),
            "HOOK_TOOLS_LOG": str(self.log),
            "JUJU_CHARM_DIR": str(self.charm),
            "JUJU_CONTEXT_ID": f"tinyproxy/0-{event}-1",
            "JUJU_DISPATCH_PATH": f"hooks/{event}",
            "JUJU_HOOK_NAME": event,
            "JUJU_MODEL_NAME": "test",
            "JUJU_MODEL_UUID": "00000000-0000-4000-8000-000000000000",
            "JUJU_UNIT_NAME": "tinyproxy/0",
            "JUJU_VERSION": "3.6.0",
            "LANG": "C.UTF-8",
            "PATH": f"{self.tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        result = subprocess.run(
            [self.charm / "dispatch"],
            capture_output=True,
            cwd=self.charm,
            env=environment,
            text=True,
            timeout=60,
        )
        records = self.log.read_text().split("\036")[:-1]
        self.calls = [record.split("\037")[:-1] for record in records]
        # Juju logs what a hook prints, and such lines help nobody.
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), self.calls
        assert not [call for call in self.calls if {"WARNING", "ERROR"} & set(call)]
        return self.told("status-set")[-1]

    def told(self, tool: str) -> list[str]:
        """Return what a hook tool was told in the hook that ran last, without the options."""
        calls = [arguments for name, *arguments in self.calls if name == tool]
        return [": ".join(word for word in call if word and word[0] != "-") for call in calls]


@pytest.fixture
def packed_unit(charm_path: pathlib.Path, tmp_path: pathlib.Path):
    """Return a unit of the packed charm on which nothing has happened yet."""
    machine.clean()
    yield PackedUnit(charm_path, tmp_path)
    machine.clean()


def slug_in_force() -> set[str]:
    """Return which slugs are in force: tinyproxy answers for them without its upstream."""
    return {slug for slug in ("example", "foo") if machine.get(f"/{slug}") == 301}


def test_package_holds_what_runs_and_nothing_else(charm_path: pathlib.Path):
    with zipfile.ZipFile(charm_path) as archive:
        names = archive.namelist()
    assert {name for name in names if name.startswith("src/") and name != "src/"} == {
        "src/charm.py",
        "src/tinyproxy.py",
    }
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"tests", "pytest", "_pytest", "scenario", "ruff", "coverage", ".git"}
    assert not {"uv.lock", "pyproject.toml", "tox.ini"} & set(names)


def test_life_of_a_packed_unit(packed_unit: PackedUnit):
    unit = packed_unit
    assert os.access(unit.charm / "src" / "charm.py", os.X_OK)

    assert unit.run("install") == "maintenance: Waiting for tinyproxy to start"
    assert "maintenance: Installing tinyproxy" in unit.told("status-set")
    assert unit.told("application-version-set") == [tinyproxy.get_version()]
    unit.run("leader-elected")
    assert unit.run("config-changed") == "active"
    assert unit.run("start") == "active"
    assert unit.told("open-port") == ["8000/tcp"]
    assert slug_in_force() == {"example"}

    unit.slug = "foo"
    assert unit.run("config-changed") == "active"
    assert slug_in_force() == {"foo"}

    unit.slug = "foo/bar"
    assert unit.run("config-changed") == (
        "blocked: Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
    )
    assert slug_in_force() == {"foo"}

    unit.slug = "example"
    assert unit.run("config-changed") == "active"
    assert slug_in_force() == {"example"}

    [pid] = machine.tinyproxies()
    os.kill(pid, signal.SIGKILL)
    assert unit.run("update-status") == "active"
    assert slug_in_force() == {"example"}
    assert unit.run("upgrade-charm") == "active"

    unit.run("stop")
    assert unit.told("close-port") == ["8000/tcp"]
    assert machine.tinyproxies() == []
    unit.run("remove")
    assert machine.refusal() == ""
