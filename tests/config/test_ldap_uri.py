import pytest

from sendooway.config import ldap_uri
from sendooway.config.ldap_uri import Server


@pytest.mark.parametrize(
    ("text", "server", "shown"),
    [
        ("ldap://ldap.moon.test", Server("ldap.moon.test", 389, False), "ldap://ldap.moon.test:389"),
        ("LDAPS://ldap.moon.test/", Server("ldap.moon.test", 636, True), "ldaps://ldap.moon.test:636"),
        ("ldap://192.0.2.7:3389", Server("192.0.2.7", 3389, False), "ldap://192.0.2.7:3389"),
        ("ldaps://[2001:db8::1]:10636/", Server("2001:db8::1", 10636, True), "ldaps://[2001:db8::1]:10636"),
    ],
)
def test_a_uri_names_a_server(text: str, server: Server, shown: str) -> None:
    assert ldap_uri.parse(text) == server
    assert str(server) == shown
    assert ldap_uri.parse(shown) == server


@pytest.mark.parametrize(
    "text",
    [
        *("", "ldap.moon.test", "ldap://", "ldapi:///var/run/ldapi", "http://a", "ldap://a:0", "ldap://a:65536"),
        *("ldap://a:x", "ldap://[::1", "ldap://::1", "ldap://a/dc=test", "ldap://a b", "ldap://u@a", "ldap://a\n"),
    ],
)
def test_these_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not ldap://HOST"):
        ldap_uri.parse(text)


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("ldap://localhost", True),
        ("ldap://127.0.0.1", True),
        ("ldap://[::1]", True),
        ("ldap://ldap.moon.test", False),
        ("ldap://[2001:db8::1]", False),
    ],
)
def test_only_what_is_said_on_this_machine_needs_no_tls(text: str, here: bool) -> None:
    assert ldap_uri.parse(text).is_here is here
