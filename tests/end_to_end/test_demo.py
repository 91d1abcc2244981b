"""`make run`: the demonstration shows the main job, and notices when a mail goes astray."""

import subprocess
import sys

import demo
import pytest
from servers.program import ROOT

pytestmark = pytest.mark.slow


def test_the_demonstration_sends_each_mail_on_its_own_way() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "contrib/demo/demo.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "as alice@moon.test: left through smtp.moon.test, logged in as alice-at-moon" in done.stdout
    assert "as alice@sun.test: left through smtp.sun.test, logged in as alice-at-sun" in done.stdout


def test_the_demonstration_notices_mails_that_go_astray(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(moon_address=demo.SUN, sun_address=demo.MOON) == 1
    assert "WRONG: the mail as alice@moon.test should have left through smtp.moon.test" in capsys.readouterr().out


def test_the_demonstration_notices_a_mail_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(sun_address="nobody@sun.test") == 1
    assert "WRONG: the mail as alice@sun.test arrived 0 times" in capsys.readouterr().out
