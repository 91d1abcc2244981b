import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts.fetchmail_words import KEYWORDS, Kind, scan


def tokens(text: str) -> list[tuple[Kind | str, str]]:
    return [(kind, value) for kind, value, _ in scan(text)][:-1]


def string(value: str) -> tuple[Kind, str]:
    return (Kind.STRING, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\r\n,;:\\\n", []),
        ("poll server skip", [("poll", "poll"), ("poll", "server"), ("skip", "skip")]),
        ("with and has wants options", []),
        ("nokeep no keep nossl", [("no keep", "nokeep"), ("no keep", "keep"), string("nossl")]),
        ("no no keep", [("no no", "no"), ("keep", "keep")]),
        ("imap IMAP Imap", [(Kind.PROTOCOL, "imap"), (Kind.PROTOCOL, "IMAP"), string("Imap")]),
        ("007 -5 5x +5", [(Kind.NUMBER, "007"), (Kind.NUMBER, "-5"), string("5x"), string("+5")]),
        ("user user pass 007 is # no\n'x'", [("user", "user"), string("user"), ("pass", "pass"), string("007"),
                                            ("is", "is"), string("x")]),
        ("= poll", [(Kind.EQUALS, "="), string("poll")]),
        ("auth password", [("auth", "auth"), (Kind.AUTHENTICATION, "password")]),
        ("'a b' \"c'd\" 'e\nf'", [string("a b"), string("c'd"), string("e\nf")]),
        ("'a'b \"c\"=d", [string("'a'b"), string("c"), (Kind.EQUALS, "="), string("d")]),
        ("'a b", [string("'a"), string("b")]),
        (r"\x41\101\0101\n\\ '\t\q'", [string("Ae\x08" + "1\n\\"), string("\tq")]),
        ("a#b #c\n#SendooWay:d e\n", [string("a#b"), (Kind.ANNOTATION, "d e\n")]),
        ("#a b", [string("#a"), string("b")]),
        ("#sendooway:a", [(Kind.UNENDED_COMMENT, "#sendooway"), string("a")]),
    ],
)  # fmt: skip
def test_a_text_is_tokens(text: str, expected: list[tuple[Kind | str, str]]) -> None:
    assert tokens(text) == expected


def test_the_last_token_is_the_end() -> None:
    assert [*scan("poll a ")][-1] == (Kind.END, "", 7)
    assert [*scan("no ")][-1] == ("no", "", 3)


@given(st.lists(st.sampled_from(sorted(KEYWORDS)), min_size=1))
def test_tokens_stand_where_they_say(words: list[str]) -> None:
    text = " ".join(words)
    for _, value, offset in scan(text):
        assert text.startswith(value, offset)


@given(st.text())
def test_any_text_has_an_end(text: str) -> None:
    assert [*scan(text)][-1][2] == len(text)
