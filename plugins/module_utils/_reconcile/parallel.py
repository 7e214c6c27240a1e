# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several objects at once, and their errors as one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, List, Optional, Sequence

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused


class Beside:
    """Work that is done meanwhile, and waited for at the end. An error does not wait: it would come as late as a server that never answers."""

    def __init__(self) -> None:
        self._threads: List[threading.Thread] = []

    def do(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: Any, _error: Any, _traceback: Any) -> None:
        for thread in self._threads if kind is None else ():
            thread.join()


def work_on(pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any]) -> List[Failure]:
    """What went wrong with which item; once the server does not answer, the rest is not tried: each would take its whole patience."""
    silent = threading.Event()

    def one(item: Any) -> Optional[Failure]:
        if silent.is_set():
            return None
        try:
            work(item)
        except Failure as error:
            if error.retryable:
                silent.set()
            return error
        return None

    return [error for error in pool.map(one, items) if error is not None]


def together(errors: Sequence[Failure], headline: str) -> Failure:
    """Several errors as one, each on its own line."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n".join(str(error) for error in errors[:20])
    more = f"\n(+{len(errors) - 20} more)" if len(errors) > 20 else ""
    kind = Refused if all(isinstance(error, Refused) for error in errors) else Failure
    return kind(f"{headline} ({len(errors)} objects):\n{lines}{more}", errors=[str(error) for error in errors])
