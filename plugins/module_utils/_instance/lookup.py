# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names become IDs: compared as a whole, never guessed, with the close ones named."""

from __future__ import annotations

import difflib
from typing import Any, Callable, Dict, List, Optional, Sequence, TypeVar

from .._errors import Failure
from .provider import Named, Provider

N = TypeVar("N", bound=Named)


def one(kind: str, wanted: str, offered: Sequence[N], hint: str = "") -> N:
    """The one that has this ID, or this name and no other has it."""
    found = maybe(kind, wanted, offered)
    if found is not None:
        return found
    raise unknown(kind, wanted, [candidate.name for candidate in offered], hint)


def maybe(kind: str, wanted: str, offered: Sequence[N]) -> Optional[N]:
    by_id = [candidate for candidate in offered if candidate.id == wanted]
    named = by_id or [candidate for candidate in offered if candidate.name == wanted]
    if len(named) > 1:
        raise Failure(f"{len(named)} {kind}s have the name {wanted}: {', '.join(sorted(candidate.id for candidate in named))}", hint="Give one of these IDs.")
    return named[0] if named else None


def unknown(kind: str, wanted: str, names: Sequence[str], hint: str = "") -> Failure:
    known = sorted({name for name in names if name})
    close = difflib.get_close_matches(wanted, known, 3, 0.5)
    said = f"Close ones: {', '.join(close)}." if close else f"There are: {', '.join(known[:20])}." if known else "There is none at all."
    return Failure(f"there is no {kind} {wanted}", hint=f"{said} {hint}".strip())


class Catalog:
    """What the provider offers, each kind asked for once and only when something needs it."""

    def __init__(self, cloud: Provider) -> None:
        self._cloud = cloud
        self._known: Dict[str, Any] = {}

    def __getattr__(self, name: str) -> List[Any]:
        if name not in self._known:
            ask: Callable[[], List[Any]] = getattr(self._cloud, name)
            self._known[name] = ask()
        found: List[Any] = self._known[name]
        return found
