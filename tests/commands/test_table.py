"""Text for terminals: what fits, what is coloured, and what never gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.commands.table import Cell, Colour, Terminal, marked, paragraph, printable, table, warnings, width

HEADS = ("sender", "host", "port")
ROWS = [
    [Cell("alice@moon.test"), Cell("mx.moon.test"), Cell("587")],
    [Cell("*"), Cell("bücher.test"), Cell("25", Colour.RED)],
]
ANYWHERE = Terminal()


def test_a_table_has_its_columns_one_below_the_other() -> None:
    assert table(HEADS, ROWS, ANYWHERE) == [
        "SENDER           HOST          PORT",
        "alice@moon.test  mx.moon.test  587",
        "*                bücher.test   25",
    ]


def test_a_table_that_fits_exactly_stays_one() -> None:
    assert table(HEADS, ROWS, Terminal(35)) == table(HEADS, ROWS, ANYWHERE)


def test_a_table_that_does_not_fit_becomes_paragraphs() -> None:
    assert table(HEADS, ROWS, Terminal(34)) == [
        "alice@moon.test",
        "  host  mx.moon.test",
        "  port  587",
        "*",
        "  host  bücher.test",
        "  port  25",
    ]


def test_empty_columns_and_tables_are_left_out() -> None:
    assert table(("a", "b", "c"), [[Cell("1"), Cell(""), Cell("3")]], ANYWHERE) == ["A  C", "1  3"]
    assert table(HEADS, [], ANYWHERE) == []


@pytest.mark.parametrize(
    ("text", "columns"), [("moon", 4), ("月の", 4), ("e\u0301", 1), ("\uff21\uff22", 4), ("a\u200bb", 2), ("", 0)]
)
def test_the_width_is_what_a_terminal_shows(text: str, columns: int) -> None:
    assert width(text) == columns


def test_wide_characters_do_not_move_what_is_beside_them() -> None:
    rows = [[Cell("月@moon.test"), Cell("x")], [Cell("alice@moon.test"), Cell("y")]]
    lines = table(("sender", "z"), rows, ANYWHERE)
    assert {width(line) for line in lines} == {18}


def test_colours_are_shown_only_where_they_are_wanted() -> None:
    assert table(("port",), [[Cell("25", Colour.RED)]], Terminal(coloured=True)) == [
        "\x1b[1mPORT\x1b[0m",
        "\x1b[31m25\x1b[0m",
    ]
    assert marked("!", Colour.RED, "no", Terminal(coloured=True)) == ["\x1b[31m!\x1b[0m no"]
    assert marked("!", Colour.RED, "no", ANYWHERE) == ["! no"]


def test_colours_take_no_room() -> None:
    assert len(table(HEADS, ROWS, Terminal(35, coloured=True))) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bücher 月", "bücher 月"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\r\nb\tc", r"a\x0d\x0ab\x09c"),
        ("\udcff\udc80", r"\xff\x80"),
        ("\u202etest\u2028", r"\u202etest\u2028"),
        ("\U000e0001", r"\U000e0001"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_could_drive_the_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.lists(st.text(max_size=20), min_size=2, max_size=2), st.none() | st.integers(1, 60))
def test_no_text_gets_a_control_character_into_a_table(texts: list[str], columns: int | None) -> None:
    lines = table(("a", "b"), [[Cell(text) for text in texts]], Terminal(columns))
    assert all(line.isprintable() for line in lines)


def test_a_paragraph_keeps_long_words_whole() -> None:
    assert paragraph("one two /a/very/long/path three", Terminal(9), "  ") == [
        "one two",
        "  /a/very/long/path",
        "  three",
    ]
    assert paragraph("one two", ANYWHERE) == ["one two"]


def test_a_mark_is_never_alone() -> None:
    text = "/a/very/long/path is wrong"
    assert marked("!", Colour.NONE, text, Terminal(12)) == ["! /a/very/long/path", "  is wrong"]


def test_warnings_stand_apart() -> None:
    assert warnings([], ANYWHERE) == []
    assert warnings(["one", "two"], ANYWHERE) == ["", "! one", "! two"]
