"""Fixtures of the integration tests, beside those of pytest-jubilant."""

import jubilant
import pytest

from tests import packed


@pytest.fixture(scope="session")
def charm():
    """Return the path of the packed charm."""
    return packed.find()


@pytest.fixture(scope="module")
def juju(juju: jubilant.Juju):
    """Give a new machine the time to boot: minutes, where Jubilant would wait for three."""
    juju.wait_timeout = 20 * 60
    return juju
