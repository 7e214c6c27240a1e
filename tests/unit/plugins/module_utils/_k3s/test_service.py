# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What k3s says in its journal, at whatever level, ends a wait when no waiting mends it, and says what to do."""

from __future__ import annotations

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import BELIEVED, Service

REJECTED = ('time="2026-11-29T08:00:00Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: Node password rejected, '
            'duplicate hostname or contents of \'/etc/rancher/node/password\' may not match server node-passwd entry, try enabling a unique node name"')
UNAUTHORIZED = ('time="2026-11-29T08:00:00Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: '
                'get /v1-k3s/serving-kubelet.crt: not authorized"')
INTERRUPTED = ('time="2026-11-29T08:00:00Z" level=fatal msg="/var/lib/rancher/k3s/server/cred/passwd newer than datastore and could cause a cluster outage. '
               'Remove the file(s) from disk and restart to be recreated from datastore."')
ORDINARY = 'time="2026-11-29T08:00:00Z" level=info msg="Waiting to retrieve agent configuration; server is not ready: connection refused"'


def journal(*lines: str) -> Service:
    service = Service("agent")
    service._journal = lambda since: list(lines)  # type: ignore[method-assign]  # fake: what k3s said
    return service


@pytest.mark.parametrize(("line", "said"), [(REJECTED, "playbook nordic.gitops.replace"), (UNAUTHORIZED, "does not accept this token"),
                                            (INTERRUPTED, "Move that file away")])
def test_what_no_waiting_mends_is_believed_when_it_was_said_often_enough(line: str, said: str) -> None:
    assert journal(*[line] * (BELIEVED - 1), ORDINARY).final_words(0) == ([], "")
    words, meaning = journal(ORDINARY, *[line] * BELIEVED).final_words(0)
    assert words == [line] and said in meaning


def test_a_server_that_does_not_answer_yet_is_waited_for() -> None:
    assert journal(*[ORDINARY] * 50).final_words(0) == ([], "")


def test_at_the_end_of_the_time_the_reason_is_told_though_it_is_no_error_to_k3s() -> None:
    words, meaning = journal(ORDINARY, REJECTED).last_words(0)
    assert words == [REJECTED[:400]] and "k3s_replaced_node" in meaning
