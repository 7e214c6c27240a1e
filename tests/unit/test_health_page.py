# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/health.md is what the rules say."""

from __future__ import annotations

from health_page import PAGE, page


def test_the_page_of_health_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/health.md: run `make health-page`"
