"""Keytabs, as MIT's tools write them."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.keytabs import entry, file_of, hole

from sendooway.auth import keytab
from sendooway.auth.keytab import KeytabError, find_service, parse, read

PRINCIPAL = st.builds(
    lambda components, realm: f"{'/'.join(components)}@{realm}",
    st.lists(st.from_regex(r"[a-z0-9.-]+", fullmatch=True), min_size=1, max_size=3),
    st.from_regex(r"[A-Z.]+", fullmatch=True),
)


@given(st.lists(PRINCIPAL), st.sampled_from([1, 2]), st.booleans())
def test_the_principals_of_all_keys_are_found_once_in_their_order(
    principals: Sequence[str], version: int, long_kvno: bool
) -> None:
    octets = file_of(*(entry(name, version, long_kvno=long_kvno) for name in principals), version=version)
    assert parse(octets) == tuple(dict.fromkeys(principals))


def test_holes_are_passed_over() -> None:
    assert parse(file_of(hole(9), entry("a@X"), hole(3), hole(1), entry("b/c@Y"))) == ("a@X", "b/c@Y")


def test_nothing_follows_a_length_of_zero() -> None:
    assert parse(file_of(entry("a@X"), bytes(4), entry("b@X"))) == ("a@X",)


@pytest.mark.parametrize("octets", [b"", b"\5\1", b"\5\2", b"\5\2\0\0\0"])
def test_a_keytab_may_be_empty(octets: bytes) -> None:
    assert parse(octets) == ()


def test_octets_that_are_not_utf_8_are_shown() -> None:
    assert parse(file_of(entry("a@X").replace(b"a", b"\xff"))) == ("\\xff@X",)


@pytest.mark.parametrize(
    "octets",
    [
        b"\5",
        b"\4\2",
        b"\5\3",
        b"\5\0",
        b"-----BEGIN",
        file_of(entry("a@X")[:-40]),
        file_of(hole(9)[:-1]),
        file_of(b"\0\0\0\1\0"),
        file_of(b"\0\0\0\2\0\1"),
        file_of(b"\0\0\0\4\0\1\0\x09"),
        file_of(struct.pack("=iH", 2, 0), version=1),
        file_of(b"\x7f\xff\xff\xff"),
        file_of(b"\x80\0\0\0"),
    ],
)
def test_other_octets_are_an_error(octets: bytes) -> None:
    with pytest.raises(KeytabError):
        parse(octets)


@given(st.binary(), st.sampled_from([b"", b"\5\1", b"\5\2"]))
def test_any_octets_are_a_keytab_or_the_documented_error(octets: bytes, magic: bytes) -> None:
    try:
        assert all("@" in name for name in parse(magic + octets))
    except KeytabError:
        return


def written(folder: Path, *principals: str) -> str:
    path = folder / "krb5.keytab"
    path.write_bytes(file_of(*map(entry, principals)))
    return str(path)


@pytest.mark.parametrize("kind", ["", "FILE:", "WRFILE:"])
def test_the_service_s_key_is_found_among_others(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, "host/mx@X", "smtp@X", "smtps/mx@X", "smtp/mx@X", "smtp/other@X")
    assert find_service(f"{kind}{path}", "smtp") == "smtp/mx@X"


def test_a_keytab_without_the_service_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path, "host/mx@X")
    with pytest.raises(KeytabError, match=rf"^keytab {path}: it has no key for smtp/HOST; add one with `kadmin ktadd"):
        find_service(path, "smtp")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("relative", "no absolute path"),
        ("KCM:", "only files can be read"),
        ("/nonexistent/krb5.keytab", r"cannot be read \(No such file or directory\); write it with `kadmin ktadd"),
        ("/dev/null", "not a regular file"),
        ("/", "not a regular file"),
        ("/\0", "no absolute path"),
    ],
)
def test_what_cannot_be_a_keytab_is_an_error(name: str, said: str) -> None:
    with pytest.raises(KeytabError, match=said):
        read(name)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(KeytabError, match="not a regular file"):
        read(str(tmp_path / "fifo"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_keytab_is_an_error_that_names_the_mode(tmp_path: Path) -> None:
    path = written(tmp_path, "smtp/mx@X")
    os.chmod(path, 0)
    with pytest.raises(KeytabError, match=r"Permission denied\); who starts sendooway must be able to read it"):
        read(path)


def test_a_path_through_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeytabError, match="is krb5Keytab right"):
        read(written(tmp_path) + "/x")


def test_a_file_too_long_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(bytes(keytab.MAX_OCTETS + 1))
    with pytest.raises(KeytabError, match="longer than"):
        read(str(path))
