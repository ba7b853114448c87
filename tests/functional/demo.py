"""Play the life of one unit on this machine, without Juju, and show what an operator would see."""

import sys
import threading
import time
import urllib.error
import urllib.request

import machine

import tinyproxy

BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m")
    if sys.stdout.isatty()
    else ("", "", "", "", "")
)
INVALID_SLUG = "blocked: Invalid slug: 'foo/bar'. Slug must match the regex [a-z0-9-]+"


class Demo:
    """A unit whose events and answers are shown, and compared with what they should be."""

    def __init__(self) -> None:
        self.unit = machine.Unit()
        self.failures = 0

    def event(self, name: str, expected: str) -> None:
        """Run the charm for an event, and show the status after it and the time it took."""
        begin = time.perf_counter()
        status = self.unit.run(name.replace("-", "_"))
        milliseconds = (time.perf_counter() - begin) * 1000
        self._show(f"{BOLD}{name:<16}{PLAIN}{milliseconds:>6.0f} ms  ", status, expected)

    def config(self, slug: str, expected: str) -> None:
        """Change the option as an operator would, and run the charm for that."""
        print(f"\n{DIM}$ juju config tinyproxy slug={slug}{PLAIN}")
        self.unit.config(slug=slug)
        self.event("config-changed", expected)

    def request(self, slug: str, expected: int) -> None:
        """Send a request to the proxy, and show the answer."""
        url = f"http://127.0.0.1:8000/{slug}/"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                answer = f"{response.status} {title(response.read())}"
        except urllib.error.HTTPError as e:
            with e:
                answer = f"{e.status} {e.reason}"
        self._show(f"  {DIM}${PLAIN} curl {url:<32}", answer, str(expected))

    def check(self, what: str, found: str) -> None:
        """Show whether something is as it should be: found is empty then, or says what is not."""
        self._show(f"  {what}: ", found or "yes", "yes")

    def _show(self, what: str, result: str, expected: str) -> None:
        good = result.startswith(expected)
        self.failures += not good
        print(f"{what}{GREEN if good else RED}{result}{PLAIN}", flush=True)
        if not good:
            print(f"  {RED}This should be: {expected}{PLAIN}")


def title(page: bytes) -> str:
    """Return the title of a page, or an empty string if it has none."""
    _, _, rest = page.decode(errors="replace").partition("<title>")
    return rest.partition("</title>")[0]


def is_reachable(url: str) -> bool:
    """Return whether a page answers within three seconds, a slow name server included."""
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
    """Play the life of a unit from install to remove."""
    print(f"\n{DIM}$ juju deploy ./tinyproxy_amd64.charm{PLAIN}")
    demo.event("install", "maintenance: Waiting for tinyproxy to start")
    demo.event("config-changed", "active")
    demo.event("start", "active")
    demo.request("example", 200)
    demo.request("foo", 400)

    demo.config("foo", "active")
    demo.request("foo", 200)
    demo.request("example", 400)

    demo.config("foo/bar", INVALID_SLUG)
    demo.request("foo", 200)

    demo.config("example", "active")
    demo.request("example", 200)

    print(f"\n{DIM}$ juju exec --unit tinyproxy/0 'kill -KILL $(pidof tinyproxy)'{PLAIN}")
    machine.kill_tinyproxies()
    demo.event("update-status", "active")
    demo.request("example", 200)

    print(f"\n{DIM}$ juju remove-application tinyproxy{PLAIN}")
    demo.event("stop", "maintenance: Waiting for tinyproxy to start")
    demo.event("remove", "maintenance: Waiting for tinyproxy to be installed")


def main() -> int:
    """Return the exit status: 0 if everything was as it should be, 1 otherwise."""
    if reason := machine.refusal():
        print(f"Nothing was touched. {reason}", file=sys.stderr)
        return 1
    demo = Demo()
    print("The life of one unit of the tinyproxy charm on this machine, without Juju.")
    with machine.Upstream() as upstream, machine.cleaning():
        if not is_reachable(tinyproxy.UPSTREAM_URL):
            print(
                f"{tinyproxy.UPSTREAM_URL} cannot be reached: a page of our own stands in for it."
            )
            tinyproxy.UPSTREAM_URL = upstream.url
        play(demo)
        demo.check("the machine is as it was", machine.refusal())
    return 1 if demo.failures else 0


if __name__ == "__main__":
    sys.exit(main())
