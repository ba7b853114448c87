"""What Juju says to a unit that asks for a port of another unit on the same machine."""

import ops


def open_port(unit: ops.Unit, protocol: str, port: int) -> None:
    """Stand in for :meth:`ops.Unit.open_port`, and fail with the words of Juju 4.0.14."""
    raise ops.ModelError(
        f'ERROR cannot open {port}/{protocol} (unit "second/0"): port range conflicts'
        f' with {port}/{protocol} (unit "tinyproxy/0")'
    )
