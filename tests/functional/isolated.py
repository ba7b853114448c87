"""Run one unit in namespaces: read events from standard input, one per line.

The arguments are the unit's address and, optionally, the URL of the upstream. For each event, this
prints a line of JSON: the unit's status, its relation data for load balancers, and how many
requests have reached its own upstream.
"""

import dataclasses
import json
import os
import signal
import sys

from ops import testing

import tinyproxy
from tests.functional import machine


def main() -> None:
    """Run the charm for each event from standard input."""
    relation = testing.Relation("website", id=1)
    network = testing.Network("website", ingress_addresses=[sys.argv[1]])
    unit = machine.Unit()
    unit.state = dataclasses.replace(unit.state, relations={relation}, networks={network})
    with machine.Upstream() as upstream:
        tinyproxy.UPSTREAM_URL = sys.argv[2] if len(sys.argv) > 2 else upstream.url
        for line in sys.stdin:
            event = line.strip()
            if event == "kill":
                os.kill(int(tinyproxy.PID_FILE.read_text()), signal.SIGKILL)
                status = "killed"
            else:
                status = unit.run(event)
            data = unit.state.get_relation(relation.id).local_unit_data
            print(json.dumps([status, data, len(upstream.requests)]), flush=True)


main()
