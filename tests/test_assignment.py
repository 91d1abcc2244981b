"""Lines of a configuration, cut into keyword and value."""

import pytest

from sendooway import assignment


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("timeout = 3", ("timeout", "=", "3")),
        ("\t timeout=3 \t", ("timeout", "=", "3")),
        ("timeout = 3\r", ("timeout", "=", "3")),
        ("timeout = 3# a comment", ("timeout", "=", "3")),
        ("a = b = c", ("a", "=", "b = c")),
        ("timeout =", ("timeout", "=", "")),
        ("timeout", ("timeout", "", "")),
        ("= 3", ("", "=", "3")),
        ("# timeout = 3", ("", "", "")),
        ("", ("", "", "")),
        (" \t\r", ("", "", "")),
    ],
)
def test_a_line_is_keyword_equals_and_value(line: str, cut: tuple[str, str, str]) -> None:
    assert assignment.split(line) == cut


def test_only_lf_ends_a_line_and_a_byte_order_mark_is_not_part_of_the_first() -> None:
    assert assignment.lines("\ufeffa\nb\x0bc\x85d\u2028e\r\n") == ["a", "b\x0bc\x85d\u2028e\r", ""]
