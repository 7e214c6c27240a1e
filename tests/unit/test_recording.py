# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture on the README's first screen is the recording of a whole demo, and loads nothing."""

from __future__ import annotations

import json
import re
import sys

import pytest
from recording import CAST, COLUMNS, SVG, record, svg


def test_the_picture_is_made_from_the_recording() -> None:
    assert SVG.read_text(encoding="utf-8") == svg(CAST.read_text(encoding="utf-8")), "run `make recording`"


def test_the_recording_is_a_cast_of_a_whole_demo_without_anything_of_its_machine() -> None:
    header, *events = map(json.loads, CAST.read_text(encoding="utf-8").splitlines())
    assert header["version"] == 2 and header["width"] == COLUMNS
    told = "".join(event[2] for event in events)
    assert "401 created; in sync" in told and "8 pruned" in told and "Done after" in told
    assert not re.search(r"/root|/home|/tmp|127\.0\.0\.1", told)


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?https?:", SVG.read_text(encoding="utf-8"))


def test_what_a_command_writes_is_recorded_as_a_terminal_shows_it() -> None:
    cast = record([sys.executable, "-c", "import os, sys; print(os.get_terminal_size().columns, 'å', sys.stdout.isatty())"])
    events = [json.loads(line) for line in cast.splitlines()[1:]]
    assert "".join(event[2] for event in events) == f"{COLUMNS} å True\r\n" and "å" in svg(cast)


def test_a_demo_that_fails_is_not_recorded() -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        record([sys.executable, "-c", "raise SystemExit(3)"])
