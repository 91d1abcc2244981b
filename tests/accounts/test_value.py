import pytest

from sendooway.accounts.account import AccountsError
from sendooway.accounts.value import BadValue, at, parse_host, parse_password, parse_port, parse_username
from sendooway.origin import Origin


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("mx.moon.test", "mx.moon.test"),
        ("mx_1.moon.test", "mx_1.moon.test"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("müller.example", "müller.example"),
    ],
)
def test_a_host_is_a_name_or_an_address(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text", ["", "[]", "a b", "a\nb", "a\x00", "a/b", "a@b", "*", '"mx"', "mx;", "x" * 256, "m\udcfcller"]
)
def test_other_texts_are_no_host(text: str) -> None:
    with pytest.raises(BadValue):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "port"),
    [("25", 25), ("1", 1), ("65535", 65535), ("smtp", 25), ("Submission", 587), ("SMTPS", 465), ("submissions", 465)],
)
def test_a_port_is_a_number_or_a_service(text: str, port: int) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "+25", " 25", "٢٥", "imap", "9" * 10000, "²"])
def test_other_texts_are_no_port(text: str) -> None:
    with pytest.raises(BadValue, match="number from 1 to 65535, or one of smtp, submission"):
        parse_port(text)


@pytest.mark.parametrize("text", ["a", "alice@moon.test", "MOON\\alice", "with blank", "jürgen"])
def test_a_username_is_kept(text: str) -> None:
    assert parse_username(text) == text


@pytest.mark.parametrize("text", ["", "a\0b", "a\r\nb", "a\x7f", "\udce9"])
def test_a_username_has_no_control_characters(text: str) -> None:
    with pytest.raises(BadValue, match="user name"):
        parse_username(text)


@pytest.mark.parametrize("octets", [b"", b"p", b"p\xc3\xa4ss", b"\xe4\xff", b"with blank\n"])
def test_a_password_keeps_its_octets(octets: bytes) -> None:
    assert parse_password(octets.decode("utf-8", "surrogateescape")).octets == octets


def test_a_password_has_no_nul() -> None:
    with pytest.raises(BadValue, match="NUL"):
        parse_password("a\0b")


def test_a_bad_value_becomes_an_error_of_its_place() -> None:
    with pytest.raises(AccountsError) as raised, at(Origin("rc", 3)):
        raise BadValue("no")
    assert str(raised.value) == "rc:3: no"


def test_other_exceptions_pass_a_place_unchanged() -> None:
    with pytest.raises(KeyError), at(Origin("rc", 3)):
        raise KeyError
