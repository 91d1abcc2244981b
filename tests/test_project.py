"""What newcomers and the continuous integration rely on."""

import os
import subprocess
from pathlib import Path

from sendooway.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme


def test_the_readme_s_configuration_for_a_laptop_is_good_whatever_the_umask(tmp_path: Path) -> None:
    _, _, section = (ROOT / "README.md").read_text().partition("### 3. ")
    block = section.partition("```sh\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if not line.startswith(("install ", "systemctl "))]
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run(["/bin/sh", "-ec", "\n".join(["umask 002", *lines])], env=environment, check=True)
    assert main(["--check-config", "-c", str(tmp_path / ".config/sendooway.conf")]) == 0


def test_continuous_integration_runs_what_developers_run() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make")]
    assert commands == ["make test"]


def test_the_licence_is_the_gpl_3() -> None:
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in (ROOT / "LICENSE").read_text()
