"""What fetchmail's own grammar means. The same table is shown to the real fetchmail, where there is one."""

import os
import pwd
import re
from contextlib import suppress
from pathlib import Path

import pytest
from accounts import fetchmail_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import fetchmail as real_fetchmail

from sendooway.accounts import fetchmail, fetchmailrc
from sendooway.accounts.account import AccountsError
from sendooway.accounts.fetchmailrc import MAX_MAILBOXES, RunControl
from sendooway.auth.identity import Identity
from sendooway.origin import Origin

# A server: name, skip, via, protocol, port, and its users: remote name, password, local names, ssl.
User = tuple[str | None, str | None, list[str | tuple[str, str]], bool]
Server = tuple[str, bool, str | None, str, str | None, list[User]]


def user(
    remote: str | None = "b",
    password: str | None = None,
    names: list[str | tuple[str, str]] | None = None,
    ssl: bool = False,
) -> User:
    return (remote, password, names or [], ssl)


def server(
    *users: User,
    name: str = "a",
    skip: bool = False,
    via: str | None = None,
    protocol: str = "auto",
    port: str | None = None,
) -> Server:
    return (name, skip, via, protocol, port, list(users) or [user(None)])


ACCEPTED: list[tuple[str, list[Server]]] = [
    ("", []),
    ("# nothing\n", []),
    ("poll a\n", [server()]),
    ("server a\n", [server()]),
    ("skip a\n", [server(skip=True)]),
    ("poll 'a' user b\n", [server(user())]),
    ("poll a, with: proto pop3; user b\n", [server(user(), protocol="POP3")]),
    ("poll a protocol IMAP\n", [server(protocol="IMAP")]),
    ("poll a proto kpop\n", [server(protocol="POP3", port="kpop")]),
    ("poll a proto sdps\n", [server(protocol="POP3")]),
    ("poll a via b port 0993\n", [server(via="b", port="993")]),
    ("poll a service 110\n", [server(port="110")]),
    ("poll a port 5 service 6 user b\n", [server(user(), port="6")]),
    ("poll a envelope 2 X-To user b\n", [server(user())]),
    ("poll a no envelope noenvelope nodns no dns uidl bad-header reject\n", [server()]),
    ("poll a aka c d localdomains e f interval 3 timeout 4 auth password user b\n", [server(user())]),
    ("poll a auth with password auth cram-md5 preauth any user b\n", [server(user())]),
    # The words after user, pass, is, to and = are strings.
    ("poll a user user pass pass\n", [server(user("user", "pass"))]),
    ("poll a user with pass 007\n", [server(user("with", "007"))]),
    ("poll a user b pass ssl ssl\n", [server(user("b", "ssl", ssl=True))]),
    ("poll a user b is here here\n", [server(user(names=["here"]))]),
    ("poll a user b is c d = e here\n", [server(user(names=["c", ("d", "e")]))]),
    ("poll a user b to c is d\n", [server(user(names=["c", "d"]))]),
    ("poll a user b to * here\n", [server(user(names=["*"]))]),
    ("poll a user b there is c there\n", [server(user("c"))]),
    ("poll a user b here is c there\n", [server(user("c", names=["b"]))]),
    ("poll a user b = c here\n", [server(user(None, names=[("b", "c")]))]),
    ("poll a is b there pass c\n", [server(user("b", "c"))]),
    ("poll a user b user c pass d user e\n", [server(user(), user("c", "d"), user("e"))]),
    ("poll a user b nokeep no keep keep ssl no ssl lmtp smtphost d/24\n", [server(user())]),
    ("poll a user b folder c d antispam 1 -2 expunge 5 mda 'x y'\n", [server(user())]),
    ("poll a pass b\nkeep ssl\n", [server(user(None, "b", ssl=True))]),
    # Quotes, escapes, comments.
    ("poll a user \"b c\" pass ''\n", [server(user("b c", ""))]),
    ("poll a user 'b\"c' pass \"d#'e\"\n", [server(user('b"c', "d#'e"))]),
    ("poll a user b pass 'x'y\n", [server(user("b", "'x'y"))]),
    ('poll a user b pass "x""\n', [server(user("b", '"x""'))]),
    ("poll a user b pass c'd\n", [server(user("b", "c'd"))]),
    ('poll a user b pass "c\n', [server(user("b", '"c'))]),
    ("poll a user b pass 'c\nd'\n", [server(user("b", "c\nd"))]),
    ("poll a user b pass 'c\\\nd'\n", [server(user("b", "cd"))]),
    ("poll a user b pass c\\\nkeep\n", [server(user("b", "c"))]),
    ("poll a \\\n user b\n", [server(user())]),
    ("poll a user b pass c#d # e\n", [server(user("b", "c#d"))]),
    ("poll a user # c\n b\n", [server(user())]),
    (r"poll \x41 user \X4a pass \101" + "\n", [server(user("J", "e"), name="A")]),
    (r"poll a user \065 pass \0651" + "\n", [server(user("5", "51"))]),
    (r"poll a user \q pass \n\t\b\r" + "\n", [server(user("q", "\n\t\b\r"))]),
    (r"poll a user b pass x\0y" + "\n", [server(user("b", "x"))]),
    (r"poll a user b pass x\xg" + "\n", [server(user("b", "x"))]),
    (r"poll a user \n pass \\" + "\n", [server(user("\n", "\\"))]),
    ("poll a\r\n user b\r\n", [server(user())]),
    # Several entries, defaults, set.
    (
        "poll a user b poll c skip d user e\n",
        [server(user()), server(name="c"), server(user("e"), name="d", skip=True)],
    ),
    (
        "defaults proto imap port 5 via v user d pass p ssl is n\npoll a\npoll c user e pass '' no ssl is o\n",
        [
            server(user("d", "p", ["n"], True), protocol="IMAP", port="5", via="v"),
            server(user("e", "", ["o"]), name="c", protocol="IMAP", port="5", via="v"),
        ],
    ),
    ("defaults is * poll a user b is c\n", [server(user(names=["c", "*"]))]),
    ("set daemon 5 set no syslog set nobouncemail poll a user b set logfile=x\n", [server(user())]),
    ("set postmaster = user set properties = 5 set invisible\n", []),
    ("poll 'defaults' pass p skip a user b\n", [server(user("b", "p"), skip=True)]),
    # What people's files look like.
    ("\tpoll\ta\tuser\tb\tpass\tc", [server(user("b", "c"))]),
    ("poll a user b pass c#d", [server(user("b", "c#d"))]),
    ("poll a user b pass #c", [server(user("b", "#c"))]),
    ("poll a user b is c # d", [server(user(names=["c", "#", "d"]))]),
    ("poll a\r\nproto imap\r\n\r\nuser b\r\npass 'c d'\r\n", [server(user("b", "c d"), protocol="IMAP")]),
    ("poll a user b pass 'c\r\nd'\r\n", [server(user("b", "c\r\nd"))]),
    ("poll a user b pass c\\\n ssl\n", [server(user("b", "c", ssl=True))]),
    ("poll a with proto imap and options no dns user b wants ssl\n", [server(user(ssl=True), protocol="IMAP")]),
    (
        "poll a proto pop3, user b, with password c, is d here;\n",
        [server(user("b", "c", names=["d"]), protocol="POP3")],
    ),
    ('poll "a" service "993" user "b" pass "imap" is "poll" here\n', [server(user("b", "imap", ["poll"]), port="993")]),
    ("poll 'a b' user 1 pass 2 user 3 pass -4\n", [server(user("1", "2"), user("3", "-4"), name="a b")]),
    ("poll a user 'ä€' pass \udcff\n", [server(user("ä€", "\udcff"))]),
    (
        "defaults user b pass c ssl poll a poll d user e no ssl\n",
        [server(user("b", "c", ssl=True)), server(user("e", "c"), name="d")],
    ),
    (
        "poll a auth ssh user b poll c proto etrn user d pass e skip f auth ssh\n",
        [server(user()), server(user("d", "e"), name="c", protocol="ETRN"), server(name="f", skip=True)],
    ),
    ("defaults auth external poll a auth any user b\n", [server(user())]),
    (
        "poll a service '0110' user b poll c service pop3s\n",
        [server(user(), port="0110"), server(name="c", port="pop3s")],
    ),
    ("poll a user b idle folder c\n", [server(user())]),
    ("poll a user b lmtp smtphost c/24 /d\n", [server(user())]),
    ("defaults smtphost c/24 poll a user b lmtp\n", [server(user())]),
    ("poll a interface eth0/192.0.2.1 user b\n", [server(user())]),
    ("poll a interface eth0/10.1/255.0.0.0 user b\n", [server(user())]),
    ("defaults idle poll a user b no idle user c no idle\n", [server(user(), user("c"))]),
]

REJECTED: list[tuple[str, int, str]] = [
    ("poll\n", 2, "a string expected"),
    ("poll imap\n", 1, "a string expected"),
    ("poll 5\n", 1, "a string expected"),
    ("a\n", 1, "`poll`, `skip`"),
    ("\ufeffpoll a\n", 1, "`poll`, `skip`"),
    ("poll a\n user b\n c\n", 4, "`here`"),
    ("poll a user b=c\n", 2, "`here`"),
    ("poll a user b pass\n", 2, "a string"),
    ("poll a user b pass = c\n", 1, "a string"),
    ("poll a user b pass 'c d'e\n", 1, "`poll`, `skip`"),
    ("poll a user b is c=d there\n", 1, "`poll`, `skip`"),
    ("poll a user b\n proto imap\n", 2, "before its users"),
    ("poll a user b no dns\n", 1, "before its users"),
    ("poll a pass b user c\n", 1, "need a `user` before them"),
    ("poll a port b\n", 1, "a port number from 1 to 65535 expected"),
    ("poll a port 65536\n", 1, "a number from 1 to 65535"),
    ("poll a port 0\n", 1, "a number from 1 to 65535"),
    ("poll a port 9999999999\n", 1, "a number from 1 to 65535"),
    ("poll a service imap\n", 1, "or a service"),
    ("poll a proto Imap\n", 1, "a protocol"),
    ("poll a auth plain\n", 1, "authenticate"),
    ("poll a auth pass\n", 1, "authenticate"),
    ("poll a bad-header maybe\n", 1, "`accept` or `reject`"),
    ("poll a user b antispam c\n", 1, "numbers"),
    ("poll a user b nossl\n", 2, "`here`"),
    ("poll a user b ::1\n", 1, "`poll`"),
    ("poll a no\n", 2, "`poll`"),
    ("no keep\n", 1, "`poll`"),
    ("set daemon = 5\n", 1, "a number"),
    ("set mda x\n", 1, "the name of an option"),
    ("set\n", 2, "the name of an option"),
    ("set x\n", 1, "the name of an option"),
    ("poll a user b set daemon 3 user c\n", 1, "`poll`"),
    ("poll a user b defaults user c\n", 1, "before all other"),
    ("defaults user a poll b user c defaults\n", 1, "before all other"),
    ("poll a user b\n# no line end", 2, "needs a line end"),
    ("poll a user b\n#sendooway:server c", 2, "needs a line end"),
    ("poll a\nservice nonsense\n", 1, "a service that is known here"),
    ("poll a service ''\n", 1, "a service that is known here"),
    ("poll a service '0'\n", 1, "a number from 1 to 65535"),
    ("poll a auth kerberos_v4\n", 1, "authenticate"),
    ("poll a user b poll 'defaults' user c\n", 1, "before all other"),
    ("poll a user b\nuser c idle\n", 2, "`idle` needs"),
    ("defaults folder b c\npoll a idle\n", 2, "`idle` needs"),
    ("poll a user b\nidle folder c\nfolder d\n", 1, "`idle` needs"),
    ("poll a\nuser b lmtp\n", 2, "`lmtp` needs"),
    ("poll a user b lmtp smtphost c/24 d\n", 1, "`lmtp` needs"),
    ("poll a interface eth0\n", 1, "an interface with its address"),
    ("poll a interface eth0/nowhere\n", 1, "an interface with its address"),
    ("poll a interface eth0/192.0.2.1/\n", 1, "an interface with its address"),
    ("poll a no no keep\n", 1, "`poll`"),
    ("poll a no nokeep\n", 1, "`poll`"),
]

MORE_REJECTED: list[tuple[str, int, str]] = [
    # fetchmail makes a server without a name of this.
    ("defaults user a user b poll c\n", 1, "one `user` only"),
    ("defaults defaults poll c\n", 1, "`defaults` may stand once"),
    # fetchmail takes these words for strings.
    ("poll a user b is c #sendooway:server d", 1, "needs a line end"),
]


def servers(run_control: RunControl) -> list[Server]:
    found = []
    for poll in run_control.polls:
        users = []
        for one in poll.users:
            names = [here if there is None else (here, there) for here, there in one.local_names]
            password = None if one.password is None else one.password.octets.decode("utf-8", "surrogateescape")
            users.append((one.remote, password, [*names, "*"] if one.wildcard else names, one.ssl))
        found.append((poll.server, poll.skip, poll.via, poll.protocol, poll.port, users))
    return found


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_a_file_is_read_as_fetchmail_reads_it(text: str, expected: list[Server]) -> None:
    assert servers(fetchmailrc.parse(text, "rc")) == expected


@pytest.mark.parametrize(("text", "line", "reason"), REJECTED + MORE_REJECTED)
def test_an_error_names_the_line_and_what_would_be_right(text: str, line: int, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        fetchmailrc.parse(text, "rc")
    assert raised.value.origin == Origin("rc", line)


@pytest.mark.parametrize(
    ("raw", "octets"),
    [("p\udce4ss", b"p\xe4ss"), (r"\xe4", b"\xe4"), (r"\xc3\xa4", b"\xc3\xa4"), (r"\228", b"\xe4"), ("ä", b"\xc3\xa4"),
     (r"\484", b"\xe4"), ('"a\\\r\nb"', b"a\r\nb")],
)  # fmt: skip
def test_a_password_keeps_its_octets(raw: str, octets: bytes) -> None:
    password = fetchmailrc.parse(f"poll a user b pass {raw}\n", "rc").polls[0].users[0].password
    assert password
    assert password.octets == octets


def test_a_port_may_be_the_name_of_a_service() -> None:
    assert fetchmailrc.parse("poll a service pop3s\n", "rc").polls[0].port == "pop3s"


def test_escaped_octets_make_up_characters() -> None:
    assert fetchmailrc.parse(r"poll a user \xc3\xa4" + "\n", "rc").polls[0].users[0].remote == "ä"


def test_the_number_of_mailboxes_is_limited() -> None:
    text = "poll a\n" * MAX_MAILBOXES
    assert len(fetchmailrc.parse(text, "rc").polls) == MAX_MAILBOXES
    with pytest.raises(AccountsError, match="no more than 20000") as raised:
        fetchmailrc.parse(text + "\npoll a\n", "rc")
    assert raised.value.origin.line == MAX_MAILBOXES + 2


def test_places_and_annotations_are_known() -> None:
    run_control = fetchmailrc.parse(
        "#sendooway:1\n"
        "defaults ssl #SENDOOWAY:2\n"
        "poll a proto imap #sendooway:3\n"
        "#other\n"
        "user b #sendooway:4\n"
        "pass c\n"
        "#Sendooway:5\n"
        "user #sendooway:6\n"
        "d pass 'e #sendooway:no\n'\n"
        "#sendooway:7\n"
        "poll f#sendooway\n"
        "#sendooway:8\\\n"
        "set daemon 5\n"
        "#sendooway:9\n",
        "rc",
    )
    a, f = run_control.polls
    assert [(poll.line, [user.line for user in poll.users]) for poll in (a, f)] == [(3, [5, 8]), (12, [12])]
    assert [[(one.text.strip(), one.line) for one in user.annotations] for user in (*a.users, *f.users)] == [
        [("3", 3), ("4", 5), ("5", 7)],
        [("6", 8), ("7", 11)],
        [("8\\", 13)],
    ]
    assert [[one.text.strip() for one in stretch] for stretch in run_control.stray] == [["1"], ["2"], ["9"]]


def test_no_repr_shows_a_password() -> None:
    assert "secret" not in repr(fetchmailrc.parse("poll a user b pass secret #sendooway:pass secret\n", "rc"))


_WORDS = [
    "poll",
    "defaults",
    "set",
    "user",
    "pass",
    "is",
    "=",
    "here",
    "no",
    "keep",
    "nokeep",
    "'",
    '"',
    "\\",
    "#",
    "\n",
    "a",
    "1",
]


@given(
    st.one_of(
        st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")),
        st.lists(st.sampled_from(_WORDS)).map(" ".join),
        st.lists(st.sampled_from(_WORDS)).map("".join),
    )
)
def test_any_text_is_read_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        fetchmailrc.parse(text, "rc")


# The real fetchmail

needs_fetchmail = pytest.mark.skipif(bool(real_fetchmail.why_not()), reason=real_fetchmail.why_not())

# fetchmail takes the name of the user who runs it for what is missing.
ME = pwd.getpwuid(os.getuid()).pw_name


def dumped(text: str) -> list[bytes] | str:
    """What fetchmail would print of what we read, or the reason why we do not."""
    try:
        run_control = fetchmailrc.parse(text, "rc")
    except AccountsError as error:
        return error.reason
    entries = fetchmail.parse(
        re.sub("#sendooway:", "#", text, flags=re.IGNORECASE), "rc", Identity(ME, 0, 0, "/")
    ).entries
    retrievers = iter([entry.retriever for entry in entries if entry.retriever])
    return real_fetchmail.show(
        [(number, next(retrievers)) for number, poll in enumerate(run_control.polls) for _ in poll.users]
    )


def agrees(text: str, folder: Path) -> bool:
    """Whether fetchmail accepts a text, after a look that we read the same."""
    theirs = real_fetchmail.dump(text.encode("utf-8", "surrogateescape"), folder)
    ours = dumped(text)
    if isinstance(ours, str):
        assert theirs is None or any(reason in ours for _, _, reason in MORE_REJECTED), ours
    elif any(not line.isascii() or rb"\0x" in line for line in ours):
        # What fetchmail prints of octets that are not ASCII is broken.
        assert theirs is not None
        assert [line.split()[0] for line in theirs] == [line.split()[0] for line in ours]
    else:
        assert theirs == ours
    return theirs is not None


@pytest.mark.slow
@needs_fetchmail
def test_the_real_fetchmail_reads_the_tables_as_we_do(tmp_path: Path) -> None:
    for text, _ in ACCEPTED:
        assert agrees(text, tmp_path), text
    for text, _, _ in REJECTED:
        assert not agrees(text, tmp_path), text


@pytest.mark.slow
@needs_fetchmail
@pytest.mark.parametrize(
    ("before", "arguments"),
    [("poll a", ("", "x", "5")), ("poll a user b", ("", "x", "5")), ("poll a no", ("",)), ("set", ("", "x"))],
)
def test_the_real_fetchmail_lets_each_keyword_have_the_same_arguments(
    before: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    for keyword in fetchmail_files.KEYWORDS:
        for argument in arguments:
            agrees(f"{before} {keyword} {argument}\n", tmp_path)


@pytest.mark.slow
@needs_fetchmail
def test_the_real_fetchmail_reads_random_files_as_we_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fetchmail")
    accepted = []

    @settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.one_of(fetchmail_files.valid, fetchmail_files.nearly_valid))
    def check(text: str) -> None:
        accepted.append(agrees(text, folder))

    check()
    assert 0.1 < sum(accepted) / len(accepted) < 0.9, "files of both kinds are needed"
