"""Run the life of one unit on this machine without Juju, and show what an operator would see."""

import sys
import threading
import time
import urllib.error
import urllib.request

import tinyproxy
from tests.functional import life, machine

BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m")
    if sys.stdout.isatty()
    else ("", "", "", "", "")
)


class Demo:
    """A unit whose statuses and responses are shown, and compared with the expected ones."""

    def __init__(self) -> None:
        self.unit = machine.Unit()
        self.failures = 0

    def event(self, name: str, expected: str) -> None:
        """Run the charm for an event, and show the resulting status and the time."""
        begin = time.perf_counter()
        status = self.unit.run(name)
        milliseconds = (time.perf_counter() - begin) * 1000
        self._show(f"{BOLD}{name:<16}{PLAIN}{milliseconds:>6.0f} ms  ", status, expected)

    def request(self, slug: str, expected: int) -> None:
        """Send a request to the proxy, and show the response."""
        url = f"http://127.0.0.1:8000/{slug}/"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                answer = f"{response.status} {title(response.read())}"
        except urllib.error.HTTPError as e:
            with e:
                answer = f"{e.status} {e.reason}"
        self._show(f"  {DIM}${PLAIN} curl {url:<32}", answer, str(expected))

    def check(self, what: str, problem: str) -> None:
        """Show whether a check succeeds: if so, the problem is an empty string."""
        self._show(f"{what}: ", problem or "yes", "yes")

    def _show(self, what: str, result: str, expected: str) -> None:
        good = result.startswith(expected)
        self.failures += not good
        print(f"{what}{GREEN if good else RED}{result}{PLAIN}", flush=True)
        if not good:
            print(f"  {RED}Expected: {expected}{PLAIN}")


def title(page: bytes) -> str:
    """Return the title of a page, or an empty string if it has none."""
    _, _, rest = page.decode(errors="replace").partition("<title>")
    return rest.partition("</title>")[0]


def is_reachable(url: str) -> bool:
    """Return whether a page is reachable within three seconds, including its name server."""
    reached: list[bool] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=3) as response:  # noqa: S310  # It is http.
                reached.append(response.status == 200)
        except OSError:
            pass

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(3)
    return reached == [True]


def play(demo: Demo) -> None:
    """Run the events of a unit's life, and kill tinyproxy before update-status."""
    for step in life.LIFE:
        if step.event == "update-status":
            print(f"\n{DIM}$ juju exec --unit tinyproxy/0 'kill -KILL $(pidof tinyproxy)'{PLAIN}")
            machine.kill_tinyproxies()
        if step.command:
            print(f"\n{DIM}$ {step.command}{PLAIN}")
        demo.unit.config(slug=step.slug)
        demo.event(step.event, step.status)
        if step.served:
            demo.request(step.served, 200)
            demo.request("example" if step.served == "foo" else "foo", 400)


def main() -> int:
    """Return the exit status: 0 if each result was the expected one, 1 otherwise."""
    if reason := machine.refusal():
        print(f"Nothing was touched. {reason}", file=sys.stderr)
        return 1
    demo = Demo()
    print("The life of one unit of the tinyproxy charm on this machine, without Juju.")
    with machine.Upstream() as upstream, machine.cleaning():
        if not is_reachable(tinyproxy.UPSTREAM_URL):
            print(
                f"{tinyproxy.UPSTREAM_URL} can't be reached. The demo serves its own page instead."
            )
            tinyproxy.UPSTREAM_URL = upstream.url
        play(demo)
        demo.check("\nThe machine is as it was before", machine.refusal())
    return 1 if demo.failures else 0


if __name__ == "__main__":
    sys.exit(main())
