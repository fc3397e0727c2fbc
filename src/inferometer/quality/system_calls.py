"""System call filter of the sandbox: a BPF program that refuses calls no checked program needs. Pure.

The namespaces already confine a program. The filter closes what they leave open: memory that no limit counts
(`memfd_create`, System V shared memory), and kernel interfaces with a history of privilege escalation.
"""

import struct

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4
_X32 = 0x40000000
"""x32 calls have this bit; no other architecture has call numbers this high."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED: dict[str, tuple[int, int]] = {  # numbers for x86_64 and aarch64
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
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


def filter_program(machine: str) -> bytes | None:
    """The filter for `bwrap --seccomp`; None for an architecture whose numbers are unknown. A call of another
    architecture (32-bit code on x86_64) is refused too."""
    if machine not in _ARCHITECTURES:
        return None
    numbers = [pair[list(_ARCHITECTURES).index(machine)] for pair in _REFUSED.values()]
    refuse_at = 4 + len(numbers) + 1
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_EQUAL, 0, refuse_at - 2, _ARCHITECTURES[machine]),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_AT_LEAST, refuse_at - 4, 0, _X32),
    ]
    lines += [(_EQUAL, refuse_at - 5 - place, 0, number) for place, number in enumerate(numbers)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)
