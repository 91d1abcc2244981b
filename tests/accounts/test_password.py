from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import password
from sendooway.accounts.account import FromCommand, FromCredential, FromFile, FromNetrc, Password
from sendooway.accounts.value import BadValue


def parse(text: str) -> Password:
    return password.parse(text, "mx.moon.test", "alice", credentials=True)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("file:/etc/secret", FromFile("/etc/secret")),
        ("FILE: ~/my secrets/moon ", FromFile("~/my secrets/moon")),
        ("command:pass show mail/moon", FromCommand(("pass", "show", "mail/moon"))),
        (
            "command: sh -c 'head -1 \"$HOME/x\"' a\\ b",
            FromCommand(("sh", "-c", 'head -1 "$HOME/x"', "a b")),
        ),
        ("command:pass a#b, c;d `e` $f *", FromCommand(("pass", "a#b,", "c;d", "`e`", "$f", "*"))),
        ("netrc:", FromNetrc(("mx.moon.test",), "alice")),
        ("netrc:~/other", FromNetrc(("mx.moon.test",), "alice", "~/other")),
        ("credential:moon.test_1-a", FromCredential("moon.test_1-a")),
    ],
)
def test_a_source_is_named_by_its_kind(text: str, source: Password) -> None:
    assert parse(text) == source


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "file:PATH, command:WORD"),
        ("secret", "file:PATH, command:WORD"),
        ("keyring:moon", "file:PATH, command:WORD"),
        ("file:", "must be absolute"),
        ("file:secret", "must be absolute"),
        ("file:~bob/secret", "must be absolute"),
        ("file:/a\0b", "must be absolute"),
        ("netrc:x", "must be absolute"),
        ("command:", "must have a program"),
        ("command:''", "must have a program"),
        ("command:pass \0", "must have a program"),
        ("command:" + "x " * 101, "at most 100 words"),
        ("command:pass 'x", "a quote that is not closed"),
        ("command:pass x\\", "ends with a backslash"),
        ("credential:", "letters, digits"),
        ("credential:../key", "letters, digits"),
        ("credential:..", "must not be"),
        ("credential:m\u00f6nd", "letters, digits"),
    ],
)
def test_an_error_says_what_would_be_right(text: str, reason: str) -> None:
    with pytest.raises(BadValue, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('("pass", "show", "mail/moon")', ("pass", "show", "mail/moon")),
        ("('pass',)", ("pass",)),
        (' ["sh",\n"-c", "echo \\"x\\""] ', ("sh", "-c", 'echo "x"')),
    ],
)
def test_a_command_of_getmail_is_a_tuple_of_strings(text: str, arguments: tuple[str, ...]) -> None:
    assert password.parse_literal(text) == FromCommand(arguments)


@pytest.mark.parametrize(
    "text",
    [
        *("", "pass", '"pass"', "()", '("",)', '("pass", 1)', '("pass", ("x",))', '("pass", "\\0")', '("pass"'),
        '(__import__("os").system("true"),)',
        '("a" + "b",)',
        '(f"{1}",)',
        "{}",
        "(" * 4096,
        "[" * 2000 + "]" * 2000,
        "-" * 4000 + "1",
        f'("{"x" * 4096}",)',
    ],
)
def test_nothing_but_the_literal_of_one_is_a_command_of_getmail(text: str) -> None:
    with pytest.raises(BadValue, match=r"(a|the) command must"):
        password.parse_literal(text)


def test_a_credential_of_the_service_is_not_for_users_files() -> None:
    with pytest.raises(BadValue, match="only a direct: mapping of the administrator"):
        password.parse("credential:moon", "mx.moon.test", "alice")


@given(st.text() | st.text().map("command:{}".format) | st.text().map("file:{}".format))
def test_any_text_is_a_source_or_an_error(text: str) -> None:
    with suppress(BadValue):
        parse(text)
    with suppress(BadValue):
        password.parse_literal(text)
