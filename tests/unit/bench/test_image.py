# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of image_update: from its figures to its check, its page and its picture."""

from __future__ import annotations

from bench import __main__ as command
from bench import image, report

MACHINE = {"processor": "x", "cores": 2, "memory_mb": 2048, "kernel": "Linux 6"}


def part(seconds=0.3):
    figures = {image.SHELL: [0.9, 1.1, 1.0], image.WORK: [seconds] * 3, image.BEHIND: [0.5] * 3, image.CALL: [2.0] * 3}
    return {**image.outcome(figures), "machine": MACHINE, "versions": {"yq": "v4"}, "when": "2020-01-03"}


def test_the_modules_own_time_is_compared_with_the_shells():
    assert part()["checks"] == [{"name": "the module's own time: the shell", "ratio": 0.3, "limit": 1 / 3, "holds": True}]
    assert [check["holds"] for check in part(seconds=0.4)["checks"]] == [False]


def test_the_part_of_image_has_a_page_and_a_picture(tmp_path):
    text = report.markdown({"image": part()})
    assert "### one tag of 10,000 files" in text and "| nordic.gitops, whole ansible-playbook call | 2.00" in text, text
    command.write({"image": part()}, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "README.md", "image.png"}
