"""The program as it is started: what it says and how it ends when it cannot serve, and who serves when it can."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.certificates import Certificates
from servers.processes import PATIENCE, descendants, free_port, read_status, title, wait_until, wait_until_gone
from servers.program import ROOT, command

from sendooway import daemon
from sendooway.greeting import Greeter
from sendooway.options import Options

pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "sendooway.conf"
    path.touch(0o600)
    path.write_text("authBackend = none\n")
    return path


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), input=stdin, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize(
    ("lines", "status", "message"),
    [
        ("timeout = soon", 78, "sendooway.conf:2: timeout: "),
        ("sslCert = /nonexistent", 78, "/nonexistent"),
        ("sslCA = /nonexistent", 78, "/nonexistent"),
        ("listen = unix:/nonexistent/socket", 71, "/nonexistent/socket"),
        pytest.param("runAs = no-such-user", 78, "no user no-such-user", marks=needs_root),
        pytest.param("runAs = root", 78, "root's rights", marks=needs_root),
    ],
)
@pytest.mark.parametrize("standalone", [True, False])
def test_what_keeps_it_from_serving_is_said_once_and_ends_it(
    configuration: Path, tmp_path: Path, lines: str, status: int, message: str, standalone: bool
) -> None:
    if lines.startswith("listen") and not standalone:
        pytest.skip("-i does not listen")
    configuration.write_text(f"authBackend = none\n{lines}\n")
    how: list[str] = ["-b", str(free_port())] if standalone and not lines.startswith("listen") else []
    done = run("-c", configuration, "-l", tmp_path / "log", *how)
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("sendooway: ")
    assert message in line
    assert done.stdout == b""
    assert message in (tmp_path / "log").read_text()


def test_a_port_that_is_taken_is_named(configuration: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("-c", configuration, "-l", tmp_path / "log", "-b", port)
    assert done.returncode == 71
    assert f"port {port}" in done.stderr.decode()


def test_a_log_that_cannot_be_opened_is_named() -> None:
    done = run("-c", "/dev/null", "-l", "/nonexistent/log")
    assert done.returncode == 73
    assert b"/nonexistent/log" in done.stderr


def test_where_the_log_is_standard_error_nothing_is_said_twice(configuration: Path) -> None:
    configuration.write_text("timeout = soon\n")
    done = run("-c", configuration, "-l", "&2")
    assert done.stderr.count(b"timeout") == 1


def test_another_system_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert daemon.run(Options(), Greeter()) == 71
    assert "needs Linux" in capsys.readouterr().err


def test_closed_standard_descriptors_get_nothing_else_s_number(configuration: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command("-c", configuration, "-l", tmp_path / "log")],
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    log = (tmp_path / "log").read_text()
    assert "disconnect" in log
    assert "Traceback" not in log


def test_under_inetd_a_client_hears_that_nobody_serves_it_and_not_why(configuration: Path, tmp_path: Path) -> None:
    configuration.write_text("timeout = soon\n")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            command("-c", configuration, "-l", tmp_path / "log"),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
            cwd=ROOT,
            timeout=PATIENCE,
            check=False,
        )
        theirs.close()
        with ours.makefile("rb") as replies:
            *greeting, goodbye = replies
        assert goodbye == b"421 4.3.0 Nobody can look after this session now, try again later\r\n"
        # The built file greets before it looks at anything else.
        assert [line[:4] for line in greeting] in ([], [b"220 "])
    assert done.returncode == 78


@pytest.mark.parametrize("standard_error", ["2>&0", "2>&-"])
def test_under_inetd_a_client_does_not_hear_of_a_wrong_command_line(standard_error: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {standard_error}', "sh", *command("-i", "--no-such")],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            cwd=ROOT,
            timeout=PATIENCE,
            check=False,
        )
        theirs.close()
        assert ours.recv(100) == b""
    assert done.returncode == 64


def test_a_socket_as_standard_input_is_the_connection_whatever_the_file_says(
    configuration: Path, tmp_path: Path
) -> None:
    configuration.write_text(f"authBackend = none\nlisten = unix:{tmp_path}/socket\n")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            command("-c", configuration, "-l", tmp_path / "log"),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            cwd=ROOT,
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        assert ours.recv(1000).startswith(b"220 ")
        ours.sendall(b"QUIT\r\n")
        assert process.wait(PATIENCE) == 0
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize(("options", "offered"), [([], b"STARTTLS"), (["-S"], b"AUTH PLAIN LOGIN")])
def test_with_nossl_no_tls_is_offered_and_none_is_needed_to_log_in(
    configuration: Path, certificates: Certificates, options: list[str], offered: bytes
) -> None:
    files = certificates.good
    configuration.write_text(
        f"authBackend = none\nmailerEncryption = required\nsslCert = {files.certificate}\nsslKey = {files.key}\n"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"EHLO me\r\nQUIT\r\n")
        subprocess.run(
            command("-c", configuration, "-l", os.devnull, *options),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            cwd=ROOT,
            timeout=PATIENCE,
            check=True,
        )
        theirs.close()
        with ours.makefile("rb") as replies:
            offers = {line[4:].strip() for line in replies}
    assert offers & {b"STARTTLS", b"AUTH PLAIN LOGIN"} == {offered}


def test_a_listening_socket_as_standard_input_is_an_error_that_says_what_would_be_right(
    configuration: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = subprocess.run(
            command("-c", configuration, "-l", tmp_path / "log"),
            stdin=listener.fileno(),
            cwd=ROOT,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 78
    assert b"standard input is a listening socket, not a connection: `nowait` (inetd)" in done.stderr


def test_a_super_server_s_client_does_not_wait_for_what_only_systemd_needs(configuration: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sendooway", "-i", "-c", configuration, "-l", os.devnull],
        input=b"QUIT\r\n",
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(b"220 ")
    imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"sendooway.daemon" in imported
    unwanted = {b"sendooway.activation", b"sendooway.privsep.notify", b"sendooway.privsep.monitor", b"socketserver"}
    assert unwanted.isdisjoint(imported)


def handed_over(sock: socket.socket, *arguments: str | Path, **variables: str) -> list[str]:
    """The command that starts the program with `sock` as descriptor 3."""
    words = " ".join(f"{name}={value}" for name, value in variables.items())
    script = f'exec 3<&{sock.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 {words} exec "$@"'
    return ["/bin/bash", "-c", script, "bash", *command(*arguments)]


def run_with(sock: socket.socket, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The program, to its end, with `sock` as descriptor 3."""
    return subprocess.run(
        handed_over(sock, *arguments, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        pass_fds=[sock.fileno()],
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("options", [[], ["-i"]])
def test_a_connection_that_is_handed_over_is_served(configuration: Path, tmp_path: Path, options: list[str]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with subprocess.Popen(
            handed_over(theirs, "-c", configuration, "-l", tmp_path / "log", *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
        ) as process:
            theirs.close()
            ours.settimeout(PATIENCE)
            assert ours.recv(1000).startswith(b"220 ")
            ours.sendall(b"QUIT\r\n")
            assert ours.recv(1000).startswith(b"221 ")
            assert ours.recv(1000) == b""
            assert process.communicate(timeout=PATIENCE)[0] == b""
        assert process.returncode == 0


def test_a_name_for_tls_needs_a_certificate_also_for_a_connection(configuration: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run_with(theirs, "-c", configuration, "-l", tmp_path / "log", LISTEN_FDNAMES="smtps")
    assert done.returncode == 64
    assert b"needs sslCert" in done.stderr


@pytest.mark.parametrize(
    ("kind", "options", "status", "message"),
    [
        ("listening", ["-b", "2525"], 78, "-b (listen) and listening sockets in LISTEN_FDS exclude each other"),
        ("listening", ["-i"], 78, "-i needs a connection, and LISTEN_FDS has listening sockets"),
        ("connection", ["-b", "2525"], 78, "-b (listen) and a connection in LISTEN_FDS exclude each other"),
        ("datagrams", [], 78, "LISTEN_FDS: descriptor 3 (unknown): no stream socket"),
    ],
)
def test_sockets_that_contradict_the_command_line_are_an_error(
    configuration: Path, tmp_path: Path, kind: str, options: list[str], status: int, message: str
) -> None:
    with socket.socket(type=socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM) as sock:
        if kind == "listening":
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        done = run_with(sock, "-c", configuration, "-l", tmp_path / "log", *options)
    assert done.returncode == status, done.stderr
    assert message in done.stderr.decode()


def test_a_service_with_nothing_to_listen_on_says_so(configuration: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command("-c", configuration, "-l", tmp_path / "log"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/notify"},
        cwd=ROOT,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 78
    assert f"nothing to listen on: {configuration} has no `listen` line, and there is no -b" in done.stderr.decode()


def test_a_service_manager_is_told_and_its_variables_go_no_further(configuration: Path, tmp_path: Path) -> None:
    configuration.write_text(f"authBackend = none\nworkers = 1\nlisten = unix:{tmp_path}/socket\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/notify")
        manager.settimeout(PATIENCE)
        with subprocess.Popen(
            command("-c", configuration, "-l", tmp_path / "log"),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": "200000"},
            cwd=ROOT,
        ) as process:
            assert manager.recv(1000) == b"READY=1\nSTATUS=1 of 1 proxies serve"
            assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            process.send_signal(signal.SIGTERM)
            while not (message := manager.recv(1000)).startswith(b"STOPPING=1"):
                assert message == b"WATCHDOG=1"
            assert process.wait(PATIENCE) == 0


@pytest.fixture
def standalone(configuration: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program on its `listen` lines: a UNIX socket with two workers."""
    configuration.write_text(
        f"authBackend = none\nworkers = 2\nlisten = unix:{tmp_path}/socket\n"
        "smarthostMapping = direct:a@b.test localhost 25 me hush\n"
    )
    process = subprocess.Popen(command("-c", configuration, "-l", tmp_path / "log"), stdin=subprocess.DEVNULL, cwd=ROOT)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and "ready proxies=2" in log.read_text(), "the proxies")
    yield process
    everyone = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    wait_until_gone(everyone)


def test_listen_lines_make_it_a_server_with_a_monitor_and_proxies(standalone: subprocess.Popen[bytes]) -> None:
    proxies = descendants(standalone.pid)
    assert len(proxies) == 2
    assert title(standalone.pid).startswith("sendooway")
    for pid in proxies:
        status = read_status(pid)
        assert title(pid) == "sendooway [proxy]"
        assert status.no_new_privileges
        assert status.effective_capabilities == 0


def test_a_server_says_once_what_it_cannot_offer(configuration: Path, tmp_path: Path) -> None:
    mapping = "smarthostMapping = direct:* mx.moon.test 465 me - ssl,passwordFrom=credential:moon\n"
    configuration.write_text(
        f"authBackend = none\nkrb5Keytab = /nonexistent/keytab\nlisten = unix:{tmp_path}/socket\n{mapping}"
    )
    log = tmp_path / "log"
    with subprocess.Popen(command("-c", configuration, "-l", log), stdin=subprocess.DEVNULL, cwd=ROOT) as process:
        wait_until(lambda: log.exists() and "ready proxies" in log.read_text(), "the proxies")
        process.send_signal(signal.SIGTERM)
    said = log.read_text()
    assert said.count(" no-gssapi ") == 1
    assert said.count(" no-credential ") == 1


@needs_root
def test_the_proxy_of_root_is_nobody_and_has_no_way_to_the_passwords(standalone: subprocess.Popen[bytes]) -> None:
    for pid in descendants(standalone.pid):
        status = read_status(pid)
        assert 0 not in (*status.uids, *status.gids, *status.groups)
        files = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        assert not any("memfd" in file for file in files)


@needs_root
def test_the_monitor_of_root_stays_root(standalone: subprocess.Popen[bytes]) -> None:
    assert read_status(standalone.pid).uids == (0, 0, 0, 0)


def test_a_session_on_a_unix_socket_logs_in_and_has_its_agent(
    standalone: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    import base64
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(tmp_path / "socket"))
        with sock.makefile("rwb") as file:
            assert file.readline().startswith(b"220 ")
            file.write(b"EHLO me\r\nAUTH PLAIN %s\r\n" % base64.b64encode(f"\0{name}\0any".encode()))
            file.flush()
            while not (line := file.readline()).startswith(b"235 "):
                assert line.startswith(b"250"), line
            titles = sorted(title(pid) for pid in descendants(standalone.pid))
            assert titles == [f"sendooway [agent: {name}]", "sendooway [proxy]", "sendooway [proxy]"]
            file.write(b"QUIT\r\n")
            file.flush()
            assert file.readline().startswith(b"221 ")


def test_a_low_limit_of_descriptors_is_raised_for_all_sessions() -> None:
    program = (
        "import resource; from sendooway import daemon; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); daemon._raise_descriptor_limit();"
        "print(min(hard, 41000) == resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == b"True\n"
