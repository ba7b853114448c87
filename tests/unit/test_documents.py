"""What the documents say, where it could drift away from the code."""

import configparser
import pathlib
import re

import pytest
import yaml

import charm
import tinyproxy

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CHARM = (ROOT / "src" / "charm.py").read_text()
HELPER = (ROOT / "src" / "tinyproxy.py").read_text()


def test_readme_describes_each_option():
    options = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())["config"]["options"]
    for name, option in options.items():
        row = f"| `{name}` | {option['type']} | `{option['default']}` | {option['description']} |"
        assert row in README


def test_default_of_the_code_is_that_of_the_option():
    options = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())["config"]["options"]
    assert charm.TinyproxyConfig().slug == options["slug"]["default"]


def test_readme_explains_each_status():
    messages = re.findall(r'ops\.\w+Status\("(.+)"\)', CHARM)
    [port_taken] = re.findall(r'PortTakenError\(f"(.+)"\)', HELPER)
    with pytest.raises(ValueError, match="foo/bar") as excinfo:
        tinyproxy.check_slug("foo/bar")
    messages += [port_taken.format(port=charm.PORT), str(excinfo.value).replace("foo/bar", "…")]
    assert len(messages) == 5
    for message in messages:
        assert f" | {message} | " in README


def test_documents_name_tox_environments_that_exist():
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    named = set(re.findall(r"tox -e (\w+)", README + CONTRIBUTING))
    assert {"demo", "functional"} < named
    assert named <= {section.removeprefix("testenv:") for section in tox.sections()}


def test_documents_name_tests_that_exist():
    table = CONTRIBUTING.partition("## What is guaranteed")[2].partition("## ")[0]
    tests = "".join(file.read_text() for file in (ROOT / "tests" / "functional").glob("test_*.py"))
    names = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row[-60:])]
    assert len(names) > 20
    for name in names:
        assert re.search(rf"def test_\w*{name}", tests), name


def test_readme_has_two_commands_for_a_fresh_machine():
    commands = [line for line in README.splitlines() if line.startswith("apt-get update && ")]
    assert [command.rpartition(" && ")[2] for command in commands] == [
        "pipx run tox -e demo",
        "pipx run tox",
    ]
