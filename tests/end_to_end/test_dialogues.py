"""The conversations before a login, held with the program itself on plain pipes."""

import subprocess
from pathlib import Path

import pytest
from dialogue import Dialogue, check, load, octets_of_client
from servers.processes import PATIENCE
from servers.program import ROOT, command

pytestmark = pytest.mark.slow

DIALOGUES = [dialogue for dialogue in load("server") if dialogue.says("network only") is None]


@pytest.mark.parametrize("lf_ends_line", [True, False], ids=["LF", "CRLF"])
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=str)
def test_dialogue_on_pipes(dialogue: Dialogue, lf_ends_line: bool, tmp_path: Path) -> None:
    log = tmp_path / "sendooway.log"
    done = subprocess.run(
        command("-c", "/dev/null", "-l", log),
        input=octets_of_client(dialogue.steps, lf_ends_line=lf_ends_line),
        capture_output=True,
        cwd=ROOT,
        timeout=PATIENCE,
        check=True,
    )
    check(str(dialogue.path), done.stdout, [step for step in dialogue.steps if step.kind == "S"])
    assert done.stderr == b""
    assert "Traceback" not in log.read_text()


def test_the_end_of_the_input_ends_it_quietly(tmp_path: Path) -> None:
    log = tmp_path / "sendooway.log"
    for octets in (b"", b"NOO", b"NOOP\n", b"AUTH LOGIN\n"):
        done = subprocess.run(
            command("-c", "/dev/null", "-l", log),
            input=octets,
            capture_output=True,
            cwd=ROOT,
            timeout=PATIENCE,
            check=True,
        )
        assert done.stdout.startswith(b"220 ")
        assert done.stderr == b""
    assert "Traceback" not in log.read_text()
