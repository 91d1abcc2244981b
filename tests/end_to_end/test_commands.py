"""The commands as a user runs them: the one file, an ordinary user, a real smarthost."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from servers.certificates import Certificates
from servers.program import ONE_FILE
from servers.users import User

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ONE_FILE.exists(), reason="`make dist` has not made dist/sendooway"),
]

Ask = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ask(shared_folder: Path, certificates: Certificates, alice_with_two_identities: User) -> Ask:
    """Run a command as alice, with a configuration that lets her have one of her own."""
    program, conf = shared_folder / "sendooway", shared_folder / "commands.conf"
    shutil.copy(ONE_FILE, program)
    conf.write_text(f"sslCA = {certificates.authority}\nuserInclude = %h/.sendoowayrc\n")
    conf.chmod(0o644)
    alice = alice_with_two_identities

    def run(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/usr/bin/python3", "-IS", program, command, "-c", conf, *arguments],
            capture_output=True,
            text=True,
            user=alice.uid,
            group=alice.gid,
            extra_groups=(),
            env={"HOME": str(alice.home), "PATH": "/usr/bin:/bin"},
            cwd="/",
            timeout=120,
        )

    return run


def test_a_user_sees_and_tries_out_what_an_agent_would_use(ask: Ask, alice_with_two_identities: User) -> None:
    home = alice_with_two_identities.home
    done = ask("accounts", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [(one["file"], one["addresses"]) for one in json.loads(done.stdout)] == [
        (f"{home}/.getmail/getmailrc", ["alice@sun.test", "office@sun.test"]),
        (f"{home}/.fetchmailrc", ["alice@moon.test"]),
    ]
    done = ask("check", "--json")
    assert done.returncode == 0, done.stdout
    assert all(report["good"] for report in json.loads(done.stdout))
    done = ask("explain", "office@sun.test")
    assert done.returncode == 0
    assert "= ~/.getmail/getmailrc:11: matches office@sun.test (the address itself)" in done.stdout


def test_the_users_own_file_comes_first(ask: Ask, alice_with_two_identities: User) -> None:
    alice_with_two_identities.write(".sendoowayrc", "smarthostMapping = direct:*@moon.test h.test 465 a b ssl\n")
    assert "= ~/.sendoowayrc:1: matches *@moon.test" in ask("explain", "alice@moon.test").stdout


def test_a_file_of_somebody_else_is_told(ask: Ask, alice_with_two_identities: User, tmp_path: Path) -> None:
    (alice_with_two_identities.home / ".fetchmailrc").unlink()
    (alice_with_two_identities.home / ".fetchmailrc").symlink_to("/etc/shadow")
    done = ask("accounts")
    assert done.returncode == 65
    assert done.stderr == f"{alice_with_two_identities.home}/.fetchmailrc: cannot be read: Permission denied\n"


def test_discover_needs_nothing_that_the_one_file_has_not(ask: Ask) -> None:
    # There is no such domain (RFC 6761, 6.4), whether there is a network or not.
    done = ask("discover", "alice@no-such.invalid")
    assert done.returncode in (1, 75), done.stderr
    assert done.stdout.startswith("Looking for the smarthost of alice@no-such.invalid:\n- DNS, _submissions._tcp.")
