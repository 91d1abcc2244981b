"""What msmtp's own grammar means. The same table is shown to the real msmtp, where there is one."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import msmtp as real_msmtp

from sendooway.accounts import msmtprc
from sendooway.accounts.account import AccountsError
from sendooway.origin import Origin

PIN = ":".join(f"{number:02x}" for number in range(32))

# The text, and the accounts with their settings.
ACCEPTED: list[tuple[str, dict[str, dict[str, str]]]] = [
    ("", {}),
    ("# nothing\n\n  # or almost\n\t\n", {}),
    ("host h\nport 5\n", {"default": {"host": "h", "port": "5"}}),
    ("host h\naccount a\nhost i\n", {"default": {"host": "h"}, "a": {"host": "i"}}),
    ("account a\nhost h\nuser b # c\n", {"a": {"host": "h", "user": "b # c"}}),
    ("account a\r\nhost h\r\nuser b\r\n", {"a": {"host": "h", "user": "b"}}),
    ("\taccount\ta\n  host   h", {"a": {"host": "h"}}),
    ('account a\nhost "h"\nuser " b c "\n', {"a": {"host": "h", "user": " b c "}}),
    ('account a\nhost h\nuser "b\npassword "c"d"\n', {"a": {"host": "h", "user": '"b', "password": 'c"d'}}),
    ('account a\nhost h\nuser "\npassword ""\n', {"a": {"host": "h", "user": '"', "password": ""}}),
    ("account a\nhost h\nuser b\nuser c\n", {"a": {"host": "h", "user": "c"}}),
    ("account a\nhost h\nuser ä\n", {"a": {"host": "h", "user": "ä"}}),
    ("account a\nhost h\nauth\ntls\n", {"a": {"host": "h", "auth": "on", "tls": "on"}}),
    ("account a\nhost h\nport 0025\n", {"a": {"host": "h", "port": "0025"}}),
    ("account a\nhost h\nport 0x19\n", {"a": {"host": "h", "port": "0x19"}}),
    (
        "defaults\nuser d\ntls on\naccount a\nhost h\ndefaults\nuser e\naccount b\nhost i\ntls off\n",
        {"a": {"host": "h", "user": "d", "tls": "on"}, "b": {"host": "i", "user": "e", "tls": "off"}},
    ),
    (
        "account a\nhost h\nport 5\naccount b : a\nport 6\naccount c:a , b\nuser d\naccount default : b\n",
        {
            "a": {"host": "h", "port": "5"},
            "b": {"host": "h", "port": "6"},
            "c": {"host": "h", "port": "6", "user": "d"},
            "default": {"host": "h", "port": "6"},
        },
    ),
    ('account "a"\nhost h\naccount "b" : a\n', {"a": {"host": "h"}, "b": {"host": "h"}}),
    ("account a b\nhost h\naccount c: a b\n", {"a b": {"host": "h"}, "c": {"host": "h"}}),
    ("account a\nhost h\ntls on\ntls_starttls off\n", {"a": {"host": "h", "tls": "on", "tls_starttls": "off"}}),
    (f"account a\nhost h\ntls_fingerprint {PIN}\n", {"a": {"host": "h", "tls_fingerprint": PIN}}),
    (
        "account a\nhost h\nauth cram-md5\nfrom *@b.test\npasswordeval echo 'x y'\ndomain m.test\n",
        {"a": {"host": "h", "auth": "cram-md5", "from": "*@b.test", "passwordeval": "echo 'x y'", "domain": "m.test"}},
    ),
]

REJECTED: list[tuple[str, int, str]] = [
    ("account\n", 1, "name of an account is missing"),
    ("account a :\n", 1, "name of an account is missing"),
    ('account "" : a\n', 1, "name of an account is missing"),
    ("account a,b\n", 1, "must not have a colon or comma"),
    ("account a : b\nhost h\n", 1, r"not \(yet\) defined"),
    ("account a\nhost h\naccount a\n", 3, "already defined"),
    ("account a\nhost h\nhosts i\n", 3, "knows no such command"),
    ("account a\nHost h\n", 2, "knows no such command"),
    ("account a\nhost\n", 2, "`host` has a wrong argument"),
    ("account a\nhost h\nport smtp\n", 3, "`port` has a wrong argument"),
    ("account a\nhost h\nport 0\n", 3, "`port` has a wrong argument"),
    ("account a\nhost h\nport 65536\n", 3, "`port` has a wrong argument"),
    ("account a\nhost h\ntls maybe\n", 3, "`tls` has a wrong argument"),
    ("account a\nhost h\nauth PLAIN\n", 3, "`auth` has a wrong argument"),
    ("account a\nhost h\ntls_fingerprint 00:11\n", 3, "`tls_fingerprint` has a wrong argument"),
    ("account a\nhost h\nprotocol http\n", 3, "`protocol` has a wrong argument"),
    ("defaults a\n", 1, "takes no argument"),
    ("\ufeffaccount a\n", 1, "knows no such command"),
]


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_a_file_is_read_as_msmtp_reads_it(text: str, expected: dict[str, dict[str, str]]) -> None:
    found = msmtprc.parse(text, "rc")
    assert {one.name: {name: setting.text for name, setting in one.settings.items()} for one in found} == expected


@pytest.mark.parametrize(("text", "line", "reason"), REJECTED)
def test_an_error_names_the_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(AccountsError, match=reason) as raised:
        msmtprc.parse(text, "rc")
    assert raised.value.origin == Origin("rc", line)


def test_places_are_those_of_the_lines() -> None:
    a, b = msmtprc.parse("account a\nhost h\naccount b : a\nuser c\n", "rc")
    assert (a.origin.line, b.origin.line) == (1, 3)
    assert [setting.origin.line for setting in b.settings.values()] == [2, 4]


def test_an_account_that_only_renames_another_is_known_as_such() -> None:
    text = "account a\nhost h\naccount b : a\naccount c : a\nport 5\naccount d : a, c\n"
    assert [section.alias_of for section in msmtprc.parse(text, "rc")] == [None, "a", None, None]


def test_no_repr_shows_a_password() -> None:
    assert "secret" not in repr(msmtprc.parse("account a\nhost h\npassword secret\n", "rc"))


_ARGUMENTS = st.sampled_from(
    (
        *("", "on", "off", "x", "a b", '"x y"', '"', '""', '"a"b"', "# x", "plain", "login", "gssapi", "smtp", "lmtp"),
        *("5", "25", "0", "025", "0x1F", "08", "65536", "-1", "x@y.test", "*@y.test", "%U@x.test", "~/x", "system"),
        *(PIN, PIN[:59], PIN[:47], PIN[:5]),
    )
)
_NAMES = st.sampled_from(("a", "b", "c d", "default", "a,b", "", '"a"'))
_LINES = st.one_of(
    st.tuples(st.sampled_from(real_msmtp.COMMANDS), _ARGUMENTS).map(" ".join),
    st.tuples(st.sampled_from(("host", "port", "tls", "auth")), st.sampled_from(("h", "5", "on"))).map(" ".join),
    _NAMES.map("account {}".format),
    st.tuples(_NAMES, st.lists(_NAMES, min_size=1, max_size=2).map(", ".join)).map("account {0[0]} : {0[1]}".format),
    st.sampled_from(("defaults", "# no", "", "  host  h", "\tuser\tu", "bogus", "tls_nostarttls", "tls_nocertcheck")),
)  # fmt: skip
_FILES = st.tuples(st.lists(_LINES, max_size=8), st.sampled_from(("\n", "\n", "\r\n"))).map(
    lambda both: "".join(f"{line}{both[1]}" for line in ("account a", "host h", *both[0]))
)


@given(
    st.one_of(
        st.binary().map(lambda octets: octets.decode("utf-8", "surrogateescape")),
        _FILES,
        st.lists(_LINES).map("".join),
    )
)
def test_any_text_is_read_or_an_error(text: str) -> None:
    with suppress(AccountsError):
        msmtprc.parse(text, "rc")


# The real msmtp

needs_msmtp = pytest.mark.skipif(bool(real_msmtp.why_not()), reason=real_msmtp.why_not())


def agrees(text: str, folder: Path) -> bool:
    """Whether msmtp accepts a text, after a look that we read the same."""
    octets = text.encode("utf-8", "surrogateescape")
    try:
        sections = msmtprc.parse(text, "rc")
    except AccountsError as error:
        line = error.origin.line
    else:
        line = 0
    if line:
        assert real_msmtp.show(octets, folder, "default") == line
        return False
    for section in sections:
        shown = real_msmtp.show(octets, folder, section.name)
        assert not isinstance(shown, int)
        if shown is None:
            assert not {"host", "user"} <= section.settings.keys() or "tls_trust_file" in section.settings
        else:
            shown["from"] = shown["from"].replace("alice@", "%U@")
            assert shown == real_msmtp.expected(section)
    return True


@pytest.mark.slow
@needs_msmtp
def test_the_real_msmtp_reads_the_tables_as_we_do(tmp_path: Path) -> None:
    for text, _ in ACCEPTED:
        assert agrees(text, tmp_path), text
    for text, _, _ in REJECTED:
        assert not agrees(text, tmp_path), text


@pytest.mark.slow
@needs_msmtp
def test_the_real_msmtp_lets_each_command_have_the_same_arguments(tmp_path: Path) -> None:
    for command in sorted(msmtprc.COMMANDS - {"eval"}):
        for argument in ("", "on", "x", "5", "off", "failure,failure"):
            text = f"account a\nhost h\n{command} {argument}\n"
            try:
                msmtprc.parse(text, "rc")
            except AccountsError:
                accepted = False
            else:
                accepted = True
            assert accepted is not isinstance(real_msmtp.show(text.encode(), tmp_path, "a"), int), text


@pytest.mark.slow
@needs_msmtp
def test_the_real_msmtp_reads_random_files_as_we_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("msmtp")
    accepted = []

    @settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_FILES)
    def check(text: str) -> None:
        accepted.append(agrees(text, folder))

    check()
    assert 0.1 < sum(accepted) / len(accepted) < 0.9, "files of both kinds are needed"
