import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendooway.accounts import pattern
from sendooway.accounts.value import BadValue


@pytest.mark.parametrize(
    "text",
    [
        *("alice@moon.test", "alice+x@moon.test", "a.b-c_d@moon.test", "o'neill@x.example", "*@moon.test", "*", "<>"),
        *("jürgen@müller.example", "alice@localhost", "alice@[192.0.2.1]", "alice@[IPv6:2001:db8::1]"),
    ],
)
def test_a_pattern_is_kept_as_it_is_written(text: str) -> None:
    assert pattern.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "alice", "@moon.test", "alice@", "<alice@moon.test>", "a@b@c", "al*@moon.test", "**@moon.test"),
        *("*@*", "alice@*.test", "a b@c", "a@b c", "a@b,c@d", "a@b\n", "a\0@b", '"a b"@c', "a@[b", "a\u2028@b"),
        *("a\udce9@b", "a@b\udce9", "a\x85@b"),
    ],
)
def test_odd_syntax_is_refused(text: str) -> None:
    with pytest.raises(BadValue, match="an address must read"):
        pattern.parse(text)


@pytest.mark.parametrize(
    ("reverse_path", "patterns"),
    [
        ("", ("<>", "*")),
        ("Alice@Moon.Test", ("alice@moon.test", "*@moon.test", "*")),
        ("alice+X@moon.test", ("alice+x@moon.test", "alice@moon.test", "*@moon.test", "*")),
        ("alice+a+b@moon.test", ("alice+a+b@moon.test", "alice@moon.test", "*@moon.test", "*")),
        ("+x@moon.test", ("+x@moon.test", "*@moon.test", "*")),
        ('"a@b"@moon.test', ('"a@b"@moon.test', "*@moon.test", "*")),
        ("postmaster", ("postmaster", "*")),
    ],
)
def test_these_patterns_match_best_first(reverse_path: str, patterns: tuple[str, ...]) -> None:
    assert pattern.matching(reverse_path) == patterns


@given(st.text())
def test_what_matches_does_not_depend_on_case_and_ends_with_the_star(reverse_path: str) -> None:
    matching = pattern.matching(reverse_path)
    assert matching == pattern.matching(reverse_path.lower())
    assert matching[-1] == "*"


@given(st.text(), st.text(min_size=1))
def test_only_the_part_before_the_at_sign_has_a_sub_address(local_part: str, domain: str) -> None:
    domain = domain.replace("@", "")
    assert all(
        match == "*" or match.endswith(f"@{domain.lower()}") for match in pattern.matching(f"{local_part}@{domain}")
    )


@given(st.from_regex(r"[a-z.]{1,9}(\+[a-z]{0,3})?@[a-z.]{1,9}", fullmatch=True))
def test_every_match_of_an_address_is_a_pattern_or_an_impossible_address(address: str) -> None:
    for match in pattern.matching(address):
        assert pattern.parse(match) == match


@pytest.mark.parametrize(
    ("text", "patterns"), [("", []), (" , ", []), ("a@b", ["a@b"]), ("a@b,*@c , *,", ["a@b", "*@c", "*"])]
)
def test_a_list_is_apart_by_commas(text: str, patterns: list[str]) -> None:
    assert pattern.parse_list(text) == patterns


def test_a_list_with_a_bad_pattern_is_a_bad_value() -> None:
    with pytest.raises(BadValue):
        pattern.parse_list("a@b, c")
