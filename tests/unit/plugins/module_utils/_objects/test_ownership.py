# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ownership proof on objects as a server lists them; tests/integration/test_in_sync_proof.py asks a real one."""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, List

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership

Body = Dict[str, Any]


def owned(value: Any, keys: Dict[str, List[str]]) -> Any:
    """The fieldsV1 of an apply of this value: lists named in keys are maps by these keys, other lists are atomic."""

    def fields(node: Any, name: str) -> Any:
        if isinstance(node, dict) and name not in ownership.ATOMIC_MAPS:
            return {f"f:{key}": fields(child, key) for key, child in node.items()}
        if isinstance(node, list) and name in keys:
            return {seal_key(item, keys[name]): {".": {}, **fields(item, "")} for item in node}
        return {}

    return fields(value, "")


def seal_key(item: Body, names: List[str]) -> str:
    return "k:" + json.dumps({name: item[name] for name in sorted(names)}, separators=(",", ":"))


def live_of(body: Body, changes: Any = None, manager: str = "nordic-gitops", **keys: List[str]) -> Body:
    """The object after our apply of the body; changes are made without the server's knowledge."""
    live = copy.deepcopy(body)
    content = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    content["metadata"] = {key: value for key, value in body["metadata"].items() if key not in ("name", "namespace")}
    live["metadata"]["managedFields"] = [{"manager": manager, "operation": "Apply", "apiVersion": body["apiVersion"],
                                          "fieldsV1": owned(content, keys)}]
    if changes:
        changes(live)
    return live


def config_map(**data: str) -> Body:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n", "labels": {"a": "b"}}, "data": data}


def deployment(**container: Any) -> Body:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": {"spec": {"containers": [{"name": "web", **container}]}}}}


KEYS = {"containers": ["name"], "env": ["name"]}


def whys(findings: List[ownership.Finding]) -> List[str]:
    return [f"{ownership.dotted(finding.path)} {finding.why}" for finding in findings]


def test_what_we_applied_and_nobody_touched_is_in_sync() -> None:
    body = deployment(image="i", env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], args=["--x"])
    assert ownership.examine(body, live_of(body, **KEYS)) == []


def test_an_object_that_was_never_applied_by_us_is_not_in_sync() -> None:
    body = config_map(k="v")
    for live in (live_of(body, manager="kubectl"), {**body}):
        (finding,) = ownership.examine(body, live)
        assert finding.certain and "nordic-gitops" in finding.why


def test_an_entry_of_a_subresource_is_not_our_apply() -> None:
    body = config_map(k="v")
    live = live_of(body)
    live["metadata"]["managedFields"][0]["subresource"] = "status"
    assert ownership.own_entry(live) is None


def test_another_api_version_is_left_to_the_server() -> None:
    body = config_map(k="v")
    live = live_of(body)
    live["metadata"]["managedFields"][0]["apiVersion"] = "v0"
    (finding,) = ownership.examine(body, live)
    assert not finding.certain


def test_a_value_changed_behind_the_books_is_found() -> None:
    body = config_map(k="v")

    def change(live: Body) -> None:
        live["data"]["k"] = "w"

    (finding,) = ownership.examine(body, live_of(body, change))
    assert finding.certain and finding.values and whys([finding]) == ['.data.k is "w", Git says "v"']


def test_a_field_taken_away_and_a_field_taken_over_are_found() -> None:
    body = config_map(k="v", l="w")

    def change(live: Body) -> None:
        del live["data"]["k"]
        del live["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:l"]

    assert sorted(whys(ownership.examine(body, live_of(body, change)))) == [".data.k is missing", ".data.l is not ours yet"]


def test_a_field_that_git_no_longer_sets_is_found() -> None:
    assert whys(ownership.examine(config_map(k="v"), live_of(config_map(k="v", l="w")))) == [".data.l is no longer in Git"]


def test_items_in_another_order_are_found() -> None:
    body = deployment(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])

    def change(live: Body) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["env"].reverse()

    assert whys(ownership.examine(body, live_of(body, change, **KEYS))) == [
        '.spec.template.spec.containers[name="web"].env is in another order']


def test_items_of_others_between_ours_are_no_drift() -> None:
    body = deployment(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])

    def change(live: Body) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["env"].insert(1, {"name": "INJECTED", "value": "x"})

    assert ownership.examine(body, live_of(body, change, **KEYS)) == []


def test_an_item_that_is_there_twice_is_left_to_the_server() -> None:
    body = deployment(env=[{"name": "A", "value": "1"}])

    def change(live: Body) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["env"] *= 2

    (finding,) = ownership.examine(body, live_of(body, change, **KEYS))
    assert not finding.certain and "more than once" in finding.why


@pytest.mark.parametrize("left, right", [(True, 1), (False, 0), (1, 1.0), ("1", 1), (None, ""), ([], {})])
def test_values_of_different_json_types_are_different(left: Any, right: Any) -> None:
    body = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "labels": {"a": "b"}}, "spec": {"x": left}}

    def change(live: Body) -> None:
        live["spec"]["x"] = right

    assert ownership.examine(body, live_of(body, change)) != []


def test_an_empty_node_proves_nothing_where_a_field_is_not_known_to_be_one_value() -> None:
    body = deployment(resources={"limits": {"cpu": "1"}})
    live = live_of(body, **KEYS)
    node = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    node["f:resources"] = {}
    (finding,) = ownership.examine(body, live)
    assert not finding.certain and finding.path[-1] == "f:resources"


def test_books_of_another_shape_than_the_object_are_left_to_the_server() -> None:
    body = deployment(args=["a"], image="i")
    for place, fields in (("f:args", {"f:more": {}}), ("f:image", {"f:more": {}}), ("f:args", {'k:{"name":"x"}': {}}), ("f:args", {"i:7": {}})):
        live = live_of(body, **KEYS)
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}'][place] = fields
        findings = ownership.examine(body, live)
        assert findings and not any(finding.certain for finding in findings)
        live["metadata"]["managedFields"].append(person("kubectl-edit", ownership.own_entry(live)["fieldsV1"]))  # type: ignore[index]
        ownership.leftovers(live, body), ownership.contested(body, live), ownership.select(live, ownership.own_entry(live)["fieldsV1"])  # type: ignore[index]


def test_of_a_custom_kind_no_list_is_taken_for_one_value_whatever_its_group_looks_like() -> None:
    for group in ("example.com/v1", "gateway.networking.k8s.io/v1"):
        body = {"apiVersion": group, "kind": "Thing", "metadata": {"name": "t", "labels": {"a": "b"}}, "spec": {"rules": [{"port": 1}]}}
        assert [finding.certain for finding in ownership.examine(body, live_of(body))] == [False]


def test_an_atomic_value_with_the_servers_defaults_in_it_is_in_sync() -> None:
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"ingress": [{"ports": [{"port": 80}]}]}}

    def default(live: Body) -> None:
        live["spec"]["ingress"][0]["ports"][0]["protocol"] = "TCP"

    def other(live: Body) -> None:
        live["spec"]["ingress"][0]["ports"][0]["protocol"] = "UDP"

    def more(live: Body) -> None:
        live["spec"]["ingress"][0]["ports"][0]["endPort"] = 90

    assert ownership.examine(body, live_of(body, default)) == []
    assert ownership.examine(body, live_of(body, other)) != [] and ownership.examine(body, live_of(body, more)) != []


@pytest.mark.parametrize("nothing", [False, 0, "", [], {}])
def test_what_the_server_may_not_show_is_never_called_a_certain_drift(nothing: Any) -> None:
    body = deployment(thing=nothing)

    def hide(live: Body) -> None:
        del live["spec"]["template"]["spec"]["containers"][0]["thing"]

    assert not any(finding.certain for finding in ownership.examine(body, live_of(body, hide, **KEYS)))


# As kube-apiserver 1.36 answered, for what was applied.
@pytest.mark.parametrize("written, stored", [
    ("1", "1"), ("1000m", "1"), ("1.5", "1500m"), ("2000m", "2"), ("1k", "1k"), ("1000", "1k"), (1000, "1k"), ("1024Mi", "1Gi"),
    ("1073741824", "1073741824"), ("1.5Gi", "1536Mi"), ("1Ki", "1Ki"), ("1024", "1024"), ("2000k", "2M"), ("1.50", "1500m"), ("0.5", "500m"),
    (0.1, "100m"), ("0.5Gi", "512Mi"), ("0", "0"), ("0m", "0"), ("1000Ki", "1000Ki"), ("0.5Ki", "512"), ("1.0", "1"), ("-1", "-1"),
])
def test_a_quantity_is_written_as_the_server_stores_it(written: Any, stored: str) -> None:
    assert ownership.canonical_quantity(written) == stored


@pytest.mark.parametrize("unsure", ["", "+5", "01", "5.", ".5", "1e3", "1E3", "1e0", "12e2", "0.1n", "1E30", "9" * 40, "nan", "inf", "1_000", " 1",
                                    "1 ", "١", "1Mi0", "Ki", "--1", True, None, [], {}, "sNaN", "1ki", "1K"])
def test_a_spelling_that_the_server_treats_in_its_own_way_is_left_to_it(unsure: Any) -> None:
    assert ownership.canonical_quantity(unsure) is None


SUFFIXES = some.sampled_from(["", *"numkMGTPE", "Ki", "Mi", "Ti"])


@given(some.builds("{}{}".format, some.one_of(some.integers(), some.decimals(-10**15, 10**15, places=3)), SUFFIXES))
def test_a_stored_quantity_is_stored_as_it_is(value: Any) -> None:
    stored = ownership.canonical_quantity(value)
    assert stored is None or ownership.canonical_quantity(stored) == stored


JSON = some.recursive(some.one_of(some.none(), some.booleans(), some.integers(), some.text(max_size=3)),
                      lambda child: some.one_of(some.lists(child, max_size=3), some.dictionaries(some.text(max_size=3), child, max_size=3)))


def holds(want: Any, have: Any) -> bool:
    """Whether have is all of want: fields of others may be beside it, and what a built-in kind keeps without showing it may be absent."""
    if want and isinstance(want, dict):
        return isinstance(have, dict) and all(holds(value, have[key]) if key in have else value == [] or not value and key in ownership.UNSEEN
                                              for key, value in want.items())
    return ownership._identical(want, have)


@given(JSON, JSON)
@example({"": []}, {})
@example({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}})
def test_whatever_an_object_looks_like_examining_it_ends_and_only_what_holds_all_of_it_is_in_sync(want: Any, have: Any) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b"}}, "x": want}

    def change(live: Body) -> None:
        live["x"] = have

    findings = ownership.examine(body, live_of(body, change))
    if not findings:
        assert holds(want, have)


def person(manager: str, fields: Body, subresource: str = "") -> Body:
    entry = {"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsV1": fields}
    return {**entry, "subresource": subresource} if subresource else entry


def test_what_a_person_added_is_left_over_and_what_others_or_git_claim_is_not() -> None:
    body = config_map(k="v")
    live = live_of(body)
    live["data"].update({"mine": "1", "shared": "1"})
    live["metadata"]["managedFields"] += [
        person("kubectl-edit", {"f:data": {"f:k": {}, "f:mine": {}, "f:shared": {}, "f:gone": {}}}),
        person("some-operator", {"f:data": {"f:shared": {}}})]
    assert [(item.pointer, item.manager) for item in ownership.leftovers(live, body)] == [(("data", "mine"), "kubectl-edit")]


def test_a_whole_item_that_a_person_added_is_one_leftover_and_later_items_go_first() -> None:
    body = deployment(image="i")
    live = live_of(body, **KEYS)
    containers = live["spec"]["template"]["spec"]["containers"]
    containers += [{"name": "one", "image": "x"}, {"name": "two", "image": "x"}]
    item = {".": {}, "f:name": {}, "f:image": {}}
    live["metadata"]["managedFields"].append(person("kubectl-patch", {"f:spec": {"f:template": {"f:spec": {"f:containers": {
        'k:{"name":"one"}': item, 'k:{"name":"two"}': item}}}}}))
    assert [item.pointer[-1] for item in ownership.leftovers(live, body)] == [2, 1]


def test_a_restart_is_an_action_and_stays() -> None:
    body = deployment(image="i")
    live = live_of(body, **KEYS)
    live["spec"]["template"]["metadata"] = {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}
    live["metadata"]["managedFields"].append(person("kubectl-rollout", {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {
        ".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}}}))
    assert ownership.leftovers(live, body) == []


def test_a_scale_and_a_status_are_nobodys_leftover() -> None:
    body = deployment(image="i")
    live = live_of(body, **KEYS)
    live["spec"]["replicas"] = 3
    live["metadata"]["managedFields"].append(person("kubectl", {"f:spec": {"f:replicas": {}}}, "scale"))
    assert ownership.leftovers(live, body) == []


@pytest.mark.parametrize("manager, expected", [("kubectl-edit", True), ("kubectl", True), ("k9s", True), ("Lens", True), ("helm", False),
                                               ("kube-controller-manager", False), ("before-first-apply", False)])
def test_a_person_is_told_by_the_tool(manager: str, expected: bool) -> None:
    assert ownership.is_person(manager) is expected


def test_paths_are_written_as_the_server_writes_them() -> None:
    assert ownership.dotted(("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"web"}', "f:image")) == (
        '.spec.template.spec.containers[name="web"].image')
    assert ownership.dotted(("f:metadata", "f:labels", "f:example.com/team")) == '.metadata.labels["example.com/team"]'
    assert ownership.dotted(("f:metadata", "f:finalizers", 'v:"x"')) == '.metadata.finalizers["x"]'
    assert ownership.dotted(()) == "."


def test_a_selection_holds_what_the_entry_names_and_nothing_else() -> None:
    body = deployment(image="i", env=[{"name": "A", "value": "1"}])
    live = live_of(body, **KEYS)
    live["spec"]["replicas"] = 3
    live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "other"})
    entry = ownership.own_entry(live) or {}
    assert ownership.select(live, entry["fieldsV1"]) == {key: value for key, value in body.items() if key == "spec"} | {
        "metadata": {"labels": {"a": "b"}}}
