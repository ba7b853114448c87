"""Send requests to the proxy with so many clients at a time, until this program is ended."""

import contextlib
import sys
import threading

from tests.functional import machine


def client() -> None:
    """Send one request after the other."""
    while True:
        # While it reloads, tinyproxy drops some of its clients without an answer.
        with contextlib.suppress(OSError):
            machine.get("/example/")


for _ in range(int(sys.argv[1])):
    threading.Thread(target=client).start()
