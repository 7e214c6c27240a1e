# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time: whether something keeps the clock right, and how far the nodes are apart."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Finding, worst
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import PeerResult

UNSYNCHRONISED = 0x40
# Seconds: (good, etcd's own line for a warning).
SKEW = (0.5, 1.0)


@dataclass(frozen=True)
class KernelClock:
    """What adjtimex(2) says, whoever disciplines the clock: chrony, ntpd, systemd-timesyncd or PTP."""

    synchronised: bool
    error_seconds: float


class _Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
                ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_byte * 256)]


def kernel_clock() -> Optional[KernelClock]:
    state = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        return None
    return KernelClock(not state.status & UNSYNCHRONISED, state.maxerror / 1e6)


def sync(clock: Optional[KernelClock]) -> Finding:
    if clock is None:
        return Finding(WARN, "unknown", ("adjtimex() is not allowed here",))
    evidence = (f"adjtimex(): {'synchronised' if clock.synchronised else 'STA_UNSYNC is set'}, at most {clock.error_seconds:.3f} s wrong",)
    if not clock.synchronised:
        return Finding(WARN, "not synchronised", evidence)
    return Finding(PASS if clock.error_seconds <= SKEW[1] else WARN, f"synchronised, error ≤ {clock.error_seconds * 1000:.0f} ms", evidence)


def skew(peers: Iterable[PeerResult]) -> Finding:
    evidence = []
    verdicts = []
    worst_of: Tuple[float, str] = (0.0, "")
    for peer in peers:
        if peer.skew is None:
            evidence.append(f"{peer.name}: not measured, {peer.silence}")
            verdicts.append(WARN)
            continue
        # Half of the exchange is where the answer may have been late; a slow network must not look like a wrong clock.
        apart = max(abs(peer.skew) - peer.uncertainty, 0.0)
        verdicts.append(PASS if apart <= SKEW[0] else WARN if apart <= SKEW[1] else FAIL)
        evidence.append(f"{peer.name} is {abs(peer.skew):.3f} s {'ahead' if peer.skew > 0 else 'behind'} (± {peer.uncertainty:.3f} s)")
        if apart >= worst_of[0]:
            worst_of = (apart, f"{abs(peer.skew):.3f} s to {peer.name}" if abs(peer.skew) >= 0.0005 else f"< 1 ms to {peer.name}")
    if not verdicts:
        return Finding(NOT_APPLICABLE, "no other nodes")
    return Finding(worst(*verdicts), worst_of[1] or "not measured", tuple(evidence))


ROWS = (
    Check(
        name="time_sync",
        family="time",
        title="Time synchronised",
        threshold=lambda profile: "by the kernel's own word",
        measure=lambda node: sync(kernel_clock()),
        why="A clock that nobody keeps drifts by seconds a week. Certificates are then not valid yet, and logs of two nodes no longer fit.",
        mend="Run chrony with rtcsync, or systemd-timesyncd, with servers that the node can reach.",
    ),
    Check(
        name="clock_skew",
        family="time",
        title="Clock skew between nodes",
        threshold=lambda profile: f"≤ {SKEW[0]} s, never > {SKEW[1]} s",
        measure=lambda node: skew(node.peers),
        why="etcd warns at one second, leases and tokens are judged by two clocks, and a node that joins with a wrong clock gets certificates that "
            "are not valid for the others.",
        mend="Set the clock of the node that is apart (chronyc makestep, or timedatectl set-time) and keep it synchronised.",
    ),
)
