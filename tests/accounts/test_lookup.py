import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway import config
from sendooway.accounts.account import Account, AccountsError, Credentials, FromNetrc, NoAccount, Security, Unusable
from sendooway.accounts.entry import Listing, Searched
from sendooway.accounts.lookup import SOURCES, expand, list_accounts, look_up, select
from sendooway.accounts.user_file import MAX_FILES, MAX_LINE_OCTETS, MAX_OCTETS, NoFiles, UserFiles
from sendooway.auth.identity import Identity
from sendooway.config import MAX_MAPPINGS
from sendooway.origin import Origin
from sendooway.secret import Secret

ALICE = Identity("alice", 1000, 1000, "/home/alice")
PLACE = Origin("/etc/sendooway.conf", 9)


def mapping(text: str, line: int = 1) -> config.Mapping:
    source, _, argument = text.partition(":")
    return config.Mapping(source, Secret(argument.encode("utf-8", "surrogateescape")), Origin("conf", line))


def direct(pattern: str, host: str) -> config.Mapping:
    return mapping(f"direct:{pattern} {host} 25 user secret")


class Texts(UserFiles):
    """Files by their paths."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(ALICE.uid)
        self.texts = texts

    def read(self, path: str) -> str:
        if path not in self.texts:
            raise FileNotFoundError(path)
        return self.texts[path]


def account(host: str, *patterns: str) -> Account:
    return Account(patterns, host, 25, Security.NONE, True, None, Origin("rc", 1))


FETCHMAILRC = """\
poll mailbox.moon.test user alice pass secret
  #sendooway:server moon
  #sendooway:address *@moon.test
  #sendooway:server alice-moon
  #sendooway:address alice@moon.test
"""
GETMAILRC = "[sender]\ntype = SimpleSMTPSender\nserver = sun\nusername =\naddress = *@sun.test\n"
HOME = Texts({"/home/alice/.fetchmailrc": FETCHMAILRC, "/home/alice/.getmail/getmailrc": GETMAILRC})
DEFAULTS = [mapping("getmail:%h/.getmail/getmailrc"), mapping("fetchmail:%h/.fetchmailrc", 2)]


@pytest.mark.parametrize(
    ("reverse_path", "mappings", "host"),
    [
        ("a@sun.test", DEFAULTS, "sun"),
        ("ALICE@Moon.test", DEFAULTS, "alice-moon"),
        ("alice+list@moon.test", DEFAULTS, "alice-moon"),
        ("bob@moon.test", DEFAULTS, "moon"),
        # The source that comes first wins, however good a later one would match.
        ("alice@moon.test", [direct("*", "first"), *DEFAULTS], "first"),
        ("alice@moon.test", [direct("bob@moon.test", "first"), *DEFAULTS], "alice-moon"),
        ("alice@moon.test", [*DEFAULTS, direct("*", "last")], "alice-moon"),
        ("alice@earth.test", [*DEFAULTS, direct("*", "last")], "last"),
        ("", [*DEFAULTS, direct("*", "star"), direct("<>", "null")], "star"),
        ("", [*DEFAULTS, direct("<>", "null"), direct("*", "star")], "null"),
    ],
)
def test_the_first_source_with_a_match_serves_the_sender(
    reverse_path: str, mappings: list[config.Mapping], host: str
) -> None:
    assert look_up(reverse_path, mappings, ALICE, HOME, None).host == host


def test_an_account_is_found_with_its_place_and_credentials() -> None:
    found = look_up("bob@moon.test", DEFAULTS, ALICE, HOME, None)
    assert found.origin == Origin("/home/alice/.fetchmailrc", 2)
    assert found.credentials == Credentials("alice", Secret(b"secret"))


def test_sources_behind_the_first_match_are_not_read() -> None:
    mappings = [*DEFAULTS, mapping("fetchmail:relative")]
    assert look_up("a@sun.test", mappings, ALICE, HOME, None).host == "sun"


def test_no_account_names_all_that_was_searched_without_secrets() -> None:
    mappings = [*DEFAULTS, mapping("getmail:/absent"), direct("a@b", "c")]
    with pytest.raises(NoAccount) as raised:
        look_up("x@earth.test", mappings, ALICE, HOME, None)
    assert raised.value.searched == (
        "/home/alice/.getmail/getmailrc",
        "/home/alice/.fetchmailrc",
        "/absent (no such file)",
        "direct: in conf:1",
    )


def test_what_was_searched_is_printable() -> None:
    with pytest.raises(NoAccount) as raised:
        look_up("a@b", [mapping("getmail:/\udce4")], ALICE, Texts({}), None)
    assert raised.value.searched == ("/\\udce4 (no such file)",)


def test_the_null_reverse_path_is_served_by_the_account_used_last() -> None:
    last = account("last", "alice@moon.test")
    assert look_up("", DEFAULTS, ALICE, HOME, last) is last
    with pytest.raises(NoAccount):
        look_up("", DEFAULTS, ALICE, HOME, None)
    with pytest.raises(NoAccount):
        look_up("x@earth.test", DEFAULTS, ALICE, HOME, last)


def test_an_unusable_account_is_an_error_only_where_it_is_the_one_that_matches() -> None:
    text = (
        FETCHMAILRC.replace("user alice", "user ''")
        + "  #sendooway:noAuth\n  #sendooway:server x\n  #sendooway:address a@b\n"
    )
    read = Texts({"/rc": text})
    mappings = [mapping("fetchmail:/rc"), direct("*", "later")]
    assert look_up("a@b", mappings, ALICE, read, None).host == "x"
    assert look_up("a@c", mappings, ALICE, read, None).host == "later"
    with pytest.raises(AccountsError, match=r"^/rc:4: no user name: add #sendooway:user"):
        look_up("alice@moon.test", mappings, ALICE, read, None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "carrier-pigeon:x",
            "conf:1: the source of a mapping must be one of direct, fetchmail, getmail, msmtp,",
        ),
        ("direct:secret", "conf:1: direct: needs PATTERN"),
        ("getmail:", "conf:1: getmail: needs an absolute path"),
        ("getmail:getmailrc", "conf:1: getmail: needs an absolute path"),
        ("getmail:~/getmailrc", "conf:1: getmail: needs an absolute path"),
        ("getmail:/a\0b", "conf:1: getmail: needs an absolute path"),
        ("fetchmail:%h/%x", "conf:1: a % must be followed by u"),
        ("fetchmail:%h/%", "conf:1: a % must be followed by u"),
        ("getmail:%h/*/getmailrc", "conf:1: a * may stand in the last part of the path only"),
        ("fetchmail:/bad", "/bad:1: `poll`, `skip`"),
    ],
)
def test_a_source_that_cannot_be_used_is_an_error(text: str, error: str) -> None:
    with pytest.raises(AccountsError) as raised:
        look_up("a@b", [mapping(text), direct("*", "later")], ALICE, Texts({"/bad": "secret\n"}), None)
    assert str(raised.value).startswith(error)
    assert "secret" not in str(raised.value)


# Listing


def test_a_mapping_is_listed_with_every_entry() -> None:
    text = FETCHMAILRC + "poll mailbox.sun.test user bob\n"
    listing = list_accounts(mapping("fetchmail:/rc"), ALICE, Texts({"/rc": text}))
    assert listing.searched == (Searched("/rc"),)
    assert [entry.patterns for entry in listing.entries] == [("*@moon.test",), ("alice@moon.test",), ()]
    assert [entry.origin.line for entry in listing.entries] == [2, 4, 6]
    assert [entry.retriever and entry.retriever.username for entry in listing.entries] == ["alice", "alice", "bob"]


def test_a_mapping_without_its_file_lists_nothing() -> None:
    for path, absent in (("/absent", "no such file"), ("/absent/*", "no such folder")):
        assert list_accounts(mapping(f"getmail:{path}"), ALICE, NoFiles()) == Listing((Searched(path, absent),))


def test_a_direct_mapping_is_one_entry() -> None:
    listing = list_accounts(direct("*", "mx"), ALICE, NoFiles())
    assert [(entry.origin, entry.patterns, entry.retriever) for entry in listing.entries] == [
        (Origin("conf", 1), ("*",), None)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the getmail files `b` and `a`, and with what is not for us."""
    for name, host in (("b", "late"), ("a", "early"), (".hidden", "x"), ("a~", "x"), ("b.bak", "x")):
        (tmp_path / name).write_text(GETMAILRC.replace("server = sun", f"server = {host}"))
    (tmp_path / "oldmail-pop.sun.test-995-alice").write_text("1\x002\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


def in_folder(folder: Path, name: str = "*") -> config.Mapping:
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o600)
    return mapping(f"getmail:{folder}/{name}")


FILES = UserFiles(os.getuid())


def listed(folder: Path, name: str = "*") -> Listing:
    return list_accounts(in_folder(folder, name), ALICE, FILES)


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(folder: Path) -> None:
    wanted = in_folder(folder)
    assert tuple(map(str, listed(folder).searched)) == (f"{folder}/*", f"{folder}/a", f"{folder}/b")
    assert look_up("x@sun.test", [wanted], ALICE, FILES, None).host == "early"
    (folder / "c").write_text(GETMAILRC.replace("address = *@sun.test", "address = x@sun.test"))
    wanted = in_folder(folder)
    assert look_up("x@sun.test", [wanted], ALICE, FILES, None).host == "sun"


def test_a_part_of_a_name_may_be_given(folder: Path) -> None:
    (folder / "b.rc").write_text(GETMAILRC)
    assert tuple(map(str, listed(folder, "*.rc").searched)) == (f"{folder}/*.rc", f"{folder}/b.rc")
    assert tuple(map(str, listed(folder, "*x*").searched)) == (f"{folder}/*x*",)


def test_what_is_no_account_file_in_a_folder_is_skipped_and_said(folder: Path) -> None:
    (folder / "log").write_text("2026-11-25 retrieved\n" + "x" * MAX_LINE_OCTETS + "x\n")
    (folder / "notes").write_text("Remember the milk.\n")
    os.mkfifo(folder / "pipe", 0o600)
    listing = listed(folder)
    assert [str(problem) for problem in listing.problems] == [
        f"{folder}/log:2: skipped: a line must not have more than {MAX_LINE_OCTETS} octets",
        f"{folder}/notes:1: skipped: a section must begin before this line, by its name in brackets",
        f"{folder}/pipe: skipped: must be a regular file",
    ]
    assert len(listing.entries) == 2


def test_a_broken_account_file_in_a_folder_is_an_error(folder: Path) -> None:
    (folder / "c").write_text("[retriever]\nsecret\n")
    with pytest.raises(AccountsError, match=f"^{folder}/c:2: a line must read"):
        listed(folder)
    wanted = in_folder(folder)
    (folder / "c").chmod(0o666)
    with pytest.raises(AccountsError, match=f"^{folder}/c: others may write it"):
        list_accounts(wanted, ALICE, FILES)


def test_a_path_that_ends_with_a_slash_is_a_folder(tmp_path: Path) -> None:
    for name in ("alice@moon.test", "putmailrc"):
        (tmp_path / name).write_text("[config]\nserver = mx\nemail = bob@moon.test\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "queue").mkdir()
    listing = list_accounts(mapping(f"putmail:{tmp_path}/"), ALICE, FILES)
    assert [entry.patterns for entry in listing.entries] == [("bob@moon.test", "alice@moon.test"), ("bob@moon.test",)]


# What an account lacks to log in

LACKING = "[sender]\ntype = SimpleSMTPTLSSender\nserver = mx.sun.test\naddress = *@sun.test\n"
NETRC = "machine mx.sun.test login bob password b\nmachine mx.sun.test login alice password a\nmachine x login y\n"


@pytest.mark.parametrize(("more", "login"), [("", "bob"), ("username = alice\n", "alice")])
def test_a_netrc_mapping_completes_accounts_of_other_sources(more: str, login: str) -> None:
    read = Texts({"/rc": LACKING + more, "/netrc": NETRC})
    mappings = [mapping("getmail:/rc"), mapping("netrc:/absent", 2), mapping("netrc:/netrc", 3)]
    found = look_up("a@sun.test", mappings, ALICE, read, None)
    assert found.credentials == Credentials(login, FromNetrc(("mx.sun.test",), login, "/netrc"))
    (entry,) = list_accounts(mappings[0], ALICE, read, mappings).entries
    assert entry.account == found
    assert list_accounts(mappings[2], ALICE, read, mappings) == Listing((Searched("/netrc"),))


@pytest.mark.parametrize(
    "netrc",
    [
        "",
        NETRC.replace("mx.sun.test", "mx.moon.test"),
        "default login bob password x\n",
        "machine mx.sun.test password x\n",
    ],
)
def test_an_account_that_no_netrc_knows_stays_unusable(netrc: str) -> None:
    mappings = [mapping("getmail:/rc"), mapping("netrc:/netrc", 2)]
    with pytest.raises(AccountsError, match="no user name"):
        look_up("a@sun.test", mappings, ALICE, Texts({"/rc": LACKING, "/netrc": netrc}), None)


def test_a_netrc_with_an_error_names_its_line() -> None:
    read = Texts({"/netrc": "machine mx\nlogin secret nonsense x\n"})
    with pytest.raises(AccountsError, match=r"^/netrc:2: expected `machine NAME`"):
        list_accounts(mapping("netrc:/netrc"), ALICE, read)


def test_the_number_of_files_in_a_folder_is_limited(folder: Path) -> None:
    for number in range(MAX_FILES - 2):
        (folder / f"{number}").write_text(GETMAILRC)
    assert len(listed(folder).entries) == MAX_FILES
    (folder / "z").write_text(GETMAILRC)
    with pytest.raises(AccountsError, match=f"must not have more than {MAX_FILES} files that match"):
        listed(folder)


_BEGINNINGS = {"fetchmail": "poll a user b\n", "getmail": "[sender]\n", "msmtp": "account a\n", "putmail": "[config]\n"}


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(SOURCES.keys() - {"direct"}))
@pytest.mark.parametrize(
    "piece",
    [
        *("\n", "a\n", " x\n", "'\"", "\\\n", "#a\n", "=", "user b is c=d\n", "[a]\n", "#sendooway:server a\n"),
        *("machine a login b password c\n", "account a : a\n", "poll ", "a = b\n  c\n", "from *@a\n", "\udcff"),
    ],
)
def test_a_long_text_takes_no_long_time(source: str, piece: str) -> None:
    text = _BEGINNINGS.get(source, "") + piece * (MAX_OCTETS // 2 // len(piece))
    begin = time.process_time()
    with suppress(AccountsError):
        list_accounts(mapping(f"{source}:/rc"), ALICE, Texts({"/rc": text}))
    # Of one second for twice as much, with room for slow machines; what grows with the square takes minutes.
    assert time.process_time() - begin < 10


def test_the_number_of_mappings_is_limited() -> None:
    mappings = [mapping("direct:a@b localhost 25 - - noAuth", line) for line in range(1, MAX_MAPPINGS + 2)]
    with pytest.raises(NoAccount):
        look_up("x@y", mappings[:-1], ALICE, Texts({}), None)
    with pytest.raises(AccountsError, match=r"^conf:1001: no more than 1000 "):
        look_up("x@y", mappings, ALICE, Texts({}), None)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("", ""), ("/a", "/a"), ("%h/rc", "/home/alice/rc"), ("/m/%u%%%u", "/m/alice%alice"), ("%%h", "%h")],
)
def test_percent_sequences_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, ALICE, PLACE) == expanded


def test_what_is_put_in_is_not_expanded_again() -> None:
    assert expand("%u%h", Identity("%h", 1, 1, "/%u"), PLACE) == "%h/%u"


@given(st.text())
def test_a_text_with_doubled_percent_signs_expands_to_itself(text: str) -> None:
    assert expand(text.replace("%", "%%"), ALICE, PLACE) == text


ADDRESSES = st.sampled_from(["a@m", "A@M", "a+x@m", "b@m", "b@s", "*@m", "*@s", "*", "<>"])
SENDERS = st.sampled_from(["", "a@m", "a+x@m", "a+y@M", "b@m", "b@s", "c@s", "c@t", "+x@m"])


@given(SENDERS, st.lists(st.lists(ADDRESSES, min_size=1, max_size=3)))
def test_the_best_pattern_wins_and_among_equals_the_first(sender: str, patterns: list[list[str]]) -> None:
    accounts = tuple(account(str(number), *some) for number, some in enumerate(patterns))

    def rank(pattern: str) -> int:
        user, _, domain = sender.lower().rpartition("@")
        bare = user.split("+")[0] or user
        order = [sender.lower(), f"{bare}@{domain}", f"*@{domain}", "*"] if sender else ["<>", "*"]
        return order.index(pattern.lower()) if pattern.lower() in order else 9

    ranked = [(min(map(rank, one.patterns)), number) for number, one in enumerate(accounts)]
    best = min(ranked, default=(9, 0))
    assert select(sender, accounts) == (accounts[best[1]] if best[0] < 9 else None)


def test_unusable_accounts_take_part_in_the_selection() -> None:
    unusable = Unusable(account("y", "a@m"), "no password", PLACE)
    assert select("a@m", (account("x", "*"), unusable)) is unusable
