# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate for deletions: no object passes it that this reconcile did not make, or that somebody or something keeps."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Body, Change, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import deletion
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.deletion import EVERY_DELETION, HOOKS, KEEP, PRUNING, Scope, rule_against
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options, PruneLimit
from hypothesis import given
from hypothesis import strategies as st

ID = "applyset-x-v1"
CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
SCOPE = Scope(ID, frozenset({("", "ConfigMap"), ("", "Namespace"), CRD, ("example.com", "Namespace")}), frozenset({"n"}))


def options(**changed: Any) -> Options:
    values: Dict[str, Any] = {
        "name": "shop", "namespace": "", "inventory_namespace": "default", "adopt": "unowned", "prune": True,
        "prune_limit": PruneLimit.of("50%"), "prune_protected": False, "allow_empty": False, "on_conflict": "force",
        "replace_immutable": True, "move": False, "expect": "", "verify": "auto", "wait": True, "wait_timeout": 60.0,
        "check_mode": False, "diff": False}
    return Options(**{**values, **changed})


def live(kind: str = "ConfigMap", name: str = "c", namespace: str = "n", group: str = "", applied: bool = True, label: str = ID,
         replaces: bool = False, git: Optional[Body] = None, **metadata: Any) -> Change:
    """An object of the inventory that would be pruned, or replaced by what Git says."""
    entry = {"manager": "nordic-gitops", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {f"f:{PART_OF}": {}}}}}
    before = {"metadata": {"name": name, "uid": name, "labels": {PART_OF: label}, "managedFields": [entry] if applied else [], **metadata}}
    ref = Ref(group, kind, namespace, name)
    intent = Intent(ref, "v1", git or {"metadata": {"name": name}}, "c.yaml:1") if replaces else None
    return Change("configured" if replaces else "pruned", ref, "", intent, None, None, before, replaces=replaces)


def reason(change: Change, scope: Scope = SCOPE, **changed: Any) -> str:
    found = rule_against(change, scope, options(**changed))
    return found[1] if found else ""


@pytest.mark.parametrize("replaces", [False, True])
def test_what_is_ours_may_go(replaces: bool) -> None:
    assert reason(live(replaces=replaces)) == ""


def test_nothing_is_pruned_when_prune_is_off() -> None:
    assert reason(live(), prune=False) == "prune is off"


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("key, value", [(key, value) for key, values in KEEP for value in values])
def test_nothing_is_deleted_that_says_so_itself(key: str, value: str, replaces: bool) -> None:
    for text in (value, f"Validate=false, {value}"):
        found = reason(live(annotations={key: text}, replaces=replaces))
        assert value in found and key in found


@pytest.mark.parametrize("key, value", [(key, value) for key, values in KEEP for value in values])
def test_nothing_is_replaced_that_git_says_to_keep(key: str, value: str) -> None:
    assert key in reason(live(replaces=True, git={"metadata": {"annotations": {key: f"Replace=true,{value}"}}}))


@pytest.mark.parametrize("key", [key for key, _values in KEEP])
def test_another_value_of_such_an_annotation_keeps_nothing(key: str) -> None:
    assert reason(live(annotations={key: "Prune=true"})) == ""


def test_nothing_is_deleted_twice() -> None:
    assert "being deleted already" in reason(live(deletionTimestamp="2026-01-01T00:00:00Z"))


@pytest.mark.parametrize("replaces", [False, True])
def test_what_a_controller_made_goes_with_its_owner_only(replaces: bool) -> None:
    assert reason(live(ownerReferences=[{"kind": "ReplicaSet", "name": "web-1", "controller": True}], replaces=replaces)) == "belongs to ReplicaSet web-1"
    assert reason(live(ownerReferences=[{"kind": "Node", "name": "one"}], replaces=replaces)) == ""


@pytest.mark.parametrize("replaces", [False, True])
def test_what_is_not_ours_or_only_looks_like_it_is_not_deleted(replaces: bool) -> None:
    assert "was not applied by nordic-gitops" in reason(live(applied=False, replaces=replaces))
    assert "does not belong to this reconcile" in reason(live(label="applyset-other-v1", replaces=replaces))


@pytest.mark.parametrize("tracking, kept", [
    ("shop:/ConfigMap:n/c", True),
    ("argocd_shop:/ConfigMap:n/c", True),
    # Of the object that this one is a copy of.
    ("shop:/ConfigMap:n/other", False),
    ("shop:apps/Deployment:n/c", False),
    ("shop", False),
])
def test_what_an_application_has_adopted_is_not_pruned(tracking: str, kept: bool) -> None:
    found = reason(live(annotations={deletion.TRACKING_ID: tracking}))
    assert found == (f"belongs to the Application {tracking.partition(':')[0]} of Argo CD" if kept else "")


@pytest.mark.parametrize("replaces", [False, True])
def test_nothing_is_deleted_where_the_inventory_has_no_record(replaces: bool) -> None:
    """The field manager's name and the label can be forged by whoever may write the object."""
    assert "no record of the namespace elsewhere" in reason(live(namespace="elsewhere", replaces=replaces))
    assert "no record of the kind ClusterRole" in reason(live("ClusterRole", namespace="", group="rbac.authorization.k8s.io", replaces=replaces))


@pytest.mark.parametrize("group, kind", [CRD, ("", "Namespace")])
def test_no_crd_and_no_namespace_is_deleted_unasked(group: str, kind: str) -> None:
    assert "prune_protected" in reason(live(kind, "x", "", group))
    assert reason(live(kind, "x", "", group), prune_protected=True) == ""
    assert "never replaced" in reason(live(kind, "x", "", group, replaces=True), prune_protected=True)


def test_a_kind_that_is_only_called_namespace_is_no_namespace() -> None:
    assert reason(live("Namespace", "x", "", "example.com")) == ""


def test_no_namespace_is_pruned_that_git_still_fills_or_that_the_server_keeps() -> None:
    inside = Ref("", "ConfigMap", "full", "kept")
    assert "Git still has ConfigMap full/kept in it" in reason(live("Namespace", "full", ""), replace(SCOPE, inhabited={"full": inside}), prune_protected=True)
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        assert "never deletes" in reason(live("Namespace", name, ""), prune_protected=True)


def test_nothing_is_pruned_by_half_a_render() -> None:
    assert reason(live(), replace(SCOPE, incomplete="a group is down")) == "a group is down"


ANNOTATIONS = st.dictionaries(st.sampled_from([key for key, _values in KEEP] + ["other"]),
                              st.sampled_from([value for _key, values in KEEP for value in values] + ["", "x", "Replace=true"]), max_size=3)
ENTRIES = st.lists(st.fixed_dictionaries({
    "manager": st.sampled_from(["nordic-gitops", "kubectl", "nordic-gitops-2"]), "operation": st.sampled_from(["Apply", "Update"]),
    "fieldsV1": st.sampled_from([{}, {"f:metadata": {}}, {"f:metadata": {"f:labels": {f"f:{PART_OF}": {}}}}, {"f:metadata": {"f:labels": {}}}])},
    optional={"subresource": st.sampled_from(["", "status", "scale"])}), max_size=3)
OWNERS = st.lists(st.fixed_dictionaries({"kind": st.just("X"), "name": st.just("y")}, optional={"controller": st.booleans()}), max_size=2)


@given(annotations=ANNOTATIONS, git=ANNOTATIONS, entries=ENTRIES, owners=OWNERS, label=st.sampled_from([ID, "other", ""]),
       namespace=st.sampled_from(["n", "elsewhere", ""]), kind=st.sampled_from([("", "ConfigMap"), ("", "Namespace"), CRD, ("", "Secret")]),
       going=st.booleans(), replaces=st.booleans(), prune=st.booleans(), protected=st.booleans())
def test_whatever_an_object_looks_like_it_passes_only_with_every_proof(
        annotations: Dict[str, str], git: Dict[str, str], entries: List[Body], owners: List[Body], label: str, namespace: str, kind: Any,
        going: bool, replaces: bool, prune: bool, protected: bool) -> None:
    metadata: Body = {"annotations": annotations, "managedFields": entries, "ownerReferences": owners, "labels": {PART_OF: label}}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    change = live(kind[1], "c", namespace, kind[0], replaces=replaces, git={"metadata": {"annotations": git}}, **metadata)
    if reason(change, prune=prune, prune_protected=protected):
        return
    # It may go, so all of this holds:
    proofs = [entry for entry in entries if entry["manager"] == "nordic-gitops" and entry["operation"] == "Apply" and not entry.get("subresource")]
    assert proofs and proofs[0]["fieldsV1"] == {"f:metadata": {"f:labels": {f"f:{PART_OF}": {}}}} and label == ID
    assert namespace in ("n", "") and kind != ("", "Secret")
    assert not any(owner.get("controller") for owner in owners)
    forbidden = dict(KEEP)
    asked = [annotations] + ([git] if replaces else [])
    assert not any(value in forbidden.get(key, ()) for found in asked for key, value in found.items())
    assert kind == ("", "ConfigMap") or protected and not replaces
    assert replaces or prune and not going


def test_every_rule_of_the_file_is_in_the_tables() -> None:
    rules = {value for name, value in vars(sys.modules[deletion.__name__]).items() if not name.startswith("_") and callable(value)
             and getattr(value, "__module__", "") == deletion.__name__ and "scope" in str(getattr(value, "__annotations__", {})).lower()}
    assert rules - {deletion.rule_against, deletion.delete} == set(PRUNING) | set(HOOKS) and set(EVERY_DELETION) < set(PRUNING)


def hook(kind: str = "Job", group: str = "batch", namespace: str = "n", label: str = ID, applied: bool = True, annotations: Any = None, **body: Any) -> Change:
    """The object of a hook that is to be created again."""
    entry = {"manager": "nordic-gitops", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {f"f:{OF}": {}}}}}
    before = {**body, "metadata": {"name": "migrate", "uid": "u", "labels": {OF: label}, "managedFields": [entry] if applied else [],
                                   **body.get("metadata", {})}}
    intent = Intent(Ref(group, kind, namespace, "migrate"), "v1", {"metadata": {"annotations": annotations or {}}}, "h.yaml:1")
    return Change("created", intent.ref, "", intent, None, intent.body, before, replaces=True, hook=True)


def test_a_hook_that_a_run_of_this_reconcile_made_may_go_and_no_other() -> None:
    assert reason(hook()) == ""
    for other in (hook(label="applyset-other-v1"), hook(applied=False), hook(metadata={"labels": {}})):
        assert reason(other) == "was not made by a hook of this reconcile"


def test_an_object_of_the_inventory_that_became_a_hook_may_go() -> None:
    assert reason(replace(hook(), before=live().before)) == ""
    assert reason(replace(hook(), before=live().before, operation="pruned")) == "was not made by a hook of this reconcile"  # not for good
    for other in (live(label="applyset-other-v1"), live(applied=False)):
        assert reason(replace(hook(), before=other.before)) == "was not made by a hook of this reconcile"


def test_a_hook_that_argo_cd_left_may_go_only_for_its_own_application() -> None:
    marks = {"annotations": {deletion.TRACKING_ID: "payment:batch/Job:n/migrate"}, "labels": {}}
    assert reason(hook(metadata=marks), tracked_by=("payment",)) == ""
    assert reason(hook(metadata=marks), tracked_by=("other",)) and reason(hook(metadata=marks))
    assert reason(hook("Pod", "", metadata=marks), tracked_by=("payment",))


@pytest.mark.parametrize("kind, group", [("Namespace", ""), ("CustomResourceDefinition", CRD[0]), ("Application", "argoproj.io")])
def test_a_hook_is_not_deleted_with_what_depends_on_it(kind: str, group: str) -> None:
    assert "never replaced" in reason(hook(kind, group, ""))


def test_a_hook_is_not_deleted_with_data_unless_it_asks_for_that() -> None:
    assert reason(hook("PersistentVolumeClaim", "")) == "its data would be lost with it"
    assert reason(hook("PersistentVolumeClaim", "", annotations={"argocd.argoproj.io/sync-options": "Replace=true"})) == ""
    fields = hook().before["metadata"]["managedFields"]  # type: ignore[index]
    metadata = {"finalizers": ["example.com/drop"], "labels": {OF: ID}, "managedFields": fields}
    assert "would be lost with it" in reason(hook("Database", "example.com", metadata=metadata))


def test_a_hook_that_is_to_be_kept_stays() -> None:
    assert "keep" in reason(hook(annotations={"helm.sh/resource-policy": "keep"}))


def test_nothing_else_of_the_engine_deletes() -> None:
    engine = Path(deletion.__file__).parents[1]
    found = set()
    for path in (*(engine / "_reconcile").glob("*.py"), *(engine / "_objects").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "delete" and "cluster" in ast.dump(node.func.value):
                found.add(path.name)
    assert found == {"deletion.py"}
