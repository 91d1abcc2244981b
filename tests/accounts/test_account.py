import pytest

from sendooway.accounts.account import AccountsError, NoAccount, Security
from sendooway.origin import Origin


@pytest.mark.parametrize(("line", "text"), [(0, "/home/a/rc: bad"), (7, "/home/a/rc:7: bad")])
def test_an_error_begins_with_its_place(line: int, text: str) -> None:
    error = AccountsError(Origin("/home/a/rc", line), "bad")
    assert str(error) == text
    assert (error.origin, error.reason) == (Origin("/home/a/rc", line), "bad")


def test_no_account_tells_what_was_searched() -> None:
    assert NoAccount(("/a", "/b")).searched == ("/a", "/b")


def test_each_security_has_its_port() -> None:
    assert {security: security.default_port for security in Security} == {
        Security.NONE: 25,
        Security.STARTTLS: 587,
        Security.SMTPS: 465,
    }
