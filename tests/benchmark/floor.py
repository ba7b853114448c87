#!/usr/bin/env python3
"""The least that a charm can do: import Ops and report that the unit is active."""

import ops


class FloorCharm(ops.CharmBase):
    """Report active, and do nothing else."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        event.add_status(ops.ActiveStatus())


if __name__ == "__main__":
    ops.main(FloorCharm)
