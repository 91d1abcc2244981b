"""Programs that print passwords, really run."""

import codecs
import encodings
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from forked import in_child
from servers.processes import wait_until

from sendooway.log import Log
from sendooway.privsep import command
from sendooway.privsep.command import CommandError
from sendooway.unix import privileges

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GREETING": "hello"}


def run(log: Log, *arguments: str, folder: str = "/") -> bytes:
    return command.run(arguments, ENVIRONMENT, folder, log).octets


def shell(log: Log, script: str) -> bytes:
    return run(log, "sh", "-c", script)


def failure(log: Log, *arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        run(log, *arguments)
    return str(raised.value)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("echo secret", b"secret"),
        ("printf secret", b"secret"),
        ("printf 'secret\\r\\nuser: alice\\n'", b"secret"),
        ("printf ' se\\344cret '", b" se\xe4cret "),
        ("echo secret; echo 'some words' >&2", b"secret"),
        ("printf secret; exec 1>&- 2>&-", b"secret"),
        ("echo secret; head -c 4089 /dev/zero", b"secret"),
    ],
)
def test_the_first_line_is_the_password(log: Log, script: str, line: bytes) -> None:
    assert shell(log, script) == line


def test_no_shell_sees_the_words(log: Log) -> None:
    assert run(log, "printf", "%s|", "a b", "$HOME", "`id`", "*") == b"a b|$HOME|`id`|*|"


def test_it_knows_nothing_but_its_environment(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "x")
    assert shell(log, "env | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD | sort | tr '\\n' ' '") == (
        b"GREETING=hello PATH=/usr/local/bin:/usr/bin:/bin "
    )


def test_it_has_no_input_no_terminal_and_no_descriptor_of_ours(log: Log, tmp_path: Path) -> None:
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        assert shell(log, "cat; echo end") == b"end"
        # ls itself has one open: the folder.
        assert shell(log, "ls /proc/self/fd | tr '\\n' ' '") == b"0 1 2 3 "
    assert shell(log, "readlink /proc/self/fd/0") == b"/dev/null"
    assert shell(log, "ps -o tty= -p $$") == b"?"


def test_signals_mean_for_it_what_they_mean_everywhere(log: Log) -> None:
    # Python ignores the first two, and the agent the next.
    numbers = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGALRM)
    for field in ("SigIgn", "SigBlk"):
        mask = int(shell(log, f"grep {field} /proc/self/status | cut -f 2"), 16)
        assert [number for number in numbers if mask >> (number - 1) & 1] == []


def test_it_runs_in_the_folder_or_where_that_is_none_in_the_root(log: Log, tmp_path: Path) -> None:
    assert run(log, "pwd", "-P", folder=str(tmp_path)) == str(tmp_path).encode()
    assert run(log, "pwd", folder=str(tmp_path / "no")) == b"/"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("no-such-program-here",), "ended with status 127: No such file or directory"),
        (("/etc/passwd",), "ended with status 127: Permission denied"),
        (("false",), "ended with status 1"),
        (("sh", "-c", "echo se; exit 3"), "ended with status 3"),
        (
            ("sh", "-c", "echo 'gpg: No secret\nkey\t\33[0m' >&2; exit 2"),
            "ended with status 2: gpg: No secret key ?[0m",
        ),
        (("sh", "-c", "kill -9 $$"), "was ended by SIGKILL"),
        (("true",), "printed no password"),
        (("sh", "-c", "echo; echo secret"), "printed no password"),
        (("printf", "a\\0b"), "printed no password"),
        (("yes",), "printed more than 4096 octets"),
        (("head", "-c", "4097", "/dev/zero"), "printed more than 4096 octets"),
    ],
)
def test_a_failure_is_told_in_the_program_s_own_words(log: Log, arguments: tuple[str, ...], reason: str) -> None:
    assert failure(log, *arguments) == reason


def test_what_it_says_is_cut(log: Log) -> None:
    said = failure(log, "sh", "-c", "yes word | head -c 100000 >&2; exit 1")
    assert said.startswith("ended with status 1: word word ")
    assert said.endswith("...")
    assert len(said) < command.MAX_ERROR + 50


def test_a_password_that_it_says_aloud_is_withheld(log: Log) -> None:
    said = failure(log, "sh", "-c", "echo s3cret; echo 'is it s3cret?' >&2; exit 1")
    assert said == "ended with status 1: (words withheld, they repeat what it printed)"


@pytest.mark.parametrize("script", ["echo $$ > {pid}; exec sleep 1000", "sleep 1000 & echo $! > {pid}; wait"])
def test_after_its_time_it_and_what_it_started_are_killed(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(command, "SECONDS", 1.0)
    reason = failure(log, "sh", "-c", "echo half; echo thinking >&2;" + script.format(pid=tmp_path / "pid"))
    assert reason == "has not ended after 1 seconds: thinking"
    assert_gone(int((tmp_path / "pid").read_text()))


def test_what_it_leaves_behind_is_not_waited_for_but_killed(log: Log, tmp_path: Path) -> None:
    assert shell(log, f"sleep 1000 & echo $! > {tmp_path}/pid; echo secret") == b"secret"
    assert_gone(int((tmp_path / "pid").read_text()))


def test_what_it_leaves_behind_cannot_hide_in_a_session_of_its_own(log: Log, tmp_path: Path) -> None:
    daemon = f"sh -c 'sleep 1000 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait'"
    assert shell(log, f"setsid {daemon} & until test -e {tmp_path}/pid; do :; done; echo secret") == b"secret"
    assert_gone(int((tmp_path / "pid").read_text()))


def test_what_was_there_before_stays(log: Log) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            assert shell(log, "setsid sleep 1000 & echo secret") == b"secret"
            assert other.poll() is None
        finally:
            other.kill()


def assert_gone(pid: int) -> None:
    """Dead, be it that nobody has noticed yet."""

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(gone, f"the end of process {pid}")


def test_it_gains_no_rights_and_leaves_no_core(log: Log) -> None:
    def act() -> list[str]:
        privileges.drop_to(os.getuid(), os.getgid(), None)
        return [
            shell(log, script).decode()
            for script in ("grep NoNewPrivs /proc/self/status | cut -f 2", "ulimit -c", "umask")
        ]

    assert in_child(act) == ["1", "0", "0077"]


def test_a_user_who_may_not_read_python_s_files_has_passwords_too(log: Log) -> None:
    def act() -> str:
        # As pytest has imported what an agent has not.
        for name in [name for name in sys.modules if name.startswith("encodings.")]:
            del sys.modules[name]
        codecs.unregister(encodings.search_function)
        sys.meta_path.clear()
        return shell(log, "echo secret").decode()

    assert in_child(act) == "secret"


def test_it_ends_with_its_parent(log: Log, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with suppress(Exception):
            shell(log, f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000")
        os._exit(0)
    wait_until((tmp_path / "pid").exists, "the program's start")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert_gone(int((tmp_path / "pid").read_text()))
