# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a file so that it is never half there."""

from __future__ import annotations

import os


def write_whole(path: str, data: bytes, mode: int = 0o600, lasting: bool = True) -> None:
    """Aside, then renamed: a reader and a killed run see the old file or the new one, whole. Raises OSError, and the old file stays.
    lasting: so is it after a loss of power, which takes some milliseconds."""
    import tempfile  # a run that writes nothing does not pay for it

    descriptor, aside = tempfile.mkstemp(prefix=".nordic-", dir=os.path.dirname(path) or ".")  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            if lasting:
                os.fsync(stream.fileno())
        os.rename(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
