"""Which configuration a command works with, and for whom."""

import os
from pathlib import Path

import pytest

from sendooway.auth.identity import Identity
from sendooway.commands import situation
from sendooway.commands.situation import survey, tilde, who_asks
from sendooway.config import ConfigurationError


@pytest.fixture
def me(tmp_path: Path) -> Identity:
    """The user who runs the tests, with another home folder."""
    home = tmp_path / "home"
    home.mkdir()
    user = who_asks()
    return Identity(user.name, user.uid, user.gid, str(home))


@pytest.fixture
def conf(tmp_path: Path, me: Identity, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", me.home)
    path = tmp_path / "conf"
    path.touch(0o600)
    return path


def test_the_users_own_file_comes_before_the_global_one(conf: Path, me: Identity) -> None:
    conf.write_text("userInclude = %h/.sendoowayrc\nlocalname = a.test\nsmarthostMapping = fetchmail:%h/rc\n")
    own = Path(me.home) / ".sendoowayrc"
    own.write_text("localname = b.test\nsmarthostMapping = direct:* h.test 465 me pw ssl\nworkers = 2\n")
    found = survey(str(conf), me)
    assert [mapping.source for mapping in found.mappings] == ["direct", "fetchmail"]
    assert found.settings.localname == "b.test"
    assert found.notes == (f"{own}:3: workers: ignored here, only the administrator may set it",)


def test_without_a_file_of_the_user_the_global_one_counts(conf: Path, me: Identity) -> None:
    conf.write_text("userInclude = %h/.sendoowayrc\nsmarthostMapping = fetchmail:%h/rc\n")
    assert [mapping.source for mapping in survey(str(conf), me).mappings] == ["fetchmail"]


def test_a_file_of_the_user_that_others_may_write_is_refused(conf: Path, me: Identity) -> None:
    conf.write_text("userInclude = %h/.sendoowayrc\n")
    own = Path(me.home) / ".sendoowayrc"
    own.touch()
    own.chmod(0o666)
    with pytest.raises(ConfigurationError, match="others may write it"):
        survey(str(conf), me)


def test_a_configuration_that_is_named_must_be_there(conf: Path, me: Identity) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        survey(f"{conf}.no", me)


def test_without_the_systems_configuration_there_are_the_defaults(
    conf: Path, me: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(situation, "DEFAULT_CONFIGURATION", f"{conf}.no")
    found = survey(None, me)
    assert [mapping.source for mapping in found.mappings] == ["getmail", "fetchmail"]
    assert found.notes == ()


def test_a_configuration_that_the_user_may_not_read_is_told(
    conf: Path, me: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf.write_text("smarthostMapping = direct:* h.test 465 me secret ssl\n")
    monkeypatch.setattr(situation, "DEFAULT_CONFIGURATION", str(conf))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    found = survey(None, me)
    assert [mapping.source for mapping in found.mappings] == ["getmail", "fetchmail"]
    (note,) = found.notes
    assert note.startswith(f"you may not read {conf}: its settings and mappings")


def test_another_home_than_that_of_the_user_database_is_told(
    conf: Path, me: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    assert survey(str(conf), me).notes == (
        f"HOME is /elsewhere, but Sendooway looks in {me.home}, which the user database names",
    )


@pytest.mark.parametrize(
    ("home", "path", "short"),
    [
        ("/home/a", "/home/a/.rc:3", "~/.rc:3"),
        ("/home/a", "/home/ab/.rc", "/home/ab/.rc"),
        ("/", "/etc/x", "/etc/x"),
        ("/home/a/", "/home/a/x", "~/x"),
    ],
)
def test_paths_below_home_are_short(home: str, path: str, short: str) -> None:
    assert tilde(path, Identity("a", 1, 1, home)) == short
