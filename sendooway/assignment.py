"""How a configuration file is cut into lines, and a line into keyword and value.

Without imports: the greeting of a waiting client depends on it, see `greeting.py`.
"""


def lines(text: str) -> list[str]:
    """The lines of a file, without LF."""
    # Not splitlines(): it also ends lines at VT, FF, NEL, LS and PS. Some editors put a BOM in front of UTF-8.
    return text.removeprefix("\ufeff").split("\n")


def split(line: str) -> tuple[str, str, str]:
    """Keyword, `=` or nothing, and value of a line; all empty where it holds nothing but blanks and a comment."""
    keyword, equals, value = line.partition("#")[0].rstrip("\r").partition("=")
    return keyword.strip(" \t"), equals, value.strip(" \t")
