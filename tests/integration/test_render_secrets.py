# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""helm and kustomize quote their input when they fail; no secret of it reaches a person."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render

SECRET = "hunter2-and-more"
ENCODED = base64.b64encode(SECRET.encode()).decode()
CHART = {"Chart.yaml": "apiVersion: v2\nname: web\nversion: 0.1.0\n"}
SECRET_OBJECT = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"


@pytest.fixture
def said(git_repo, binaries, tmp_path):
    def failure_of(files, **options):
        for name, content in files.items():
            git_repo.write(name, content)
        git_repo.commit()
        mirror = Mirror(Source.of({"repository": git_repo.url, "git_cache": str(tmp_path / "cache")}))
        try:
            tree = mirror.tree(mirror.resolve("main"))
            with pytest.raises(Failure) as caught:
                render(tree, RenderOptions(kustomize_binary=str(Path(binaries) / "kubectl"), helm_binary=str(Path(binaries) / "helm"), **options),
                       str(tmp_path / "render"), root=tree)
            return str(caught.value) + str(caught.value.details)
        finally:
            mirror.close()

    return failure_of


FAIL = {"templates/a.yaml": "{{ fail (printf \"cannot use %v\" .Values) }}"}
CASES = {
    "helm: an inline value": ({**CHART, **FAIL}, {"values": {"db": {"password": SECRET}}}),
    "helm: an inline value under any key": ({**CHART, **FAIL}, {"values": {"anything": [SECRET]}}),
    "helm: a value of the chart": ({**CHART, **FAIL, "values.yaml": f"auth: {{password: {SECRET}}}\n"}, {}),
    "helm: a values file": ({**CHART, **FAIL, "prod.yaml": f"apiToken: {SECRET}\n"}, {"values_files": ("prod.yaml",)}),
    "helm: in base64": ({**CHART, "templates/a.yaml": "{{ fail (.Values.password | b64enc) }}"}, {"values": {"password": SECRET}}),
    "helm: a Secret's own value": ({**CHART, "templates/a.yaml": SECRET_OBJECT + f"data: {{a: {ENCODED}}}\nb: {{{{ fail \"{ENCODED}\" }}}}\n"}, {}),
    "helm: a schema": ({**CHART, "values.schema.json": '{"properties": {"password": {"enum": ["x"]}}}', "templates/a.yaml": ""},
                       {"values": {"password": SECRET}}),
    "kustomize: a literal that is none": ({"kustomization.yaml": f"secretGenerator: [{{name: a, literals: [{SECRET}]}}]\n"}, {}),
    "kustomize: a literal twice": ({"kustomization.yaml": f"secretGenerator: [{{name: a, literals: ['a={SECRET}', 'a={SECRET}']}}]\n"}, {}),
    "kustomize: a line of an env file": ({"kustomization.yaml": "secretGenerator: [{name: a, envs: [e]}]\n", "e": f"a b={SECRET}\n"}, {}),
    "kustomize: a patch of a Secret": (
        {"kustomization.yaml": "resources: [s.yaml]\npatches:\n- patch: |\n    apiVersion: v1\n    kind: Secret\n    metadata: {name: t}\n"
                               f"    stringData: {{a: {SECRET}}}\n",
         "s.yaml": SECRET_OBJECT + f"data: {{a: {ENCODED}}}\n"}, {}),
    "kustomize: a Secret that is no YAML": ({"kustomization.yaml": "resources: [s.yaml]\n",
                                             "s.yaml": SECRET_OBJECT + f"stringData:\n  a: {SECRET}\n b: [\n"}, {}),
    "kustomize: a Secret without a kind": (
        {"kustomization.yaml": "resources: [s.yaml]\n", "s.yaml": f"apiVersion: v1\nmetadata: {{name: s}}\nstringData: {{password: {SECRET}}}\n"}, {}),
    "a Secret that is no Secret": ({"a.yaml": SECRET_OBJECT + f"data: {{a: {SECRET}}}\n"}, {}),
    "a Secret that is no YAML": ({"a.yaml": SECRET_OBJECT + f"data: {{a: {SECRET}}}\n  b: {SECRET}: x\n"}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_no_secret_is_in_what_a_failed_render_says(said, case):
    files, options = CASES[case]
    message = said(files, **options)
    assert SECRET not in message and ENCODED not in message, message


def test_a_message_still_says_what_is_wrong(said):
    message = said({**CHART, "templates/a.yaml": "{{ fail \"set the size of production\" }}"}, values={"size": "large", "env": "production"})
    assert message.startswith("templates/a.yaml:1: helm: ") and "set the size of" in message


def test_values_are_not_in_the_returned_invocation():
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
    from ansible_collections.nordic.gitops.plugins.modules.reconcile import SPEC
    from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import full_value

    given = {"password": SECRET, "replicas": 3}
    result = ArgumentSpecValidator({"values": SPEC["values"]}).validate({"values": given})
    shown = result.validated_parameters["values"]
    assert not result.error_messages and SECRET not in repr(shown) + str(shown) and full_value(shown) == given
