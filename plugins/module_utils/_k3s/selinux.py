# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that was written aside and renamed has the SELinux context of its folder, not the one that the policy gives its name."""

from __future__ import annotations

import os
import subprocess

KERNEL = "/sys/fs/selinux/enforce"  # there where SELinux is on, permissive or not


def relabel(path: str, kernel: str = KERNEL) -> None:
    """As the policy says. Where SELinux is off, or restorecon is not installed, the file stays as it is."""
    if not os.path.exists(kernel):
        return
    try:
        subprocess.run(["restorecon", "-F", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return  # a host with SELinux and without its tools; the check selinux of preflight says what is missing
