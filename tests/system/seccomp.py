"""Runs a command under the system call filter of a systemd unit, without systemd.

    seccomp.py UNIT COMMAND [ARGUMENT...]

Reads SystemCallFilter= and SystemCallErrorNumber=EPERM from the unit as systemd.exec(5) describes them,
expands the sets with `systemd-analyze syscall-filter`, loads the filter with libseccomp and executes the
command. Where the kernel supports it (6.3), MemoryDenyWriteExecute=yes is applied as well.
"""

import ctypes
import errno
import os
import subprocess
import sys

ALLOW = 0x7FFF0000
ERRNO_EPERM = 0x00050000 | errno.EPERM
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1


def expand(name):
    """The system calls that a name or an @set stands for."""
    if not name.startswith("@"):
        return {name}
    listing = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], check=True, capture_output=True, text=True
    ).stdout
    names = [line.strip() for line in listing.splitlines() if line.startswith("    ")]
    return set().union(*(expand(n) for n in names if not n.startswith("#")))


def allowed(lines):
    """The system calls that an allow list permits; `~` takes away what an earlier line gave."""
    calls = set()
    for line in lines:
        words = line.removeprefix("~").split()
        named = set().union(*(expand(word) for word in words))
        calls = calls - named if line.startswith("~") else calls | named
    # What systemd adds to every allow list.
    return calls | expand("@default")


def settings(unit):
    with open(unit, encoding="utf-8") as file:
        pairs = [line.rstrip("\n").split("=", 1) for line in file if "=" in line and not line.startswith("#")]
    return pairs


def main():
    unit, command = sys.argv[1], sys.argv[2:]
    pairs = settings(unit)
    lines = [value for key, value in pairs if key == "SystemCallFilter"]
    if not lines or lines[0].startswith("~"):
        sys.exit(f"{unit} has no allow list of system calls")

    libc = ctypes.CDLL(None, use_errno=True)
    if ["MemoryDenyWriteExecute", "yes"] in pairs:
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ERRNO_EPERM))
    for call in allowed(lines):
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        # Negative numbers are calls that this architecture does not have.
        if number >= 0 and seccomp.seccomp_rule_add(context, ALLOW, number, 0) != 0:
            sys.exit(f"cannot allow {call}")
    if seccomp.seccomp_load(context) != 0:
        sys.exit("cannot load the filter")
    os.execvp(command[0], command)


main()
