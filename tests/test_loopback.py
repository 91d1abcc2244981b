import pytest

from sendooway.loopback import is_here, is_loopback


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("192.0.2.127", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_loopback_addresses(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("ldap.moon.test", False),
        ("localhost.moon.test", False),
        ("127.moon.test", False),
        ("127.0.0.1.moon.test", False),
        ("192.0.2.7", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_only_names_and_addresses_that_cannot_be_elsewhere_are_here(host: str, here: bool) -> None:
    assert is_here(host) is here
