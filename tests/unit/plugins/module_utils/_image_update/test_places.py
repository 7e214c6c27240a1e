# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image stands in a file, what is written there, and what is refused because nobody could know what is meant."""

from __future__ import annotations

import pytest
import ruamel.yaml
import yaml

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.places import (
    Image, added_place, checked_value, image_places, one_answer, value_place)
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.reference import Reference, checked
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import apply

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def after(text, name, tag="", digest="", file="app.yaml", container=""):
    image = Image(Reference(name, tag, digest), (".",), container)
    places = image_places(image, file, text)
    one_answer(image, places)
    return apply(text, [edit for place in places for edit in place.edits], file)


@pytest.mark.parametrize("text, parts", [
    ("app", ("app", "", "")), ("app:1", ("app", "1", "")), ("host:5000/app", ("host:5000/app", "", "")), ("host:5000/app:1.0", ("host:5000/app", "1.0", "")),
    (f"app@{OLD}", ("app", "", OLD)), (f"host:5000/a/b:1@{OLD}", ("host:5000/a/b", "1", OLD))])
def test_a_reference_has_three_parts_and_a_port_is_no_tag(text, parts):
    found = Reference.of(text)
    assert (found.name, found.tag, found.digest) == parts and str(found) == text


@pytest.mark.parametrize("name, tag, digest, sentence", [
    ("app:1", "2", "", "'app:1' is not the name of an image. Write the name app"), ("App", "1", "", "is not the name of an image"),
    ("", "1", "", "is not the name"), ("app", "1 2", "", "is not a tag"), ("app", "-1", "", "is not a tag"), ("app", "", "sha256:1", "is not a digest"),
    ("app", "", "", "neither tag nor digest"), ("a//b", "1", "", "is not the name"), ("app\n", "1", "", "is not the name")])
def test_a_bad_reference_names_its_bad_part(name, tag, digest, sentence):
    with pytest.raises(Failure, match=sentence):
        checked(name, tag, digest, "images[0]")


POD = """kind: List
items:
- kind: CronJob
  spec:
    jobTemplate:
      spec:
        template:
          spec:
            initContainers:
            - {name: wait, image: host:5000/app}
            containers:
            - name: web
              image: "host:5000/app:1.0"  # ours
            - name: other
              image: host:5000/app-web:1.0
            - name: third
              image: x/host:5000/app:1.0
"""


def test_only_the_whole_name_counts_and_every_kind_of_container_does():
    changed = after(POD.replace("host:5000/app}", "host:5000/app:1.0}"), "host:5000/app", "2.0")
    assert changed == POD.replace("host:5000/app}", "host:5000/app:2.0}").replace('"host:5000/app:1.0"', '"host:5000/app:2.0"')


def test_one_name_with_two_values_is_refused_with_all_places():
    with pytest.raises(Refused, match=r"several values: app.yaml:10 .*initContainers\[0\].image: host:5000/app; app.yaml:13 .*: host:5000/app:1.0"):
        after(POD, "host:5000/app", "2.0")
    once = after(POD, "host:5000/app", "2.0", container="web")
    assert once == POD.replace('"host:5000/app:1.0"', '"host:5000/app:2.0"') == after(once, "host:5000/app", "2.0", container="web")


def test_a_run_that_was_half_done_by_hand_is_finished():
    assert after(POD, "host:5000/app", "1.0") == POD.replace("host:5000/app}", "host:5000/app:1.0}")


@pytest.mark.parametrize("before, tag, digest, result", [
    ("app", "2", "", "app:2"), ("app:1", "2", "", "app:2"), ("app:1", "", NEW, f"app@{NEW}"), ("app:1", "2", NEW, f"app:2@{NEW}"),
    (f"app:1@{OLD}", "2", NEW, f"app:2@{NEW}"), (f"app@{OLD}", "", NEW, f"app@{NEW}"), (f"app:2@{OLD}", "2", "", f"app:2@{OLD}")])
def test_tag_and_digest_in_a_manifest(before, tag, digest, result):
    text = "spec:\n  containers:\n  - image: %s\n"
    assert after(text % before, "app", tag, digest) == text % result


def test_a_new_tag_beside_an_old_digest_is_refused():
    with pytest.raises(Refused, match="has the digest sha256:a+, which decides what runs"):
        after(f"spec:\n  containers:\n  - image: app:1@{OLD}\n", "app", "2")
    with pytest.raises(Refused, match="has the digest sha256:a+, which decides what runs, whatever newTag says"):
        after(f"images:\n- name: app\n  newTag: '1'\n  digest: {OLD}\n", "app", "2", file="kustomization.yaml")


@pytest.mark.parametrize("name", ["web", "registry.example.org/web"])
def test_a_kustomize_entry_is_changed_in_place_by_either_of_its_names(name):
    text = "images:\n# first\n- name: web\n  newName: registry.example.org/web\n  newTag: v1\n- name: web-api\n  newTag: v1\n"
    assert after(text, name, "v2", file="base/kustomization.yaml") == text.replace("newTag: v1", "newTag: v2", 1)


def test_a_kustomize_entry_without_a_tag_gets_one():
    assert after("images:\n- name: web\n- name: api\n", "web", "1.10", file="kustomization.yml") == 'images:\n- name: web\n  newTag: "1.10"\n- name: api\n'
    assert after("images:\n- name: web\n", "web", "v1", NEW, file="Kustomization") == f"images:\n- name: web\n  newTag: v1\n  digest: {NEW}\n"


def test_two_kustomize_entries_that_match_are_refused_and_both_named():
    with pytest.raises(Refused, match=r"2 entries of images match web: kustomization.yaml:2 \(web\) and kustomization.yaml:4 \(old\)"):
        after("images:\n- name: web\n  newTag: a\n- name: old\n  newName: web\n", "web", "b", file="kustomization.yaml")


TAGS = ["6801028", "72225e2", "09334553", "1.10", "1_0", "0x1f", "0o17", "0b1", "1e3", "12:30:45", "2026-11-29", "true", "yes", "on", "null", "n", "Infinity"]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_read_back_as_the_same_text_by_every_reader(tag):
    """YAML 1.1 (PyYAML, and go-yaml's own table that kubectl and helm go by) and YAML 1.2."""
    for text, file, write in (("image:\n  tag: old\n", "values.yaml", lambda text: value_of(text, "image.tag", tag)),
                              ("images:\n- name: web\n  newTag: old\n", "kustomization.yaml", lambda text: after(text, "web", tag, file="kustomization.yaml")),
                              ("images:\n- name: web\n", "kustomization.yaml", lambda text: after(text, "web", tag, file="kustomization.yaml")),
                              ("resources: [a]\n", "kustomization.yaml", lambda text: added(text, "web", tag))):
        written = write(text)
        for read in (yaml.safe_load, ruamel.yaml.YAML(typ="safe").load, lambda text: yaml_strict.parse(text.encode(), file)[0][0].body):
            body = read(written)
            assert (body["image"]["tag"] if "image" in body else body["images"][0]["newTag"]) == tag, written
    quoted = "image:\n  tag: 'old'\n"
    assert value_of(quoted, "image.tag", tag) == quoted.replace("old", tag)


def added(text, name, tag="", digest=""):
    place = added_place(Image(Reference(name, tag, digest), ("kustomization.yaml",), add=True), "kustomization.yaml", text)
    changed = apply(text, place.edits, "kustomization.yaml")
    assert changed.splitlines()[place.line - 1].endswith(f"name: {name}")
    return changed


def test_an_entry_of_a_kustomization_is_added_when_it_is_asked_for():
    assert added("resources:\n- web.yaml\n", "host:5000/web", "v1") == "resources:\n- web.yaml\nimages:\n- name: host:5000/web\n  newTag: v1\n"
    assert added("images:\n  - name: api\n    newTag: v1\n# end\n", "web", "", NEW) == (
        f"images:\n  - name: api\n    newTag: v1\n  - name: web\n    digest: {NEW}\n# end\n")


def value_of(text, path, value, document=None):
    place = value_place(checked_value("values.yaml", path, value, document), text)
    return apply(text, place.edits, "values.yaml")


def test_a_value_is_found_by_its_path_into_lists_and_keys_with_dots():
    assert value_of("a:\n  b:\n  - tag: x\n", "a.b[0].tag", "new") == "a:\n  b:\n  - tag: new\n"
    assert value_of("a:\n  x.y/z: x\n", 'a["x.y/z"]', "new") == "a:\n  x.y/z: new\n"
    assert value_of("a: 1\n---\na: 1\n", "a", "v", document=1) == "a: 1\n---\na: v\n"


def test_an_unquoted_number_that_reads_as_another_text_is_put_into_quotes():
    assert value_of("tag: 1.10\n", "tag", "1.10") == 'tag: "1.10"\n'


@pytest.mark.parametrize("text, path, document, sentence", [
    ("image:\n  tag: 1\n", "image.tga", None, "there is no image.tga. Did you mean image.tag?"),
    ("web:\n  image:\n    tag: 1\n", "tag", None, "Did you mean web.image.tag?"),
    ("a: 1\n---\nb: 2\n", "a", None, "holds 2 documents. Say which one"), ("a: 1\n", "a", 3, "none at 3"), ("{}\n", "a", None, "The file has no value."),
    ("a: [1]\n", "a[1]", None, r"there is no a\[1\]")])
def test_a_path_that_is_not_there_is_never_made(text, path, document, sentence):
    with pytest.raises(Failure, match=sentence):
        value_of(text, path, "2", document)
