"""Which senders an account serves: an address, `*@domain`, `*`, or `<>` for the null reverse-path."""

import re

from sendooway.accounts.value import BadValue

# RFC 5321 4.1.2, RFC 6531 3.3: the characters of a dot-string and of a domain. A * is allowed there in the local part,
# but who writes one means a wildcard that we do not have. The classes say what of ASCII is not in them: a range of
# nearly all of Unicode takes re 2 ms to compile, in each agent.
_LOCAL_PART = r"[^\x00-\x20\x7f\"()*,:;<>@\[\\\]]+"
_DOMAIN = r"(?:[^\x00-,/:-@\[-`{-\x7f]+|\[[A-Za-z0-9.:]+\])"
# Compiled at its first use: a client waits while we start.
_PATTERN = rf"<>|\*|(?:\*|{_LOCAL_PART})@{_DOMAIN}"


def parse(text: str) -> str:
    """Check one pattern, which is returned as it is. Raises BadValue for any other syntax."""
    if not re.fullmatch(_PATTERN, text) or not text.isprintable():
        raise BadValue("an address must read user@domain, *@domain, * or <>, with nothing around it")
    return text


def parse_list(text: str) -> list[str]:
    """Patterns apart by commas, perhaps none at all. Raises BadValue as `parse` does."""
    return [parse(piece.strip()) for piece in text.split(",") if piece.strip()]


def matching(reverse_path: str) -> tuple[str, ...]:
    """The patterns, in lower case, that match a reverse-path (empty for the null one), the best first."""
    if not reverse_path:
        return ("<>", "*")
    address = reverse_path.lower()
    local_part, at, domain = address.rpartition("@")
    if not at:
        return (address, "*")
    user = local_part.partition("+")[0]
    stripped = (f"{user}@{domain}",) if user not in ("", local_part) else ()
    return (address, *stripped, f"*@{domain}", "*")
