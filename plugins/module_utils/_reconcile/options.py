# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a caller may choose; read once, then handed down as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import Rules
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_cel import read_rules

# Below this many objects a percentage says little: deleting the one service of a small repository is no accident.
ALWAYS_PRUNABLE = 10
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")  # RFC 1123 label


@dataclass(frozen=True)
class PruneLimit:
    """How much one run may prune: a number of objects, or a share of those that the reconcile owns."""

    text: str
    count: int
    percent: bool

    @classmethod
    def of(cls, text: str) -> PruneLimit:
        number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
        if not re.fullmatch("[0-9]{1,9}", number) or percent and int(number) > 100:
            raise Failure(f"prune_limit is {text!r}", hint='Write a number of objects ("20") or a percentage ("50%").')
        return cls(text, int(number), percent)

    def allows(self, pruned: int, owned: int) -> bool:
        """Whether so many of the owned objects may be pruned."""
        if self.percent:
            return pruned <= ALWAYS_PRUNABLE and self.count > 0 or pruned * 100 <= self.count * owned
        return pruned <= self.count


@dataclass(frozen=True)
class Options:
    """The reconcile's policies, as the module's options of the same names."""

    name: str
    namespace: str
    inventory_namespace: str
    adopt: str
    prune: bool
    prune_limit: PruneLimit
    prune_protected: bool
    allow_empty: bool
    on_conflict: str
    replace_immutable: bool
    move: bool
    expect: str
    verify: str
    wait: bool
    wait_timeout: float
    check_mode: bool
    diff: bool
    allow_rollback: bool = False
    allowed_kinds: Tuple[str, ...] = ()
    allowed_namespaces: Tuple[str, ...] = ()
    health_rules: Rules = field(default_factory=dict)
    # Of a run from an Application of Argo CD: the ids by which it marks its objects, its Argo CD's own, and the Namespace that it creates.
    tracked_by: Tuple[str, ...] = ()
    installation: str = ""
    create_namespace: Optional[Mapping[str, Any]] = None

    @classmethod
    def of(cls, params: Mapping[str, Any], check_mode: bool, diff: bool) -> Options:
        for option in ("namespace", "inventory_namespace"):
            if not NAMESPACE.match(params[option] or "") and (params[option] or option != "namespace"):
                raise Failure(f"{option} is {params[option]!r}",
                              hint="At most 63 lower-case letters, digits and dashes, no dash at either end.")
        if params["wait_timeout"] < 0:
            raise Failure(f"wait_timeout is {params['wait_timeout']}", hint="Write seconds, 0 or more.")
        known = {key: params[key] for key in cls.__dataclass_fields__ if key in params}
        return cls(**{**known, "namespace": params["namespace"] or "", "expect": params["expect"] or "",
                      "prune_limit": PruneLimit.of(str(params["prune_limit"])),
                      "allowed_kinds": tuple(params["allowed_kinds"]), "allowed_namespaces": tuple(params["allowed_namespaces"]),
                      "check_mode": check_mode, "diff": diff, "health_rules": read_rules(params["health_rules"] or [])})
