# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m lab` and `python tests/lab` are the same command."""

from __future__ import annotations

import sys
from pathlib import Path

# Run by its folder, Python puts that folder itself on the path, where `lab` is not to be found.
if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from lab.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
