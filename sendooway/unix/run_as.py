"""The user who speaks with the network."""

import pwd

# Unless `runAs` says otherwise: the one made for us, else one that should own nothing.
USERS = ("sendooway", "nobody")


class RunAsError(Exception):
    """There is no such user, or it is root. The text says what would be right."""


def network_user(run_as: str) -> pwd.struct_passwd:
    """The user that a process of root's becomes before it speaks with the network: the one that `runAs` names; where
    that is empty, the first of USERS that there is. Raises RunAsError."""
    names = (run_as,) if run_as else USERS
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise RunAsError(f"{name} has root's rights; a user of its own would be right: adduser --system sendooway")
        return entry
    raise RunAsError(f"there is no user {' or '.join(names)}; `adduser --system {names[0]}` would make one")
