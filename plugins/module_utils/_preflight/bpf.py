# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bpf() system call, by number: maps made, programs of a few instructions loaded and run. See bpf(2) and include/uapi/linux/bpf.h."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

# bpf() in the tables of system calls of the kernel.
NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, PROG_LOAD, PROG_TEST_RUN = 0, 1, 2, 5, 10
# (type, key size, value size, entries, flags)
MAPS: Mapping[str, Tuple[int, int, int, int, int]] = {
    "hash": (1, 4, 8, 16, 0),
    "array": (2, 4, 8, 16, 0),
    "program array": (3, 4, 4, 4, 0),
    "perf event array": (4, 4, 4, 0, 0),
    "per-CPU hash": (5, 4, 8, 16, 0),
    "LRU hash": (9, 4, 8, 16, 0),
    # An LPM trie must be made without preallocation (BPF_F_NO_PREALLOC).
    "longest prefix trie": (11, 8, 8, 16, 1),
}
# (type, the attach type it is verified for)
PROGRAMS: Mapping[str, Tuple[int, int]] = {
    "socket filter": (1, 0),
    "traffic classifier": (3, 0),
    "XDP": (6, 0),
    "cgroup device": (15, 0),
    "cgroup connect": (18, 10),
}
ANSWER = 42
# r0 = 41; r0 += 1; exit
RETURNS_42 = struct.pack("<BBhi", 0xB7, 0, 0, ANSWER - 1) + struct.pack("<BBhi", 0x07, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
# r0 = 1; exit. Programs of cgroups may return 0 or 1 only.
ALLOWS = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)


@dataclass(frozen=True)
class Probe:
    """What the kernel answered: "" where it did as asked, else its error, by kind of map and of program."""

    maps: Mapping[str, str]
    programs: Mapping[str, str]
    stored: str
    ran: str


def probe() -> Probe:
    """Nothing is attached or pinned: every map and program goes with its file descriptor."""
    number = NUMBERS.get(os.uname().machine)
    if number is None:
        unknown = f"the number of bpf() on {os.uname().machine} is not known here"
        return Probe(dict.fromkeys(MAPS, unknown), dict.fromkeys(PROGRAMS, unknown), unknown, unknown)
    kernel = _Kernel(number)
    maps: Dict[str, str] = {}
    for name, shape in MAPS.items():
        maps[name] = kernel.attempt(lambda shape=shape: kernel.make_map(*shape))
    programs: Dict[str, str] = {}
    for name, (kind, attach) in PROGRAMS.items():
        code = ALLOWS if name.startswith("cgroup") else RETURNS_42
        programs[name] = kernel.attempt(lambda kind=kind, attach=attach, code=code: kernel.load(kind, attach, code))
    return Probe(maps, programs, kernel.attempt(kernel.store_and_look_up), kernel.attempt(kernel.run_a_program))


class _Kernel:
    def __init__(self, number: int) -> None:
        self.number = number
        self.libc = ctypes.CDLL(None, use_errno=True)

    def attempt(self, act) -> str:  # type: ignore[no-untyped-def]
        try:
            act()
        except OSError as error:
            return f"{errno.errorcode.get(error.errno or 0, error.errno)}: {error.strerror}"
        return ""

    def bpf(self, command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
        answer = int(self.libc.syscall(ctypes.c_long(self.number), ctypes.c_int(command), attributes, ctypes.c_uint(len(attributes))))
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return answer

    def make_map(self, *shape: int) -> None:
        os.close(self._map(*shape))

    def _map(self, kind: int, key: int, value: int, entries: int, flags: int) -> int:
        if kind == 4:
            entries = os.cpu_count() or 1
        return self.bpf(MAP_CREATE, ctypes.create_string_buffer(struct.pack("=IIIII", kind, key, value, entries, flags), 72))

    def store_and_look_up(self) -> None:
        handle = self._map(*MAPS["hash"])
        try:
            key, value = ctypes.create_string_buffer(struct.pack("=I", 7), 4), ctypes.create_string_buffer(b"nordic.1", 8)
            found = ctypes.create_string_buffer(8)
            self.bpf(MAP_UPDATE, _about(handle, key, value))
            self.bpf(MAP_LOOKUP, _about(handle, key, found))
            if found.raw != value.raw:
                raise OSError(errno.EIO, "the map returned another value than was stored")
        finally:
            os.close(handle)

    def load(self, kind: int, attach: int, code: bytes) -> None:
        os.close(self._program(kind, attach, code))

    def _program(self, kind: int, attach: int, code: bytes) -> int:
        instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
        # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags, prog_name[16], ifindex, expected_attach_type
        fields = struct.pack("=IIQQIIQII16sII", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence), 0, 0, 0, 0, 0,
                             b"nordic", 0, attach)
        return self.bpf(PROG_LOAD, ctypes.create_string_buffer(fields, 72))

    def run_a_program(self) -> None:
        handle = self._program(*PROGRAMS["traffic classifier"], RETURNS_42)
        try:
            packet = ctypes.create_string_buffer(64)
            # prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration
            attributes = ctypes.create_string_buffer(struct.pack("=IIIIQQII", handle, 0, len(packet), 0, ctypes.addressof(packet), 0, 1, 0), 72)
            self.bpf(PROG_TEST_RUN, attributes)
            (answer,) = struct.unpack_from("=I", attributes.raw, 4)
            if answer != ANSWER:
                raise OSError(errno.EIO, f"the program returned {answer} instead of {ANSWER}")
        finally:
            os.close(handle)


def _about(handle: int, key: ctypes.Array[ctypes.c_char], value: ctypes.Array[ctypes.c_char]) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack("=I4xQQQ", handle, ctypes.addressof(key), ctypes.addressof(value), 0), 72)
