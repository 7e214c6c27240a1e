# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder is private exactly when nobody else may write it, or put another in its place, wherever its path leads."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._private_folder import check_private, make_private
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.render import RenderOptions, render
from ansible_collections.nordic.gitops.plugins.module_utils._schema import INDEX, Schemas
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Cache
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.keys import generate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import MemoryTree

NEIGHBOUR = 12345
MODES = (0o700, 0o750, 0o755, 0o770, 0o775, 0o777, 0o1777)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_folder_is_refused_exactly_when_somebody_else_may_write_it_or_replace_a_part_of_its_path(tmp_path_factory, data):
    base = tmp_path_factory.mktemp("private")
    here, private = base, True
    for depth in range(data.draw(st.integers(1, 4))):
        owner, group = data.draw(st.sampled_from([(0, 0), (0, NEIGHBOUR), (NEIGHBOUR, 0)]))
        mode = data.draw(st.sampled_from(MODES))
        folder = here / f"folder-{depth}"
        folder.mkdir()
        if data.draw(st.booleans()):
            link = here / f"link-{depth}"
            link.symlink_to(data.draw(st.sampled_from([folder.name, str(folder), f"../{here.name}/{folder.name}"])))
            whose = data.draw(st.sampled_from([0, 0, NEIGHBOUR]))
            os.chown(link, whose, 0, follow_symlinks=False)
            private, here = private and whose == 0, link
        else:
            here = folder
        os.chown(folder, owner, group)
        folder.chmod(mode)
        others = mode & stat.S_IWOTH or mode & stat.S_IWGRP and group != 0
        private = private and owner == 0 and (not others or bool(mode & stat.S_ISVTX))
        last = mode
    private = private and not last & 0o022
    if private:
        check_private(str(here), "git_cache")
    else:
        with pytest.raises(Refused, match="Give a folder"):
            check_private(str(here), "git_cache")


def test_a_folder_is_made_private_with_all_that_was_missing_above_it(tmp_path):
    make_private(str(tmp_path / "a" / "b" / "c"), "git_cache")
    assert all((tmp_path / part).stat().st_mode & 0o777 == 0o700 for part in ("a", "a/b", "a/b/c"))
    make_private(str(tmp_path / "a" / "b" / "c"), "git_cache")


@pytest.mark.parametrize("make", ["file", "loop", "dangling"])
def test_what_is_no_folder_is_refused(tmp_path, make):
    path = tmp_path / "cache"
    if make == "file":
        path.write_text("")
    else:
        path.symlink_to(path if make == "loop" else "nowhere")
    for check in (make_private, check_private):
        with pytest.raises(Failure, match="cache"):
            check(str(path), "git_cache")


# ---- every cache asks, before it reads and before it writes


def spoilt(folder, how):
    """What a neighbour has a hand in: the folder itself, or one above it."""
    place = folder if how.startswith("the cache") else folder.parent
    if how.endswith("is somebody else's"):
        os.chown(place, NEIGHBOUR, NEIGHBOUR)
    else:
        place.chmod(0o777)


@pytest.fixture(params=["the cache is somebody else's", "the cache is open", "the folder above is somebody else's", "the folder above is open"])
def spoil(request, tmp_path):
    folder = tmp_path / "above" / "cache"
    folder.mkdir(parents=True, mode=0o700)
    return folder, lambda: spoilt(folder, request.param)


def test_a_render_that_a_neighbour_may_have_written_is_not_read_and_none_is_written(spoil):
    folder, spoil_it = spoil
    tree = MemoryTree({"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"})
    render(tree, RenderOptions(), str(folder))
    assert render(tree, RenderOptions(), str(folder)).cached
    spoil_it()
    with pytest.raises(Refused, match="git_cache"):
        render(tree, RenderOptions(), str(folder))
    with pytest.raises(Refused, match="git_cache"):
        render(MemoryTree({"b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"}), RenderOptions(), str(folder))
    assert len(list(folder.iterdir())) == 1


def test_a_schema_that_a_neighbour_may_have_written_is_not_read_and_none_is_written(spoil):
    folder, spoil_it = spoil
    asked = []

    def ask(path, _query, stamp="1"):
        asked.append(path)
        if path == INDEX:
            return {"paths": {"api/v1": {"serverRelativeURL": f"{INDEX}/api/v1?hash={stamp}"}}}
        known = [{"group": "", "version": "v1", "kind": "Thing"}]
        return {"components": {"schemas": {"x.Thing": {"type": "object", "x-kubernetes-group-version-kind": known}}}}

    Schemas(ask, str(folder)).kind("v1", "Thing")
    Schemas(ask, str(folder)).kind("v1", "Thing")
    assert len(asked) == 3 and len(list(folder.iterdir())) == 1
    spoil_it()
    Schemas(ask, str(folder)).kind("v1", "Thing")
    Schemas(lambda path, query: ask(path, query, "2"), str(folder)).kind("v1", "Thing")
    assert len(asked) == 7 and len(list(folder.iterdir())) == 1


def test_a_sealing_certificate_that_a_neighbour_may_have_written_is_not_used_and_none_is_written(spoil):
    folder, spoil_it = spoil
    pem = generate([], "kube-system", "test-").certificate.pem

    def unreachable():
        raise Failure("cannot be reached")

    cache = Cache(str(folder))
    kept = cache.fetch("https://one", lambda: pem, [])
    assert cache.fetch("https://one", unreachable, []).fingerprint == kept.fingerprint
    spoil_it()
    with pytest.raises(Failure, match="cannot be reached"):
        cache.fetch("https://one", unreachable, [])
    assert cache.fetch("https://two", lambda: pem, []).fingerprint == kept.fingerprint
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("plugin", ["jsonfile", "ansible.builtin.jsonfile"])
def test_an_inventory_that_a_neighbour_may_have_written_is_not_read(spoil, tmp_path, plugin):
    folder, spoil_it = spoil
    source = tmp_path / "shop.instances.yml"
    source.write_text(f"plugin: nordic.gitops.instances\nlibvirt: {{uri: 'test:///nowhere'}}\nregion: here\ncache: true\n"
                      f"cache_plugin: {plugin}\ncache_connection: {folder}\n")

    def said():
        done = subprocess.run([sys.executable, "-m", "ansible", "inventory", "--inventory", str(source), "--list"], capture_output=True, text=True,
                              env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}, check=False)
        return " ".join((done.stdout + done.stderr).split())

    assert "cache_connection" not in said()  # what it says is that there is no such libvirt
    spoil_it()
    assert "Give a folder" in said() and "cache_connection" in said()
