# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what can be asked again is kept between runs."""

from __future__ import annotations

import os
from typing import Optional


def cache_folder(git_cache: Optional[str] = None) -> str:
    """The folder of the option git_cache, or its default."""
    if git_cache:
        return os.path.abspath(os.path.expanduser(git_cache))
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "nordic.gitops", "git")
