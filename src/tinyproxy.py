"""Functions for running tinyproxy on this machine.

They keep no state between calls: what is true is read from the machine each time.
"""

import collections.abc
import contextlib
import errno
import logging
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from charmlibs import apt, pathops

CONFIG_FILE = pathlib.Path("/etc/tinyproxy/tinyproxy.conf")
PID_FILE = pathlib.Path("/var/run/tinyproxy.pid")
UPSTREAM_URL = "http://www.example.com/"

_ANSWER_SECONDS = 1.0  # For one request to this machine.
_FREE_PORT_SECONDS = 0.2  # For the kernel to close what a killed process had open.
_SIGNAL_SECONDS = 2.0  # For a signal to have its effect, which takes milliseconds.
_START_SECONDS = 10.0  # For a start, on a machine that is busy with its own.
_POLL_SECONDS = 0.002
_PACKAGE = "tinyproxy-bin"
_PROC = pathlib.Path("/proc")
_SLUG_MAX_CHARACTERS = 200
_SLUG_REGEX = "[a-z0-9-]+"

logger = logging.getLogger(__name__)


class PortTakenError(Exception):
    """Another program listens on the port that tinyproxy is configured to use."""


def check_slug(slug: str) -> None:
    """Check that a slug can be the path of the proxy.

    Raises:
        ValueError: if the slug does not match the regex or has more than 200 characters.
    """
    if len(slug) > _SLUG_MAX_CHARACTERS:
        raise ValueError(
            f"Invalid slug: '{slug[:20]}...'. Slug must match the regex {_SLUG_REGEX} "
            f"and have at most {_SLUG_MAX_CHARACTERS} characters"
        )
    if not re.fullmatch(_SLUG_REGEX, slug):
        raise ValueError(f"Invalid slug: '{slug}'. Slug must match the regex {_SLUG_REGEX}")


def ensure_config(port: int, slug: str) -> bool:
    """Make the config file say this port and slug, and return whether anything was changed."""
    # https://manpages.ubuntu.com/manpages/noble/en/man5/tinyproxy.conf.5.html
    # A client takes two sockets, and a process can often open 1,024: 500 clients fit.
    config = f"""\
# Managed by Juju: changes are overwritten.
PidFile "{PID_FILE}"
Port {port}
Timeout 600
ReverseOnly Yes
ReversePath "/{slug}/" "{UPSTREAM_URL}"
User nobody
Group nogroup
MaxClients 500
Syslog On
LogLevel Notice
"""
    return pathops.ensure_contents(CONFIG_FILE, config)


def get_version() -> str:
    """Return the version of the installed tinyproxy, such as ``1.11.1``."""
    return _run("tinyproxy", "-v").split()[-1]


def install() -> None:
    """Install tinyproxy in the newest version that the archive has.

    Raises:
        RuntimeError: if the package lists cannot be updated.
        apt.Error: if the package cannot be found or installed.
    """
    try:
        apt.update()
    except subprocess.CalledProcessError as e:
        raise RuntimeError(f"Could not update the package lists: {e.stderr.decode()}") from e
    apt.DebianPackage.from_apt_cache(_PACKAGE).ensure(apt.PackageState.Latest)


def is_installed() -> bool:
    """Return whether the tinyproxy executable is there."""
    return shutil.which("tinyproxy") is not None


def is_running() -> bool:
    """Return whether our tinyproxy is running."""
    return bool(_pids())


def is_serving() -> bool:
    """Return whether tinyproxy answers, within a second, on the port and slug of the config file.

    It answers a request for ``/<slug>`` itself, with a redirect to ``/<slug>/``, if and only if
    that slug is in force. The upstream is not asked.
    """
    try:
        port, path = _read_config()
        with socket.socket() as client:
            client.settimeout(_ANSWER_SECONDS)
            client.connect(("127.0.0.1", port))
            client.sendall(f"GET {path.rstrip('/')} HTTP/1.0\r\n\r\n".encode())
            return b" 301 " in client.recv(32)  # The status line fits, and comes in one piece.
    except OSError:
        return False


def reload_config() -> None:
    """Make tinyproxy serve what the config file says, by a restart if a signal is not enough."""
    _signal(signal.SIGUSR1)
    # A reload amid many requests can crash tinyproxy, for it frees what it still uses.
    settled = _wait_until(lambda: is_serving() or not is_running(), _SIGNAL_SECONDS)
    if not (settled and is_running()):
        logger.warning("tinyproxy did not reload its config file; restarting it")
        stop()
        start()


def start() -> None:
    """Start tinyproxy as a daemon and wait until it serves.

    Raises:
        PortTakenError: if another program listens on the port.
        RuntimeError: if tinyproxy fails, or does not serve within ten seconds.
    """
    port, _ = _read_config()
    # Tinyproxy does not tell when the port is taken.
    if not _wait_until(lambda: _is_port_free(port), _FREE_PORT_SECONDS):
        raise PortTakenError(f"Port {port} is taken by another program")
    _run("tinyproxy", "-c", str(CONFIG_FILE))
    # A signal would end tinyproxy before it has handlers, which it installs before it answers.
    if not _wait_until(is_serving, _START_SECONDS):
        stop()
        raise RuntimeError(f"tinyproxy started, but does not answer on port {port}")


def stop() -> None:
    """Stop tinyproxy, by force if it does not end within two seconds.

    Raises:
        RuntimeError: if it does not end even then.
    """
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        _signal(signal_number)
        if _wait_until(lambda: not is_running(), _SIGNAL_SECONDS):
            return
    raise RuntimeError("tinyproxy does not end")


def uninstall() -> None:
    """Remove the package, the config file, the PID file, and the config folder if it is empty."""
    apt.remove_package(_PACKAGE)
    CONFIG_FILE.unlink(missing_ok=True)
    PID_FILE.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # The folder is gone, or holds files of others.
        CONFIG_FILE.parent.rmdir()


def _is_port_free(port: int) -> bool:
    """Return whether tinyproxy would get the port, on IPv4 and on IPv6."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.create_server(("", port), family=family).close()
        except OSError as e:  # Any other error says that the machine lacks this family.
            if e.errno == errno.EADDRINUSE:
                return False
    return True


def _pids() -> list[int]:
    """Return the numbers of the processes that are tinyproxy running with our config file."""
    # The PID file is no help: it can be stale, empty, deleted, or name somebody else's process.
    pids: list[int] = []
    for name in filter(str.isdigit, os.listdir(_PROC)):
        process = f"{_PROC}/{name}"
        # A process can end while we look, and a zombie has no program any more: see proc(5).
        with contextlib.suppress(OSError):
            program = os.readlink(f"{process}/exe").removesuffix(" (deleted)")
            if os.path.basename(program) != "tinyproxy":
                continue
            arguments = pathlib.Path(process, "cmdline").read_bytes().split(b"\0")[1:-1]
            # Without -c, tinyproxy reads the same file. Containers have a root of their own.
            if arguments in ([], [b"-c", os.fsencode(CONFIG_FILE)]) and (
                os.path.samefile(f"{process}/root", "/")
            ):
                pids.append(int(name))
    return pids


def _read_config() -> tuple[int, str]:
    """Return the port and the path that the config file names."""
    config = dict(line.split(maxsplit=1) for line in CONFIG_FILE.read_text().splitlines())
    return int(config["Port"]), config["ReversePath"].split('"')[1]


def _run(*command: str) -> str:
    """Return what a command prints; raise RuntimeError with its own words if it fails."""
    try:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_START_SECONDS
        ).stdout
    except subprocess.CalledProcessError as e:
        raise RuntimeError(f"{e} {e.stderr}") from e


def _signal(signal_number: signal.Signals) -> None:
    """Send a signal to our tinyproxy, if it is running."""
    for pid in _pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def _wait_until(condition: collections.abc.Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition comes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
