"""System call filter of the sandbox, which refuses calls that no checked program needs. Pure.

The namespaces already confine a program. The filter closes what they leave open: memory that no limit counts
(`memfd_create`, System V shared memory, message queues), the kernel's log, sockets that no network namespace confines
(those to the hypervisor), and kernel interfaces with a history of privilege escalation.
"""

import json
import struct
from typing import Any

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 4, 16
_X32 = 0x40000000
"""x32 calls have this bit; no other architecture has call numbers this high."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED: dict[str, tuple[int, int]] = {  # numbers for x86_64 and aarch64
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "syslog": (103, 116),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
}


_SOCKET = (41, 198)
_FAMILIES = (1, 2, 10, 16)
"""Sockets that a program may open: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK."""


def filter_program(machine: str) -> bytes | None:
    """The filter for `bwrap --seccomp`; None for an architecture whose numbers are unknown. A call of another
    architecture (32-bit code on x86_64) is refused too."""
    if machine not in _ARCHITECTURES:
        return None
    place = list(_ARCHITECTURES).index(machine)
    tests = [
        (_LOAD, "", "", _ARCHITECTURE_OFFSET),
        (_EQUAL, "", "refuse", _ARCHITECTURES[machine]),
        (_LOAD, "", "", _NUMBER_OFFSET),
        (_AT_LEAST, "refuse", "", _X32),
        *((_EQUAL, "refuse", "", numbers[place]) for numbers in _REFUSED.values()),
        (_EQUAL, "", "allow", _SOCKET[place]),
        (_LOAD, "", "", _FIRST_ARGUMENT_OFFSET),
        *((_EQUAL, "allow", "", family) for family in _FAMILIES),
    ]
    at = {"refuse": len(tests), "allow": len(tests) + 1}
    lines = [
        (code, *(at[name] - here - 1 if name else 0 for name in (if_true, if_false)), value)
        for here, (code, if_true, if_false, value) in enumerate(tests)
    ]
    lines += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


_NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""The flags of `clone` that make a namespace."""
_EPERM, _ENOSYS = 1, 38


def container_profile() -> str:
    """The filter for `podman run --security-opt seccomp=FILE` and docker's, JSON. Namespaces are refused too, which
    bubblewrap forbids otherwise; `clone3`, whose flags no filter can read, is reported as unknown."""
    families = [number for number in range(_FAMILIES[-1]) if number not in _FAMILIES]
    rules = [
        _rule(list(_REFUSED)),
        _rule(["clone3"], error=_ENOSYS),
        *(_rule(["clone"], "SCMP_CMP_MASKED_EQ", flag, flag) for flag in _NAMESPACES),
        *(_rule(["socket"], "SCMP_CMP_EQ", family) for family in families),
        _rule(["socket"], "SCMP_CMP_GT", _FAMILIES[-1]),
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})


def _rule(names: list[str], test: str = "", value: int = 0, second: int = 0, error: int = _EPERM) -> dict[str, Any]:
    """Refuses these calls, if the test holds for their first argument."""
    tests = [{"index": 0, "value": value, "valueTwo": second, "op": test}] if test else []
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error, "args": tests}
