import traceback

import pytest

from sendooway.secret import Secret


@pytest.mark.parametrize("text", [f"{Secret(b'pass-word')}", repr(Secret(b"pass-word")), repr([Secret(b"pass-word")])])
def test_no_text_made_of_it_shows_it(text: str) -> None:
    assert text.strip("[]") == "Secret()"


def test_a_traceback_with_all_variables_does_not_show_it() -> None:
    def fail(secret: Secret) -> None:
        raise ValueError(secret)

    with pytest.raises(ValueError, match="Secret") as raised:
        fail(Secret(bytes(reversed(b"drow-ssap"))))
    told = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert "pass-word" not in "".join(told.format())


def test_equal_octets_are_equal_secrets() -> None:
    assert Secret(b"one") == Secret(b"one") != Secret(b"other")
