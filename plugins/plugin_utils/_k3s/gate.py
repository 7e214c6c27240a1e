# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a cluster can spare one node, judged by what k3s_info told on each of its servers. Pure: values in, sentences out.

A rule is a function that answers with its own sentence, or with nothing. Add one to RULES and it holds. What is not understood is an objection.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, List, Mapping, Tuple

WITHOUT_MEMBERS = ("sqlite", "external")


def objections(answers: Iterable[Any], node: str) -> List[str]:
    """Why this node has to stay; none: it can be spared. The node's own answer does not count, as it goes."""
    name = node.strip().lower()  # as k3s names Nodes
    if not name:
        return ["no node is named"]
    others = [one for one in answers if isinstance(one, Mapping) and one.get("nodes") and one.get("node_name") not in (None, name)]
    if not others:
        return ["no other server of the cluster answers"]
    # One whose etcd or API gives no answer knows less than the others.
    found = [said for one in [one for one in others if not one.get("trouble")] or others for said in _judged(one, name)]
    return list(dict.fromkeys(found))


def _judged(answer: Mapping[str, Any], node: str) -> List[str]:
    try:
        return [said for said in (rule(answer, node) for rule in RULES) if said]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return [f"what {answer.get('node_name')} tells is not understood ({type(error).__name__}: {error})"]


# The rules


def all_is_told(answer: Mapping[str, Any], node: str) -> str:
    if answer["trouble"]:
        return str(answer["trouble"])
    if answer["etcd"] is None and answer["datastore"] not in WITHOUT_MEMBERS:
        return f"{answer['node_name']} tells nothing of etcd's members"
    return ""


def the_node_is_known(answer: Mapping[str, Any], node: str) -> str:
    """Of a node under another name, such as an instance's, nobody knows what the cluster would lose."""
    names = sorted(str(one["name"]) for one in answer["nodes"])
    return "" if node in names else f"the cluster has no node of this name, it has {', '.join(names)}"


def etcd_keeps_its_quorum(answer: Mapping[str, Any], node: str) -> str:
    """Counted among the voters of now, as the node comes back."""
    if answer["etcd"] is None:
        return ""
    others = [member for member in answer["etcd"]["members"] if member["voter"] and member["node"] != node]
    sick = [_name(member) for member in others if member["healthy"] is not True]
    healthy, quorum = len(others) - len(sick), int(answer["etcd"]["quorum"])
    if healthy >= max(quorum, 1):
        return ""
    return f"etcd would have {healthy} healthy voters without it, and needs {quorum}" + (f", as {', '.join(sick)} does not answer" if sick else "")


def etcd_admits_nobody(answer: Mapping[str, Any], node: str) -> str:
    members = answer["etcd"]["members"] if answer["etcd"] is not None else []
    admitted = [_name(member) for member in members if not member["voter"] and member["node"] != node]
    return f"etcd admits {', '.join(admitted)}" if admitted else ""


def etcd_takes_writes(answer: Mapping[str, Any], node: str) -> str:
    """With an alarm it takes none, so the node could not join again."""
    alarms = answer["etcd"]["alarms"] if answer["etcd"] is not None else []
    return f"etcd has raised {' and '.join(map(str, alarms))}" if alarms else ""


def every_other_node_is_ready(answer: Mapping[str, Any], node: str) -> str:
    unready = [str(one["name"]) for one in answer["nodes"] if one["name"] != node and one["ready"] is not True]
    return f"not Ready: {', '.join(unready)}" if unready else ""


RULES: Tuple[Callable[[Mapping[str, Any], str], str], ...] = (
    all_is_told, the_node_is_known, etcd_keeps_its_quorum, etcd_admits_nobody, etcd_takes_writes, every_other_node_is_ready)


def _name(member: Mapping[str, Any]) -> str:
    """One that has not started yet has no name in etcd."""
    return str(member["node"] or member["name"] or member["address"])
