import os
import socket
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from sendooway.accounts import user_file
from sendooway.accounts.account import AccountsError, NoAccountFile
from sendooway.accounts.user_file import MAX_FILES, MAX_LINE_OCTETS, MAX_OCTETS, NoFiles, UserFile, UserFiles, read

UID = os.getuid()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rc"
    path.touch(mode=0o600)
    return path


def error(path: Path | str, uid: int = UID) -> str:
    with pytest.raises(AccountsError) as raised:
        read(str(path), uid)
    return str(raised.value)


@pytest.mark.parametrize("octets", [b"", b"a\r\nb\x0c\xff\0", "ä\n".encode(), b"\xef\xbb\xbfa"])
def test_no_octet_of_a_file_is_lost(file: Path, octets: bytes) -> None:
    file.write_bytes(octets)
    assert read(str(file), UID).text.encode("utf-8", "surrogateescape") == octets


@pytest.mark.parametrize(
    ("mode", "readable"), [(0o600, False), (0o400, False), (0o700, False), (0o640, True), (0o604, True), (0o755, True)]
)
def test_a_file_that_others_may_read_is_reported(file: Path, mode: int, readable: bool) -> None:
    file.chmod(mode)
    assert read(str(file), UID).readable_by_others is readable


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert error(file) == f"{file}: others may write it: use `chmod go-w` on it"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "absent"), UID)


def test_a_symbolic_link_is_followed(file: Path, tmp_path: Path) -> None:
    file.write_text("here")
    (tmp_path / "link").symlink_to(file)
    assert read(str(tmp_path / "link"), UID).text == "here"
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read: Too many levels" in error(tmp_path / "loop")


def test_a_file_below_a_file_cannot_be_read(file: Path) -> None:
    assert error(file / "below") == f"{file}/below: cannot be read: Not a directory"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    assert error(tmp_path) == f"{tmp_path}: must be a regular file"
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "must be a regular file" in error(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "cannot be read: No such device or address" in error(tmp_path / "socket")
    assert "must be a regular file" in error("/dev/zero")


def test_the_null_device_is_an_empty_file() -> None:
    file = read("/dev/null", UID)
    assert (file.text, file.readable_by_others) == ("", False)


def test_a_file_of_someone_else_is_refused(file: Path) -> None:
    if UID == 0:
        os.chown(file, 12345, -1)
    assert error(file, 4321) == f"{file}: belongs to someone else: it must be yours or root's (chown)"


@pytest.mark.skipif(UID != 0, reason="only root can make a file of root's")
def test_a_file_of_root_is_read(file: Path) -> None:
    assert read(str(file), 4321).text == ""


def test_a_file_has_a_limit(file: Path) -> None:
    line = b"x" * 1023 + b"\n"
    file.write_bytes(line * (MAX_OCTETS // 1024))
    assert len(read(str(file), UID).text) == MAX_OCTETS
    with file.open("ab") as more:
        more.write(b"\n")
    assert error(file) == f"{file}: must not have more than {MAX_OCTETS} octets"


def test_a_line_has_a_limit(file: Path) -> None:
    file.write_bytes(b"x" * MAX_LINE_OCTETS + b"\n" + b"y" * MAX_LINE_OCTETS)
    assert len(read(str(file), UID).text) == 2 * MAX_LINE_OCTETS + 1
    file.write_bytes(b"\n" + b"x" * (MAX_LINE_OCTETS + 1) + b"\n")
    assert error(file) == f"{file}:2: a line must not have more than {MAX_LINE_OCTETS} octets"


def test_an_error_names_the_path_in_printable_form(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(path)
    assert error(os.fsdecode(path)).endswith("/\\udcff: must be a regular file")


def test_a_sparse_file_of_a_gibibyte_is_refused_at_once(file: Path) -> None:
    os.truncate(file, 1 << 30)
    assert error(file) == f"{file}: must not have more than {MAX_OCTETS} octets"


def test_the_files_of_a_user_that_others_may_read_are_known(tmp_path: Path) -> None:
    files = UserFiles(UID)
    for name, mode in (("mine", 0o600), ("ours", 0o640)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
        assert files.read(str(tmp_path / name)) == name
    assert files.exposed == {str(tmp_path / "ours")}


# Folders


def names(folder: Path) -> tuple[str, ...]:
    return UserFiles(UID).names(str(folder), lambda name: not name.startswith("."))


def test_the_names_in_a_folder_are_those_that_are_wanted_and_no_folders(tmp_path: Path) -> None:
    for name in ("b", "a", ".c"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("/nowhere/at/all")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ("a", "b", "loop", "nowhere", "pipe")


def test_a_missing_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        names(tmp_path / "absent")


def test_what_is_no_folder_cannot_be_read(file: Path) -> None:
    with pytest.raises(AccountsError, match="rc: cannot be read: Not a directory"):
        names(file)


def test_a_folder_has_a_limit(tmp_path: Path) -> None:
    for number in range(MAX_FILES):
        (tmp_path / f"{number}").touch()
        (tmp_path / f".{number}").touch()
    assert len(names(tmp_path)) == MAX_FILES
    (tmp_path / "one-more").touch()
    with pytest.raises(AccountsError, match=f"must not have more than {MAX_FILES} files that match"):
        names(tmp_path)


def test_without_files_nothing_is_there() -> None:
    with pytest.raises(FileNotFoundError):
        NoFiles().read("/dev/null")
    with pytest.raises(FileNotFoundError):
        NoFiles().names("/", lambda name: True)


class Reader:
    """Reads below a folder, as a source does; `times` is how often."""

    def __init__(self, folder: Path) -> None:
        self.files = UserFiles(UID)
        self.times = 0
        self._folder = folder

    def __call__(self) -> dict[str, str]:
        return self.files.remember("key", self._read)

    def _read(self) -> dict[str, str]:
        self.times += 1
        texts = {}
        for path in (str(self._folder / "rc"), str(self._folder / "link"), *self._names()):
            try:
                texts[Path(path).name] = self.files.read(path)
            except FileNotFoundError:
                texts[Path(path).name] = "none"
            except NoAccountFile as error:
                texts[Path(path).name] = error.reason
        return texts

    def _names(self) -> tuple[str, ...]:
        folder = self._folder / "folder"
        try:
            return tuple(str(folder / name) for name in self.files.names(str(folder), lambda name: name[0] != "."))
        except FileNotFoundError:
            return ()


def write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(user_file, "RECENT", 0)
    write(tmp_path / "rc", "one")
    write(tmp_path / "target", "two")
    write(tmp_path / "other", "two")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder/a", "three")
    # What is changed from now on gets a later time: the clock of files has ticks of some ms.
    probe, last = tmp_path / "probe", (tmp_path / "folder/a").stat().st_ctime_ns
    probe.touch()
    while probe.stat().st_ctime_ns <= last:
        probe.touch()
    return Reader(tmp_path)


def test_what_was_made_of_files_that_have_not_changed_is_not_made_again(reader: Reader) -> None:
    assert reader() == {"rc": "one", "link": "two", "a": "three"}
    assert reader() == {"rc": "one", "link": "two", "a": "three"}
    assert reader.times == 1


def same_size_and_time(folder: Path) -> None:
    times = (folder / "rc").stat()
    write(folder / "rc", "new")
    os.utime(folder / "rc", ns=(times.st_atime_ns, times.st_mtime_ns))


def another_target(folder: Path) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to("other")


def nothing_there(folder: Path) -> None:
    (folder / "folder/a").unlink()
    (folder / "folder").rmdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": lambda folder: write(folder / "rc", "another"),
    "rewritten, with the size and the time that it had": same_size_and_time,
    "replaced": lambda folder: (folder / "other").rename(folder / "rc"),
    "removed": lambda folder: (folder / "rc").unlink(),
    "the target of a link rewritten": lambda folder: write(folder / "target", "another"),
    "a link to another file": another_target,
    "a file in the folder rewritten": lambda folder: write(folder / "folder/a", "another"),
    "one more file in the folder": lambda folder: write(folder / "folder/b", "four"),
    "a file in the folder renamed": lambda folder: (folder / "folder/a").rename(folder / "folder/b"),
    "the folder removed": nothing_there,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_seen_when_it_has_been_made(
    reader: Reader, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    reader()
    change(tmp_path)
    assert reader() == Reader(tmp_path)()
    assert reader.times == 2


def test_a_file_that_appears_is_seen(reader: Reader, tmp_path: Path) -> None:
    for name in ("rc", "link"):
        (tmp_path / name).unlink()
    nothing_there(tmp_path)
    assert reader() == {"rc": "none", "link": "none"}
    assert reader() == {"rc": "none", "link": "none"}
    assert reader.times == 1
    write(tmp_path / "rc", "now")
    assert reader()["rc"] == "now"
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder/a", "here")
    assert reader()["a"] == "here"


def test_rights_that_change_are_seen(reader: Reader, tmp_path: Path) -> None:
    reader()
    (tmp_path / "rc").chmod(0o666)
    with pytest.raises(AccountsError, match="others may write it"):
        reader()
    with pytest.raises(AccountsError, match="others may write it"):
        reader()
    (tmp_path / "rc").chmod(0o644)
    assert reader()["rc"] == "one"
    assert str(tmp_path / "rc") in reader.files.exposed


def test_a_file_that_could_not_be_used_is_looked_at_again(reader: Reader, tmp_path: Path) -> None:
    write(tmp_path / "folder/a", "x" * (MAX_LINE_OCTETS + 1))
    assert "a line must not" in reader()["a"]
    write(tmp_path / "folder/a", "short")
    assert reader()["a"] == "short"


def test_a_file_that_has_just_been_changed_may_be_changed_again_unseen(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_file, "RECENT", 3600)
    assert reader() == reader()
    assert reader.times == 2


def test_what_is_read_later_is_no_part_of_what_is_remembered(reader: Reader, tmp_path: Path) -> None:
    reader()
    reader.files.read(str(tmp_path / "other"))
    write(tmp_path / "other", "another")
    reader()
    assert reader.times == 1


def test_what_is_read_and_not_remembered_takes_no_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def observed(path: str, uid: int) -> UserFile:
        found.append(weakref.ref(made := read(path, uid)))
        return made

    monkeypatch.setattr(user_file, "read", observed)
    monkeypatch.setattr(user_file, "RECENT", 0)
    files = UserFiles(UID)
    files.read(str(file))
    assert [reference() for reference in found] == [None]
