# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s' versions, their order, and which step from one to another Kubernetes' skew policy allows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Tuple, Union

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

_FORM = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?(?![0-9A-Za-z.+-])")
KUBELET_BEHIND = 3  # minor versions that a kubelet may be older than its API server, since Kubernetes 1.28


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version such as v1.30.5+k3s1. Unlike build metadata of semantic versions, k3s' number counts: +k3s2 follows +k3s1."""

    major: int
    minor: int
    patch: int
    pre: str = ""
    build: str = ""

    @classmethod
    def of(cls, text: str) -> Version:
        """The version that a text begins with, or that `k3s --version` prints."""
        found = _FORM.search(text.strip()[:200])
        if not found or found.start() != 0 and not re.match(r"k3s version\s+\Z", text.strip()[:found.start()]):
            channel = re.match(r"(latest|stable|testing|v?\d+\.\d+)\Z", text.strip())
            why = ", it is a channel: two runs would install different versions" if channel else ""
            raise Failure(f"{text.strip()[:80]!r} is not a version of k3s{why}",
                          hint='Write it like "v1.30.5+k3s1".')
        major, minor, patch, pre, build = found.groups()
        return cls(int(major), int(minor), int(patch), pre or "", build or "")

    def __str__(self) -> str:
        return (f"v{self.major}.{self.minor}.{self.patch}{'-' if self.pre else ''}{self.pre}"
                f"{'+' if self.build else ''}{self.build}")

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> Tuple[object, ...]:
        # A release candidate comes before its release.
        return self.major, self.minor, self.patch, not self.pre, _parts(self.pre), _parts(self.build)

    def minors_after(self, other: Version) -> int:
        """How many minor versions this is newer than the other."""
        return (self.major - other.major) * 1000 + self.minor - other.minor


def _parts(text: str) -> Tuple[Tuple[int, Union[int, str]], ...]:
    """rc10 after rc2: numbers compare as numbers, and come before words."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.findall(r"\d+|[A-Za-z]+", text))


def refuse_server_step(installed: Version, wanted: Version) -> str:
    """Why a server must not go from one version to the other, or nothing."""
    if wanted < installed:
        return (f"{wanted} is older than {installed}, and Kubernetes has no way back: what the newer one stored, the older one may not read. "
                "Restore a snapshot that was taken before the upgrade instead.")
    if wanted.minors_after(installed) > 1:
        return (f"from {installed} to {wanted} at least one minor version is skipped, and Kubernetes upgrades one minor version at a time: "
                f"go to v{installed.major}.{installed.minor + 1} first.")
    return ""


def refuse_agent_skew(agent: Version, server: Version) -> str:
    """Why an agent of this version must not serve under the oldest server, or nothing."""
    if agent.minors_after(server) > 0:
        return f"an agent of {agent} is newer than a server of {server}: upgrade the servers first."
    if server.minors_after(agent) > KUBELET_BEHIND:
        return (f"an agent of {agent} is {server.minors_after(agent)} minor versions older than a server of {server}, "
                f"and Kubernetes supports {KUBELET_BEHIND}: upgrade the agents first.")
    return ""
