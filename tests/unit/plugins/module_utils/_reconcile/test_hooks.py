# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hook is, when it runs, and at which place of the order."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._objects.values import Document, Intent, Ref
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.hooks import (
    HELM_HOOK, HELM_POLICY, HOOK, OF, POLICIES, POLICY, RUN, Split, named, phases_of, policies_of, record_of_begun, record_of_done, split, unfinished)
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.inventory import PART_OF
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import DEPENDS_ON, PHASES, WAVE, WEIGHT, steps
from hypothesis import given
from hypothesis import strategies as st

COMMIT = "3f786850e387550fdab836ed7e6dc881de23001b"


def body(**marks: str) -> Dict[str, Any]:
    keys = {"hook": HOOK, "helm": HELM_HOOK, "policy": POLICY, "helm_policy": HELM_POLICY, "wave": WAVE, "weight": WEIGHT}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate", "labels": {PART_OF: "set"},
                                                                  "annotations": {keys[key]: value for key, value in marks.items()}}}


def intent(kind: str = "Job", name: str = "migrate", namespace: str = "n", **marks: str) -> Intent:
    return Intent(Ref("batch" if kind == "Job" else "", kind, namespace, name), "batch/v1",
                  {**body(**marks), "metadata": {**body(**marks)["metadata"], "name": name}}, f"{name}.yaml:1")


def divided(*intents: Intent, commit: str = COMMIT) -> Split:
    return split(intents, "set", commit, "d", [])


@pytest.mark.parametrize("marks, phases", [
    ({}, None), ({"hook": "PreSync"}, ("PreSync",)), ({"hook": "SyncFail, PostSync,PreSync"}, ("PreSync", "PostSync", "SyncFail")),
    ({"hook": "Skip"}, ()), ({"hook": "Skip,Sync"}, ("Sync",)), ({"hook": "PreDelete"}, ()), ({"hook": "PostDelete,PostSync"}, ("PostSync",)),
    ({"helm": "pre-install"}, ("PreSync",)), ({"helm": "pre-install,pre-upgrade"}, ("PreSync",)),
    ({"helm": "post-install,pre-upgrade"}, ("PreSync", "PostSync")),
    ({"helm": "crd-install"}, None), ({"helm": "crd-install,pre-install"}, ("PreSync",)), ({"helm": "test"}, ()), ({"helm": "pre-delete,post-rollback"}, ()),
    # Argo CD's own annotation counts, and Helm's where it names no phase of a sync.
    ({"hook": "Sync", "helm": "pre-install"}, ("Sync",)), ({"hook": "PostDelete", "helm": "post-install"}, ("PostSync",)),
    ({"hook": "Skip", "helm": "pre-install"}, ()),
])
def test_the_phases_of_a_hook_are_those_that_argo_cd_gives_it(marks: Dict[str, str], phases: Any) -> None:
    assert phases_of(body(**marks), "h.yaml:1") == phases


@pytest.mark.parametrize("marks", [{"hook": "presync"}, {"hook": ""}, {"hook": "PreSync;Sync"}, {"helm": "before-install"}, {"helm": ""}])
def test_a_hook_of_a_phase_that_does_not_exist_is_told_with_its_place(marks: Dict[str, str]) -> None:
    with pytest.raises(Failure, match="h.yaml:1: annotation .* has .* Write "):
        phases_of(body(**marks), "h.yaml:1")


@pytest.mark.parametrize("marks, policies", [
    ({}, {"BeforeHookCreation"}), ({"policy": "HookSucceeded"}, {"HookSucceeded"}), ({"policy": "HookFailed, HookSucceeded"}, {"HookFailed", "HookSucceeded"}),
    ({"helm_policy": "hook-failed"}, {"HookFailed"}),
    ({"policy": "HookSucceeded", "helm_policy": "before-hook-creation"}, {"HookSucceeded", "BeforeHookCreation"}),
])
def test_a_hook_is_deleted_before_it_is_created_again_unless_it_says_otherwise(marks: Dict[str, str], policies: Any) -> None:
    assert policies_of(body(**marks), "h.yaml:1") == policies


@pytest.mark.parametrize("marks", [{"policy": "Never"}, {"helm_policy": "HookSucceeded"}, {"policy": ""}])
def test_a_delete_policy_that_does_not_exist_is_told_with_its_place(marks: Dict[str, str]) -> None:
    with pytest.raises(Failure, match="h.yaml:1: annotation .*delete-policy has"):
        policies_of(body(**marks), "h.yaml:1")


@pytest.mark.parametrize("marks, wave", [({}, 0), ({"weight": "-5"}, -5), ({"wave": "2", "weight": "7"}, 2)])
def test_helms_weight_is_the_wave_of_what_states_none(marks: Dict[str, str], wave: int) -> None:
    assert [hook.wave for hook in divided(intent(hook="Sync", **marks)).hooks] == [wave]


def test_a_hook_carries_its_own_label_and_never_that_of_the_members() -> None:
    found = divided(intent(hook="PreSync,PostSync"), intent(name="kept"), intent(name="skipped", hook="Skip"))
    assert [(one.ref.name, one.phase) for one in found.hooks] == [("migrate", "PreSync"), ("migrate", "PostSync")]
    assert [one.ref.name for one in found.intents] == ["kept"] and {ref.name for ref in found.left_out} == {"skipped"}
    for hook in found.hooks:
        metadata = hook.intent.body["metadata"]
        assert metadata["labels"] == {OF: "set"} and metadata["annotations"][RUN] == f"{COMMIT}/d/{hook.phase}" == hook.run


def test_a_generated_name_is_another_one_for_each_commit_and_phase_and_the_same_for_a_second_try() -> None:
    metadata = {"generateName": "backup-", "annotations": {HOOK: "PreSync,PostSync"}}
    document = Document({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}, "h.yaml", 1)
    names = [one.body["metadata"]["name"] for one in named([document], COMMIT)]
    assert names == ["backup-3f78685-presync", "backup-3f78685-postsync"] == [one.body["metadata"]["name"] for one in named([document], COMMIT)]
    assert not set(names) & {one.body["metadata"]["name"] for one in named([document], "a" * 40)}


def test_hooks_count_as_unchanged_from_one_commit_to_the_next_as_long_as_git_says_the_same_of_them() -> None:
    first = divided(intent(hook="PreSync"), intent(name="other", hook="Sync"))
    assert first.digest == divided(intent(name="other", hook="Sync"), intent(hook="PreSync"), commit="a" * 40).digest
    assert first.digest != divided(intent(hook="PreSync")).digest != divided(intent(hook="PostSync")).digest
    assert divided(intent()).digest == ""


def test_no_digest_of_the_value_of_a_secret_is_recorded() -> None:
    def secret(value: str) -> Intent:
        return Intent(Ref("", "Secret", "n", "s"), "v1", {**body(hook="PreSync"), "kind": "Secret", "data": {"password": value}}, "s.yaml:1")

    assert divided(secret("aHVudGVyMg==")).digest == divided(secret("MTIzNA==")).digest


@pytest.mark.parametrize("data", [5, True, [{"a": 1}, {"b": 2}], [1, "a"], "text"])
def test_a_kind_of_somebody_else_that_is_called_secret_may_hold_anything(data: Any) -> None:
    secret = Intent(Ref("example.com", "Secret", "n", "s"), "example.com/v1", {**body(hook="PreSync"), "kind": "Secret", "data": data}, "s.yaml:1")
    assert divided(secret).digest


def test_what_is_on_record_is_read_as_it_was_written() -> None:
    refs = [Ref("batch", "Job", "n", "migrate"), Ref("", "Namespace", "", "n")]
    assert sorted(unfinished(record_of_begun(refs))) == sorted(refs)
    assert unfinished(record_of_done("abc")) == unfinished("") == unfinished("unfinished ") == []
    assert unfinished("unfinished a/b,../..//x y,/ConfigMap/n/..,/ConfigMap/../x") == []


def test_depends_on_between_a_hook_and_an_object_is_told() -> None:
    notes: List[str] = []
    hook = intent(hook="Sync")
    hook.body["metadata"]["annotations"][DEPENDS_ON] = "/namespaces/n/ConfigMap/kept"
    assert split([hook], "set", COMMIT, "d", notes).hooks and "depends-on is not read on a hook" in notes[0] and "migrate.yaml:1" in notes[0]
    kept = intent(kind="ConfigMap", name="kept")
    kept.body["metadata"]["annotations"][DEPENDS_ON] = "batch/namespaces/n/Job/migrate"
    found = divided(hook, kept)
    with pytest.raises(Failure, match="kept.yaml:1: .* names Job.batch n/migrate, which is a hook. Hooks run by phase and wave"):
        steps(found.intents, found.hooks)


# ---- the order, compared with a referee: sort by phase and wave, after a Namespace has moved to the first that is in it

KEPT = st.lists(st.tuples(st.sampled_from(["ConfigMap", "Job"]), st.sampled_from("nm"), st.integers(-3, 3)), max_size=6)


@given(kept=KEPT, hooks=st.lists(st.tuples(st.sampled_from("nm"), st.sets(st.sampled_from(PHASES), min_size=1), st.integers(-3, 3)), max_size=6),
       spaces=st.dictionaries(st.sampled_from("nm"), st.integers(-3, 3)))
def test_hooks_and_objects_are_in_the_order_of_phase_and_wave(kept: Any, hooks: Any, spaces: Dict[str, int]) -> None:
    intents = [intent(kind, f"kept{number}", namespace, wave=str(wave)) for number, (kind, namespace, wave) in enumerate(kept)]
    intents += [intent("Namespace", name, "", wave=str(wave)) for name, wave in spaces.items()]
    intents += [intent("Job", f"hook{number}", namespace, hook=",".join(sorted(phases)), wave=str(wave))
                for number, (namespace, phases, wave) in enumerate(hooks)]
    found = divided(*intents)
    expected: Dict[Tuple[str, str], Tuple[int, int]] = {("", f"kept{number}"): (1, wave) for number, (_kind, _namespace, wave) in enumerate(kept)}
    inside: Dict[str, List[Tuple[int, int]]] = {}
    for number, (namespace, phases, wave) in enumerate(hooks):
        for phase in phases:
            expected[(phase, f"hook{number}")] = (PHASES.index(phase), 0 if phase == "SyncFail" else wave)
            inside.setdefault(namespace, []).append((PHASES.index(phase), wave))
    for _kind, namespace, wave in kept:
        inside.setdefault(namespace, []).append((1, wave))
    for name, wave in spaces.items():
        expected[("", name)] = min([(1, wave), *inside.get(name, ())])

    previous, written = None, []
    for step in steps(found.intents, found.hooks):
        here = [("", ref.name) for ref in step.refs] + [(hook.phase, hook.ref.name) for hook in step.hooks]
        places = {expected[one] for one in here}
        assert len(places) == 1 and PHASES[min(places)[0]] == step.phase
        assert previous is None or previous <= min(places)
        assert step.health is (previous is not None and previous != min(places))
        previous = min(places)
        written += here
    assert sorted(written) == sorted(expected)
    places_of = {one: number for number, one in enumerate(written)}
    for name in spaces:
        assert all(places_of[("", name)] < places_of[(hook.phase, hook.ref.name)] for hook in found.hooks if hook.ref.namespace == name)


@given(st.sets(st.sampled_from(POLICIES), min_size=1))
def test_delete_policies_are_read_in_any_order(policies: Any) -> None:
    assert policies_of(body(policy=" , ".join(policies)), "") == policies
