# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Application is written by others than the task: it gets none of the task's credentials, and ends the run by no wrong or huge value."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as some
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.from_application import as_options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.kustomize import edited
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.source import Source
from reconciling import DEFAULTS

HERE = "https://git.example.no/platform/manifests.git"
ELSEWHERE = "https://git.attacker.example/platform/manifests.git"
WHOLE: Dict[str, Any] = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "payment", "namespace": "argocd"}, "spec": {
    "project": "default", "source": {"repoURL": HERE, "path": "app", "targetRevision": "main"},
    "destination": {"server": "https://kubernetes.default.svc", "name": "", "namespace": "payment"},
    "syncPolicy": {"automated": {"enabled": True, "prune": True, "allowEmpty": True}, "syncOptions": ["CreateNamespace=true"],
                   "managedNamespaceMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}}}
SOURCES: List[Dict[str, Any]] = [
    {"directory": {"recurse": True, "include": "*.yaml", "exclude": "a*"}},
    {"helm": {"valueFiles": ["a.yaml"], "values": "a: b\n", "valuesObject": {"a": "b"}, "releaseName": "r", "namespace": "payment",
              "parameters": [{"name": "a.b", "value": "c", "forceString": True}]}},
    {"kustomize": {"namePrefix": "p", "nameSuffix": "s", "namespace": "n", "images": ["a=b:c"], "replicas": [{"name": "w", "count": 2}],
                   "commonLabels": {"a": "b"}, "commonAnnotations": {"a": "b"}, "labelWithoutSelector": True}}]


def application(**source: Any) -> Dict[str, Any]:
    whole = copy.deepcopy(WHOLE)
    whole["spec"]["source"].update(copy.deepcopy(source))
    return whole


@pytest.fixture(scope="module")
def options_of(tmp_path_factory: Any) -> Callable[..., Dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("application")
    connection = {**DEFAULTS, "name": "payment", "host": "https://127.0.0.1:6443"}
    cluster = Cluster.of(connection)  # which is not asked

    def options_of_file(body: Any, **params: Any) -> Dict[str, Any]:
        (folder / "app.yaml").write_text(json.dumps(body), encoding="utf-8")
        found, _notes = as_options({**connection, "from_application": str(folder / "app.yaml"), **params}, cluster)
        Options.of(found, False, False)
        assert Source.of(found).digest
        return found

    return options_of_file


@pytest.mark.parametrize("credentials", [{"git_password": "swordfish"}, {"git_username": "a-token"}, {"git_ssh_key": __file__}])
def test_the_tasks_credentials_are_sent_to_no_repository_but_the_tasks_own(credentials: Dict[str, str], options_of: Any) -> None:
    for repository in (HERE, ELSEWHERE):
        with pytest.raises(Failure, match=f"{next(iter(credentials))} need repository"):
            options_of(application(repoURL=repository), **credentials)
    for repository in (ELSEWHERE, HERE.replace("https:", "http:"), "https://git.example.no/platform/other", "git@git.example.no:platform/manifests.git",
                       "https://git.example.no.attacker.example/platform/manifests.git"):
        with pytest.raises(Refused, match="spec.source.repoURL is .*, and the option repository is https://git.example.no/platform/manifests.git"):
            options_of(application(repoURL=repository), repository=HERE, **credentials)
    for repository in (HERE, HERE[:-len(".git")], f"{HERE}/"):
        assert options_of(application(repoURL=repository), repository=HERE, **credentials)["repository"] == HERE
    assert options_of(application())["repository"] == HERE


def test_a_password_with_a_dollar_sign_is_not_repeated_in_the_refusal(options_of: Any) -> None:
    for source in ({"helm": {"parameters": [{"name": "db.password", "value": "S3cr$tPassword"}]}},
                   {"kustomize": {"commonAnnotations": {"password": "S3cr$tPassword"}, "commonAnnotationsEnvsubst": True}}):
        with pytest.raises(Refused, match="a value with a . in it needs a variable of Argo CD") as refused:
            options_of(application(**source))
        assert "tPassword" not in str(refused.value)


HUGE = "1.1" * 300_000


@pytest.mark.parametrize("source, message", [
    ({"targetRevision": HUGE}, "spec.source.targetRevision is not a text of one line"),
    ({"targetRevision": "a\nb"}, "spec.source.targetRevision is not a text of one line"),
    ({"path": HUGE}, "spec.source.path is not a text of one line"),
    ({"directory": {"include": "{a," * 100_000}}, "spec.source.directory.include is not a text of one line"),
    ({"helm": {"parameters": [{"name": ".".join("a" * 100_000), "value": "b"}]}}, "parameters.0..name is not a text of one line"),
    ({"helm": {"parameters": [{"name": ".".join("a" * 31), "value": "b"}]}}, "is nested more than 30 levels deep"),
    ({"kustomize": {"images": ["a" * 100_000]}}, "images.0. is not a text of one line"),
])
def test_a_huge_value_is_refused_before_anything_looks_through_it(source: Dict[str, Any], message: str, options_of: Any) -> None:
    with pytest.raises(Failure, match=message):
        options_of(application(**source))


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


BODIES = [application(**source) for source in SOURCES]
PLACES = [(number, path) for number, body in enumerate(BODIES) for path in places(body)]
VALUES = some.recursive(
    some.one_of(some.none(), some.booleans(), some.integers(), some.floats(allow_nan=False, allow_infinity=False), some.text(max_size=8),
                some.sampled_from(["$x", "../a", "/a", "--a", "a=b", "https://u:p@h/x", "{a", "[", "*"])),
    lambda child: some.one_of(some.lists(child, max_size=3), some.dictionaries(some.sampled_from(["name", "value", "count", "a", ""]), child, max_size=3)),
    max_leaves=6)


@given(some.sampled_from(PLACES), VALUES)
def test_whatever_stands_at_any_place_the_options_are_right_or_a_failure_says_why(options_of: Any, place: Any, value: Any) -> None:
    number, path = place
    body = copy.deepcopy(BODIES[number])
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    try:
        options_of(body)
    except Failure as failure:
        assert str(failure)


@pytest.mark.parametrize("body, message", [
    ({"images": 5}, "images is an integer, must be a list"), ({"images": {"a": 1}}, "images is a mapping, must be a list"),
    ({"commonAnnotations": ["a"]}, "commonAnnotations is a list, must be a mapping"),
])
def test_a_kustomization_of_another_shape_is_said(body: Dict[str, Any], message: str) -> None:
    with pytest.raises(Failure, match=message):
        edited(body, "app/kustomization.yaml:1", {"images": [{"name": "a", "newTag": "1"}], "commonAnnotations": {"a": "b"}})


def test_an_image_with_a_name_that_is_none_stays_for_kustomize_to_refuse() -> None:
    assert edited({"images": [{"name": ["a"]}, "a"]}, "", {"images": [{"name": "b"}]}) == {"images": [{"name": ["a"]}, "a", {"name": "b"}]}
