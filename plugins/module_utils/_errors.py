# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that reaches a person: what failed, where, and what to do about it."""

from __future__ import annotations

import re
from typing import Any, Dict, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import lines, masked, one_line


LONG = 800  # characters of a message; its hint comes before a longer one


class Failure(Exception):
    """Something a person can act on; modules and lookups show it as it is, never as a traceback.

    what: one sentence in the server's or tool's own words where it has some.
    where: the place it happened: "apps/web.yaml:12", "Deployment.apps shop/web", a URL without credentials.
    hint: what to do about it.
    details: further values for the module's result (JSON types only).
    """

    def __init__(self, what: str, where: str = "", hint: str = "", **details: Any) -> None:
        super().__init__(what)
        self.what = lines(str(what))
        self.where = one_line(where, 1000)
        self.hint = lines(hint)
        self.details = details

    @property
    def details(self) -> Dict[str, Any]:
        """Masked as whoever shows them needs them, by what is known to be a secret then."""
        shown: Dict[str, Any] = masked(self._details)
        return shown

    @details.setter
    def details(self, details: Dict[str, Any]) -> None:
        self._details = details

    # What the API server's errors know beside (_cluster.errors.ApiError); of any other failure there is nothing of it.

    @property
    def status(self) -> int:
        return 0

    @property
    def reason(self) -> str:
        return ""

    @property
    def retryable(self) -> bool:
        return False

    @property
    def lost(self) -> bool:
        return False

    @property
    def stale(self) -> bool:
        return False

    @property
    def immutable(self) -> bool:
        return False

    @property
    def conflicts(self) -> Sequence[Tuple[str, str]]:
        return ()

    @property
    def unserved(self) -> bool:
        return False

    @property
    def fields(self) -> Sequence[str]:
        return ()

    @property
    def other_fields(self) -> Sequence[str]:
        return ()

    def __str__(self) -> str:
        # What to do is not looked for behind a page of somebody else's words.
        first, second = (self.hint, self.what) if self.hint and len(self.what) > LONG else (self.what, self.hint)
        text = f"{self.where}: {first}" if self.where else first
        if second:
            text = f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {second}"
        return lines(text)  # once more, as more secrets may be known by now


class MissingLibrary(Failure):
    """A Python package that the interpreter in use does not have, or not in a version that works."""

    def __init__(self, library: str, error: ImportError) -> None:
        import sys

        from ansible.module_utils.basic import missing_required_lib

        super().__init__(missing_required_lib(library),
                         hint=f"That is: {sys.executable} -m pip install '{library}'. Python says: {error}.")


class Refused(Failure):
    """A safety rule said no before anything was written; the message is the rule's own sentence."""


def yaml_problem(error: Any) -> str:
    """What PyYAML says is wrong, without the name of a tag or an alias that it quotes: that may be a password that begins with `!` or `*`."""
    problem = str(getattr(error, "problem", None) or getattr(error, "context", None) or "unreadable")
    named = re.match(r"(.*\b(?:tag|handle|alias|anchor)) '", problem, re.DOTALL)
    return f"{named.group(1)}. Quote a value that begins with `!`, `*` or `&`" if named else problem


def counted(number: int, noun: str) -> str:
    """The subject of a sentence: "1 object is", "3 objects are"."""
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"
