# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report across the fleet: one page that needs nothing else, neither a script nor a network. How it looks is in page.html.j2."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import jinja2

from ansible_collections.nordic.gitops.plugins.module_utils._preflight.check import ACCEPTED, FAIL, NOT_APPLICABLE, PASS, WARN
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.fsync import GOOD, LIMIT
from ansible_collections.nordic.gitops.plugins.plugin_utils._preflight.fleet import Fleet

CLASSES = {PASS: "pass", WARN: "warn", FAIL: "fail", ACCEPTED: "accepted", NOT_APPLICABLE: "none"}
MARKS = {PASS: "✓", WARN: "!", FAIL: "✕", ACCEPTED: "≈", NOT_APPLICABLE: "–"}
FAMILIES = {"machine": "Machine", "kernel": "Kernel", "time": "Time", "network": "Network", "disk": "Disk"}
LATENCY = ("How long each fdatasync() took after a record of the size of etcd's was appended, as a share of all. The horizontal axis is logarithmic "
           f"and the same for all hosts. etcd asks for a 99th percentile of at most {GOOD:.0f} ms; above {LIMIT:.0f} ms a host is refused.")
BETWEEN = ("What each host (row) measured of each other one (column): the ports that it needs there, the shortest round trip, the largest packet that "
           "comes back whole, and how far the other clock is ahead.")
METHOD = ("What was asked of each host, and why. A verdict is pass, warn (works, with a risk), fail (refused) or accepted (a fail or warn that a person "
          "took by its name in the inventory).")
WIDTH, HEIGHT, BASE = 420, 170, 140  # of a histogram


def page(results: Any, title: str = "Preflight", now: Optional[float] = None) -> str:
    """now: when the report is written, seconds since the epoch."""
    fleet = Fleet.of(results)
    between = _between(fleet)
    measured = _with_data(fleet, "fsync_latency", "histogram")
    endpoints = [(host, {"median_ms": None, **one}) for host, check in _with_data(fleet, "endpoints", "endpoints") for one in check["data"]["endpoints"]]
    sections = (("matrix", "All checks", True), ("latency", "fsync latency", measured), ("between", "Between nodes", between),
                ("endpoints", "Endpoints", endpoints), ("findings", "Findings", fleet.groups() or fleet.silent), ("hosts", "Hosts", True),
                ("method", "Method", True))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(ms=_milliseconds, short=_short)
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        CLASSES=CLASSES, MARKS=MARKS, FAMILIES=FAMILIES, PASS=PASS, WARN=WARN, FAIL=FAIL, ACCEPTED=ACCEPTED, NOT_APPLICABLE=NOT_APPLICABLE,
        title=title, written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)), fleet=fleet, total=len(fleet.hosts) + len(fleet.silent),
        profiles=sorted({_profile(result) for result in fleet.hosts.values()}), links=[(name, text) for name, text, there in sections if there],
        failures=[(host, _failures(fleet, host)) for host in fleet.failed], warnings=fleet.count(WARN), tiles=_tiles(fleet),
        accepted=sorted({group.check["name"] for group in fleet.groups() if group.check["verdict"] == ACCEPTED}),
        latency=LATENCY, BETWEEN=BETWEEN, METHOD=METHOD, pictures=_pictures(measured), between=between,
        others=list(dict.fromkeys([*between, *(name for peers in between.values() for name in peers)])),
        endpoints=endpoints, about={host: _about(result) for host, result in fleet.hosts.items()}, method=_method(fleet)).lstrip() + "\n"


def _profile(result: Mapping[str, Any]) -> str:
    profile = result["profile"]
    return f"{profile['role']}, {profile['cni']}" + (f", {profile['datastore']} datastore" if profile["role"] == "server" else "")


def _failures(fleet: Fleet, host: str) -> str:
    if host in fleet.silent:
        return "not measured"
    return ", ".join(check["title"] for check in fleet.hosts[host]["checks"] if check["verdict"] == FAIL)


def _tiles(fleet: Fleet) -> List[Tuple[str, str]]:
    tiles: List[Tuple[str, str]] = [(str(len(fleet.hosts)), "hosts measured")]
    tiles += [(str(fleet.count(verdict)), name) for verdict, name in ((FAIL, "checks failed"), (WARN, "warnings"), (ACCEPTED, "accepted"), (PASS, "passed"))]
    slowest = max((max(check["data"]["p99_ms"], (check["data"].get("fio") or {}).get("p99_ms", 0.0))
                   for _host, check in _with_data(fleet, "fsync_latency", "histogram")), default=None)
    if slowest is not None:
        tiles.append((f"{slowest:.2f} ms", "slowest fsync p99"))
    skews = [abs(peer["skew_s"]) for result in fleet.hosts.values() for peer in result.get("peers") or () if peer.get("skew_s") is not None]
    if skews:
        tiles.append((_seconds(max(skews)), "largest clock skew"))
    return tiles


def _seconds(value: float) -> str:
    if value < 0.0001:
        return "< 0.1 ms"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def _milliseconds(value: float) -> str:
    return f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def _short(text: Any, most: int = 64) -> str:
    text = str(text)
    return text if len(text) <= most else text[:most - 1] + "…"


def _with_data(fleet: Fleet, name: str, key: str) -> List[Tuple[str, Mapping[str, Any]]]:
    found = ((host, fleet.check(host, name)) for host in fleet.hosts)
    return [(host, check) for host, check in found if check["data"].get(key)]


# ---- fsync


def _pictures(measured: List[Tuple[str, Mapping[str, Any]]]) -> List[Tuple[str, Mapping[str, Any], Dict[str, Any]]]:
    """One scale for all, so that two hosts can be compared by eye."""
    if not measured:
        return []
    least = min(check["data"]["histogram"][0][0] for _host, check in measured)
    most = max(LIMIT * 1.6, *(check["data"]["histogram"][-1][0] for _host, check in measured))
    low, high = math.floor(math.log10(least) * 2) / 2 - 0.1, math.ceil(math.log10(most) * 2) / 2
    return [(host, check, _picture(check["data"]["histogram"], low, high)) for host, check in measured]


def _picture(histogram: Iterable[Any], low: float, high: float) -> Dict[str, Any]:
    entries = [(float(bound), int(count)) for bound, count in histogram]
    total, highest = sum(count for _bound, count in entries), max(count for _bound, count in entries)

    def x(milliseconds: float) -> float:
        return round(30 + (math.log10(milliseconds) - low) / (high - low) * (WIDTH - 54), 1)

    width = max(2.0, x(10 ** (low + 0.1)) - x(10**low) - 1)
    bars = [{"x": f"{x(bound) - width:.1f}", "y": f"{BASE - max(1.0, count / highest * 105):.1f}", "width": f"{width:.1f}",
             "height": f"{max(1.0, count / highest * 105):.1f}", "text": f"up to {bound:g} ms: {count} of {total}"} for bound, count in entries if count]
    ticks = [{"x": x(10**power), "text": f"{10**power:g} ms" if power < 3 else f"{10**(power - 3):g} s"}
             for power in range(math.ceil(low), math.floor(high) + 1)]
    lines = [{"name": name, "x": x(value), "label": x(value) + shift, "text": f"{value:.0f} ms"}
             for name, value, shift in (("good", GOOD, -4), ("limit", LIMIT, 4))]
    return {"width": WIDTH, "height": HEIGHT, "base": BASE, "right": WIDTH - 24, "bars": bars, "ticks": ticks, "lines": lines,
            "share": f"{highest / total:.0%}"}


# ---- between nodes


def _between(fleet: Fleet) -> Dict[str, Dict[str, Dict[str, Any]]]:
    talking = {host: {peer["name"]: _way(peer) for peer in result.get("peers") or ()} for host, result in fleet.hosts.items()}
    return {host: peers for host, peers in talking.items() if peers}


def _way(peer: Mapping[str, Any]) -> Dict[str, Any]:
    ports = peer["ports"]
    blocked = [port for port, outcome in ports.items() if outcome not in ("open", "runs") and not outcome.startswith("unprobed")]
    untried = sum(outcome.startswith("unprobed") for outcome in ports.values())
    lines = []
    if peer.get("rtt_ms") is not None:
        lines.append(f"round trip {peer['rtt_ms']:.2f} ms")
    if peer.get("mtu") is not None:
        lines.append(f"MTU {peer['mtu']}" + (f" of {peer['promised_mtu']}" if peer["mtu"] < peer["promised_mtu"] else ""))
    if peer.get("skew_s") is not None:
        # What is below the exchange's own uncertainty has no sign.
        known = abs(peer["skew_s"]) >= max(peer["uncertainty_s"], 0.0001)
        lines.append(f"clock {'+' if peer['skew_s'] > 0 else '−'}{_seconds(abs(peer['skew_s']))}" if known else "clocks agree")
    if peer.get("silence"):
        lines.append(str(peer["silence"]))
    return {"blocked": blocked, "untried": untried, "open": len(ports) - untried, "lines": lines}


# ---- hosts, method


def _about(result: Mapping[str, Any]) -> List[str]:
    node = result["node"]
    return [str(part) for part in (
        node["hostname"], node["address"], node["system"], f"Linux {node['kernel']} {node['architecture']}",
        f"measured {result['measured_at']} in {result['seconds']} s") if part]


def _method(fleet: Fleet) -> List[Dict[str, Any]]:
    return [{"name": name, "title": title, "wanted": list(dict.fromkeys(str(fleet.check(host, name)["threshold"]) for host in fleet.hosts)),
             "why": next(str(fleet.check(host, name)["why"]) for host in fleet.hosts if fleet.check(host, name).get("why"))}
            for name, title, _family in fleet.names()]
