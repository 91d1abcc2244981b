"""The sample configurations: what the program itself says of them."""

import re
import subprocess

import pytest
from servers.program import ROOT, command

from sendooway.config import UserSettings
from sendooway.config.keywords import KEYWORDS, parse_user_include
from sendooway.sample import SAMPLE

USERS_KEYWORDS = {row.name for row in KEYWORDS.values() if row.user}
SENDOOWAYRC = (ROOT / "contrib/sendoowayrc").read_text()


def test_the_sample_configuration_is_what_the_program_prints() -> None:
    assert (ROOT / "contrib/sendooway.conf").read_text() == SAMPLE, "`make format` writes it anew"


def test_the_sample_configuration_is_a_good_one() -> None:
    done = subprocess.run(
        command("--check-config", "-c", ROOT / "contrib/sendooway.conf"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_users_sample_has_every_keyword_that_users_may_set() -> None:
    assert set(re.findall(r"^#(\w+) = ", SENDOOWAYRC, re.MULTILINE)) == USERS_KEYWORDS


@pytest.mark.parametrize("text", [SENDOOWAYRC, re.sub(r"^#(\w+ = )", r"\1", SENDOOWAYRC, flags=re.MULTILINE)])
def test_the_users_sample_is_good_as_it_is_and_with_its_examples(text: str) -> None:
    _, mappings, warnings = parse_user_include(text, "sendoowayrc", UserSettings("mail.example.org"))
    assert warnings == ()
    assert len(mappings) in (0, 5)
