# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the lab, for what a person can act on."""

from __future__ import annotations


class LabError(Exception):
    """A part could not be built or started; the message holds the part's own last words."""
