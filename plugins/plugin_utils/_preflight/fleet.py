# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of many nodes side by side, as the terminal's table and the report show them. Runs on the controller."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import ACCEPTED, FAIL, VERDICTS, WARN, worst


@dataclass(frozen=True)
class Group:
    """One finding that several hosts have in common."""

    check: Mapping[str, Any]
    hosts: Tuple[str, ...]


@dataclass(frozen=True)
class Fleet:
    """hosts: the result of each that was measured. silent: the others, with the reason."""

    hosts: Mapping[str, Mapping[str, Any]]
    silent: Mapping[str, str]

    @classmethod
    def of(cls, results: Any) -> Fleet:
        """results: what node_preflight returned, by host; of a host that could not be measured whatever there is instead."""
        if not isinstance(results, Mapping):
            raise Failure(f"is a {type(results).__name__}", "the results of preflight", "Give a dictionary from host to the result of node_preflight.")
        measured: Dict[str, Mapping[str, Any]] = {}
        silent: Dict[str, str] = {}
        for host, result in results.items():
            if isinstance(result, Mapping) and isinstance(result.get("checks"), (list, tuple)):
                measured[str(host)] = result
            else:
                silent[str(host)] = str((result or {}).get("msg") or "no result") if isinstance(result, Mapping) else "no result"
        return cls(measured, silent)

    @property
    def verdict(self) -> str:
        return FAIL if self.silent else worst(*(str(result["verdict"]) for result in self.hosts.values()))

    @property
    def failed(self) -> List[str]:
        """Hosts that must not get a node, those that could not be measured included."""
        return [host for host, result in self.hosts.items() if not result["passed"]] + list(self.silent)

    def count(self, verdict: str) -> int:
        return sum(check["verdict"] == verdict for result in self.hosts.values() for check in result["checks"])

    def names(self) -> List[Tuple[str, str, str]]:
        """Name, title and family of every check, in the order in which they ran."""
        found: Dict[str, Tuple[str, str, str]] = {}
        for result in self.hosts.values():
            for check in result["checks"]:
                found.setdefault(check["name"], (check["name"], check["title"], check["family"]))
        return list(found.values())

    def check(self, host: str, name: str) -> Mapping[str, Any]:
        for check in self.hosts[host]["checks"]:
            if check["name"] == name:
                found: Mapping[str, Any] = check
                return found
        return {"verdict": "not applicable", "value": "", "threshold": "", "evidence": [], "data": {}}

    def groups(self) -> List[Group]:
        """What a person must look at, the most serious first, once for all hosts that say the same."""
        together: Dict[Tuple[Any, ...], Tuple[Mapping[str, Any], List[str]]] = {}
        for host, result in self.hosts.items():
            for check in result["checks"]:
                if check["verdict"] in (FAIL, WARN, ACCEPTED):
                    # A number of a namespace or a process is another one on each host, and still the same finding.
                    key = (check["verdict"], check["name"], check["value"], re.sub(r"\d+", "#", "\n".join(check["evidence"])))
                    together.setdefault(key, (check, []))[1].append(host)
        order = [name for name, _title, _family in self.names()]
        return [Group(check, tuple(hosts)) for check, hosts in
                sorted(together.values(), key=lambda entry: (VERDICTS.index(entry[0]["verdict"]), order.index(entry[0]["name"])))]
