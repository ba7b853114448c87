"""The helper's functions, each on a small system of its own: nothing of the machine is used."""

import collections.abc
import contextlib
import errno
import http.server
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import slugs
from charmlibs import apt

import tinyproxy

PID = 4321


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as tinyproxy does: a redirect if the slug is in force, else a bad request."""

    def do_GET(self):  # The name is http.server's.
        self.send_response(301 if self.path == "/example" else 400)
        self.end_headers()

    def log_message(self, format: str, *args: object):
        pass


@contextlib.contextmanager
def listening(port: int):
    """Serve answers on a port of this machine's loopback address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tinyproxy._ANSWER_SECONDS", 0.1)
    monkeypatch.setattr("tinyproxy._SIGNAL_SECONDS", 0.2)
    monkeypatch.setattr("tinyproxy._START_SECONDS", 0.2)


@pytest.fixture(autouse=True)
def config_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "etc" / "tinyproxy" / "tinyproxy.conf"
    monkeypatch.setattr("tinyproxy.CONFIG_FILE", path)
    return path


@pytest.fixture(autouse=True)
def pid_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "tinyproxy.pid"
    monkeypatch.setattr("tinyproxy.PID_FILE", path)
    return path


@pytest.fixture
def port():
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Processes:
    """A folder like /proc, and the signals that were sent to the processes in it."""

    def __init__(self, proc: pathlib.Path):
        self.proc = proc
        self.signals: list[tuple[int, int]] = []
        self.ended_by: set[int] = {signal.SIGTERM, signal.SIGKILL}

    def add(
        self,
        pid: int = PID,
        program: str = "/usr/bin/tinyproxy",
        arguments: collections.abc.Sequence[str] = (),
        root: str | pathlib.Path = "/",
    ):
        process = self.proc / str(pid)
        process.mkdir()
        (process / "exe").symlink_to(program)
        (process / "root").symlink_to(root)
        command = ["tinyproxy", *arguments]
        (process / "cmdline").write_text("".join(f"{word}\0" for word in command))

    def kill(self, pid: int, signal_number: int):
        self.signals.append((pid, signal_number))
        if signal_number in self.ended_by:
            shutil.rmtree(self.proc / str(pid))


@pytest.fixture(autouse=True)
def processes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "meminfo").touch()
    processes = Processes(proc)
    monkeypatch.setattr("tinyproxy._PROC", proc)
    monkeypatch.setattr("os.kill", processes.kill)
    return processes


class Programs:
    """A folder of programs, the only one on the PATH, and the commands that were run from it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.log = folder / "log"

    def add(self, name: str, script: str = ""):
        """Add a program that notes how it is called, then does what the shell script says."""
        program = self.folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $@" >> {self.log}\n{script}\n')
        program.chmod(0o755)

    def commands(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture(autouse=True)
def programs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Programs(folder)


@pytest.mark.parametrize("slug", ["a", "0", "-", "foo", "foo-bar", "2024", "a" * 200])
def test_check_slug_accepts(slug: str):
    tinyproxy.check_slug(slug)


@pytest.mark.parametrize("slug", slugs.INVALID)
def test_check_slug_refuses(slug: str):
    with pytest.raises(ValueError) as excinfo:  # noqa: PT011  # The whole message follows.
        tinyproxy.check_slug(slug)
    assert str(excinfo.value) == f"Invalid slug: '{slug}'. Slug must match the regex [a-z0-9-]+"


@pytest.mark.parametrize("slug", slugs.TOO_LONG)
def test_check_slug_refuses_a_long_slug_in_few_words(slug: str):
    with pytest.raises(ValueError, match=r"^Invalid slug: '\w{20}\.\.\.'.* at most 200 char") as e:
        tinyproxy.check_slug(slug)
    assert len(str(e.value)) < 120


def test_ensure_config_writes_the_file(config_file: pathlib.Path, pid_file: pathlib.Path):
    assert tinyproxy.ensure_config(8000, "example")
    lines = config_file.read_text().splitlines()
    assert f'PidFile "{pid_file}"' in lines
    assert "Port 8000" in lines
    assert "Timeout 600" in lines
    assert "ReverseOnly Yes" in lines
    assert 'ReversePath "/example/" "http://www.example.com/"' in lines
    assert "User nobody" in lines
    assert "Group nogroup" in lines
    assert "MaxClients 500" in lines
    assert "Syslog On" in lines
    assert "LogLevel Notice" in lines


def test_ensure_config_lets_other_users_read_the_file(config_file: pathlib.Path):
    tinyproxy.ensure_config(8000, "example")
    assert config_file.stat().st_mode & 0o777 == 0o644


def test_ensure_config_takes_the_upstream_from_the_constant(
    config_file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tinyproxy.UPSTREAM_URL", "http://127.0.0.1:8001/")
    tinyproxy.ensure_config(8000, "example")
    assert 'ReversePath "/example/" "http://127.0.0.1:8001/"' in config_file.read_text()


def test_ensure_config_changes_nothing_the_second_time():
    tinyproxy.ensure_config(8000, "example")
    assert not tinyproxy.ensure_config(8000, "example")


def test_ensure_config_changes_the_slug(config_file: pathlib.Path):
    tinyproxy.ensure_config(8000, "example")
    assert tinyproxy.ensure_config(8000, "foo")
    assert "example/" not in config_file.read_text().replace("www.example.com", "")


def test_ensure_config_repairs_the_file(config_file: pathlib.Path):
    tinyproxy.ensure_config(8000, "example")
    good = config_file.read_text()
    config_file.write_text("Port 9000\n")
    assert tinyproxy.ensure_config(8000, "example")
    assert config_file.read_text() == good


def test_get_version(programs: Programs):
    programs.add("tinyproxy", "echo tinyproxy 1.11.1")
    assert tinyproxy.get_version() == "1.11.1"
    assert programs.commands() == ["tinyproxy -v"]


def test_get_version_tells_what_the_program_said(programs: Programs):
    programs.add("tinyproxy", "echo 'cannot open shared object file' >&2; exit 127")
    with pytest.raises(RuntimeError, match=r"tinyproxy.*-v.*cannot open shared object file"):
        tinyproxy.get_version()


def test_install_takes_the_newest_version_of_the_archive(programs: Programs):
    programs.add("apt-get")
    programs.add("dpkg", "echo amd64")
    show = "Package: tinyproxy-bin\\nArchitecture: amd64\\nVersion: 1.11.1-3\\n"
    programs.add("apt-cache", f"printf '{show}'")
    tinyproxy.install()
    update, *_, install = programs.commands()
    assert update.startswith("apt-get update")
    assert install.startswith("apt-get -y")
    assert install.endswith("install tinyproxy-bin=1.11.1-3")


def test_install_tells_why_the_update_failed(programs: Programs):
    programs.add("apt-get", "echo 'Could not resolve archive.example' >&2; exit 100")
    with pytest.raises(RuntimeError, match=r"package lists.*Could not resolve archive\.example"):
        tinyproxy.install()


def test_install_tells_why_the_package_failed(programs: Programs):
    programs.add("apt-get")
    programs.add("dpkg", "echo amd64")
    programs.add("apt-cache", "echo 'E: No packages found' >&2; exit 100")
    with pytest.raises(apt.Error, match="No packages found"):
        tinyproxy.install()


def test_is_installed(programs: Programs):
    assert not tinyproxy.is_installed()
    programs.add("tinyproxy")
    assert tinyproxy.is_installed()


def test_is_running(processes: Processes, config_file: pathlib.Path):
    assert not tinyproxy.is_running()
    processes.add(arguments=["-c", str(config_file)])
    assert tinyproxy.is_running()


def test_is_running_with_the_default_config_file(processes: Processes):
    processes.add(arguments=[])
    assert tinyproxy.is_running()


def test_is_running_after_its_package_was_upgraded(processes: Processes):
    processes.add(program="/usr/bin/tinyproxy (deleted)")
    assert tinyproxy.is_running()


def test_is_running_does_not_count_other_programs(processes: Processes, config_file: pathlib.Path):
    processes.add(program="/usr/bin/sleep", arguments=["-c", str(config_file)])
    assert not tinyproxy.is_running()


def test_is_running_does_not_count_a_tinyproxy_with_another_config(processes: Processes):
    processes.add(arguments=["-c", "/etc/other.conf"])
    assert not tinyproxy.is_running()


def test_is_running_does_not_count_a_container(processes: Processes, tmp_path: pathlib.Path):
    processes.add(root=tmp_path)
    assert not tinyproxy.is_running()


def test_is_running_does_not_count_a_zombie(processes: Processes):
    processes.add()
    (processes.proc / str(PID) / "exe").unlink()
    assert not tinyproxy.is_running()


@pytest.mark.parametrize("content", ["", "\n", "garbage", "0", "-1", "1", str(PID)])
def test_is_running_does_not_believe_the_pid_file(pid_file: pathlib.Path, content: str):
    pid_file.write_text(content)
    assert not tinyproxy.is_running()


def test_is_serving(port: int):
    tinyproxy.ensure_config(port, "example")
    with listening(port):
        assert tinyproxy.is_serving()


def test_is_serving_needs_the_slug_of_the_config_file(port: int):
    tinyproxy.ensure_config(port, "foo")
    with listening(port):
        assert not tinyproxy.is_serving()


def test_is_serving_needs_somebody_to_listen(port: int):
    tinyproxy.ensure_config(port, "example")
    assert not tinyproxy.is_serving()


def test_is_serving_needs_an_answer_soon(port: int):
    tinyproxy.ensure_config(port, "example")
    begin = time.monotonic()
    with socket.create_server(("127.0.0.1", port)):
        assert not tinyproxy.is_serving()
    assert time.monotonic() - begin < 1


def test_is_serving_needs_an_answer_in_http(port: int):
    def answer(server: socket.socket):
        with server.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")

    tinyproxy.ensure_config(port, "example")
    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        assert not tinyproxy.is_serving()
        thread.join()


def test_is_serving_needs_a_config_file():
    assert not tinyproxy.is_serving()


@pytest.fixture
def serve_soon(port: int):
    """Return a function after which the slug ``example`` is served, a moment later."""
    with contextlib.ExitStack() as stack:
        timer = threading.Timer(0.05, lambda: stack.enter_context(listening(port)))
        yield timer.start
        if timer.ident:
            timer.join()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, serve_soon: collections.abc.Callable[[], None]):
    """Let any command begin to serve soon, and return the commands."""
    commands: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        serve_soon()
        return subprocess.CompletedProcess(command, 0, stdout="", stderr="")

    monkeypatch.setattr("subprocess.run", run)
    return commands


def test_reload_config_signals_and_waits_for_the_effect(
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    port: int,
    serve_soon: collections.abc.Callable[[], None],
):
    def kill(pid: int, signal_number: int):
        processes.kill(pid, signal_number)
        serve_soon()

    monkeypatch.setattr("os.kill", kill)
    processes.add()
    tinyproxy.ensure_config(port, "example")
    tinyproxy.reload_config()
    assert processes.signals == [(PID, signal.SIGUSR1)]
    assert tinyproxy.is_serving()


@pytest.mark.usefixtures("launched")
def test_reload_config_restarts_what_does_not_reload(processes: Processes, port: int):
    processes.add()
    tinyproxy.ensure_config(port, "example")
    tinyproxy.reload_config()
    assert processes.signals == [(PID, signal.SIGUSR1), (PID, signal.SIGTERM)]
    assert tinyproxy.is_serving()


@pytest.mark.usefixtures("launched")
def test_reload_config_restarts_at_once_what_crashes(
    processes: Processes, port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tinyproxy._SIGNAL_SECONDS", 5)
    processes.ended_by = {signal.SIGUSR1}
    processes.add()
    tinyproxy.ensure_config(port, "example")
    begin = time.monotonic()
    tinyproxy.reload_config()
    assert time.monotonic() - begin < 1
    assert tinyproxy.is_serving()


def test_start_waits_until_it_serves(
    launched: list[tuple[str, ...]], config_file: pathlib.Path, port: int
):
    tinyproxy.ensure_config(port, "example")
    tinyproxy.start()
    assert launched == [("tinyproxy", "-c", str(config_file))]
    assert tinyproxy.is_serving()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_start_says_that_the_port_is_taken(
    programs: Programs, port: int, family: socket.AddressFamily
):
    programs.add("tinyproxy")
    tinyproxy.ensure_config(port, "example")
    with (
        socket.create_server(("", port), family=family),
        pytest.raises(tinyproxy.PortTakenError, match=f"^Port {port} is taken: stop the program"),
    ):
        tinyproxy.start()
    assert programs.commands() == []


@pytest.mark.usefixtures("launched")
def test_start_waits_for_a_port_that_is_about_to_be_free(port: int):
    tinyproxy.ensure_config(port, "example")
    server = socket.create_server(("", port))
    threading.Timer(0.05, server.close).start()
    tinyproxy.start()
    assert tinyproxy.is_serving()


@pytest.mark.usefixtures("launched")
def test_start_does_not_need_ipv6(monkeypatch: pytest.MonkeyPatch, port: int):
    def create_server(address: tuple[str, int], family: int = socket.AF_INET):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return original_create_server(address, family=family)

    original_create_server = socket.create_server
    monkeypatch.setattr("socket.create_server", create_server)
    tinyproxy.ensure_config(port, "example")
    tinyproxy.start()
    assert tinyproxy.is_serving()


def test_start_tells_what_the_program_said(programs: Programs, port: int):
    programs.add("tinyproxy", "echo 'Syntax error on line 3' >&2; exit 70")
    tinyproxy.ensure_config(port, "example")
    with pytest.raises(RuntimeError, match="Syntax error on line 3"):
        tinyproxy.start()


def test_start_leaves_nothing_that_does_not_serve(
    programs: Programs, processes: Processes, port: int
):
    programs.add("tinyproxy")
    processes.add()
    tinyproxy.ensure_config(port, "example")
    with pytest.raises(RuntimeError, match="does not answer: see journalctl"):
        tinyproxy.start()
    assert processes.signals == [(PID, signal.SIGTERM)]


def test_stop(processes: Processes):
    processes.add()
    tinyproxy.stop()
    assert processes.signals == [(PID, signal.SIGTERM)]


def test_stop_ends_all_of_them_and_no_other(processes: Processes):
    processes.add(11)
    processes.add(12)
    processes.add(13, program="/usr/bin/sleep")
    tinyproxy.stop()
    assert sorted(processes.signals) == [(11, signal.SIGTERM), (12, signal.SIGTERM)]


def test_stop_when_nothing_runs(processes: Processes):
    tinyproxy.stop()
    assert processes.signals == []


def test_stop_when_it_ends_by_itself(processes: Processes, monkeypatch: pytest.MonkeyPatch):
    def kill(pid: int, signal_number: int):
        processes.kill(pid, signal_number)
        raise ProcessLookupError

    monkeypatch.setattr("os.kill", kill)
    processes.add()
    tinyproxy.stop()


def test_stop_kills_what_does_not_end(processes: Processes):
    processes.ended_by = {signal.SIGKILL}
    processes.add()
    tinyproxy.stop()
    assert processes.signals == [(PID, signal.SIGTERM), (PID, signal.SIGKILL)]


def test_stop_tells_when_nothing_helps(processes: Processes):
    processes.ended_by = set()
    processes.add()
    with pytest.raises(RuntimeError, match="does not end"):
        tinyproxy.stop()


@pytest.fixture
def installed_package(programs: Programs):
    """Let dpkg list the package as installed, until APT removes it."""
    columns = "ii tinyproxy-bin 1.11.1-3 amd64 HTTP proxy"
    programs.add("apt-get")
    programs.add("dpkg", f"[ $1 = -l ] && printf '1\\n2\\n3\\n4\\n5\\n{columns}\\n' || echo amd64")


@pytest.mark.usefixtures("installed_package")
def test_uninstall(programs: Programs, config_file: pathlib.Path, pid_file: pathlib.Path):
    tinyproxy.ensure_config(8000, "example")
    pid_file.touch()
    tinyproxy.uninstall()
    assert programs.commands()[-1].startswith("apt-get -y remove tinyproxy-bin")
    assert not config_file.parent.exists()
    assert not pid_file.exists()


@pytest.mark.usefixtures("installed_package")
def test_uninstall_leaves_the_files_of_others(config_file: pathlib.Path):
    tinyproxy.ensure_config(8000, "example")
    other = config_file.with_name("other.conf")
    other.touch()
    tinyproxy.uninstall()
    assert not config_file.exists()
    assert other.exists()


def test_uninstall_when_there_is_nothing(programs: Programs, config_file: pathlib.Path):
    programs.add("dpkg", "[ $1 = -l ] && exit 1 || echo amd64")
    tinyproxy.uninstall()
    assert not config_file.parent.exists()
