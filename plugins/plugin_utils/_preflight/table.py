# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table on the terminal: checks down, hosts across, then what needs a person's eye."""

from __future__ import annotations

import textwrap
from typing import Any, List, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import ACCEPTED, FAIL, NOT_APPLICABLE, PASS, WARN
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.fleet import Fleet

WORDS = {PASS: "ok", WARN: "warn", FAIL: "FAIL", ACCEPTED: "accepted", NOT_APPLICABLE: "-"}
NAME, NARROWEST = 16, 24


def table(results: Any, width: int = 120) -> str:
    fleet = Fleet.of(results)
    lines: List[str] = []
    across = max(1, (width - NAME) // NARROWEST)
    hosts = list(fleet.hosts)
    for start in range(0, len(hosts), across):
        lines += [*_block(fleet, hosts[start:start + across], width), ""]
    for group in fleet.groups():
        check = group.check
        head = f"{WORDS[check['verdict']]} {check['name']} on {', '.join(group.hosts)}: {check['value']} (wanted: {check['threshold']})"
        lines += _wrapped(head, width, 0)
        for sentence in check["evidence"][:4]:
            lines += _wrapped(sentence, width, 4)
        if len(check["evidence"]) > 4:
            lines.append(f"    and {len(check['evidence']) - 4} more")
        if check["verdict"] != ACCEPTED:
            lines += _wrapped(f"mend: {check['mend']}", width, 4)
    for host, reason in fleet.silent.items():
        lines += _wrapped(f"FAIL {host} was not measured: {reason}", width, 0)
    lines += ["", *_wrapped(_summary(fleet), width, 0)]
    return "\n".join(lines)


def _block(fleet: Fleet, hosts: Sequence[str], width: int) -> List[str]:
    column = min(34, (width - NAME) // len(hosts))
    profiles = [fleet.hosts[host]["profile"] for host in hosts]
    lines = [_row("", hosts, column), _row("", [f"{profile['role']}, {profile['cni']}" for profile in profiles], column)]
    for name, _title, _family in fleet.names():
        cells = []
        for host in hosts:
            check = fleet.check(host, name)
            word = WORDS[check["verdict"]]
            cells.append(word if check["verdict"] == NOT_APPLICABLE else f"{word} {check['value']}")
        lines.append(_row(name, cells, column))
    return lines


def _row(name: str, cells: Sequence[str], column: int) -> str:
    return (name.ljust(NAME) + "".join(_cut(cell, column - 1).ljust(column) for cell in cells)).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[:width - 1] + "…"


def _wrapped(text: str, width: int, indent: int) -> List[str]:
    return textwrap.wrap(text, width, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_long_words=False) or [""]


def _summary(fleet: Fleet) -> str:
    counts = ", ".join(f"{fleet.count(verdict)} {verdict}" for verdict in (FAIL, WARN, ACCEPTED, PASS, NOT_APPLICABLE))
    total = len(fleet.hosts) + len(fleet.silent)
    hosts = "1 host" if total == 1 else f"{total} hosts"
    end = f"not to be used: {', '.join(fleet.failed)}" if fleet.failed else "all of them may carry a node"
    return f"{hosts}: {counts}; {end}."
