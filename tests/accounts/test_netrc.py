import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import fetchmail as real_fetchmail

from sendooway.accounts import netrc
from sendooway.accounts.account import AccountsError
from sendooway.accounts.netrc import Machine
from sendooway.origin import Origin
from sendooway.secret import Secret

FILE = "/home/alice/.netrc"


def entry(machine: str | None, login: str | None, password: bytes | None) -> Machine:
    return Machine(machine, login, None if password is None else Secret(password), Origin("", 0))


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("machine moon.test login alice password secret\n", [entry("moon.test", "alice", b"secret")]),
        (
            "machine moon.test\r\n\tlogin alice\r\n\tpassword secret\r\n\r\nmachine sun.test",
            [entry("moon.test", "alice", b"secret"), entry("sun.test", None, None)],
        ),
        ("machine\nmoon.test login\n\nalice", [entry("moon.test", "alice", None)]),
        ("machine a user b account c passwd d", [entry("a", "b", b"d")]),
        ("default login anonymous password x", [entry(None, "anonymous", b"x")]),
        (
            "# a comment\nmachine a # password no\n  #password no\nlogin b password #yes",
            [entry("a", "b", b"#yes")],
        ),
        (
            'machine "a" login \'b c\' password "d \\" # e\\\\"',
            [entry("a", "b c", b'd " # e\\')],
        ),
        ("machine a login b password c\\d\\\\#e\"f'g\\", [entry("a", "b", b"c\\d\\\\#e\"f'g\\")]),
        ("machine a port 587 login b protocol smtp password c", [entry("a", "b", b"c")]),
        ("machine a login b password 'c\\d\\\\e\\'f'", [entry("a", "b", b"c\\d\\e'f")]),
        ('machine a login b password ""', [entry("a", "b", b"")]),
        # Values that are keywords; octets that are not UTF-8.
        (
            "machine machine login login password macdef machine c login default password p\udce4",
            [entry("machine", "login", b"macdef"), entry("c", "default", b"p\xe4")],
        ),
        (
            "machine a login b macdef init\nmachine x password y\n quote 'unclosed \\\n\nmachine c",
            [entry("a", "b", None), entry("c", None, None)],
        ),
        ("macdef at-the-end\nmachine x", []),
    ],
)
def test_a_file_is_entries_of_machines(text: str, entries: list[Machine]) -> None:
    assert list(netrc.parse(text, FILE)) == entries


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("machine", 1, "machine needs a value"),
        ("machine a login b\npassword\n\n", 2, "password needs a value"),
        ("\nlogin b", 2, "expected `machine NAME`"),
        ("machine a\nhost 587", 2, "expected `machine NAME`"),
        ("machine a\nport", 2, "port needs a value"),
        ("machine a login b secret", 1, "expected `machine NAME`"),
        ('machine a\npassword "secret', 2, "a quote is not closed"),
        ('machine a\npassword "secret"x', 2, "a quote is not closed"),
        ("machine a\npassword 'secret\\'", 2, "a quote is not closed"),
        ("machine a password se\0cret", 1, "NUL"),
    ],
)
def test_an_error_names_the_line_and_quotes_nothing(text: str, line: int, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        netrc.parse(text, FILE)
    assert raised.value.origin == Origin(FILE, line)
    assert "secret" not in str(raised.value)


ENTRIES = netrc.parse(
    """
    machine mail.moon.test login bob password 1
    machine mail.moon.test login alice
    machine mail.moon.test login alice password 2
    machine mail.moon.test login alice password 3
    machine moon.test login carol password 4
    machine Moon.test login dave password 5
    machine moon.test password 6
    default login eve password 7
    """,
    FILE,
)


@pytest.mark.parametrize(
    ("hosts", "login", "password"),
    [
        (("mail.moon.test",), "bob", b"1"),
        (("mail.moon.test",), "alice", b"2"),
        (("mail.moon.test", "moon.test"), "carol", b"4"),
        (("moon.test",), "dave", None),
        (("moon.test",), "alice", None),
        (("moon.test",), "eve", None),
        ((), "eve", None),
    ],
)
def test_an_entry_serves_its_own_machine_and_login_only(
    hosts: tuple[str, ...], login: str, password: bytes | None
) -> None:
    assert netrc.look_up(ENTRIES, hosts, login) == (None if password is None else Secret(password))


@given(
    st.lists(
        st.sampled_from(["machine", "login", "password", "default", "macdef x\n\n", '"a b"', "#", "\\", "'", "\n", "w"])
        | st.text(),
    ).map(" ".join)
)
def test_any_text_is_entries_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        netrc.parse(text, FILE)


@pytest.mark.parametrize("piece", ["machine a ", '"', "\\", "\\a", "# ", "a", "\n", "macdef a\n\n", "password '\\'' "])
def test_a_mebibyte_takes_less_than_a_second(piece: str) -> None:
    text = (piece * ((1 << 20) // len(piece)))[: 1 << 20]
    begin = time.process_time()
    with suppress(AccountsError):
        netrc.parse(text, FILE)
    assert time.process_time() - begin < 1


MACHINES = """\
machine via login u password of-via
machine poll login u password of-poll
machine poll login U password of-U
machine poll login v password "in quotes"
machine poll login w password back\\slash
machine poll login x account y password #no
machine nobody password without-login
default login u password of-default
"""

ENTRIES_OF_FETCHMAIL = [
    ("poll 'poll' via 'via' user u", ("poll", "via"), "u"),
    ("poll other via 'via' user u", ("other", "via"), "u"),
    ("poll 'poll' user U", ("poll",), "U"),
    ("poll 'poll' user v", ("poll",), "v"),
    ("poll 'poll' user w", ("poll",), "w"),
    ("poll Poll user u", ("Poll",), "u"),
    ("poll nobody user u", ("nobody",), "u"),
    ("poll unknown user u", ("unknown",), "u"),
    ("poll 'poll' via 'via' user nobody", ("poll", "via"), "nobody"),
]


@pytest.mark.slow
@pytest.mark.skipif(bool(real_fetchmail.why_not()), reason=real_fetchmail.why_not())
@pytest.mark.parametrize(("rc", "hosts", "login"), ENTRIES_OF_FETCHMAIL)
def test_the_real_fetchmail_finds_the_same_password(
    rc: str, hosts: tuple[str, ...], login: str, tmp_path: Path
) -> None:
    found = netrc.look_up(netrc.parse(MACHINES, FILE), hosts, login)
    theirs = real_fetchmail.password_from(MACHINES, rc, tmp_path)
    assert theirs == (None if found is None else real_fetchmail.shown(found.octets))
