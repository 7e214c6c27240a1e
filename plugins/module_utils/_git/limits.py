# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a repository is taken: far more than a folder of manifests needs, far less than would hurt the machine."""

from __future__ import annotations

MAX_FILE_BYTES = 20 * 1024 * 1024  # the API server takes 3 MiB per object; the largest bundles of CRDs have about 10 MiB
MAX_TREE_BYTES = 512 * 1024 * 1024  # what one run reads or exports in all
MAX_FILES = 100_000  # 50,000 objects, a file each, twice over; also ends a tree that unfolds itself for ever
MAX_OUTPUT_BYTES = 64 * 1024 * 1024  # of one Git command: MAX_FILES lines of a listing with room to spare
MAX_PACK_BYTES = 2 * 1024 * 1024 * 1024  # of one fetch, on disk
MAX_PATH_BYTES = 4096  # PATH_MAX
MAX_PACKS = 50  # each fetch leaves one; a mirror with more is made anew, which is cheaper to get right than a garbage collection
