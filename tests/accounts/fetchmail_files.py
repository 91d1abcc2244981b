"""Random run control files for fetchmail: in its grammar, and nearly so."""

from hypothesis import strategies as st

from sendooway.accounts import fetchmail_words

# What Debian's fetchmail knows.
KEYWORDS = sorted(fetchmail_words.KEYWORDS.keys() - {"passwordfile"})

# What a reader may trip over: keywords and noise words as values, numbers, signs that end words elsewhere, escapes.
_VALUES = (
    *(
        "alice",
        "bob",
        "a",
        "b@c.test",
        "007",
        "-1",
        "5",
        "0",
        "poll",
        "user",
        "pass",
        "ssl",
        "here",
        "there",
        "is",
        "with",
    ),
    *(
        "no",
        "nokeep",
        "#",
        "a#b",
        "p:w",
        "a=b",
        "a b",
        "c,d;",
        " e",
        "f\t",
        "g\nh",
        "it's",
        'say "hi"',
        "",
        "\\",
        "*",
        "$x",
    ),
    *("%h", "~", "`", "(", "x" * 60, "::1", "[::1]", "imap", "IMAP", "imap.a.test", "cram-md5", "set", "defaults", "!"),
)
_ESCAPES = (r"\x41", r"\X4a", r"\101", r"\065", r"\n", r"\t", r"\q", r"\\", r"\x4", r"\7", "\\\n", r"\0101")
_SEPARATORS = (
    (" ",) * 12
    + ("\n",) * 4
    + (
        *(
            "\t",
            "  ",
            "\r\n",
            ",",
            ", ",
            ";",
            " : ",
            " with ",
            " and ",
            " has ",
            " wants ",
            " options\n",
            " # no\n",
            "\\\n",
        ),
        *("\n#c 'd\"\n", " #sendooway:x\n"),
    )
)


def _rendered(value: str) -> st.SearchStrategy[str]:
    """A value as it may be written. Not each way is valid for each value: the point is that both readers agree."""
    ways = [f'"{value}"', f"'{value}'"]
    if value and not set(value) & set(" \t\n,;:=\"'#"):
        ways += [value] * 3
    return st.sampled_from(ways)


_string = st.one_of(
    st.sampled_from(_VALUES).flatmap(_rendered),
    st.lists(st.sampled_from((*_ESCAPES, "a", "B", "7")), min_size=1, max_size=4).map("".join).flatmap(_rendered),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=6),
)
_number = st.sampled_from(("0", "1", "5", "110", "0993", "65535", "-3"))


def _option(keyword: str, *arguments: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.tuples(st.just(keyword), *arguments).map(list)


def _words(*words: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from([word.split() for word in words])


_server_option = st.one_of(
    _option("proto", st.sampled_from(("pop3", "imap", "IMAP", "auto", "apop", "kpop", "etrn", "odmr", "Pop3"))),
    _option("protocol", st.sampled_from(("pop3", "POP3", "sdps"))),
    _option("via", _string),
    _option("port", _number),
    _option("service", st.one_of(_number, _string)),
    _option("auth", st.sampled_from(("password", "any", "cram-md5", "ntlm", "plain", "ssh"))),
    _option("aka", _string, _string),
    _option("interval", _number),
    _option("interface", st.sampled_from(("eth0/192.0.2.1", "eth0", '"lo/127.1/255.0.0.0"'))),
    _option("envelope", st.sampled_from(("2 X-To", "X-To", '"5"'))),
    _words("no dns", "nodns", "uidl", "no uidl", "checkalias", "tracepolls", "no envelope", "bad-header accept"),
)
_user_option = st.one_of(
    _option("pass", _string),
    _option("password", _string),
    _option("is", _string),
    _option("is", _string, st.just("here")),
    _option("to", _string, _string, st.just("here")),
    _option("is", _string, st.just("="), _string, st.just("here")),
    _option("is", _string, st.just("there")),
    _option("folder", _string, _string),
    _option("mda", _string),
    _option("smtphost", st.one_of(_string, st.just("c/24"))),
    _option("limit", _number),
    _option("antispam", _number, _number),
    _option("sslfingerprint", _string),
    _words(
        "ssl",
        "no ssl",
        "nossl",
        "keep",
        "nokeep",
        "no keep",
        "fetchall",
        "idle",
        "sslcertck",
        "no",
        "lmtp smtphost d/24",
    ),
)
_user = st.tuples(
    st.one_of(
        _option("user", _string),
        _option("username", _string),
        _option("user", _string, st.just("there")),
        _option("user", _string, st.just("here")),
        _option("user", _string, _string, st.just("here")),
        _option("user", _string, st.just("="), _string, st.just("here")),
    ),
    st.lists(_user_option, max_size=3),
)
_users = st.one_of(
    st.lists(_user, max_size=3).map(lambda users: [part for user, options in users for part in (user, *options)]),
    st.lists(_user_option, max_size=3),
)
_entry = st.tuples(
    st.one_of(
        *(_option(word, _string) for word in ("poll", "poll", "poll", "server", "skip")),
    ),
    st.lists(_server_option, max_size=3),
    _users,
).map(lambda parts: [parts[0], *parts[1], *parts[2]])
_defaults = st.tuples(
    st.lists(_server_option, max_size=2),
    # Of a second user in `defaults` fetchmail prints what is no Python.
    st.one_of(st.lists(_user_option, max_size=2), _user.map(lambda user: [user[0], *user[1]])),
).map(lambda parts: [["defaults"], *parts[0], *parts[1]])
_set = st.one_of(
    _option("set", st.just("daemon"), _number),
    _option("set", st.just("postmaster"), st.just("="), _string),
    _words("set syslog", "set no bouncemail", "set nospambounce", "set invisible", "set no"),
).map(lambda words: [words])
_statements = st.one_of(_entry, _entry, _entry, _set)


@st.composite
def _tokens(draw: st.DrawFn) -> list[str]:
    parts = [*draw(st.one_of(st.just([]), st.just([]), _defaults, _set)), *draw(_entry)]
    for statement in draw(st.lists(_statements, max_size=2)):
        parts += statement
    return [word for part in parts for word in part]


@st.composite
def _joined(draw: st.DrawFn, tokens: st.SearchStrategy[list[str]]) -> str:
    words = draw(tokens)
    separators = draw(st.lists(st.sampled_from(_SEPARATORS), min_size=len(words), max_size=len(words)))
    return "".join(word + separator for word, separator in zip(words, separators, strict=True)) + "\n"


@st.composite
def _damaged(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with one place cut out, doubled, or with something put in."""
    text: str = draw(texts)
    first, last = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    last = min(last, first + 12)
    piece: str = draw(st.sampled_from(("", text[first:last] * 2, *"\"'\\#=,;: \n\r\x00", "x", "no ", "\\x", *KEYWORDS)))
    return text[:first] + piece + text[last:]


valid = _joined(_tokens())
nearly_valid = st.one_of(
    _damaged(valid),
    _joined(st.lists(st.one_of(st.sampled_from(KEYWORDS), _string, st.just("=")), max_size=12)),
)
