# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a repository one render takes: all limits in one place. 5,000 objects of a real team come to less than a tenth of them.

The defaults keep any render below 400 MB of memory in the module. The option `render_limits` raises them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Refused

MIB = 1024 * 1024
ERRORS = 100  # kept of one render; whoever has more has one mistake many times
ERROR_CHARACTERS = 1000  # of one error: a key may be as long as a file
ALTERNATIVES = 1000  # that the braces of one pattern may unfold to
OPTION = "Raise it by render_limits, if Git means it."


@dataclass(frozen=True)
class Bounds:
    """The limits of one render, as the option of the module."""

    files: int = 100_000
    size: int = 64  # MiB of the files that are read, and as many that helm or kustomize write
    values: int = 2_000_000  # keys, values, lists and mappings in all manifests; aliases count as often as they stand
    seconds: int = 120  # of reading, and of helm or kustomize
    memory: int = 1024  # MiB that helm or kustomize may take

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Bounds:
        """From the option, all checked."""
        from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

        given = {name: number for name, number in (params.get("render_limits") or {}).items() if number is not None}
        for name, number in given.items():
            if number < 1:
                raise Failure(f"render_limits: {name} is {number}", hint="Write a number of 1 or more.")
        return cls(**given)


class Budget:
    """What is left of the limits while one tree is rendered."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:
        self.bounds = bounds
        self.values = bounds.values
        self._size = bounds.size * MIB
        self._end = time.monotonic() + bounds.seconds

    def take_bytes(self, count: int, where: str) -> None:
        """Before so many bytes are read."""
        self._size -= count
        if self._size < 0:
            raise Refused(f"the files hold more than {self.bounds.size} MiB together, the limit of one render", where,
                          f"Point `path` at a smaller folder, or use `exclude`. {OPTION}")

    def take_values(self, count: int, where: str) -> None:
        """After so many values were read."""
        self.values -= count
        if self.values < 0:
            raise self.too_many_values(where)

    def too_many_values(self, where: str) -> Refused:
        """For a reader that compares with `values` itself, before it has made them."""
        return Refused(f"the manifests hold more than {self.bounds.values:,} keys and values together, the limit of one render; aliases count as "
                       "often as they stand", where, f"Point `path` at a smaller folder. {OPTION}")

    def check_time(self, where: str) -> None:
        """Called now and then by what may take long."""
        if time.monotonic() > self._end:
            raise Refused(f"reading the manifests takes more than {self.bounds.seconds} seconds, the limit of one render", where,
                          f"Is PyYAML's libyaml installed? {OPTION}")
