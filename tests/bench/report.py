# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""results.json, the Markdown table, and what the machine was."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from lab import components
from workspace import collection

from . import checks
from .case import Case
from .peers import CALL, DIFF, FIRST, FLOOR, HEAL, MODULE, NOOP, REPLAY
from .race import Figure, raw
from .stats import Spread

# The parts of results.json in the order they are shown, and the picture of each that has one.
PARTS = ("reconcile", "k3s", "fsync", "instances", "sealing", "image", "argocd", "gitops", "first_run")
PICTURES = {"reconcile": "benchmarks.png", "k3s": "k3s.png", "fsync": "fsync.png", "instances": "instances.png", "sealing": "sealing.png",
            "image": "image.png", "argocd": "argocd.png", "gitops": "gitops.png"}

PACKAGES = ("ansible-core", "ansible", "kubernetes", "urllib3", "PyYAML")
OPERATIONS = (FIRST, NOOP, HEAL, DIFF, FLOOR)

HOW = {
    "start": "every turn starts from an API server without the Namespace and from empty caches (Git mirror, rendered documents, discovery, schemas); "
             "the bytecode that Python keeps of kubernetes.core's packages, and reconcile of its own, stays; "
             "a no-op and a heal follow the same peer's own first sync, caches warm (of 5,001 objects the module's follows the whole call's)",
    "order": "peers interleaved, each round begins with another one; the module's first sync and the replay have two turns in each, "
             "and each of them comes first once",
    "module": "the file by which ansible-playbook starts the module, kept once and executed as it executes it, from start to exit",
    "replay": "the PATCH requests of our first sync, recorded between module and API server, the same bytes over as many connections; "
              "apply stage and replay by their own clocks",
    "controllers": "paused while somebody is measured; between first sync and no-op of the small cases they roll everything out",
    "requests": "from the API server's audit log",
    "peak": "ru_maxrss by wait4, of the process or of a child of it, whichever is larger",
}


def results(figures: Sequence[Figure], settings: Dict[str, Any], case: Case, server_version: str) -> Dict[str, Any]:
    return {
        "settings": settings,
        "machine": machine(),
        "versions": versions(case, server_version),
        "how": HOW,
        "checks": checks.evaluate(figures),
        "summary": summary(figures),
        "figures": raw(figures),
    }


def machine() -> Dict[str, Any]:
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal:"))
    return {
        "processor": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory // 1024,
        "kernel": "%s %s" % (platform.system(), platform.release()),
    }


def _lines(path: str) -> List[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def versions(case: Case, server_version: str) -> Dict[str, str]:
    found = {"python": platform.python_version(), "kube-apiserver": server_version}
    found.update({name: importlib.metadata.version(name) for name in PACKAGES})
    kubectl = json.loads(subprocess.run(case.kubectl("version", "--client", "--output=json"), env=case.env(), check=True, capture_output=True).stdout)
    found["kubectl"] = kubectl["clientVersion"]["gitVersion"]
    found["etcd"] = dict(components.versions())["etcd"]
    found["git"] = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    for name in ("kubernetes.core", "nordic.gitops"):
        found[name] = _collection(name, case.env())
    return found


def own_versions() -> Dict[str, str]:
    """What the parts without a peer of Python's are run with."""
    env = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=str(collection.linked()))
    return {"python": platform.python_version(), "ansible-core": importlib.metadata.version("ansible-core"),
            "nordic.gitops": _collection("nordic.gitops", env)}


def _collection(name: str, env: Mapping[str, str]) -> str:
    command = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection", "list", "--format", "json", name]
    listing = json.loads(subprocess.run(command, env=dict(env), check=True, capture_output=True, text=True).stdout)
    return str(next(iter(listing.values()))[name]["version"])


def rows(figures: Sequence[Figure]) -> Iterator[Tuple[int, str, str, List[Figure]]]:
    """Figures by case, operation and peer; quickest first."""
    groups: Dict[Tuple[int, str, str], List[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.case, figure.operation, figure.peer), []).append(figure)
    order = sorted(groups, key=lambda key: (key[0], OPERATIONS.index(key[1]), Spread.of([each.seconds for each in groups[key]]).median))
    for key in order:
        # The replay's process is Python's start and the reading of the record; what it measures has a row of its own.
        if key[2] != REPLAY:
            yield key[0], key[1], key[2], groups[key]


def summary(figures: Sequence[Figure]) -> List[Dict[str, Any]]:
    entries = []
    for case, operation, peer, group in rows(figures):
        spread = Spread.of([figure.seconds for figure in group])
        entries.append({
            "case": case, "operation": operation, "peer": peer, "rounds": spread.count,
            "median": round(spread.median, 4), "low": round(spread.low, 4), "high": round(spread.high, 4),
            "cpu_median": round(Spread.of([figure.cpu_seconds for figure in group]).median, 4),
            "peak_mb": round(max(figure.peak_mb for figure in group), 1),
            "requests": group[-1].requests,
        })
    return entries


def markdown(outcome: Dict[str, Any]) -> str:
    """The page of all parts that were measured."""
    lines = ["# Benchmarks", "", "Each part was measured in one run of `make bench`. Compare the figures of one part, and ratios rather than seconds.",
             "Every raw figure is in results.json."]
    for name in PARTS:
        if name in outcome:
            sections = {"reconcile": _reconcile, "k3s": _k3s, "fsync": _fsync, "instances": _instances, "sealing": _sealing, "image": _image,
                        "argocd": _argocd, "gitops": _gitops, "first_run": _first_run}
            lines += ["", *sections[name](outcome[name])]
    return "\n".join(lines) + "\n"


def _head(title: str, part: Dict[str, Any], *more: str) -> List[str]:
    """What a part begins with: when and on what it was measured, its picture, and its figures to reach."""
    machine_ = part["machine"]
    when = "%s, on %d cores (%s), %.0f GB of memory, %s, rounds: %d." % (
        part["when"], machine_["cores"], machine_["processor"], machine_["memory_mb"] / 1024, machine_["kernel"], part["settings"]["rounds"])
    picture = PICTURES.get(part.get("called", title.lower()))
    return ["## " + title, "", when, *more, "", *(["![%s](%s)" % (title, picture), ""] if picture else []), *_checks(part)]


def _checks(part: Dict[str, Any]) -> List[str]:
    lines = ["| figure | measured | limit | holds |", "|---|---|---|---|"]
    lines += ["| %s | %s | %s | %s |" % (check["name"], _value(check, "ratio"), _limit(check), "yes" if check["holds"] else "**no**")
              for check in part["checks"]]
    lines += [] if part["checks"] else ["| none: this run measured no pair that has one | | | |"]
    broken = ["- %s: not measured, %s." % item for item in part.get("broken", {}).items()]
    return [*lines, "", *broken] if broken else lines


def _tail(part: Dict[str, Any]) -> List[str]:
    """How it was measured, and with what."""
    return ["", "### How %s is measured" % part["called"], "", *("- %s: %s." % item for item in sorted(part["how"].items())), "",
            "Versions: %s." % ", ".join("%s %s" % item for item in sorted(part["versions"].items()))]


def _reconcile(part: Dict[str, Any]) -> List[str]:
    lines = _head("Reconcile", part, "Medians, in brackets the lowest and the highest.")
    for title, case, operation in _sections(part["summary"]):
        lines += ["", "### " + title, "", "| | seconds | processor seconds | peak memory | requests |", "|---|---|---|---|---|"]
        lines += [_row(entry) for entry in part["summary"] if (entry["case"], entry["operation"]) == (case, operation)]
    return lines + _tail(dict(part, called="it"))


def _k3s(part: Dict[str, Any]) -> List[str]:
    old, new = part["binaries"]["old"], part["binaries"]["new"]
    lines = _head("k3s", part, "Hosts are systemd-nspawn machines of this one, with a real systemd and sshd.")
    lines += ["", "### Bootstrap and what follows", "", "| | | seconds |", "|---|---|---|"]
    lines += ["| %s | %s | %s |" % (entry["operation"], entry["peer"], Spread(entry["median"], entry["low"], entry["high"], entry["rounds"]))
              for entry in part["summary"]]
    copying = Spread.of([each["copying"] for each in part["script"]])
    lines += ["", "Of the install script's seconds, copying took %s. Bootstrap and the unchanged cluster: k3s %s." % (copying, old["version"])]
    if "unchanged" in part:
        lines[-1] += " Each call on the unchanged cluster made %d round trips of ssh." % part["unchanged"]["round_trips"]
    if "upgrade" in part:
        requests, writes = part["upgrade"]["requests"], part["upgrade"]["writes"]
        lines += ["", "### Upgrade of 4 nodes, %s to %s" % (old["version"], new["version"]), "", "| | |", "|---|---|",
                  "| whole call | %.1f s |" % part["upgrade"]["seconds"],
                  "| requests to the service | %d, of them failed: %d |" % (requests["sent"], requests["failed"]),
                  "| latency of a request: median, p99, highest | %.1f, %.1f, %.1f ms |" % (requests["p50_ms"], requests["p99_ms"], requests["max_ms"]),
                  "| API writes unavailable: in total, at most at a time | %.2f s, %.2f s |" % (writes["unavailable"], writes["longest"])]
    if "restore" in part:
        lines += ["", "### Restore of 3 servers, %s" % new["version"], "", "| step | it took | since the beginning |", "|---|---|---|"]
        lines += ["| %s | %.1f s | %.1f s |" % (step["step"], step["seconds"], step["since_begin"]) for step in part["restore"]["timeline"]]
        lines += ["| whole call | | %.1f s |" % part["restore"]["seconds"]]
    return [*lines, *_tail(dict(part, called="k3s")), "",
            *("- k3s %s (%s): %s, SHA-256 %s." % (one["version"], name, one["origin"], one["sha256"]) for name, one in part["binaries"].items())]


def _fsync(part: Dict[str, Any]) -> List[str]:
    lines = _head("fsync", part)
    lines += ["", "### Rounds", "", "| round | ours p99 | fio p99 | ours p50 | fio p50 |", "|---|---|---|---|---|"]
    lines += ["| %d | %.3f ms | %.3f ms | %.3f ms | %.3f ms |" % (number, one["ours_p99"], one["fio_p99"], one["ours_p50"], one["fio_p50"])
              for number, one in enumerate(part["rounds"], 1)]
    return lines + _tail(dict(part, called="fsync"))


def _instances(part: Dict[str, Any]) -> List[str]:
    lines = _head("Instances", part, "On a real OpenStack whose Nova runs no guests.")
    lines += ["", "### Fleets", "", "| | | seconds |", "|---|---|---|"]
    lines += ["| %s | %s | %s |" % (entry["operation"], entry["peer"], Spread(entry["median"], entry["low"], entry["high"], entry["rounds"]))
              for entry in part["summary"]]
    steps = next((figure["steps"] for figure in part["figures"] if "steps" in figure), {})
    lines += ["", "The steps of a replacement: %s." % ", ".join("%s %.1f s" % step for step in steps.items())]
    return lines + _tail(dict(part, called="instances"))


def _sealing(part: Dict[str, Any]) -> List[str]:
    return _by_operation("Sealing", dict(part, called="sealing"))


def _image(part: Dict[str, Any]) -> List[str]:
    return _by_operation("An image's tag in the manifest repository", dict(part, called="image"))


def _argocd(part: Dict[str, Any]) -> List[str]:
    return _by_operation("Argo CD", dict(part, called="argocd"))


def _gitops(part: Dict[str, Any]) -> List[str]:
    return _by_operation("From Git to the cluster", dict(part, called="gitops"))


def _first_run(part: Dict[str, Any]) -> List[str]:
    return _by_operation("First run", dict(part, called="the first run"))


def _by_operation(title: str, part: Dict[str, Any]) -> List[str]:
    lines = _head(title, part, "Medians, in brackets the lowest and the highest.")
    for operation in dict.fromkeys(entry["operation"] for entry in part["summary"]):
        lines += ["", "### %s" % operation, "", "| | seconds |", "|---|---|"]
        lines += ["| %s | %s |" % (entry["peer"], Spread(entry["median"], entry["low"], entry["high"], entry["rounds"]))
                  for entry in part["summary"] if entry["operation"] == operation]
    return lines + _tail(part)


def _sections(entries: Sequence[Dict[str, Any]]) -> List[Tuple[str, int, str]]:
    found: List[Tuple[str, int, str]] = []
    for entry in entries:
        section = ("{:,} objects, {}".format(entry["case"], entry["operation"]), entry["case"], entry["operation"])
        if entry["operation"] == FLOOR:
            section = ("Floor", entry["case"], FLOOR)
        if section not in found:
            found.append(section)
    return found


def _row(entry: Dict[str, Any]) -> str:
    name = "**%s**" % entry["peer"] if entry["peer"] in (CALL, MODULE) else entry["peer"]
    seconds = str(Spread(entry["median"], entry["low"], entry["high"], entry["rounds"]))
    cpu = "%.2f s" % entry["cpu_median"] if entry["cpu_median"] else ""
    peak = "%.0f MB" % entry["peak_mb"] if entry["peak_mb"] else ""
    requests = ", ".join("%s %d" % (kind, count) for kind, count in entry["requests"].items() if ": " not in kind)
    return "| %s | %s | %s | %s | %s |" % (name, seconds, cpu, peak, requests)


def _value(check: Dict[str, Any], key: str) -> str:
    unit = check.get("unit")
    if key not in check:
        return "not measured"
    if not unit:
        return "%.2f" % check[key]
    if unit in ("s", "%"):
        return "%.1f %s" % (check[key], unit)
    return "%.0f%s" % (check[key], " MB" if unit == "MB" else "")


def _limit(check: Dict[str, Any]) -> str:
    return ("%s" if check.get("unit") == "writes" else "≤ %s") % _value(check, "limit")
