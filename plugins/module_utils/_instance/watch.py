# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for instances: one list for all that are waited for, however many threads ask. Whoever waits alone asks for its own, and more often."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, Dict, Iterator, Optional, Set

from .._errors import Failure
from .provider import Instance, Provider

FIRST, POLL = 0.1, 0.5
CONSOLE_LINES = 15


class Watch:
    def __init__(self, cloud: Provider, fleet: str, timeout: float) -> None:
        self.cloud, self.fleet, self.timeout = cloud, fleet, timeout
        self._lock, self._count = threading.Lock(), threading.Lock()
        self._waiting = 0
        self._seen: Dict[str, Instance] = {}
        self._at = float("-inf")
        self._took = 0.0
        self._forced: Set[str] = set()

    def until(
        self, instance: str, name: str, what: str, done: Callable[[Instance], bool], timeout: Optional[float] = None, tolerate_error: bool = False
    ) -> Instance:
        """The instance, once it is as wanted. ERROR ends the wait at once, with the cloud's own words."""
        with self._one_more():
            return self._until(instance, name, what, done, self.timeout if timeout is None else timeout, tolerate_error)

    def _until(self, instance: str, name: str, what: str, done: Callable[[Instance], bool], limit: float, tolerate_error: bool) -> Instance:
        begin = time.monotonic()
        newer = begin
        while True:
            found = (None if self._waiting == 1 else self._look(newer).get(instance)) or self.cloud.get(instance)
            if found is None:
                raise Failure(f"{name} ({instance}) vanished while this run waited until {what}", hint="Run it again to make it anew.")
            if done(found):
                return found
            if found.status == "ERROR" and not tolerate_error:
                raise Failure(f"{name} ({instance}) went to ERROR: {found.fault or 'the cloud does not say why'}{self.console_of(instance)}")
            if time.monotonic() - begin > limit:
                raise Failure(
                    f"{name} ({instance}) is still {found.status}{f' ({found.task})' if found.task else ''} after {limit:.0f} s, waiting until {what}"
                    f"{self.console_of(instance)}",
                    hint="Run it again to resume.",
                )
            newer = time.monotonic()
            # A cloud that takes seconds for a long list is not asked for nothing but lists.
            time.sleep(pause(begin) if self._waiting == 1 else max(POLL, self._took))

    def leaving(self, instance: str, name: str, for_good: bool = True) -> Optional[Instance]:
        """One that was deleted, if it is still there. for_good: also when the cloud only puts it aside, as it keeps its ports and volumes then."""
        found = self.cloud.get(instance)
        if found is None or found.status == "DELETED":
            return None
        if found.status == "ERROR" and not found.leaving:
            raise Failure(f"{name} ({instance}) could not be deleted: {found.fault or 'the cloud does not say why'}", hint="Run it again.")
        if for_good and found.put_aside and instance not in self._forced:
            self._forced.add(instance)
            self.cloud.delete_for_good(instance)
        return found

    def gone(self, instance: str, name: str, for_good: bool = True) -> bool:
        """Whether it is, which one that was put aside is only for good."""
        begin = time.monotonic()
        while True:
            found = self.leaving(instance, name, for_good)
            if found is None:
                return True
            if found.put_aside and not for_good:
                return False
            if time.monotonic() - begin > self.timeout:
                raise Failure(f"{name} ({instance}) is still {found.status} {self.timeout:.0f} s after it was deleted", hint="Run it again to resume.")
            time.sleep(pause(begin))

    @contextlib.contextmanager
    def _one_more(self) -> Iterator[None]:
        with self._count:
            self._waiting += 1
        try:
            yield
        finally:
            with self._count:
                self._waiting -= 1

    def console_of(self, instance: str) -> str:
        lines = self.cloud.console(instance, CONSOLE_LINES).splitlines()[-CONSOLE_LINES:]
        return "\n".join(["\nThe end of its console log:", *lines]) if lines else ""

    def _look(self, newer: float) -> Dict[str, Instance]:
        """What was listed after this moment, by whichever thread came first."""
        with self._lock:
            if self._at < newer:
                at = time.monotonic()
                self._seen = self.cloud.statuses(self.fleet)
                self._at, self._took = at, time.monotonic() - at
            return self._seen


def pause(begin: float) -> float:
    """A tenth of the wait so far, so that no wait is much longer than what it waits for."""
    return min(max(FIRST, (time.monotonic() - begin) / 10), POLL)
