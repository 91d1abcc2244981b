"""What getmail reads in its configuration file: sections of `key = value`, as Python's configparser has them.

As getmail does it: values are raw, without quotes, interpolation or comments behind them; a line that is indented more
than its key goes on with the value; keys have no case, sections do. Nothing may stand twice, with one exception that
getmail does not make: the keys named as repeatable.
"""

from collections.abc import Set
from dataclasses import dataclass, field

from sendooway.accounts.account import AccountsError, NoAccountFile
from sendooway.origin import Origin

# What these words mean as a value, in any case.
BOOLEANS = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


@dataclass(frozen=True)
class Line:
    """One line of a value, without the blanks around it. It may be a password."""

    text: str = field(repr=False)
    origin: Origin


@dataclass(frozen=True)
class Section:
    """The lines of each value by key, for a repeated key all of them. The first line of a value may be empty."""

    origin: Origin
    values: dict[str, list[Line]]


def parse(text: str, file: str, repeatable: Set[tuple[str, str]]) -> dict[str, Section]:
    """The sections by name, their keys in lower case. `repeatable` are the (section, key) that may stand repeatedly.

    Raises AccountsError, with the line, for what is neither section, key, continuation, comment nor blank.
    """
    sections: dict[str, Section] = {}
    name = ""
    section: Section | None = None
    value: list[Line] | None = None
    indentation = 0
    # The line ends that Python's text files know, and no others.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        origin = Origin(file, number)
        content = line.strip()
        if not content or content.startswith(("#", ";")):
            continue
        indented = len(line) - len(line.lstrip())
        if value is not None and indented > indentation:
            value.append(Line(content, origin))
            continue
        indentation = indented
        header = content[1 : max(content.rfind("]"), 0)] if content.startswith("[") else ""
        if header:
            if header in sections and header != "DEFAULT":
                raise AccountsError(origin, "this section stands twice: join the two")
            # Python's [DEFAULT] may stand repeatedly. getmail forgets what is in it: a section like others.
            name, section, value = header, sections.setdefault(header, Section(origin, {})), None
            continue
        if section is None:
            raise NoAccountFile(origin, "a section must begin before this line, by its name in brackets")
        key, first_line = _split(content, origin)
        if key in section.values and (name, key) not in repeatable:
            raise AccountsError(origin, "this key stands twice in its section: remove one")
        value = section.values.setdefault(key, [])
        value.append(Line(first_line, origin))
    return sections


def _split(content: str, origin: Origin) -> tuple[str, str]:
    """`KEY = VALUE` or `KEY: VALUE`, whichever sign comes first."""
    at = min((content.find(sign) for sign in "=:" if sign in content), default=0)
    if at == 0:
        raise AccountsError(origin, "a line must read `key = value`, or be indented to go on with the value before")
    return content[:at].rstrip().lower(), content[at + 1 :].lstrip()
