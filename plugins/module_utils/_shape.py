# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value that somebody else made has the types that it must have: checked where it comes in, so that nothing behind it meets others.

A shape has only what is read. Null is as good as nothing; a key with ! has to be there.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import CONTROL, one_line

TEXT, WORD, NUMBER, SWITCH, MAPPING = "a text", "a text of one line", "a number", "true or false", "a mapping"
LONGEST_WORD = 1000
_TYPES: Dict[str, Tuple[type, ...]] = {TEXT: (str,), WORD: (str,), NUMBER: (int,), SWITCH: (bool,), MAPPING: (dict,)}

Shape = Any  # one of the types above, [shape] for a list, {key: shape} for a mapping, {"*": shape} for one with any keys


def check(value: Any, shape: Shape, path: str, wrong: Callable[[str], Exception]) -> None:
    """Raises what `wrong` makes of the first place that is of another type."""
    kind = shape if isinstance(shape, str) else MAPPING if isinstance(shape, dict) else "a list"
    types = _TYPES.get(kind, (list,))
    fits: bool = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if not fits or kind == WORD and (len(value) > LONGEST_WORD or CONTROL.search(value)):
        raise wrong(f"{path or 'the object'} is not {kind}")
    if isinstance(shape, list):
        for number, item in enumerate(value):
            check(item, shape[0], f"{path}[{number}]", wrong)
    elif isinstance(shape, dict) and "*" in shape:
        for key, item in value.items():
            check(item, shape["*"], f"{path}.{one_line(str(key), 60)}", wrong)
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            name, here = key.rstrip("!"), f"{path}.{key.rstrip('!')}".lstrip(".")
            if value.get(name) is not None:
                check(value[name], inner, here, wrong)
            if key.endswith("!") and not value.get(name):
                raise wrong(f"{here} is missing")
