# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a repository is taken: far more than a folder of manifests needs, far less than would hurt the machine."""

from __future__ import annotations

from typing import NamedTuple

MAX_PATH_BYTES = 4096  # PATH_MAX


class Limits(NamedTuple):
    file_bytes: int = 20 * 1024 * 1024  # the API server takes 3 MiB per object; the largest bundles of CRDs have about 10 MiB
    tree_bytes: int = 512 * 1024 * 1024  # what one run reads or exports in all
    files: int = 100_000  # 50,000 objects, a file each, twice over; also ends a tree that unfolds itself for ever
    output_bytes: int = 64 * 1024 * 1024  # of one Git command: a listing of so many files, with room to spare
    pack_bytes: int = 2 * 1024 * 1024 * 1024  # of one fetch, on disk
    memory_bytes: int = 256 * 1024 * 1024  # of each program that fetches; a blob of any size is streamed, only what deltas are made of counts
    packs: int = 50  # each fetch leaves one; a mirror with more is made anew, which is cheaper to get right than a garbage collection
    attempts: int = 3  # of a command that the network broke; what the server refused is not asked again
    pause: float = 0.5  # seconds before the second attempt, doubled before the third
