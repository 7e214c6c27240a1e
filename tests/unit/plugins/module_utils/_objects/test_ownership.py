# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ownership proof on objects as a server lists them; tests/integration/test_in_sync_proof.py asks a real one."""

from __future__ import annotations

import copy
import sys
from typing import Any, Dict, List

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._objects import ownership
from ansible_collections.nordic.gitops.plugins.module_utils._objects.merge import fields_of, merged, put, to_send, without
from ansible_collections.nordic.gitops.plugins.module_utils._schema import Type, compact

Body = Dict[str, Any]


def struct(**fields: Any) -> Body:
    return {"type": "object", "properties": fields}


def listed(items: Any, *keys: str, how: str = "map") -> Body:
    return {"type": "array", "items": items, "x-kubernetes-list-type": how, "x-kubernetes-list-map-keys": list(keys)}


TEXT: Body = {"type": "string"}
TEXTS: Body = {"type": "object", "additionalProperties": TEXT}
ARGS: Body = {"type": "array", "items": TEXT}
FREE: Body = {"x-kubernetes-preserve-unknown-fields": True}
META = struct(labels=TEXTS, annotations=TEXTS, finalizers=listed(TEXT, how="set"))
CONTAINER = struct(name=TEXT, image=TEXT, args=ARGS, env=listed(struct(name=TEXT, value=TEXT), "name"), resources=struct(
    limits={"type": "object", "additionalProperties": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}}))
RULE = struct(ports={"type": "array", "items": struct(port={"type": "integer"}, protocol=TEXT, endPort={"type": "integer"})})
KINDS = {
    "ConfigMap": struct(metadata=META, data=TEXTS, x=FREE),
    "Deployment": struct(metadata=META, spec=struct(
        replicas={"type": "integer"}, selector={**struct(matchLabels=TEXTS), "x-kubernetes-map-type": "atomic"}, strategy=struct(type=TEXT),
        template=struct(metadata=META, spec=struct(
            containers=listed(CONTAINER, "name"), volumes=listed(struct(name=TEXT, emptyDir=struct(medium=TEXT)), "name"))))),
    "NetworkPolicy": struct(metadata=META, spec=struct(ingress={"type": "array", "items": RULE})),
    "Thing": struct(metadata=META, spec=FREE),
}
DOCUMENT = compact({"components": {"schemas": {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [TEXT, {"type": "number"}]},
    **{f"test.{kind}": {**schema, "x-kubernetes-group-version-kind": [{"kind": kind}]} for kind, schema in KINDS.items()}}}})


def schema(kind: str) -> Type:
    return Type({"ref": DOCUMENT["kinds"][kind]}, DOCUMENT["types"])


def examine(body: Body, live: Body) -> List[ownership.Finding]:
    return ownership.examine(body, live, schema(body["kind"]))


def live_of(body: Body, changes: Any = None, manager: str = "nordic-gitops") -> Body:
    """The object after our apply of the body; changes are made without the server's knowledge."""
    live = copy.deepcopy(body)
    live["metadata"]["managedFields"] = [{"manager": manager, "operation": "Apply", "apiVersion": body["apiVersion"],
                                          "fieldsV1": fields_of(body, schema(body["kind"]))}]
    if changes:
        changes(live)
    return live


def config_map(**data: str) -> Body:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n", "labels": {"a": "b"}}, "data": data}


def deployment(**container: Any) -> Body:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": {"spec": {"containers": [{"name": "web", **container}]}}}}


def whys(findings: List[ownership.Finding]) -> List[str]:
    return [f"{ownership.dotted(finding.path)} {finding.why}" for finding in findings]


def test_what_we_applied_and_nobody_touched_is_in_sync() -> None:
    body = deployment(image="i", env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], args=["--x"])
    assert examine(body, live_of(body)) == []


def test_an_object_that_was_never_applied_by_us_is_not_in_sync() -> None:
    body = config_map(k="v")
    for live in (live_of(body, manager="kubectl"), {**body}):
        (finding,) = examine(body, live)
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
    (finding,) = examine(body, live)
    assert not finding.certain
    del body["data"]["k"]  # what Git removes is known all the same
    assert whys(examine(body, live))[1:] == [".data.k is no longer in Git"]


def test_a_value_changed_behind_the_books_is_found() -> None:
    body = config_map(k="v")

    def change(live: Body) -> None:
        live["data"]["k"] = "w"

    (finding,) = examine(body, live_of(body, change))
    assert finding.certain and finding.values and whys([finding]) == ['.data.k is "w", Git says "v"']


def test_a_field_taken_away_and_a_field_taken_over_are_found() -> None:
    body = config_map(k="v", l="w")

    def change(live: Body) -> None:
        del live["data"]["k"]
        del live["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:l"]

    assert sorted(whys(examine(body, live_of(body, change)))) == [".data.k is missing", ".data.l is not ours yet"]


def test_a_field_that_git_no_longer_sets_is_found() -> None:
    assert whys(examine(config_map(k="v"), live_of(config_map(k="v", l="w")))) == [".data.l is no longer in Git"]


def test_items_in_another_order_are_found() -> None:
    body = deployment(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])

    def change(live: Body) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["env"].reverse()

    assert whys(examine(body, live_of(body, change))) == [
        '.spec.template.spec.containers[name="web"].env is in another order']


def test_items_of_others_between_ours_are_no_drift() -> None:
    body = deployment(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])

    def change(live: Body) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["env"].insert(1, {"name": "INJECTED", "value": "x"})

    assert examine(body, live_of(body, change)) == []


def test_an_item_that_is_there_twice_is_left_to_the_server() -> None:
    body = deployment(env=[{"name": "A", "value": "1"}])

    def change(live: Body) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["env"] *= 2

    (finding,) = examine(body, live_of(body, change))
    assert not finding.certain and "more than once" in finding.why


@pytest.mark.parametrize("left, right", [(True, 1), (False, 0), (1, 1.0), ("1", 1), (None, ""), ([], {})])
def test_values_of_different_json_types_are_different(left: Any, right: Any) -> None:
    body = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t", "labels": {"a": "b"}}, "spec": {"x": left}}

    def change(live: Body) -> None:
        live["spec"]["x"] = right

    assert examine(body, live_of(body, change)) != []


def test_an_empty_node_proves_nothing_where_a_field_is_not_known_to_be_one_value() -> None:
    body = deployment(resources={"limits": {"cpu": "1"}})
    live = live_of(body)
    node = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    node["f:resources"] = {}
    (finding,) = examine(body, live)
    assert not finding.certain and finding.path[-1] == "f:resources"


def test_books_of_another_shape_than_the_object_are_left_to_the_server() -> None:
    body = deployment(args=["a"], image="i")
    for place, fields in (("f:args", {"f:more": {}}), ("f:image", {"f:more": {}}), ("f:args", {'k:{"name":"x"}': {}}), ("f:args", {"i:7": {}})):
        live = live_of(body)
        live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}'][place] = fields
        findings = examine(body, live)
        assert findings and not any(finding.certain for finding in findings)
        live["metadata"]["managedFields"].append(person("kubectl-edit", ownership.own_entry(live)["fieldsV1"]))  # type: ignore[index]
        ownership.leftovers(live, body), ownership.contested(body, live), ownership.select(live, ownership.own_entry(live)["fieldsV1"])  # type: ignore[index]


def test_without_its_schema_no_list_is_taken_for_one_value() -> None:
    for group in ("example.com/v1", "gateway.networking.k8s.io/v1"):
        body = {"apiVersion": group, "kind": "Thing", "metadata": {"name": "t", "labels": {"a": "b"}}, "spec": {"rules": [{"port": 1}]}}
        assert [finding.certain for finding in ownership.examine(body, live_of(body))] == [False]
        assert examine(body, live_of(body)) == []


def test_an_atomic_value_with_the_servers_defaults_in_it_is_in_sync() -> None:
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"ingress": [{"ports": [{"port": 80}]}]}}

    def default(live: Body) -> None:
        live["spec"]["ingress"][0]["ports"][0]["protocol"] = "TCP"

    def other(live: Body) -> None:
        live["spec"]["ingress"][0]["ports"][0]["protocol"] = "UDP"

    def more(live: Body) -> None:
        live["spec"]["ingress"][0]["ports"][0]["endPort"] = 90

    assert examine(body, live_of(body, default)) == []
    assert examine(body, live_of(body, other)) != [] and examine(body, live_of(body, more)) != []


@pytest.mark.parametrize("nothing", [False, 0, "", [], {}])
def test_what_the_server_may_not_show_is_never_called_a_certain_drift(nothing: Any) -> None:
    body = deployment(thing=nothing)

    def hide(live: Body) -> None:
        del live["spec"]["template"]["spec"]["containers"][0]["thing"]

    assert not any(finding.certain for finding in examine(body, live_of(body, hide)))


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
        return isinstance(have, dict) and all(holds(value, have[key]) if key in have else value == [] or value == {} or not value and key in ownership.UNSEEN
                                              for key, value in want.items())
    return want == {} and isinstance(have, dict) or want in ({}, []) and have is None or ownership._identical(want, have)


@given(JSON, JSON)
@example({"": []}, {})
@example({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}})
def test_whatever_an_object_looks_like_examining_it_ends_and_only_what_holds_all_of_it_is_in_sync(want: Any, have: Any) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b"}}, "x": want}

    def change(live: Body) -> None:
        live["x"] = have

    findings = examine(body, live_of(body, change))
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
    live = live_of(body)
    containers = live["spec"]["template"]["spec"]["containers"]
    containers += [{"name": "one", "image": "x"}, {"name": "two", "image": "x"}]
    item = {".": {}, "f:name": {}, "f:image": {}}
    live["metadata"]["managedFields"].append(person("kubectl-patch", {"f:spec": {"f:template": {"f:spec": {"f:containers": {
        'k:{"name":"one"}': item, 'k:{"name":"two"}': item}}}}}))
    assert [item.pointer[-1] for item in ownership.leftovers(live, body)] == [2, 1]


def test_a_restart_is_an_action_and_stays() -> None:
    body = deployment(image="i")
    live = live_of(body)
    live["spec"]["template"]["metadata"] = {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}
    live["metadata"]["managedFields"].append(person("kubectl-rollout", {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {
        ".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}}}))
    assert ownership.leftovers(live, body) == []


def test_a_scale_and_a_status_are_nobodys_leftover() -> None:
    body = deployment(image="i")
    live = live_of(body)
    live["spec"]["replicas"] = 3
    live["metadata"]["managedFields"].append(person("kubectl", {"f:spec": {"f:replicas": {}}}, "scale"))
    assert ownership.leftovers(live, body) == []


@pytest.mark.parametrize("manager, expected", [("kubectl-edit", True), ("kubectl", True), ("k9s", True), ("Lens", True), ("helm", False),
                                               ("octopus", False), ("oc", True), ("Mozilla", True), ("kubectlish", False),
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
    live = live_of(body)
    live["spec"]["replicas"] = 3
    live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "other"})
    entry = ownership.own_entry(live) or {}
    assert ownership.select(live, entry["fieldsV1"]) == {key: value for key, value in body.items() if key == "spec"} | {
        "metadata": {"labels": {"a": "b"}}}


# ---- what a former tool, another manager or an empty map holds


@pytest.mark.parametrize("manager", ["kustomize-controller", "helm", "argocd-controller", "OpenAPI-Generator", "deploy@node1", "pulumi-kubernetes-1a2b"])
def test_a_former_tools_claims_end_with_an_adoption_and_not_later(manager: str) -> None:
    assert ownership.is_theirs(True)(manager) and not ownership.is_theirs(False)(manager)
    assert not ownership.is_theirs(True)("kube-controller-manager")


def test_only_our_own_keys_of_a_map_that_git_removes_are_taken_from_others() -> None:
    before, body = config_map(k="v"), config_map(k="v")
    before["metadata"]["annotations"] = {"mine": "1"}
    live = live_of(before)
    live["metadata"]["annotations"]["theirs"] = "1"
    live["metadata"]["managedFields"].append(person("some-operator", {"f:metadata": {"f:annotations": {"f:theirs": {}}}}))
    removed = ownership.no_longer_in_git(examine(body, live), live)
    assert removed == [("f:metadata", "f:annotations", "f:mine")] and ownership.co_owned(removed, live) == []


def test_a_finalizer_that_git_removes_is_taken_from_nobody_else() -> None:
    before, body = config_map(k="v"), config_map(k="v")
    before["metadata"]["finalizers"] = ["example.com/a"]
    live = live_of(before)
    assert ownership.no_longer_in_git(examine(body, live), live) == []


def test_an_empty_map_or_list_asks_for_nothing_and_is_not_sent_where_others_filled_it() -> None:
    body = deployment(image="i", env=[], resources={}, args=[])
    live = live_of(deployment(image="i"))
    container = live["spec"]["template"]["spec"]["containers"][0]
    container.update(env=[{"name": "A", "value": "1"}], resources={"limits": {"cpu": "1"}})
    assert examine(body, live) == []
    assert to_send(body, live, schema("Deployment")) == deployment(image="i")
    container["args"] = ["--theirs"]  # one value, which Git wants to be empty
    assert len(examine(body, live)) == 1
    assert to_send(body, live, schema("Deployment")) == deployment(image="i", args=[])


def test_a_struct_that_means_something_by_being_there_is_missed() -> None:
    body = deployment(image="i")
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    live = live_of(body)
    del live["spec"]["template"]["spec"]["volumes"][0]["emptyDir"]
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:volumes"]['k:{"name":"v"}']["f:emptyDir"]
    assert len(examine(body, live)) == 1


def test_content_that_nobody_owns_in_an_empty_map_of_ours_is_left_to_the_server() -> None:
    body = config_map()
    live = live_of(body, lambda one: one["data"].update(x="y"))
    (finding,) = examine(body, live)
    assert not finding.certain
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]  # who wrote it took the map from us
    assert examine(body, live) == []


def test_an_empty_struct_that_another_took_must_be_ours_again_and_is_sent() -> None:
    body = deployment(image="i")
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    live = live_of(body)
    volume = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:volumes"]['k:{"name":"v"}']
    assert examine(body, live) == []
    del volume["f:emptyDir"]
    assert len(examine(body, live)) == 1
    assert to_send(body, live, schema("Deployment")) == body
    live["spec"]["template"]["spec"]["volumes"][0]["emptyDir"] = {"medium": "Memory"}  # what others put into it is theirs
    assert examine(body, live) == []


def test_an_item_of_which_only_fields_are_ours_must_be_ours_itself() -> None:
    body = deployment(image="i")
    live = live_of(body)
    containers = live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert examine(body, live) == []
    del containers['k:{"name":"web"}']["."]
    assert [finding.path[-1] for finding in examine(body, live)] == ['k:{"name":"web"}']


# ---- merging as the server does


def test_an_apply_keeps_others_fields_and_items_and_replaces_what_is_one_value() -> None:
    have, want = deployment(image="i", args=["a"], env=[{"name": "A", "value": "1"}]), deployment(args=["b"], env=[{"name": "B", "value": "2"}])
    have["spec"]["template"]["spec"]["containers"].insert(0, {"name": "other"})
    result = merged(have, want, schema("Deployment"))
    assert result["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "image": "i", "args": ["b"], "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]}, {"name": "other"}]


@given(some.lists(some.sampled_from("abc"), unique=True), some.lists(some.sampled_from("abcd"), unique=True))
def test_what_is_put_is_held_and_what_is_taken_is_gone(first: List[str], second: List[str]) -> None:
    have = deployment(env=[{"name": name, "value": "1"} for name in first])
    want = deployment(env=[{"name": name, "value": "2"} for name in second])
    result = merged(have, want, schema("Deployment"))
    assert merged(result, want, schema("Deployment")) == result
    base = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"web"}', "f:env")
    assert without(result, [base + ('k:{"name":"%s"}' % name,) for name in set(first) - set(second)]) == want
    for name in first:
        put(want, have, base + ('k:{"name":"%s"}' % name,))
    names = [item["name"] for item in want["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert set(names) == {*first, *second} and len(names) == len(set(names))


def test_a_list_of_thousands_of_items_costs_no_more_for_each_of_them() -> None:
    def calls(count: int) -> int:
        body = config_map(k="v")
        body["metadata"]["finalizers"] = [f"example.com/{number}" for number in range(count)]
        live = live_of(body)
        live["metadata"]["managedFields"].append(person("kubectl", live["metadata"]["managedFields"][0]["fieldsV1"]))
        seen = [0]

        def count_call(_frame: Any, event: str, _argument: Any) -> None:
            seen[0] += event in ("call", "c_call")

        sys.setprofile(count_call)
        try:
            found = [examine(body, live), ownership.leftovers(live, body), ownership.contested(body, live)]
        finally:
            sys.setprofile(None)
        assert found == [[], [], []]
        return seen[0]

    assert calls(4000) < 12 * calls(400)
