"""Become another program that dies when the process which started it dies. Standard library only.

Run as a script, ``python -I -S leash.py '<json>' program arguments...``, so that nothing has to happen
between fork and exec in a process that may have threads. The JSON object has

* ``parent``: the process id that must still be our parent,
* ``death_signal``: the signal to get when it dies (Linux; elsewhere the guardian alone sees to it),
* ``identity``: null, ``"namespace"`` (an ordinary user in a user namespace of its own: how PostgreSQL,
  which refuses root, runs for root) or ``[uid, gid]`` to become.

The signal is set last, because the kernel forgets it when credentials change.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
INSIDE_ID = 1000


def enter_namespace() -> None:
    """Move into a new user namespace in which we are an ordinary user. Raises OSError where that is forbidden."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{INSIDE_ID} {uid} 1"),
        ("gid_map", f"{INSIDE_ID} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(text)


def become(uid: int, gid: int) -> None:
    """Drop to another user for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main() -> None:
    """Change identity, put on the leash, and exec the program that the arguments name."""
    order = json.loads(sys.argv[1])
    program = sys.argv[2:]  # by its full path: whom we become may be unable to read Python's own modules
    try:
        if order["identity"] == "namespace":
            enter_namespace()
        elif order["identity"]:
            become(*order["identity"])
    except OSError as error:
        sys.exit(f"cannot change identity: {error}")
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(order["death_signal"]), 0, 0, 0)
    if os.getppid() != order["parent"]:  # it died before the leash was on
        sys.exit("the process that started this one is gone")
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"cannot start {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
