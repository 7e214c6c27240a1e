# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make demo` shows of its playbook: one line a step with its seconds, and the words that the playbook prints."""

from __future__ import annotations

import sys
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: story
type: stdout
short_description: One line a step
description:
  - One line a step, with its seconds; messages as they are.
"""

WIDTH = 106
# Their success is not worth a line.
ASIDE = ("ansible.builtin.set_fact", "ansible.builtin.assert", "ansible.builtin.debug", "ansible.builtin.tempfile")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "story"

    def __init__(self):
        super().__init__()
        self.terminal = sys.stdout.isatty()
        self.began = self.play_began = time.monotonic()
        self.items = []

    def v2_playbook_on_play_start(self, play):
        self.play_began = time.monotonic()
        self._say(f"\n{play.get_name()}\n", "bright blue")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.began = time.monotonic()
        self.items = []
        if self.terminal and not self._aside(task):
            sys.stdout.write(f"  … {task.get_name().strip()}\r")
            sys.stdout.flush()

    def v2_runner_item_on_ok(self, result):
        self.items.append(f"    {result._result.get('item', '')}")

    def v2_runner_on_ok(self, result):
        if result._task.action.endswith("debug"):
            message = result._result.get("msg", "")
            lines = message if isinstance(message, list) else str(message).splitlines()
            self._say("\n".join(f"    {line}".rstrip() for line in lines) + "\n\n")
        elif result._task.action.endswith("include_role"):  # only announced: its tasks come after it
            self._say(f"  ▸ {result._task.get_name().strip()}", "green")
        elif not self._aside(result._task):
            self._line("✓", result._task, "green")
            if self.items:
                self._say("\n".join(self.items), "yellow")

    def v2_runner_on_skipped(self, result):
        if self.terminal and not self._aside(result._task):
            sys.stdout.write(" " * WIDTH + "\r")

    def v2_runner_item_on_failed(self, result):
        self._failed(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._failed(result)

    def v2_runner_on_unreachable(self, result):
        self._failed(result)

    def v2_playbook_on_stats(self, stats):
        failed = any(stats.failures.values()) or any(stats.dark.values())
        seconds = time.monotonic() - self.play_began
        self._say(f"\n{'Failed' if failed else 'Done'} after {seconds:.1f} s\n", "red" if failed else "bright green")

    def _failed(self, result):
        self._line("✗", result._task, "red")
        found = result._result
        told = [str(found.get(key, "")).strip() for key in ("msg", "assertion", "stderr", "stdout")]
        self._say("\n".join(f"    {line}" for text in told for line in text.splitlines()), "red")

    def _line(self, mark, task, color):
        seconds = f"{time.monotonic() - self.began:.1f} s"
        text = f"  {mark} {task.get_name().strip()}"
        self._say(f"{text.ljust(WIDTH - len(seconds))}{seconds}", color)

    def _aside(self, task):
        return task.action in ASIDE or "aside" in task.tags

    def _say(self, text, color=None):
        self._display.display(text, color=color)
