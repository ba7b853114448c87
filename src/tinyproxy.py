"""Run tinyproxy on this machine. Nothing is remembered: each call looks at the machine."""

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

_PACKAGE = "tinyproxy-bin"
_PROC = pathlib.Path("/proc")
_SLUG_CHARACTERS = 200
# Deadlines: each of these takes milliseconds, unless something is wrong or the machine is busy.
_ANSWER_SECONDS = 1.0
_SIGNAL_SECONDS = 2.0
_START_SECONDS = 10.0

logger = logging.getLogger(__name__)


class PortTakenError(Exception):
    """Another program listens on the port that tinyproxy is configured to use."""


def check_slug(slug: str) -> None:
    """Raise ValueError unless a slug matches the regex and has at most 200 characters."""
    rule = "Slug must match the regex [a-z0-9-]+"
    if len(slug) > _SLUG_CHARACTERS:
        rule += f" and have at most {_SLUG_CHARACTERS} characters"
        raise ValueError(f"Invalid slug: '{slug[:20]}...'. {rule}")
    if not re.fullmatch("[a-z0-9-]+", slug):
        raise ValueError(f"Invalid slug: '{slug}'. {rule}")


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
    """Return the installed version, such as ``1.11.1``; raise RuntimeError if tinyproxy fails."""
    return _run("tinyproxy", "-v").split()[-1]


def install() -> None:
    """Install the newest version of the archive; raise RuntimeError or apt.Error if APT fails."""
    try:
        apt.update()
    except subprocess.CalledProcessError as e:
        raise RuntimeError(f"Could not update the package lists: {e.stderr.decode()}") from e
    apt.DebianPackage.from_apt_cache(_PACKAGE).ensure(apt.PackageState.Latest)


def is_installed() -> bool:
    """Return whether the tinyproxy executable is there."""
    return shutil.which("tinyproxy") is not None


def is_running() -> bool:
    """Return whether our tinyproxy is running: one on this machine, with our config file."""
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
    """Make tinyproxy serve what the config file says, by a restart if a signal is not enough.

    The signal gets two seconds. Raises what :func:`stop` and :func:`start` raise.
    """
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
    # Tinyproxy does not tell when the port is taken. One that was killed frees it a moment later.
    if not _wait_until(lambda: _is_port_free(port), 0.2):
        raise PortTakenError(f"Port {port} is taken: stop the program that uses it")
    _run("tinyproxy", "-c", str(CONFIG_FILE))
    # Until it answers, it has no signal handlers: a signal would end it.
    if not _wait_until(is_serving, _START_SECONDS):
        stop()
        raise RuntimeError("tinyproxy started, but does not answer: see journalctl -t tinyproxy")


def stop() -> None:
    """Stop tinyproxy, by force after two seconds; raise RuntimeError if it does not end then."""
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


def _is_ours(pid: str) -> bool:
    """Return whether a process is tinyproxy, on this machine and with our config file."""
    try:  # https://manpages.ubuntu.com/manpages/noble/en/man5/proc.5.html
        program = os.readlink(f"{_PROC}/{pid}/exe").removesuffix(" (deleted)")
        if not program.endswith("/tinyproxy"):
            return False
        arguments = (_PROC / pid / "cmdline").read_bytes().split(b"\0")[1:-1]
        # Without -c, tinyproxy reads the same file. A container has another root.
        named = arguments in ([], [b"-c", os.fsencode(CONFIG_FILE)])
        return named and os.path.samefile(_PROC / pid / "root", "/")
    except OSError:  # It is a zombie, or has ended meanwhile.
        return False


def _is_port_free(port: int) -> bool:
    """Return whether tinyproxy would get the port, on IPv4 and on IPv6."""
    try:
        socket.create_server(("", port)).close()
        socket.create_server(("", port), family=socket.AF_INET6).close()
    except OSError as e:
        return e.errno != errno.EADDRINUSE  # Other errors say that the machine lacks IPv6.
    return True


def _pids() -> list[int]:
    """Return the numbers of our tinyproxy's processes: one, or none."""
    # The PID file is no help: it can be stale, empty, deleted, or name somebody else's process.
    return [int(name) for name in os.listdir(_PROC) if name.isdigit() and _is_ours(name)]


def _read_config() -> tuple[int, str]:
    """Return the port and the path that the config file names."""
    config = dict(line.split(maxsplit=1) for line in CONFIG_FILE.read_text().splitlines())
    return int(config["Port"]), config["ReversePath"].split('"')[1]


def _run(*command: str) -> str:
    """Return what a command prints; raise RuntimeError with its own words if it fails."""
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        return result.stdout
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
        time.sleep(0.002)
    return True
