"""What the manual pages and the sample configuration say is what the program knows, and the other way round."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sendooway import commands, config, options
from sendooway.config import Encryption, keywords
from sendooway.config.keywords import parse
from sendooway.sample import SAMPLE

MANUAL = Path(__file__).resolve().parents[1] / "contrib/man"
PAGES = sorted(MANUAL.iterdir())
KEYWORDS = {row.name for row in keywords.KEYWORDS.values()}
USERS_KEYWORDS = {row.name for row in keywords.KEYWORDS.values() if row.user}
# Where the default depends on the machine or the connection, the line in the sample shows what one might write.
EXAMPLES = {"listen", "timeout", "mailerEncryption", "krb5PamAccount", "workers"}


def page(name: str) -> str:
    return (MANUAL / name).read_text()


def keywords_of(name: str) -> list[str]:
    """The heads of the lists of keywords."""
    return re.findall(r"^\.It Cm (\w+) = ", page(name), re.MULTILINE)


def test_the_options_of_the_code_the_help_and_the_page_are_the_same() -> None:
    known = {f"--{name.rstrip('=')}" for name in options._LONG} | {
        f"-{letter}" for letter in options._SHORT if letter != ":"
    }
    assert options_in(options.HELP) == known
    general, _, _ = page("sendooway.1").partition(".Sh COMMANDS\n")
    assert heads_in(general) == known


def options_in(help: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", help))


def heads_in(text: str) -> set[str]:
    """The options that have a paragraph in a part of a page."""
    heads = re.findall(r"^\.It (Fl .*)$", text, re.MULTILINE)
    return {f"-{name}" for head in heads for name in re.findall(r"Fl (-?[\w-]+)", head)}


def test_the_commands_of_the_code_the_help_and_the_page_are_the_same() -> None:
    names = set(commands.NAMES)
    assert set(re.findall(r"^  (\w+) .*", options.HELP, re.MULTILINE)) == names
    assert set(re.findall(r"^\.Ss (\w+)", page("sendooway.1"), re.MULTILINE)) == names


@pytest.mark.parametrize("name", ["sendooway.1", "sendooway.conf.5"])
def test_the_pages_tell_each_name_of_a_port(name: str) -> None:
    # Roff has its macros among the words.
    told = re.search(r"is a number or one of\s(?:\.Cm )?([\w ,\n.]*?)\s?\.\n", page(name))
    assert told
    assert set(re.findall(r"\w+", told[1])) - {"Cm", "and"} == set(config.SERVICES)


@pytest.mark.parametrize("name", commands.NAMES)
def test_the_options_of_a_command_its_help_and_the_page_are_the_same(name: str) -> None:
    command = commands.load(name)
    known = {f"--{option.rstrip('=')}" for option in command.SYNTAX.long} | {"-h", "-c"}
    assert options_in(command.HELP) == known
    assert command.HELP.startswith(f"Usage: sendooway {name} ")
    assert max(map(len, command.HELP.splitlines())) <= 80
    _, _, chapter = page("sendooway.1").partition(".Sh COMMANDS\n")
    general, *sections = re.split(r"^\.S[sh] ", chapter, flags=re.MULTILINE)
    section = next(text for text in sections if re.match(rf"{name}\b", text))
    assert heads_in(general) | heads_in(section) == known


@pytest.mark.parametrize("name", commands.NAMES)
def test_the_page_tells_each_exit_status_of_a_command(name: str) -> None:
    _, _, told = page("sendooway.1").partition(".Sh EXIT STATUS\n")
    _, _, help = commands.load(name).HELP.partition("Exit status: ")
    assert set(re.findall(r"\b(\d+)\b", help)) <= set(re.findall(r"^\.It (\d+)$", told, re.MULTILINE))


@pytest.mark.parametrize(("name", "known"), [("sendooway.conf.5", KEYWORDS), ("sendoowayrc.5", USERS_KEYWORDS)])
def test_the_keywords_of_the_code_and_the_page_are_the_same(name: str, known: set[str]) -> None:
    told = keywords_of(name)
    assert len(told) == len(set(told))
    assert set(told) == known


def test_a_page_names_the_words_of_each_enumeration() -> None:
    text = page("sendooway.conf.5")
    for words in (config.Encryption, config.EightBitMime, config.Use, config.Backend):
        for word in words:
            assert re.search(rf"^\..*\b{word.value}\b", text, re.MULTILINE), word


def test_the_sample_has_every_keyword_once() -> None:
    told = re.findall(r"^#(\w+) =", SAMPLE, re.MULTILINE)
    told.remove("smarthostMapping")  # of which there are two
    assert len(told) == len(set(told))
    assert set(told) == KEYWORDS


def test_the_sample_shows_the_defaults() -> None:
    lines = re.sub(r"^#(\w+ =)", r"\1", SAMPLE, flags=re.MULTILINE).splitlines()
    lines = [line for line in lines if line.partition(" ")[0] not in EXAMPLES]
    sample, default = (parse(text, "sample", "mail.example.org") for text in ("\n".join(lines), ""))
    assert sample.configuration == default.configuration
    assert [(m.source, m.argument.octets) for m in sample.mappings] == [
        (m.source, m.argument.octets) for m in default.mappings
    ]


def test_the_sample_is_a_configuration_as_it_is_and_with_its_examples() -> None:
    assert parse(SAMPLE, "sample", "mail.example.org").warnings == ()
    text = re.sub(r"^#(\w+ = .+)", r"\1", SAMPLE, flags=re.MULTILINE)
    configuration = parse(text, "sample", "mail.example.org").configuration
    assert configuration.listen[0].port == 587
    assert configuration.mailer_encryption is Encryption.REQUIRED
    assert max(map(len, SAMPLE.splitlines())) <= 80


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_clean(path: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("needs mandoc")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", path], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    )
    # Whether a system has the other pages is not for ours to know.
    complaints = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
    assert complaints == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_groff_has_no_warnings(path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    done = subprocess.run(["groff", "-ww", "-z", "-mandoc", "-Tutf8", path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
