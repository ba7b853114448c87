"""A unit of the packed charm, which runs as Juju runs it: one process for each event."""

import json
import pathlib
import subprocess
import zipfile

# This replaces each hook tool. It logs its arguments, and prints what Juju would.
HOOK_TOOL = """\
#!/bin/sh
{ printf '%s\\037' "${0##*/}" "$@"; printf '\\036'; } >> "$HOOK_TOOLS_LOG"
case ${0##*/} in
    config-get) echo "$HOOK_TOOLS_CONFIG" ;;
    is-leader) echo true ;;
    opened-ports | relation-ids) echo '[]' ;;
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
    "relation-ids",
    "state-delete",
    "state-get",
    "state-set",
    "status-get",
    "status-set",
)


class PackedUnit:
    """A unit of the packed charm, and how its last hook called the hook tools."""

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

    def config(self, slug: str) -> None:
        """Set the option."""
        self.slug = slug

    def environment(self, event: str) -> dict[str, str]:
        """Return the environment in which Juju runs the charm for an event."""
        return {
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

    def run(self, event: str, *launcher: str) -> str:
        """Dispatch an event, and return the status and message that the unit has then."""
        self.log.unlink(missing_ok=True)
        result = subprocess.run(
            [*launcher, self.charm / "dispatch"],
            capture_output=True,
            cwd=self.charm,
            env=self.environment(event),
            text=True,
            timeout=60,
        )
        records = self.log.read_text().split("\036")[:-1]
        self.calls = [record.split("\037")[:-1] for record in records]
        # Juju logs what a hook prints. Such lines don't help operators.
        assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), self.calls
        assert not [call for call in self.calls if {"WARNING", "ERROR"} & set(call)]
        return self.arguments("status-set")[-1]

    def arguments(self, tool: str) -> list[str]:
        """Return the arguments of each call of a hook tool in the last hook, except options."""
        calls = [arguments for name, *arguments in self.calls if name == tool]
        return [": ".join(word for word in call if word and word[0] != "-") for call in calls]
