# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts answer of themselves. A host that somebody has taken over may answer anything: it can cost a run its success, and nothing else."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line
from ansible_collections.nordic.gitops.plugins.module_utils._shape import MAPPING, SWITCH, TEXT, WORD, Shape, check

LONGEST = 10_000  # characters of a sentence, which may list the hosts of a large cluster

INFO: Shape = {
    **{name: WORD for name in ("version", "role", "node_name", "default_node_name", "hostname", "machine_id", "architecture", "data_dir", "datastore",
                               "server_url", "registered_name", "token_fingerprint", "ca_fingerprint")},
    "record_trouble": TEXT, "has_cluster": SWITCH, "cluster_init": SWITCH, "ready": SWITCH,
    "wanted": {"role": WORD, "address": WORD, "config": MAPPING, "changes": [TEXT], "restarts": [TEXT], "environment": [TEXT],
               "binary": WORD},
    "service": {"state": WORD}, "restart_pending": [TEXT], "addresses": [WORD], "fixed": MAPPING,
    "set_up_by_others": {"config": MAPPING, "environment": [TEXT]},
    "node": {"addresses": [WORD]}, "nodes": [{"name!": WORD, "roles": [WORD]}],
    "etcd": {"is_leader": SWITCH, "members": [{"node": WORD, "name": WORD}]},
    "recorded_members": [{"address": WORD, "node": WORD}], "recorded_servers": [{"address!": WORD}],
}


def checked(observed: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The same answers, where each is of the types that k3s_info has."""
    for name, info in observed.items():
        def wrong(what: str, host: str = str(name)) -> Failure:
            return Failure(f"what {one_line(host, 260)} answers is not what k3s_info tells: {what}", "observed",
                           "Look at that host: another program answers in place of the module.")

        check(info, INFO, "", wrong)
    return observed


def one_line_each(sentences: Iterable[str]) -> List[str]:
    """Sentences that name what hosts answered, each on a line of its own, which none of it can break."""
    return [one_line(sentence, LONGEST) for sentence in sentences if sentence]


def as_asked(asked: Optional[Mapping[str, Any]], result: Mapping[str, Any]) -> Dict[str, Any]:
    """A host's answer, with what the task says of its role and address: by these the plan decides whom other hosts join and whose token they get."""
    answer = result.get("wanted")
    if not asked or not isinstance(answer, dict):
        return {key: value for key, value in result.items() if key != "wanted"}
    return {**result, "wanted": {**answer, "role": asked.get("role"), "address": asked.get("address")}}
