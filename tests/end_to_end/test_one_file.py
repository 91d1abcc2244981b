"""The one file that `make dist` makes: what may lie around it, and what may happen to it."""

import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.name_server import NameServer
from servers.processes import PATIENCE, accepts, free_port, title, wait_until
from servers.program import ONE_FILE, ROOT
from servers.scripted import ScriptedSmarthost

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
]
PYTHON = ["/usr/bin/python3", "-IS"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Imports from within the file what only the file has, and says where gssapi came from.
UNPACK = """\
import sys
sys.path.insert(0, {file!r})
from sendooway import one_file
try:
    one_file.unpack()
except one_file.UnpackError as error:
    sys.exit(f"UnpackError: {{error}}")
import gssapi
print(gssapi.__file__)
"""


# With the parts of dnspython that are in the file.
ASK_DNS = """\
import sys
sys.path.insert(0, {file!r})
from sendooway.discovery.dns import Dns
from sendooway.net.deadline import Deadline
print(Dns(("127.0.0.1", {port})).ask(("_submissions._tcp.moon.test", "_submission._tcp.moon.test"), Deadline(30)))
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that nobody but root and we can change, nor what is above it; unlike all in /tmp."""
    path = Path("/var/lib" if os.geteuid() == 0 else Path.home()) / f"sendooway-test-{os.getpid()}"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run(*arguments: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, arguments)), input=stdin, capture_output=True, text=True, timeout=60, env=environment, cwd="/"
    )


def find_python(minor: int) -> Path:
    """One that pyenv has, or the system."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [*pyenv.glob(f"versions/3.{minor}.*/bin/python3"), *Path("/usr/bin").glob(f"python3.{minor}")]
    if not found:
        pytest.skip(f"no Python 3.{minor} here")
    return found[0]


def unpack(cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Let a process of this user unpack gssapi into `cache`, or below it where we are not root."""
    return run(*PYTHON, "-c", UNPACK.format(file=str(ONE_FILE)), **({cache_name(): str(cache)} | more))


def cache_name() -> str:
    return "CACHE_DIRECTORY" if os.geteuid() == 0 else "XDG_CACHE_HOME"


def test_it_is_the_newest_and_says_what_it_is_made_of() -> None:
    shown = run(ONE_FILE, "--version", "--verbose").stdout
    for word in ("sendooway ", "gssapi ", "python-pam ", "certifi ", "decorator ", "Python 3.", "OpenSSL ", "libpam "):
        assert f"\n{word}" in f"\n{shown}"
    assert "libkrb5 " in shown
    with zipfile.ZipFile(ONE_FILE) as packed:
        for path in (ROOT / "sendooway").rglob("*.py"):
            assert packed.read(str(path.relative_to(ROOT))) == path.read_bytes(), "older than the sources: `make dist`"


def test_it_is_small_and_holds_every_licence() -> None:
    assert ONE_FILE.stat().st_size < 1_550_000
    with zipfile.ZipFile(ONE_FILE) as packed:
        licensed = {name.split("/")[1] for name in packed.namelist() if name.startswith("licenses/")}
    assert licensed == {"sendooway", "certifi", "decorator", "dnspython", "gssapi", "python_pam"}


def test_it_can_ask_for_srv_records() -> None:
    with NameServer({"_submissions._tcp.moon.test": ("0 0 465 smtp.moon.test.",)}) as server:
        done = run(*PYTHON, "-c", ASK_DNS.format(file=str(ONE_FILE), port=server.port))
    assert "port=465, host='smtp.moon.test'" in done.stdout, done.stderr
    assert "no such record" in done.stdout


PRELOAD = """\
import sys
sys.path.insert(0, {file!r})
from sendooway import one_file
one_file.preload()
print(*sys.modules)
"""


def test_a_server_imports_all_that_it_may_need_later_but_no_commands() -> None:
    loaded = run(*PYTHON, "-c", PRELOAD.format(file=str(ONE_FILE))).stdout.split()
    assert {"sendooway.session", "sendooway.accounts.getmail", "certifi"} <= set(loaded)
    unwanted = ("sendooway.commands", "sendooway.discovery", "dns.resolver")
    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_two_builds_are_the_same_octets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run([ROOT / "build/dist", tmp_path / name], check=True, capture_output=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("minor", range(3, 11))
def test_an_old_python_gets_one_line_and_status_78(minor: int) -> None:
    python = find_python(minor)
    done = run(python, "-IS", ONE_FILE, "-V")
    assert done.returncode == 78
    assert done.stderr.startswith("sendooway: needs Python 3.11 or newer; this is 3.")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("minor", range(12, 16))
def test_a_newer_python_runs_it(minor: int, folder: Path) -> None:
    python = find_python(minor)
    done = run(python, "-IS", ONE_FILE, "-i", "-c", "/dev/null", "-l", folder / "log", stdin="QUIT\n")
    assert done.stdout.startswith("220 ")
    assert "\n221 " in done.stdout
    done = run(python, "-IS", "-c", UNPACK.format(file=str(ONE_FILE)), **{cache_name(): str(folder)})
    assert done.stdout.startswith(str(folder)), done.stderr


def test_nothing_of_the_environment_makes_it_run_other_code(folder: Path) -> None:
    evil = folder / "evil"
    planted = "import os; os.write(2, b'planted code runs')\n"
    for name in (
        "sendooway/__init__.py",
        "sitecustomize.py",
        "usercustomize.py",
        "ssl.py",
        "evil.py",
        "lib/python3/site-packages/evil.pth",
        ".local/lib/python3.11/site-packages/evil.pth",
        ".shiv/sendooway/site-packages/sendooway/__init__.py",
    ):
        path = evil / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(planted)
    # What shiv itself would look for: the name of the file, and a hash that its environment.json tells.
    digest_folder = evil / f"{ONE_FILE.name}_{'0' * 64}" / "site-packages/sendooway"
    digest_folder.mkdir(parents=True)
    (digest_folder / "__init__.py").write_text(planted)
    done = subprocess.run(
        [ONE_FILE, "-i", "-c", "/dev/null", "-l", "&2"],
        input="QUIT\r\n",
        capture_output=True,
        text=True,
        timeout=60,
        cwd=evil,
        env={
            "SHIV_ROOT": str(evil),
            "SHIV_ENTRY_POINT": "evil:main",
            "SHIV_INTERPRETER": "/bin/false",
            "SHIV_MODULE": "evil",
            "SHIV_PREPEND_PYTHONPATH": str(evil),
            "PYTHONPATH": str(evil),
            "PYTHONHOME": str(evil),
            "PYTHONSTARTUP": str(evil / "evil.py"),
            "PYTHONUSERBASE": str(evil / ".local"),
            "PYTHONINSPECT": "1",
            "PYTHONWARNINGS": "error::evil.Evil",
            "HOME": str(evil),
        },
    )
    assert done.returncode == 0
    assert done.stdout.startswith("220 ")
    assert "planted" not in done.stdout + done.stderr
    assert not list(evil.rglob("*.so"))


def test_gssapi_is_unpacked_once_into_a_folder_that_others_can_read_and_not_write(folder: Path) -> None:
    old = os.umask(0o077)
    try:
        first = unpack(folder)
    finally:
        os.umask(old)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"{folder}/")
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert modes == {0o755, 0o644}
    (shared_object,) = folder.rglob("creds.abi3.so")
    before = shared_object.stat()
    assert unpack(folder).stdout == first.stdout
    assert shared_object.stat().st_ino == before.st_ino


def test_a_cache_that_is_not_complete_is_unpacked_again(folder: Path) -> None:
    unpack(folder)
    (shared_object,) = folder.rglob("creds.abi3.so")
    size = shared_object.stat().st_size
    os.truncate(shared_object, 0)
    assert unpack(folder).returncode == 0
    assert shared_object.stat().st_size == size


def test_what_an_earlier_version_has_unpacked_is_removed_when_a_new_one_is_unpacked(folder: Path) -> None:
    older, other = folder / f"{'0' * 64}", folder / "of-somebody-else"
    for path in (older, other):
        (path / "gssapi").mkdir(parents=True)
    gssapi = Path(unpack(folder).stdout).parent
    assert sorted(folder.iterdir()) == sorted([gssapi.parent, other])


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_cache_that_others_can_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    done = unpack(folder)
    assert done.returncode == 1
    assert done.stderr.startswith("UnpackError: ")
    assert "can be written by other users" in done.stderr
    assert not list(folder.rglob("*.so"))


def test_a_cache_in_tmp_is_refused(tmp_path: Path) -> None:
    assert "/tmp can be written by other users" in unpack(tmp_path).stderr  # noqa: S108


@as_root
@pytest.mark.parametrize("part", ["", "gssapi", "gssapi/raw/creds.abi3.so", "gssapi/planted.py"])
def test_a_cache_in_which_somebody_else_had_a_hand_is_refused(folder: Path, part: str) -> None:
    (gssapi,) = [Path(unpack(folder).stdout).parent]
    path = gssapi.parent / part
    path.exists() or path.write_text("import os; os.write(1, b'planted code runs')")
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid)
    done = unpack(folder)
    assert f"{path} belongs to the user {nobody.pw_uid}" in done.stderr
    assert done.stdout == ""


@as_root
def test_a_symbolic_link_in_the_cache_is_refused(folder: Path) -> None:
    gssapi = Path(unpack(folder).stdout).parent
    (gssapi / "creds.py").unlink()
    (gssapi / "creds.py").symlink_to("/etc/passwd")
    assert "is neither a file nor a folder" in unpack(folder).stderr


def test_a_user_has_a_cache_of_the_own(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    own = folder / "cache"
    own.mkdir(mode=0o700)
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    copy = Path(shutil.copy(ONE_FILE, folder))

    def unpack_as_nobody(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PYTHON, "-c", UNPACK.format(file=str(copy))],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd="/",
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
        )

    assert unpack_as_nobody(XDG_CACHE_HOME=str(own)).stdout.startswith(f"{own}/sendooway/")
    # /nonexistent, as it has to be.
    assert "UnpackError: cannot unpack gssapi: " in unpack_as_nobody().stderr


@as_root
def test_a_cache_from_which_nothing_can_be_executed_or_that_is_full_is_a_clear_line(folder: Path) -> None:
    for options, reason in (("noexec,size=8m", "mounted noexec"), ("size=500k", "No space left on device")):
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "tmpfs", folder]).returncode != 0:
            pytest.skip("may not mount here")
        try:
            done = unpack(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
        assert "UnpackError: " in done.stderr
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1


ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.parametrize("replace", ["renamed over", "written over"])
def test_a_running_server_does_not_notice_that_its_file_is_replaced(folder: Path, replace: str) -> None:
    copy = Path(shutil.copy(ONE_FILE, folder))
    port = free_port()
    with ScriptedSmarthost() as smarthost:
        configuration = folder / "sendooway.conf"
        configuration.write_text(
            f"listen = 127.0.0.1:{port}\nauthBackend = none\nworkers = 1\n"
            f"smarthostMapping = direct:alice@moon.test localhost {smarthost.port} - - noAuth\n"
        )
        server = subprocess.Popen([copy, "-c", configuration, "-l", folder / "log"], stderr=subprocess.PIPE, cwd="/")
        try:
            wait_until(lambda: accepts(port), "Sendooway accepts")
            if replace == "renamed over":
                new = folder / "new"
                new.write_bytes(b"a file that is no zip\n" * 100_000)
                new.rename(copy)
            else:
                copy.write_bytes(b"a file that is no zip\n" * 100_000)
            send_one(port)
            before = proxies(server.pid)
            # A new proxy and, with it, new agents are forked of what is in memory; so is a new configuration.
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: proxies(server.pid) not in ([], before) and accepts(port), "a new proxy")
            send_one(port)
            server.send_signal(signal.SIGHUP)
            wait_until(lambda: "reloaded" in (folder / "log").read_text(), "the new configuration")
            send_one(port)
        finally:
            server.terminate()
            _, stderr = server.communicate(timeout=PATIENCE)
    log = (folder / "log").read_text()
    assert len(smarthost.mails) == 3
    assert stderr == b""
    for word in ("process-failed", "Import", "Traceback"):
        assert word not in log


def send_one(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
        client.login(ME, "not checked")
        client.sendmail("alice@moon.test", ["bob@mars.test"], b"Subject: one\r\n\r\nHello.\r\n")


def proxies(monitor: int) -> list[int]:
    children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    return [int(pid) for pid in children if "[proxy]" in title(int(pid))]


def test_a_session_under_inetd_does_not_notice_that_its_file_is_replaced(folder: Path) -> None:
    copy = Path(shutil.copy(ONE_FILE, folder))
    with ScriptedSmarthost() as smarthost:
        configuration = folder / "sendooway.conf"
        configuration.write_text(
            f"authBackend = none\nsmarthostMapping = direct:alice@moon.test localhost {smarthost.port} - - noAuth\n"
        )
        ours, theirs = socket.socketpair()
        with (
            ours,
            subprocess.Popen(
                [str(copy), "-i", "-c", str(configuration), "-l", str(folder / "log")],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
                cwd="/",
            ) as session,
        ):
            theirs.close()
            client = smtplib.SMTP(timeout=PATIENCE, local_hostname="client.test")
            client.sock = ours
            client.file = ours.makefile("rb")
            assert client.getreply()[0] == 220
            # The agent says in the log that it is ready only when asked; login asks.
            client.login(ME, "not checked")
            copy.write_bytes(b"a file that is no zip\n" * 100_000)
            client.sendmail("alice@moon.test", ["bob@mars.test"], b"Subject: one\r\n\r\nHello.\r\n")
            client.quit()
            session.wait(PATIENCE)
    assert len(smarthost.mails) == 1


def test_it_runs_without_path_and_home_and_with_the_connection_as_standard_error() -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            [str(ONE_FILE), "-i", "-c", "/dev/null", "-l", "/dev/null"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
            env={},
        ) as session,
    ):
        theirs.close()
        ours.sendall(b"QUIT\r\n")
        with ours.makefile("rb") as replies:
            assert [line[:3] for line in replies] == [b"220", b"221"]
        assert session.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("text", "replies"),
    [
        ("localname = mail.test\ntimeout = soon\n", [b"220 mail.test ", b"421 4.3.0 "]),
        ("localname = a b\n", [b"421 4.3.0 "]),
        ("localname = [192.0.2.1]\nauthBackend = none\n", [b"220 [192.0.2.1] ", b"250 2.0.0 ", b"221 2.0.0 "]),
        ("localname = mail.test\nauthBackend = none\n", [b"220 mail.test ", b"250 2.0.0 ", b"221 2.0.0 "]),
    ],
)
def test_a_client_is_greeted_once_and_hears_if_nobody_can_serve_it(
    tmp_path: Path, text: str, replies: list[bytes]
) -> None:
    (tmp_path / "conf").write_text(text)
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb") as heard:
        session = subprocess.Popen(
            [ONE_FILE, "-i", "-c", tmp_path / "conf", "-l", tmp_path / "log"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
        )
        theirs.close()
        ours.sendall(b"NOOP\r\nQUIT\r\n")
        assert [line[: len(reply)] for line, reply in zip(heard, replies, strict=True)] == replies
        session.wait(PATIENCE)


def test_it_is_installed_and_removed_by_the_gnu_conventions(tmp_path: Path) -> None:
    def make(target: str) -> list[str]:
        subprocess.run(["make", "-s", target, f"DESTDIR={tmp_path}", "PREFIX=/usr"], cwd=ROOT, check=True)
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())

    installed = make("install")
    assert {
        "usr/sbin/sendooway",
        "usr/share/man/man1/sendooway.1",
        "usr/share/man/man5/sendooway.conf.5",
        "usr/lib/systemd/system/sendooway.service",
        "usr/lib/sysusers.d/sendooway.conf",
        "usr/lib/tmpfiles.d/sendooway.conf",
        "usr/share/doc/sendooway/SECURITY.md",
        "usr/share/doc/sendooway/examples/inetd/inetd.conf",
    } < set(installed)
    assert [name for name in installed if not name.startswith("usr/")] == ["etc/pam.d/sendooway", "etc/sendooway.conf"]
    assert os.access(tmp_path / "usr/sbin/sendooway", os.X_OK)
    settings = tmp_path / "etc/sendooway.conf"
    settings.write_text("workers = 2\n")
    assert make("install") == installed
    assert settings.read_text() == "workers = 2\n"
    assert make("uninstall") == ["etc/sendooway.conf"]
    assert not (tmp_path / "usr/share/doc/sendooway").exists()
