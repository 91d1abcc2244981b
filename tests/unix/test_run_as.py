"""Which user speaks with the network."""

import pwd

import pytest

from sendooway.unix import run_as


def test_it_is_the_user_that_is_named() -> None:
    assert run_as.network_user("nobody").pw_name == "nobody"


@pytest.mark.parametrize("here", [{"sendooway", "nobody"}, {"nobody"}])
def test_without_a_name_it_is_the_one_made_for_us_else_nobody(here: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")

    def look_up(name: str) -> pwd.struct_passwd:
        if name not in here:
            raise KeyError(name)
        return pwd.struct_passwd((name, *nobody[1:]))

    monkeypatch.setattr(pwd, "getpwnam", look_up)
    assert run_as.network_user("").pw_name == ("sendooway" if "sendooway" in here else "nobody")


@pytest.mark.parametrize(
    ("name", "reason"), [("no-such-user", "there is no user no-such-user"), ("root", "root's rights")]
)
def test_a_user_that_does_not_do_is_refused_with_what_would_do(name: str, reason: str) -> None:
    with pytest.raises(run_as.RunAsError, match=reason) as refused:
        run_as.network_user(name)
    assert "adduser --system" in str(refused.value)
