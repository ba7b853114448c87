"""Where the tests find the packed charm."""

import os
import pathlib


def find() -> pathlib.Path:
    """Return the path of the packed charm.

    That is the file that the environment's CHARM_PATH names, else the only one with the ending
    ``.charm`` in the project's folder.

    Raises:
        FileNotFoundError: if CHARM_PATH names no file, or there is not exactly one in the folder.
    """
    if path := os.environ.get("CHARM_PATH"):
        charms = [pathlib.Path(path).resolve()]
    else:
        charms = list(pathlib.Path(__file__).parents[1].glob("*.charm"))
    if len(charms) != 1 or not charms[0].is_file():
        raise FileNotFoundError(
            "Pack the charm with charmcraft pack, or set CHARM_PATH to the path of a packed one."
        )
    return charms[0]
