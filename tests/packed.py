"""The packed charm for the tests."""

import os
import pathlib


def find() -> pathlib.Path:
    """Return the path of the packed charm.

    The environment variable CHARM_PATH names the file. Without this variable, it's the only file
    in the project's folder that ends with ``.charm``.

    Raises:
        FileNotFoundError: if there is no such file, or if the folder has several.
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
