"""How a process gives up its rights, for good, and proves it."""

import os
import resource
import signal
import sys

from sendooway.unix import kernel

# What resolving names, TLS and Python's late imports read. Nothing of it is secret; a path that is not there is passed
# over. The folders below /run are where /etc/resolv.conf may lead.
_READABLE = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/pki/tls",
    "/etc/ca-certificates",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/local/lib",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/dev/urandom",
)


class PrivilegeError(Exception):
    """The process cannot give up its rights, or still has them. The text says which and what to do."""


def drop_to(uid: int, gid: int, name: str | None, *, outlive_parent: bool = False) -> None:
    """Become the user for good, with no more rights than it has.

    `name` is the user whose supplementary groups to take; None: none. Afterwards the umask is 077, there are no cores,
    no debugger of the same user and no execve(2) that grants rights, and the process gets SIGTERM when its parent dies,
    unless it may `outlive_parent`. A process that is not root's keeps its uid, gid and groups; all else holds for it as
    well.

    Raises PrivilegeError.
    """
    if sys.platform != "linux":
        raise PrivilegeError(f"separating privileges needs Linux (prctl); this system is {sys.platform}")
    parent = os.getppid()
    try:
        if os.geteuid() == 0:
            _change_ids(uid, gid, name)
        elif os.geteuid() != uid:
            raise PrivilegeError(
                f"a process of uid {os.geteuid()} cannot become uid {uid}: start sendooway as root,"
                " or log in as the user who runs it"
            )
        kernel.forbid_new_privileges()
        kernel.forbid_inspection()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not outlive_parent:
            # After the change of uid, which undoes it.
            kernel.die_with_parent(signal.SIGTERM)
    except OSError as error:
        raise PrivilegeError(
            f"giving up rights for uid {uid} failed ({error.strerror}): sendooway needs to be started as root"
            " with CAP_SETUID and CAP_SETGID, or as the user who is to log in"
        ) from error
    if os.getppid() != parent and not outlive_parent:
        raise PrivilegeError("the parent process has ended")
    os.umask(0o077)


def _change_ids(uid: int, gid: int, name: str | None) -> None:
    if name is None:
        os.setgroups([])
    else:
        os.initgroups(name, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PrivilegeError(f"the kernel did not change the ids to uid {uid}, gid {gid}")
    if uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise PrivilegeError("the process could become root again; its capabilities or securebits are unusual")


def confine_files(*more: str) -> bool:
    """Let this process open no file but what names, TLS, Python and `more` (paths) need, and these only to read.

    Only where the kernel has Landlock: False if not. Call it after `drop_to` and before any thread. Raises
    PrivilegeError.
    """
    if kernel.landlock_version() == 0:
        return False
    # A path of sys.path that is empty is the current folder: whatever that is, it is nothing we import from late.
    python = [sys.base_prefix, sys.prefix, *filter(None, sys.path)]
    try:
        kernel.confine_files([*_READABLE, *python, *more])
    except OSError as error:
        raise PrivilegeError(f"Landlock refused to confine the process: {error.strerror}") from error
    return True
