"""Juju's error if a unit opens a port that another unit on the same machine has."""

import ops


def open_port(unit: ops.Unit, protocol: str, port: int) -> None:
    """Replace :meth:`ops.Unit.open_port`, and raise the error of Juju 4.0.14."""
    raise ops.ModelError(
        f'ERROR cannot open {port}/{protocol} (unit "second/0"): port range conflicts'
        f' with {port}/{protocol} (unit "tinyproxy/0")'
    )
