"""The form of getmail's files is that of Python's configparser, which getmail uses and which is asked here."""

import configparser
import io
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from servers import getmail as real_getmail

from sendooway.accounts import getmail, getmailrc
from sendooway.accounts.account import AccountsError
from sendooway.auth.identity import Identity

Sections = dict[str, dict[str, list[str]]]


def ours(text: str) -> Sections | None:
    """The lines of each value that are not blank; None where we reject the text."""
    try:
        sections = getmailrc.parse(text, "rc", repeatable=set())
    except AccountsError:
        return None
    return {
        name: {key: [line.text for line in lines if line.text] for key, lines in section.values.items()}
        for name, section in sections.items()
        if name != "DEFAULT"
    }


def theirs(text: str) -> Sections | None:
    """The same of configparser, as getmail uses it: nothing is taken over from [DEFAULT]."""
    parser = configparser.RawConfigParser()
    octets = text.encode("utf-8", "surrogateescape")
    try:
        parser.read_file(io.TextIOWrapper(io.BytesIO(octets), "utf-8", "surrogateescape"))
    except configparser.Error:
        return None
    parser._defaults = {}  # type: ignore[attr-defined]
    return {
        name: {key: [line.strip() for line in value.split("\n") if line.strip()] for key, value in parser.items(name)}
        for name in parser.sections()
    }


_PIECES = [
    *(
        "[retriever]",
        "[options]",
        "[ a b ]",
        "[]",
        "[x",
        "[a]b",
        "[DEFAULT]",
        "a = b",
        "A: c",
        "a",
        "b=c=d",
        "= e",
        ": f",
    ),
    *("  g", "\th", "", " ", "# i", ";j", "  # k", "l # m", "n ; o", "p =", "q=\t", '"r"="s"', "t = %(a)s %%", "[u]"),
    *("é = ü", "\x0cv = w", "x\xa0= y", "  z = 1", " [w]", "a =\n\n  b"),
]


@given(
    st.one_of(
        st.lists(st.sampled_from(_PIECES)).map("\n".join),
        st.tuples(st.just("[retriever]\n"), st.lists(st.sampled_from(_PIECES)).map("\r\n".join)).map("".join),
        st.text(st.sampled_from("[]a=: \t\n\r#;b\x85\x0c\u2028"), max_size=30),
    )
)
@example("[a]\nb = c\n\n  d\n# e\n  f\n")
@example("[a]\nb = c\n  \n d\n")
@example("\ufeff[a]\n")
@example("[::")
def test_a_file_is_read_as_python_reads_it(text: str) -> None:
    assert ours(text) == theirs(text)


@given(st.binary())
def test_any_text_is_read_or_an_error(octets: bytes) -> None:
    with suppress(AccountsError):
        getmailrc.parse(octets.decode("utf-8", "surrogateescape"), "rc", repeatable=set())


# The real getmail

RETRIEVER = (
    "[retriever]\ntype = {}\nserver = pop.moon.test\nusername = alice\n{}"
    "[destination]\ntype = Maildir\npath = ~/mail/\n"
)

VALID = {
    "plain": RETRIEVER.format("SimplePOP3Retriever", ""),
    "ssl": RETRIEVER.format("SimpleIMAPSSLRetriever", "port = 1993\npassword = x # y\n"),
    "quotes": RETRIEVER.format("BrokenUIDLPOP3SSLRetriever", "").replace("alice", '"alice" ; #'),
    "raw": RETRIEVER.format("SimpleIMAPRetriever", "").replace("alice", "%(here)s %%"),
    "multidrop": RETRIEVER.format("MultidropPOP3Retriever", "envelope_recipient = x-to:1\n"),
    "crlf": RETRIEVER.format("SimplePOP3Retriever", "").replace("\n", "\r\n"),
    "colons": RETRIEVER.format("SimplePOP3Retriever", "PORT: 1110\n").replace("server =", "Server :"),
    "sender": RETRIEVER.format("SimplePOP3Retriever", "")
    + "[sender]\ntype = SimpleSMTPSender\naddress = *@moon.test,\n  x@sun.test\nusername =\n",
    "utf8": RETRIEVER.format("SimplePOP3Retriever", "").replace("alice", "älice"),
    "comments": "# a\n;b\n" + RETRIEVER.format("SimplePOP3Retriever", "\n  # c\n\n"),
}

REJECTED = {
    "a key twice": RETRIEVER.format("SimplePOP3Retriever", "server = x\n"),
    "a section twice": RETRIEVER.format("SimplePOP3Retriever", "[retriever]\n"),
    "no section": "server = x\n",
    "no key": RETRIEVER.format("SimplePOP3Retriever", "nonsense\n"),
    "bom": "\ufeff" + RETRIEVER.format("SimplePOP3Retriever", ""),
}

needs_getmail = pytest.mark.skipif(bool(real_getmail.why_not()), reason=real_getmail.why_not())


@pytest.mark.slow
@needs_getmail
def test_the_real_getmail_reads_the_same_retrievers(tmp_path: Path) -> None:
    dumped = real_getmail.retrievers(VALID, tmp_path)
    assert len(dumped) == len(VALID)
    for text, (type_, settings) in zip(VALID.values(), dumped, strict=True):
        (entry,) = getmail.parse(text, "rc", Identity("alice", 0, 0, "/")).entries
        assert entry.retriever
        port = entry.retriever.port
        assert (entry.retriever.server, entry.retriever.username) == (settings["server"], settings["username"])
        assert port in (None, settings["port"])
        assert entry.retriever.protocol in type_
        assert entry.retriever.ssl == ("SSL" in type_)


@pytest.mark.slow
@needs_getmail
@pytest.mark.parametrize("text", REJECTED.values(), ids=REJECTED.keys())
def test_the_real_getmail_rejects_the_same(text: str, tmp_path: Path) -> None:
    assert real_getmail.rejects(text, tmp_path)
    with pytest.raises(AccountsError):
        getmail.parse(text, "rc", Identity("alice", 0, 0, "/"))
