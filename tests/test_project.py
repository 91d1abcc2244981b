"""What newcomers and the continuous integration rely on."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme


def test_continuous_integration_runs_what_developers_run() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make")]
    assert commands == ["make test"]


def test_the_licence_is_the_gpl_3() -> None:
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in (ROOT / "LICENSE").read_text()
