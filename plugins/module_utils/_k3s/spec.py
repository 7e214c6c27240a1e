# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the caller wants of a node, and what was done about it: values, which the parts of the module k3s hand on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import configuration
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import Source


@dataclass(frozen=True)
class Spec:
    """What the caller wants of this node; None or empty where it says nothing."""

    role: str
    config: Mapping[str, Any] = field(default_factory=dict)
    drop_ins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    registries: Optional[Mapping[str, Any]] = None
    files: Mapping[str, Optional[str]] = field(default_factory=dict)
    token: str = ""
    agent_token: str = ""
    program: Optional[Source] = None
    images: Tuple[Source, ...] = ()
    sources_here: bool = False  # program and images name files of this node, not of the controller
    start: bool = True
    restart: bool = True
    wait: bool = True
    wait_timeout: float = 480.0
    rotate_certificates: bool = False
    progress: Mapping[str, Any] = field(default_factory=dict)  # patience, and what an earlier call of the task said of its waiting
    voters: int = 0
    keep_quorum: bool = True
    authority: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    adopt: bool = False
    check_mode: bool = False
    here: Mapping[str, str] = field(default_factory=dict)  # the configuration that this node has, where it is not this call's to decide

    @property
    def data_dir(self) -> str:
        return configuration.data_dir(self.configured)

    @property
    def configured(self) -> Dict[str, Any]:
        """As k3s reads it."""
        return {**configuration.merged(self.config, self.drop_ins), **self.here}


@dataclass
class Outcome:
    """What was done, or in check mode would be."""

    changes: List[str] = field(default_factory=list)
    diffs: List[Dict[str, str]] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)  # checksums of files that the controller must send before anything is changed
    started: bool = False
    restarted: bool = False
    restart_needed: List[str] = field(default_factory=list)
    rolled_back: bool = False
    version: str = ""
    previous_version: str = ""
    seconds: Dict[str, float] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    waiting: Dict[str, Any] = field(default_factory=dict)  # why, and what the next call has to know to wait on

    def result(self, diff: bool) -> Dict[str, Any]:
        result: Dict[str, Any] = {
            "changed": bool(self.changes), "changes": self.changes, "started": self.started, "restarted": self.restarted,
            "restart_needed": bool(self.restart_needed), "restart_reasons": self.restart_needed, "version": self.version or None,
            "previous_version": self.previous_version or None, "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }
        if self.missing:
            result["missing"] = self.missing
        if self.waiting:
            result["waiting"] = self.waiting
        if diff:
            result["diff"] = self.diffs
        return result

    @contextlib.contextmanager
    def timed(self, stage: str, clock: Callable[[], float]) -> Iterator[None]:
        begun = clock()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + clock() - begun
