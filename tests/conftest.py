# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real parts as fixtures. Nothing of the lab is started, or imported by a worker, before a test asks for it."""

from __future__ import annotations

import os
import secrets
import signal

import hypothesis
import pytest


def pytest_configure(config):
    # The workers of one pytest session share one cluster; they all inherit this name of it.
    os.environ.setdefault("NORDIC_TEST_SESSION", secrets.token_hex(6))
    # So a worker that is killed in the middle of a demo or a scenario leaves no cluster and no hosts.
    os.environ["NORDIC_LAB_OWNER"] = str(os.getpid())
    # Said once for all workers: they have to agree on an order, and a build could end between the start of one and the next one's.
    if "NORDIC_TEST_K3S" not in os.environ:
        from lab import k3s

        os.environ["NORDIC_TEST_K3S"] = "there" if k3s.are_there() else "built meanwhile"
    # How long hypothesis takes for an example is how busy the machine is; no test may depend on it.
    hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.load_profile("any machine")
    # Go's programs, etcd and the API server among them, look for garbage less often: there is memory, and processors are what is scarce.
    os.environ.setdefault("GOGC", "400")
    # A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A developer's own cluster must neither decide a test nor be touched by one.
    for name in [name for name in os.environ if name == "KUBECONFIG" or name.startswith("K8S_AUTH_")]:
        del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker is given one test beyond the one that it runs, which it needs to know, and not two: they would wait behind one that takes
    minutes while other workers have nothing to do."""
    from xdist.scheduler import LoadGroupScheduling

    class OneAhead(LoadGroupScheduling):
        def _reschedule(self, node):
            if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    return OneAhead(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "told" and report.when == "call":
                terminalreporter.write_line(value)
    for report in terminalreporter.getreports("skipped"):
        terminalreporter.write_line(f"NOT RUN: {report.nodeid}: {report.longrepr[2].replace('Skipped: ', '')}")


@pytest.fixture(autouse=True)
def nothing_registered():
    """A secret of one test is an ordinary word in the next one's messages."""
    from ansible_collections.nordic.gitops.plugins.module_utils import _masked_text

    yield
    _masked_text.forget()


@pytest.fixture
def tell(request):
    """Say something at the end of the session, whichever worker found it out: tell("500 cases")."""
    return lambda text: request.node.user_properties.append(("told", text))


@pytest.fixture(scope="session")
def cluster():
    """The embedded Kubernetes of this pytest session; NORDIC_CLUSTER=<state folder> uses a running one."""
    from lab import shared

    with shared.cluster() as running:
        yield running


@pytest.fixture(scope="session")
def binaries():
    """The folder of kubectl, helm and the others, for tests that need no cluster."""
    from lab import build, components

    return build.bin_folder(tuple(components.BINARIES))


@pytest.fixture
def namespace(cluster):
    """The name of a new namespace."""
    name = cluster.namespace()
    yield name
    cluster.remove_namespace(name)


@pytest.fixture
def git_repo(tmp_path):
    """A Git repository with a work tree, empty, on branch main."""
    from lab.repository import Repository

    return Repository(tmp_path / "repository")


@pytest.fixture
def git_daemon(git_repo):
    """git_repo by git://"""
    from lab.gitservers import GitDaemon

    with GitDaemon(git_repo.path) as server:
        yield server


@pytest.fixture
def git_ssh(git_repo):
    """git_repo by ssh://, with .key and .known_hosts."""
    from lab.gitservers import GitSsh

    with GitSsh(git_repo.path) as server:
        yield server


@pytest.fixture
def git_http(git_repo):
    """git_repo by http://, with .username and .password."""
    from lab.gitservers import GitHttp

    with GitHttp(git_repo.path) as server:
        yield server


@pytest.fixture
def git_https(git_repo):
    """git_repo by https://, with .username, .password and .ca_file."""
    from lab.gitservers import GitHttp

    with GitHttp(git_repo.path, tls=True) as server:
        yield server


@pytest.fixture
def fault_proxy(cluster):
    """A proxy in front of the cluster that answers truly until a test gives it faults."""
    from lab.proxy import FaultProxy

    with FaultProxy(cluster) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def cloud():
    """The OpenStack of this pytest session; NORDIC_CLOUD=<state folder> uses a running one."""
    from lab.openstack import shared

    with shared() as running:
        yield running


@pytest.fixture
def fleet(cloud):
    """A fleet of this test alone; all of it is removed afterwards."""
    from provisioning import Fleet

    made = Fleet(cloud)
    yield made
    made.clean()
