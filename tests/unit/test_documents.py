"""The documents agree with the code where a reader relies on it."""

import pathlib

import pytest
import yaml

import charm

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CHARMCRAFT = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())


def test_default_slug():
    """The code and charmcraft.yaml have the same default."""
    assert charm.TinyproxyConfig().slug == CHARMCRAFT["config"]["options"]["slug"]["default"]


def test_readme_option():
    """The README describes the option as charmcraft.yaml does."""
    slug = CHARMCRAFT["config"]["options"]["slug"]

    assert f"| `slug` | {slug['type']} | `{slug['default']}` | {slug['description']} |" in README


@pytest.mark.parametrize(
    "message",
    [
        "Full: new clients wait until others leave",
        "Installing tinyproxy",
        "Invalid juju-http-proxy: use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT",
        "Invalid slug: '…'. Slug must match the regex [a-z0-9-]+",
        "Port 8000 is taken by another unit on this machine",
        "Port 8000 is taken: stop the program that uses it",
        "Removing tinyproxy",
        "Waiting for tinyproxy to be installed",
        "Waiting for tinyproxy to start",
        "Waiting until another process releases …",
    ],
)
def test_readme_status(message: str):
    """The README says what to do about each status."""
    assert f" | {message} | " in README


@pytest.mark.parametrize("command", ["pipx run tox -e demo", "pipx run tox"])
def test_readme_command_for_a_new_machine(command: str):
    """The CI script finds the two commands that set up a new machine."""
    assert f"apt-get update && apt-get install --yes pipx && {command}\n" in README
