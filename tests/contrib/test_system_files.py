"""What makes the user and the folders: systemd's own tools do so, in a folder instead of the system."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from servers.program import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_systemd_sysusers_makes_a_user_who_cannot_log_in(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("needs systemd-sysusers")
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", ROOT / "contrib/sysusers.d/sendooway.conf"],
        check=True,
        capture_output=True,
    )
    name, password, uid, gid, _, home, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, password, home) == ("sendooway", "x", "/")
    assert shell.endswith("/nologin")
    assert 0 < int(uid) < 1000
    assert (tmp_path / "etc/group").read_text().startswith(f"sendooway:x:{gid}:")
    assert (tmp_path / "etc/shadow").read_text().split(":")[1].startswith("!")


def test_systemd_tmpfiles_makes_folders_that_only_root_can_change(tmp_path: Path) -> None:
    if shutil.which("systemd-tmpfiles") is None:
        pytest.skip("needs systemd-tmpfiles")
    subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", ROOT / "contrib/tmpfiles.d/sendooway.conf"],
        check=True,
        capture_output=True,
    )
    for name in ("var/cache/sendooway", "run/sendooway"):
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o755)
