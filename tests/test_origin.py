import pytest

from sendooway.origin import Origin


@pytest.mark.parametrize(("line", "text"), [(0, "/home/a/rc"), (7, "/home/a/rc:7")])
def test_it_shows_the_file_and_the_line_if_there_is_one(line: int, text: str) -> None:
    assert str(Origin("/home/a/rc", line)) == text


def test_places_are_in_the_order_of_files_and_lines() -> None:
    places = [Origin("a", 10), Origin("a", 9), Origin("b", 1)]
    assert sorted(places) == [Origin("a", 9), Origin("a", 10), Origin("b", 1)]
