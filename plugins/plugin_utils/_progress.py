# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that waits on a host cannot say so before it ends. So it ends every few seconds with what it waits for, which is shown here, and is
run again to wait on."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

PATIENCE = 8.0  # seconds between two lines; each costs one more run of the module

Execute = Callable[[Dict[str, Any]], Dict[str, Any]]


def waited_out(execute: Execute, arguments: Mapping[str, Any], say: Callable[[str], None]) -> Dict[str, Any]:
    """The result of all runs together."""
    result = execute({**arguments, "progress": {"patience": PATIENCE}})
    while result.get("waiting") and not result.get("failed"):
        waiting = result.pop("waiting")
        say(f"{waiting['why']} ({waiting['spent']:.0f} s)")
        result = together(result, execute({**arguments, "progress": {"patience": PATIENCE, **waiting}}))
    return result


def together(first: Mapping[str, Any], then: Mapping[str, Any]) -> Dict[str, Any]:
    """What two runs of one task did. A failure is told as it is."""
    if then.get("failed"):
        return dict(then)
    found: Dict[str, Any] = {**first, **{key: value for key, value in then.items() if value is not None}}
    for key in ("changed", "started", "restarted"):
        if key in found:
            found[key] = bool(first.get(key)) or bool(then.get(key))
    for key in ("changes", "diff", "warnings"):
        if key in found:
            found[key] = list(first.get(key) or []) + [one for one in then.get(key) or [] if one not in (first.get(key) or [])]
    if "seconds" in found and isinstance(found["seconds"], Mapping):
        names = dict.fromkeys([*first.get("seconds", {}), *then.get("seconds", {})])
        found["seconds"] = {name: round(first.get("seconds", {}).get(name, 0) + then.get("seconds", {}).get(name, 0), 2) for name in names}
    return found
