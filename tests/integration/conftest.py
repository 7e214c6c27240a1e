# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the reconcile share, which tests may run beside each other, and which this run leaves out and says so."""

from __future__ import annotations

import contextlib
import os

import pytest

BUILT = ("cloud", "hosts", "libvirt", "k3s", "S3 server", "registry", "Argo CD")
# Groups of tests that take minutes, longest first: begun late, one of them would run alone at the end.
LONGEST = ("in_turn", "test_k3s_on_a_host", "test_preflight", "test_k3s_upgrade_on_a_host", "test_k3s_examples", "single")


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


@pytest.fixture(scope="module")
def sealing(cluster):
    """The real Sealed Secrets controller in kube-system, for the tests of one module: its requests would be in the counts of others."""
    from lab.sealed_secrets import Controllers

    with Controllers(cluster) as controllers:
        controllers.install("kube-system", kubeClientQPS="1000", kubeClientBurst="1000", rateLimit="1000", rateLimitBurst="1000")
        yield controllers
        controllers.uninstall("kube-system")


@pytest.fixture(scope="module")
def argo():
    """A cluster with Argo CD beside it."""
    from lab import argocd

    with contextlib.ExitStack() as stack:
        yield stack.enter_context(argocd.shared())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Which tests stay together on one worker, and in which order the workers take them.

    All tests on the cluster go to one worker, and first: they count its requests and time its answers, so they must be alone with it, and
    together they take long. Those on the cloud are another such group. Tests of a module that share hosts stay together too. What `make test` builds
    beside the tests comes in the order of BUILT, and a test that needs a part waits for it, so the tests come in that order;
    those that need the same part by LONGEST. Where nothing of k3s has to be built, the longest of all begins beside the tests on the cluster.
    """
    for item in items:
        groups = {mark.args[0] for mark in item.iter_markers("xdist_group")}
        if len(groups) > 1:  # xdist would make a third group of them, on whichever worker
            raise pytest.UsageError(f"{item.nodeid} belongs to {' and '.join(sorted(groups))}: a test has one xdist_group")
        if not groups and "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cluster"))
        elif not groups and "cloud" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cloud"))
            item.add_marker(pytest.mark.built("cloud"))
        elif not groups and item.get_closest_marker("hosts"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=_place)


def _place(item):
    """(which phase, where in it)"""
    built, mark = item.get_closest_marker("built"), item.get_closest_marker("xdist_group")
    group = mark.args[0] if mark else ""
    if group == LONGEST[0] and os.environ["NORDIC_TEST_K3S"] == "there":
        return 1, 0
    if built or item.get_closest_marker("hosts"):
        return 3 + BUILT.index(built.args[0] if built else "k3s"), LONGEST.index(group) if group in LONGEST else len(LONGEST)
    return 0 if group == "cluster" else 2, 0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.get_closest_marker("full") and not os.environ.get("NORDIC_FULL"):
        pytest.skip("`make test-full` runs it")  # said in the summary as NOT RUN (tests/conftest.py)
    if item.get_closest_marker("hosts"):
        from lab.hosts import impediment

        problem = impediment()
        if problem and os.environ.get("NORDIC_WITHOUT_HOSTS"):
            pytest.skip(f"{problem}, and NORDIC_WITHOUT_HOSTS is set")  # said in the summary as NOT RUN (tests/conftest.py)
        if problem:
            pytest.fail(f"{problem}. NORDIC_WITHOUT_HOSTS=1 leaves the tests with hosts out, and says so at the end.", pytrace=False)
