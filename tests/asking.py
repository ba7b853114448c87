"""A client that sends requests without a pause, and counts the responses."""

import http.client
import threading
import time


class Client:
    """Sends one request after the other in its own thread, until the block ends."""

    def __init__(
        self, path: str, pause: float = 0.001, host: str = "127.0.0.1", port: int = 8000
    ) -> None:
        self._path = path
        self._pause = pause
        self._address = (host, port)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.failed = 0
        self.answered: list[float] = []  # The times of the responses, in seconds.

    def __enter__(self) -> "Client":
        self.answered.append(time.monotonic())
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self._thread.join()
        self.answered.append(time.monotonic())

    def outage(self) -> float:
        """Return the longest time without a response, in seconds."""
        times = zip(self.answered, self.answered[1:], strict=False)
        return max(later - earlier for earlier, later in times)

    def _ask(self) -> None:
        while not self._stop.wait(self._pause):
            client = http.client.HTTPConnection(*self._address, timeout=5)
            try:
                client.request("GET", self._path)
                if client.getresponse().status in (200, 301):
                    self.answered.append(time.monotonic())
                else:
                    self.failed += 1
            except (OSError, http.client.HTTPException):
                self.failed += 1
            finally:
                client.close()
