# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer a fleet, who writes nothing once another one may have taken over."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Iterator, Tuple

from .._errors import Failure
from .provider import WRITES, Provider

RENEW = 10.0
PATIENCE = 45.0  # a lock that nobody renewed for so long is a dead run's
KNOWN_FOR = RENEW + 5  # after that the cloud is asked whose the lock is: this process may have stood still


def _clocks() -> Tuple[float, float]:
    return time.monotonic(), time.time()


class Writer:
    """The holder of the lock of a fleet, in all threads of a run."""

    def __init__(self, cloud: Provider, lock: str, holder: str, clocks: Callable[[], Tuple[float, float]] = _clocks) -> None:
        self._cloud, self._lock, self._holder, self._clocks = cloud, lock, holder, clocks
        self._mutex = threading.Lock()
        self._lost = ""
        self._renewed = self._clocks()

    def check(self) -> None:
        """Raises when the fleet is no longer this run's, or nobody knows."""
        if not self._lost and self._age() > KNOWN_FOR:
            with self._mutex:
                if self._age() > KNOWN_FOR:
                    self._renew()
        if self._lost:
            raise Failure(self._lost)

    def keep(self, ended: threading.Event) -> None:
        while not self._lost and not ended.wait(RENEW):
            with self._mutex:
                self._renew()

    def _renew(self) -> None:
        begin = self._clocks()
        try:
            self._cloud.renew(self._lock, self._holder)
            self._renewed = begin
        except Exception as error:
            # One lost answer is no loss of the lock; silence for as long as others wait is.
            if "another run" in str(error) or self._age() > PATIENCE - RENEW:
                self._lost = str(error)

    def _age(self) -> float:
        """By the clock that a suspended machine stops, and by the one that somebody may set."""
        return max(now - then for now, then in zip(self._clocks(), self._renewed))


class Guarded:
    """A Provider of which no request that writes is made before the check has passed."""

    def __init__(self, cloud: Provider, check: Callable[[], None]) -> None:
        self._cloud, self._check = cloud, check

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cloud, name)
        if name not in WRITES:
            return method

        def write(*arguments: Any, **options: Any) -> Any:
            self._check()
            return method(*arguments, **options)

        return write


@contextlib.contextmanager
def one_writer(cloud: Provider, fleet: str, holder: str, takes_over: bool) -> Iterator[Callable[[], None]]:
    """Nobody else writes this fleet meanwhile. Yields what raises when that is no longer so."""
    lock = cloud.lock(fleet, holder, takes_over, PATIENCE)
    writer, ended = Writer(cloud, lock, holder), threading.Event()
    thread = threading.Thread(target=writer.keep, args=(ended,), daemon=True)
    thread.start()
    try:
        yield writer.check
    finally:
        ended.set()
        thread.join(1)
        try:
            cloud.unlock(lock, holder)
        except Exception:  # it expires
            pass


__all__ = ["Guarded", "Writer", "one_writer"]
