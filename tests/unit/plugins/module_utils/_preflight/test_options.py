# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that make no sense are refused in words, before anything is measured."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import NAMES, disk, preflight
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.peers import Peer
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile


def options(**params):
    given = {"role": "server", "cni": "flannel", "datastore": "embedded", "data_dir": None, "name": None, "node_name": None, "address": None, "peers": [],
             "endpoints": [], "accept": [], **params}
    return Options.of(given, NAMES)


def peer(name):
    return Peer(name, "10.0.0.1", Profile(), "0" * 32, (), {}, 1, 1, 1500).as_dict()


def test_without_anything_the_node_is_called_by_its_host_name():
    assert options().name == os.uname().nodename


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"accept": ["fsync"]}, "accept: there is no check 'fsync'. The checks are virtualisation, "),
        ({"data_dir": "relative"}, "is not an absolute path"),
        ({"data_dir": "/no/such/folder"}, "does not exist. Mount its disk and create it"),
        ({"data_dir": "/etc/hostname"}, "is not a folder"),
        ({"peers": [peer("a"), peer("b")], "name": "c"}, "peers: the node 'c' itself is not among a, b. Start the listener of this node too"),
        ({"peers": [peer("a"), peer("a")], "name": "a"}, "peers: a is there more than once"),
        ({"endpoints": [{"name": "x", "address": "y", "limit": 5.0}]}, "endpoints: x: 'y' is not the address of an endpoint"),
    ],
)
def test_bad_input_says_what_where_and_what_to_do(params, said):
    with pytest.raises(Failure) as failure:
        options(**params)
    assert said in str(failure.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_data_dir_that_is_mounted_read_only_is_refused_though_root_may_write_everywhere(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], check=True)
    try:
        with pytest.raises(Failure, match="is not writable. Mount it read-write"):
            options(data_dir=str(tmp_path))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_datastores_folder_is_the_members_own_or_the_nearest_that_exists(tmp_path):
    node = Host(Machine(), options(data_dir=str(tmp_path)))
    assert node.datastore_folder == str(tmp_path)
    etcd = tmp_path / "server" / "db" / "etcd"
    etcd.mkdir(parents=True)
    assert Host(Machine(), options(data_dir=str(tmp_path))).datastore_folder == str(etcd)
    assert Host(Machine(), options(data_dir=str(tmp_path), role="agent")).state_folder == str(tmp_path)
    assert disk.existing("/no/such/folder") == "/"


def test_folders_on_one_file_system_are_looked_at_once(tmp_path):
    assert len(Host(Machine(), options(data_dir=str(tmp_path))).folders) <= 2


@pytest.mark.skipif(os.geteuid() != 0, reason="bpf() and raw sockets are root's")
def test_this_very_machine_is_measured_whole_within_seconds(tmp_path):
    report = preflight(Host(Machine(), options(data_dir=str(tmp_path), role="agent", cni="cilium")))
    assert [result.check.name for result in report.results] == list(NAMES)
    assert report.seconds < 20
    for result in report.results:
        assert result.finding.value and (result.finding.evidence or result.verdict == "not applicable"), result
    # An agent's disk is not measured; all else is a matter of a second, on a machine that is not busy.
    assert report.result()["counts"]["not_applicable"] >= 4
