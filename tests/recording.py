# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recording of the demo for the README, `make recording`: docs/demo.cast for asciinema, and docs/demo.svg made from it by Rich."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import sys
import termios
import time
from pathlib import Path
from typing import List

from rich.console import Console  # comes with molecule
from rich.text import Text

DOCS = Path(__file__).resolve().parents[1] / "docs"
CAST, SVG = DOCS / "demo.cast", DOCS / "demo.svg"
COLUMNS, ROWS = 110, 40
# Nothing is loaded from elsewhere when somebody looks at the picture.
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def record(command: List[str]) -> str:
    """What the command writes to a terminal, as asciicast 2; a failure ends this."""
    events = [json.dumps({"version": 2, "width": COLUMNS, "height": ROWS, "title": "make demo", "idle_time_limit": 2})]
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), ANSIBLE_FORCE_COLOR="1")
        os.execvp(command[0], command)
    begin = time.monotonic()
    pending = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if not data:
            break
        whole, pending = _whole_characters(pending + data)
        sys.stdout.write(whole)
        sys.stdout.flush()
        events.append(json.dumps([round(time.monotonic() - begin, 3), "o", whole], ensure_ascii=False))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(f"the demo ended with {code}, nothing was written")
    return "\n".join(events) + "\n"


def _whole_characters(data: bytes) -> "tuple[str, bytes]":
    for cut in range(min(4, len(data) + 1)):
        try:
            return data[:len(data) - cut].decode(), data[len(data) - cut:]
        except UnicodeDecodeError:
            continue
    return data.decode(errors="replace"), b""


def svg(cast: str) -> str:
    """The text of the whole recording in one window, which has its own background and so is readable on any page."""
    text = "".join(event[2] for event in map(json.loads, cast.splitlines()[1:]))
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").rstrip("\n").split("\n")]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
    console.print(Text.from_ansi("\n".join(lines)))
    return FONT_FACE.sub("", console.export_svg(title="make demo"))


def main() -> None:
    cast = record([sys.executable, "-B", "-m", "lab.demo"])
    CAST.write_text(cast, encoding="utf-8")
    SVG.write_text(svg(cast), encoding="utf-8")


if __name__ == "__main__":
    main()
