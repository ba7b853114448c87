"""Fixtures of the integration tests, in addition to those of pytest-jubilant."""

import jubilant
import pytest

from tests import packed


@pytest.fixture(scope="session")
def charm():
    """Return the path of the packed charm."""
    return packed.find()


@pytest.fixture(scope="module")
def juju(juju: jubilant.Juju):
    """Wait for up to 20 minutes, because a new machine can take longer than Jubilant's default."""
    juju.wait_timeout = 20 * 60
    return juju
