# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight found on all hosts, for a terminal (table.py) and as one page (page.py, page.html.j2)."""

from __future__ import annotations
