# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pointers of Git LFS: the file that Git has is a few lines that name the real one, which is elsewhere."""

from __future__ import annotations

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

# The first line of each, by the specification of Git LFS; the second is the form of its early versions.
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")


def is_pointer(data: bytes) -> bool:
    """Whether a file holds nothing but a pointer."""
    return data.startswith(_POINTERS)


def pointer(path: str) -> Failure:
    """The refusal to take a pointer for the file."""
    return Failure("is a Git LFS pointer, not the file itself", path, "Commit the file without LFS.")
