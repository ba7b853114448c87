"""The life of a unit: operators' commands, events, and the status and slug that result."""

import dataclasses

INVALID_SLUG = "blocked: Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"
NOT_INSTALLED = "maintenance: Waiting for tinyproxy to be installed"
NOT_RUNNING = "maintenance: Waiting for tinyproxy to start"


@dataclasses.dataclass(frozen=True)
class Step:
    """An event, after a command that an operator types or another event."""

    event: str
    status: str
    served: str = ""  # The only slug that tinyproxy serves after the event.
    command: str = ""
    slug: str = "example"


LIFE = [
    Step("install", NOT_RUNNING, command="juju deploy ./tinyproxy_amd64.charm"),
    Step("config-changed", "active", "example"),
    Step("start", "active", "example"),
    Step("config-changed", "active", "foo", "juju config tinyproxy slug=foo", "foo"),
    Step("config-changed", INVALID_SLUG, "foo", "juju config tinyproxy slug=foo/bar", "foo/bar"),
    Step("config-changed", "active", "example", "juju config tinyproxy slug=example"),
    Step("update-status", "active", "example"),
    Step("stop", NOT_RUNNING, command="juju remove-application --no-prompt tinyproxy"),
    Step("remove", NOT_INSTALLED),
]
