# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture: medians as bars, each round as a dot. `python -m bench.plot RESULTS PART PICTURE`, a process of its own because matplotlib is large."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402  (the backend is chosen first)

OURS = "nordic.gitops"
COLOURS = {"ours": "#0b7a75", "limit": "#8d99ae", "peer": "#d0a24c"}
TEXT = "#24292f"
GREY = "#6e7781"
PANELS = ("first sync", "no-op", "heal")
# Part -> what its axes are, and in which unit.
TITLES = {"fsync": ("Milliseconds; the two should agree", "ms")}
SECONDS = ("Seconds, less is better", "s")


def panels(outcome: Dict[str, Any]) -> List[Tuple[str, List[Dict[str, Any]]]]:
    """What is drawn: a panel for each case and operation; what only one peer can be asked (a diff, the floor) only when there is nothing else."""
    found = []
    measured = {entry["operation"] for entry in outcome["summary"]}
    operations = [each for each in PANELS if each in measured] or list(dict.fromkeys(entry["operation"] for entry in outcome["summary"]))
    for case in sorted({entry["case"] for entry in outcome["summary"]}):
        for operation in operations:
            entries = [entry for entry in outcome["summary"] if (entry["case"], entry["operation"]) == (case, operation)]
            if entries:
                found.append((operation if isinstance(case, str) else "{:,} objects, {}".format(case, operation), entries))
    return found


def draw(part: str, outcome: Dict[str, Any], target: Path) -> None:
    title, unit = TITLES.get(part, SECONDS)
    drawn = panels(outcome)
    heights = [len(entries) + 1.3 for _ignored, entries in drawn]
    figure, axes = pyplot.subplots(
        len(drawn), 1, figsize=(10, 0.36 * sum(heights) + 1.0), squeeze=False, gridspec_kw={"height_ratios": heights}, layout="constrained"
    )
    for axis, (name, entries) in zip(axes[:, 0], drawn):
        _panel(axis, name, entries, outcome, unit)
    machine = outcome["machine"]
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=TEXT)
    figure.supxlabel(
        "Bars: medians in one run of %d rounds; dots: every round. %d cores, %s. Teal: nordic.gitops; grey: the limit; ochre: peers."
        % (outcome["settings"]["rounds"], machine["cores"], machine["kernel"]),
        fontsize=8.5, color=GREY, x=0.01, ha="left",
    )
    figure.savefig(target, dpi=150, metadata={"Software": None}, facecolor="white")


def _panel(axis: Any, title: str, entries: List[Dict[str, Any]], outcome: Dict[str, Any], unit: str) -> None:
    names = [entry["peer"] for entry in entries]
    medians = [entry["median"] for entry in entries]
    limits = [entry["limit"] for entry in entries if "limit" in entry]
    highest = max([entry["high"] for entry in entries] + limits) or 1.0
    for limit in limits:
        axis.axvline(limit, color=COLOURS["limit"], linestyle="--", linewidth=1.5, zorder=1)
    axis.barh(range(len(names)), medians, height=0.62, color=[COLOURS[_side(name)] for name in names], zorder=2)
    for position, entry in enumerate(entries):
        rounds = [each["milliseconds" if unit == "ms" else "seconds"] for each in outcome["figures"]
                  if (each["case"], each["operation"], each["peer"]) == (entry["case"], entry["operation"], entry["peer"])]
        axis.scatter(rounds, [position] * len(rounds), s=13, color=TEXT, alpha=0.65, linewidths=0, zorder=3)
        text = "%.2f %s" % (entry["median"], unit)
        if entry["rounds"] > 1:
            text += "  (%.2f to %.2f)" % (entry["low"], entry["high"])
        axis.text(entry["high"] + highest * 0.012, position, text, va="center", fontsize=9, color=TEXT)
    axis.set_yticks(range(len(names)), names, fontsize=9.5)
    for label, name in zip(axis.get_yticklabels(), names):
        label.set_color(COLOURS["ours"] if _side(name) == "ours" else TEXT)
        label.set_fontweight("bold" if _side(name) == "ours" else "normal")
    axis.invert_yaxis()
    axis.set_xlim(0, highest * 1.36)
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=TEXT)
    axis.tick_params(axis="both", length=0)
    axis.tick_params(axis="x", labelsize=8.5, labelcolor=GREY)
    axis.grid(axis="x", color="#e5e8eb", zorder=0)
    for side in axis.spines.values():
        side.set_visible(False)


def _side(name: str) -> str:
    if name.startswith(OURS):
        return "ours"
    return "limit" if name.startswith("replay") else "peer"


def main() -> None:
    results, part, picture = sys.argv[1:]
    draw(part, json.loads(Path(results).read_text(encoding="utf-8"))[part], Path(picture))


if __name__ == "__main__":
    main()
