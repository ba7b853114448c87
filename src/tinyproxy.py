"""Run tinyproxy on this machine. The module keeps no state: each call looks at the machine."""

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
import urllib.parse
import urllib.request

from charmlibs import pathops

CONFIG_FILE = pathlib.Path("/etc/tinyproxy/tinyproxy.conf")
PID_FILE = pathlib.Path("/var/run/tinyproxy.pid")
UPSTREAM_URL = "http://www.example.com/"
_APT_LOCKS = ("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
_MAX_CLIENTS = 4096  # Each takes two open files, and tinyproxy has a limit of 16,384 below.
_PROC = pathlib.Path("/proc")
_SERVICE = "juju-tinyproxy.service"  # A crash heals in half a second: man systemd.service
_SYSTEMD = pathlib.Path("/run/systemd/system")  # It exists where systemd runs: man sd_booted
_SERVICE_COMMAND = f"""
    systemd-run --unit={_SERVICE} --collect --quiet -p Restart=always -p RestartSec=200ms
    -p StartLimitIntervalSec=0 -p TimeoutStopSec=2s -p LimitNOFILE=16384 tinyproxy -d
"""

logger = logging.getLogger(__name__)


def check_slug(slug: str) -> None:
    """Raise ValueError unless a slug matches the regex and has at most 200 characters."""
    rule = "Slug must match the regex [a-z0-9-]+"
    if len(slug) > 200:  # tinyproxy reads a line of its config file into 2,048 bytes.
        raise ValueError(f"Invalid slug: '{slug[:20]}...'. {rule} and have at most 200 characters")
    if not re.fullmatch("[a-z0-9-]+", slug):
        raise ValueError(f"Invalid slug: '{slug}'. {rule}")


def ensure_config(port: int, slug: str) -> bool:
    """Write the config file and return whether it changed; raise what get_proxy raises."""
    # https://manpages.ubuntu.com/manpages/noble/en/man5/tinyproxy.conf.5.html
    config = f"""\
# Managed by Juju: changes are overwritten.
PidFile "{PID_FILE}"
Port {port}
Timeout 600
ReverseOnly Yes
ReversePath "/{slug}/" "{UPSTREAM_URL}"
User nobody
Group nogroup
MaxClients {_MAX_CLIENTS}
Syslog On
LogLevel Notice
"""
    if proxy := get_proxy():
        config += f"Upstream http {proxy}\n"
    # The file can contain a password. It's private before anything is written to it.
    CONFIG_FILE.parent.mkdir(parents=True, exist_ok=True)
    CONFIG_FILE.touch()
    CONFIG_FILE.chmod(0o640)
    return pathops.ensure_contents(CONFIG_FILE, config, mode=0o640, group="nogroup")


def get_proxy() -> str:
    """Return the proxy that http_proxy and no_proxy name, if any; raise ValueError if unusable."""
    url = urllib.request.getproxies().get("http", "")
    if not url or urllib.request.proxy_bypass(urllib.parse.urlsplit(UPSTREAM_URL).netloc):
        return ""
    pattern = r"""http://((?:[^\s\0"':@]+:[^\s\0"'@]+@)?[A-Za-z0-9._-]+)(?::(\d{1,5})?)?/?"""
    match = re.fullmatch(pattern, urllib.parse.unquote(url))
    host, port = match.groups("80") if match else ("", "0")
    if not 0 < int(port) < 65536 or len(url) > 255:
        raise ValueError("use http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
    return f"{host}:{port}"


def get_apt_wait() -> str:
    """Return what APT waits for: a lock that another process holds, or an empty string."""
    for path in filter(os.path.exists, _APT_LOCKS):
        if f":{os.stat(path).st_ino} " in (_PROC / "locks").read_text():  # man proc_locks
            return f"Waiting until another process releases {path}"
    return ""


def get_version() -> str:
    """Return the program's version, such as ``1.11.1``; raise RuntimeError if it fails."""
    return _run("tinyproxy", "-v").removeprefix("tinyproxy ").strip()


def install() -> None:
    """Install or upgrade to the version that APT prefers; raise RuntimeError if APT fails."""
    _wait_for_apt()
    _run("apt-get", "update", "--error-on=any", seconds=300)  # Some mirrors are slow.
    # Unlike charmlibs, this upgrades and follows pins. A version that's pinned here would vanish.
    _run("apt-get", "--yes", "-oDPkg::Lock::Timeout=60", "install", "tinyproxy-bin", seconds=600)


def is_configured() -> bool:
    """Return whether there's a config file that names a port and a path."""
    return _read_config() != (0, "")


def is_full() -> bool:
    """Return whether all places for clients are taken, and tinyproxy itself isn't hanging."""
    process = _PROC / str(_find_process())
    with contextlib.suppress(OSError):
        # Each client has a thread. The main thread looks for a free place: its counters change.
        if len(os.listdir(process / "task")) > _MAX_CLIENTS:
            before = (process / "status").read_text()
            return _wait_until(lambda: (process / "status").read_text() != before, 1)
    return False


def is_installed() -> bool:
    """Return whether the tinyproxy program is on the PATH."""
    return shutil.which("tinyproxy") is not None


def is_outdated() -> bool:
    """Return whether a running tinyproxy is older than its program, or not in its service."""
    with contextlib.suppress(OSError):  # It isn't running, or a file is gone.
        cgroup = (_PROC / str(_find_process()) / "cgroup").read_text()
        if _SYSTEMD.is_dir() and not re.search(f"/{_SERVICE}$", cgroup, re.MULTILINE):
            return True
        changed = os.stat(shutil.which("tinyproxy") or "").st_ctime
        return PID_FILE.stat().st_mtime < changed < time.time()  # Later: the clock was wrong.
    return False


def is_port_taken(port: int) -> bool:
    """Return whether a program on this machine listens on a port, on IPv4 or IPv6."""
    try:
        socket.create_server(("", port)).close()
        socket.create_server(("", port), family=socket.AF_INET6).close()
    except OSError as e:
        return e.errno == errno.EADDRINUSE  # Other errors mean that there's no IPv6.
    return False


def is_running() -> bool:
    """Return whether our tinyproxy is running: one on this machine, with our config file."""
    return _find_process() is not None


def is_serving() -> bool:
    """Return whether tinyproxy answers on the port and slug of its config file, or is full."""
    port, path = _read_config()
    with socket.socket() as client, contextlib.suppress(OSError):
        client.settimeout(1)  # An answer takes milliseconds.
        client.connect(("127.0.0.1", port))
        # tinyproxy itself redirects /slug to /slug/, if and only if that slug is in force.
        client.sendall(f"GET {path.rstrip('/')} HTTP/1.0\r\n\r\n".encode())
        return b" 301 " in client.recv(32)  # The status line fits, and comes in one piece.
    return is_full()


def reload_config() -> None:
    """Make tinyproxy serve what the config file says; raise what :func:`start` raises."""
    _signal(signal.SIGUSR1)
    _wait_until(lambda: is_serving() or not is_running(), 2)  # This takes milliseconds.
    time.sleep(0.004)  # With many clients, a reload can crash tinyproxy, after 2 ms at most.
    if not is_serving():
        return start()
    logger.info("tinyproxy serves %s now", _read_config()[1])


def start() -> None:
    """Start or restart tinyproxy, unless its port is taken; raise RuntimeError if that fails."""
    stop()  # This also cancels a restart that systemd is about to do.
    port, path = _read_config()
    if not _wait_until(lambda: not is_port_taken(port), 1):  # It's free a moment after stop().
        return  # tinyproxy itself would report nothing.
    command = _SERVICE_COMMAND if _SYSTEMD.is_dir() else "prlimit --nofile=16384 tinyproxy"
    _run(*command.split(), "-c", str(CONFIG_FILE))
    # Until it answers, it has no signal handlers, and a signal would end it.
    if not _wait_until(is_serving, 10):  # On a busy machine, this takes seconds.
        stop()
        raise RuntimeError("tinyproxy started, but doesn't answer: see journalctl -t tinyproxy")
    logger.info("Started tinyproxy: it serves %s", path)


def stop() -> None:
    """Stop tinyproxy, by force after two seconds; raise RuntimeError if that has no effect."""
    if _SYSTEMD.is_dir():
        _run("systemctl", "stop", f"{_SERVICE}*")  # It's no error that no service has such a name.
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _wait_until(lambda number=number: not _signal(number), 2):  # This takes 10 ms.
            return
    raise RuntimeError("tinyproxy doesn't end")


def uninstall() -> None:
    """Remove package, config file, PID file and empty config folder, or raise apt.PackageError."""
    from charmlibs import apt  # Each import at the top takes time in every hook.

    _wait_for_apt()
    apt.remove_package("tinyproxy-bin")
    CONFIG_FILE.unlink(missing_ok=True)
    PID_FILE.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # The folder is gone, or contains other files.
        CONFIG_FILE.parent.rmdir()


def _find_process() -> int | None:
    """Return the process number of our tinyproxy, or None if it isn't running."""
    with contextlib.suppress(OSError, ValueError):
        if _is_ours(pid := int(PID_FILE.read_text())):
            return pid
    # The PID file is deleted, stale, or names a process of another program.
    pids = (int(name) for name in os.listdir(_PROC) if name.isdigit())
    return next(filter(_is_ours, pids), None)


def _is_ours(pid: int) -> bool:
    """Return whether a process is tinyproxy with our config file, other than in a container."""
    process = _PROC / str(pid)
    # Unlike exe and root, these files need no special right: man proc. A zombie has no command. In
    # a container, a process has two numbers. Without -c, tinyproxy reads the same config file.
    command = rf"\S*tinyproxy\0(-d\0)?(-c\0{re.escape(str(CONFIG_FILE))}\0)?"
    status = r"Name:\ttinyproxy\n(.*\n)*NSpid:\t\d+\n"
    with contextlib.suppress(OSError):  # It has ended.
        if re.fullmatch(command, (process / "cmdline").read_bytes().decode(errors="replace")):
            return bool(re.match(status, (process / "status").read_text()))
    return False


def _read_config() -> tuple[int, str]:
    """Return the port and the path that the config file names, or 0 and an empty path."""
    pattern = r'^Port (\d{1,5})\n(?:.*\n)*?ReversePath "(/.+/)" '
    with contextlib.suppress(OSError):
        if match := re.search(pattern, CONFIG_FILE.read_text(errors="replace"), re.MULTILINE):
            return min(int(match[1]), 65535), match[2]
    return 0, ""


def _run(*command: str, seconds: float = 10) -> str:
    """Return what a command prints; raise RuntimeError with its words if it fails or hangs."""
    try:  # The PATH finds the command, because its folder differs between distributions.
        return subprocess.check_output(command, stderr=subprocess.PIPE, text=True, timeout=seconds)
    except (OSError, subprocess.SubprocessError) as e:
        raise RuntimeError(f"{e} {getattr(e, 'stderr', None) or ''}") from e


def _signal(number: signal.Signals) -> bool:
    """Send a signal to our tinyproxy, and return whether it's running."""
    if pid := _find_process():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return pid is not None


def _wait_until(condition: collections.abc.Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition comes true within a number of seconds."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.002)  # A longer pause would make each hook longer.
    return met


def _wait_for_apt() -> None:
    """Wait until no other process holds one of APT's locks, for five minutes at most."""
    if reason := get_apt_wait():
        logger.info(reason)
        _wait_until(lambda: not get_apt_wait(), 300)
