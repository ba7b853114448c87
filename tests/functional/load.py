"""Send requests to the proxy, from as many clients as the argument says, without an end."""

import contextlib
import sys
import threading

from tests.functional import machine


def client() -> None:
    """Send one request after the other."""
    while True:
        # During a reload, tinyproxy drops some connections without a response.
        with contextlib.suppress(OSError):
            machine.get("/example/")


for _ in range(int(sys.argv[1])):
    threading.Thread(target=client).start()
