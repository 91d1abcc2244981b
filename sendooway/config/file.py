"""The administrator's file: who may have written it, and who may read the passwords in it."""

import os
import stat

from sendooway.config import ConfigurationError, Mapping
from sendooway.origin import Origin

MAX_FILE_OCTETS = 1 << 20  # octets


def read(path: str) -> str:
    """The text of the administrator's file; octets that are not UTF-8 come as surrogate escapes (PEP 383).

    Raises ConfigurationError if it cannot be read, is longer than MAX_FILE_OCTETS, or is a regular file that someone
    else could have written. A device or a pipe, such as /dev/null, is taken as it is: whoever runs the
    program chose it.
    """
    origin = Origin(path, 0)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                _refuse_foreign(origin, status)
            octets = file.read(MAX_FILE_OCTETS + 1)
    except FileNotFoundError:
        raise ConfigurationError(
            origin, "", "there is no such file; name another with -c, or run on defaults with -c /dev/null"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(origin, "", f"cannot be read: {reason}") from None
    if len(octets) > MAX_FILE_OCTETS:
        raise ConfigurationError(origin, "", f"is longer than {MAX_FILE_OCTETS} octets; is it a configuration?")
    return octets.decode("utf-8", "surrogateescape")


def _refuse_foreign(origin: Origin, status: os.stat_result) -> None:
    # It decides who may log in and whose files are read, with root's rights.
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            origin,
            "",
            f"belongs to the user with number {status.st_uid}, neither to root nor to you; "
            f"`chown root {origin.file}` would be right",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(origin, "", f"others may write it; `chmod go-w {origin.file}` would be right")


def exposure(path: str, mappings: tuple[Mapping, ...]) -> str | None:
    """The warning that one of the mappings of the file `path` holds a password and others may read the file, or None.

    Raises ConfigurationError if the file has gone.
    """
    holder = next((mapping for mapping in mappings if _holds_password(mapping)), None)
    if holder is None:
        return None
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigurationError(Origin(path, 0), "", f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode) or not mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    reason = f"others may read this password; `chmod 600 {path}` would be right"
    return str(ConfigurationError(holder.origin, "smarthostMapping", reason))


def _holds_password(mapping: Mapping) -> bool:
    # PATTERN HOST PORT USER PASSWORD [OPTIONS]; `-` stands for no password.
    fields = mapping.argument.octets.split()
    return mapping.source == "direct" and len(fields) > 4 and fields[4] != b"-"
