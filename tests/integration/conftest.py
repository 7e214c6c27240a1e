# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the reconcile share, and which tests may run beside each other."""

from __future__ import annotations

import pytest


@pytest.fixture
def options(cluster, namespace, git_repo, tmp_path):
    """A reconcile of git_repo into the test's namespace, named after it."""
    return {"name": namespace, "namespace": namespace, "repository": git_repo.url, "kubeconfig": str(cluster.kubeconfig),
            "git_cache": str(tmp_path / "cache"), "inventory_namespace": namespace, "wait_timeout": 30}


@pytest.fixture
def run(options):
    """Runs the reconcile with these options."""
    from reconciling import Reconciler

    return Reconciler(**options)


@pytest.fixture
def group(cluster, namespace):
    """An API group of this test alone; its definition of Widget is removed afterwards."""
    name = f"{namespace}.example.com"
    yield name
    cluster.kubectl("delete", "crd", f"widgets.{name}", "--ignore-not-found", "--wait=false")


@pytest.fixture
def mirror(tmp_path):
    """Opens the mirror of a URL or of a lab server, with the server's own credentials unless told otherwise; its cache is tmp_path/cache."""
    from ansible_collections.nordic.gitops.plugins.module_utils._git import Mirror, Source
    from ansible_collections.nordic.gitops.plugins.module_utils._git.limits import Limits

    known = {"git_username": "username", "git_password": "password", "git_ssh_key": "key", "git_ssh_known_hosts": "known_hosts", "git_ca_cert": "ca_file"}
    opened = []

    def open_mirror(server, limits=Limits(pause=0.01), **options):
        params = {option: str(getattr(server, name)) for option, name in known.items() if getattr(server, name, None)}
        params.update({"repository": getattr(server, "url", server), "git_cache": str(tmp_path / "cache"), **options})
        opened.append(Mirror(Source.of({name: value for name, value in params.items() if value is not None}), limits))
        return opened[-1]

    yield open_mirror
    for one in opened:
        one.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All tests on the cluster go to one worker: they count its requests and time its answers, so they must be alone with it."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("cluster"))
