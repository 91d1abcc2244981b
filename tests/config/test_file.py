import os
import socket
from pathlib import Path

import pytest

from sendooway.config import ConfigurationError, Mapping
from sendooway.config.file import MAX_FILE_OCTETS, exposure, read
from sendooway.config.keywords import parse


def mappings_of(text: str, file: str = "conf") -> tuple[Mapping, ...]:
    return parse(text, file, "host.test").mappings


def test_a_file_is_read_whatever_its_octets_are(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_bytes(b"sslCA = /\xc3\xbc\xfc\n")
    path.chmod(0o600)
    assert read(str(path)) == "sslCA = /ü\udcfc\n"


def test_dev_null_is_an_empty_file() -> None:
    assert read("/dev/null") == ""


def test_a_missing_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(str(tmp_path / "conf"))
    assert str(caught.value) == (
        f"{tmp_path}/conf: there is no such file; name another with -c, or run on defaults with -c /dev/null"
    )


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("a\0b", "embedded null byte")])
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot be read: {reason}"):
        read(f"{tmp_path}/{name}")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(ConfigurationError, match="cannot be read: No such device or address"):
            read(str(tmp_path / "s"))


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"/dev/zero: is longer than {MAX_FILE_OCTETS} octets"):
        read("/dev/zero")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    path.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        read(str(path))
    assert str(caught.value) == f"{path}: others may write it; `chmod go-w {path}` would be right"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("")
    path.chmod(0o600)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigurationError) as caught:
        read(str(path))
    assert str(caught.value) == (
        f"{path}: belongs to the user with number 65534, neither to root nor to you; `chown root {path}` would be right"
    )


@pytest.mark.parametrize(
    ("mode", "line", "warned"),
    [
        (0o644, "smarthostMapping = direct:* h 25 me hunter2", True),
        (0o640, "\nsmarthostMapping = getmail:x\nsmarthostMapping = direct:* h 25 me hunter2 tls", True),
        (0o600, "smarthostMapping = direct:* h 25 me hunter2", False),
        (0o644, "smarthostMapping = direct:* h 25 - - noAuth", False),
        (0o644, "smarthostMapping = direct:* h 25 me - passwordFrom=file:/x", False),
        (0o644, "smarthostMapping = direct:* h 25", False),
        (0o644, "smarthostMapping = getmail:a b c d e", False),
        (0o644, "", False),
    ],
)
def test_a_password_that_others_may_read_is_warned_about(tmp_path: Path, mode: int, line: str, warned: bool) -> None:
    path = tmp_path / "conf"
    path.write_text(line)
    path.chmod(mode)
    warning = exposure(str(path), mappings_of(read(str(path)), str(path)))
    assert (warning is not None) == warned
    if warning is not None:
        place = f"{path}:{line.count(chr(10)) + 1}"
        assert warning == f"{place}: smarthostMapping: others may read this password; `chmod 600 {path}` would be right"


def test_what_comes_from_a_device_cannot_be_read_again_by_others() -> None:
    assert exposure("/dev/null", mappings_of("smarthostMapping = direct:* h 25 me hunter2")) is None


def test_a_file_that_vanished_cannot_be_looked_at(tmp_path: Path) -> None:
    mappings = mappings_of("smarthostMapping = direct:* h 25 me hunter2")
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        exposure(str(tmp_path / "conf"), mappings)
