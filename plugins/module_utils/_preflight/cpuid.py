# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisor's name as the CPU tells it. Only the instruction itself works everywhere: DMI is missing on small hypervisors such as Firecracker."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys

# push rbx; mov r8, rdi; mov eax, 0x40000000; xor ecx, ecx; cpuid; mov [r8], ebx; mov [r8+4], ecx; mov [r8+8], edx; pop rbx; ret
CODE = bytes.fromhex("53 4989f8 b800000040 31c9 0fa2 418918 41894804 41895008 5b c3")


def hypervisor() -> str:
    """What leaf 0x40000000 holds, such as "KVMKVMKVM"; "" where it cannot be asked. Meaningful with the CPU's hypervisor flag only."""
    if os.uname().machine != "x86_64" or sys.maxsize < 2**32:
        return ""
    try:
        memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except (OSError, ValueError):
        return ""  # SELinux may forbid memory that is both written and executed
    memory.write(CODE)
    answer = ctypes.create_string_buffer(12)
    start = ctypes.c_char.from_buffer(memory)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(start))(ctypes.addressof(answer))
    del start  # a view keeps the memory from being closed
    memory.close()
    name: bytes = struct.unpack("12s", answer.raw)[0]
    return name.rstrip(b"\0").decode("ascii", "replace")
