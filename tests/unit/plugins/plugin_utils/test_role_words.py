# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person who uses the role k3s reads when its module fails."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.plugin_utils._role_words import in_roles_words, said

SAID = [
    ("config: k3s server has no option tls_san, did you mean tls-san?; drop_ins.50-x: k3s server has no option nonsense",
     "k3s_config: k3s server has no option tls_san, did you mean tls-san?; k3s_drop_ins.50-x: k3s server has no option nonsense"),
    ("/usr/local/bin/k3s: k3s is not installed, and no binary is given. Give binary, or binary_url with checksum.",
     "/usr/local/bin/k3s: k3s is not installed, and no k3s_binary is given. Give k3s_binary, or k3s_binary_url with checksum."),
    ("environment.K3S_TOKEN: is k3s' own variable. Set the key of config, or the option, that it stands for.",
     "k3s_environment.K3S_TOKEN: is k3s' own variable. Set the key of k3s_config, or the option, that it stands for."),
    ("Put it into config (variables into environment), or set adopt to go on without it.",
     "Put it into k3s_config (variables into k3s_environment), or set k3s_adopt to go on without it."),
    ("files: '/etc/rancher/k3s/token' is written from an option of its own. Use config, drop_ins, registries, environment, token or agent_token.",
     "k3s_files: '/etc/rancher/k3s/token' is written from an option of its own. "
     "Use k3s_config, k3s_drop_ins, k3s_registries, k3s_environment, k3s_token or k3s_agent_token."),
    ("token: a token has white space in it. Give the token alone, without a line break.",
     "k3s_token: a token has white space in it. Give the token alone, without a line break."),
    ("files/k3s: there is no such file on the controller; it was looked for at /a/files/k3s. Set remote_src when it is on the host.",
     "files/k3s: there is no such file on the controller; it was looked for at /a/files/k3s. Set k3s_remote_src when it is on the host."),
    ("/etc/rancher/k3s/token: the token given is not the one of the cluster that this node belongs to. Leave the token out to keep the node's own.",
     "/etc/rancher/k3s/token: the token given is not the one of the cluster that this node belongs to. Leave the token out to keep the node's own."),
    ("checksum has no line for k3s, but for k3s-arm64", "k3s_checksum has no line for k3s, but for k3s-arm64"),
    ("this host is a k3s agent already. Take it out of its cluster first, with state absent.",
     "this host is a k3s agent already. Take it out of its cluster first, by the playbook reset with k3s_reset_remove=true."),
    ("node agent1: these pods have an emptyDir. Set delete_emptydir_data when what is in it may go.",
     "node agent1: these pods have an emptyDir. Set k3s_drain_delete_emptydir_data when what is in it may go."),
    ("s3.region: region eu-west-1 is not one of those allowed: eu-north-1. Snapshots hold every secret of the cluster. Nothing was sent.",
     "k3s_snapshot_s3.region: region eu-west-1 is not one of those allowed: eu-north-1. Snapshots hold every secret of the cluster. Nothing was sent."),
    ("name: 'a b' cannot be a snapshot's name. Letters, digits, dots, dashes and underscores, at most 101 of them.",
     "k3s_restore_name: 'a b' cannot be a snapshot's name. Letters, digits, dots, dashes and underscores, at most 101 of them."),
    ("file: 'latest' is not the name of a snapshot. It ends in the time it was saved at, such as nightly-server1-1790000000.",
     "k3s_restore_file: 'latest' is not the name of a snapshot. It ends in the time it was saved at, such as nightly-server1-1790000000."),
    ("https://s3.example.no/b/a-1: it is encrypted. Give the private key of its recipient by `private_key`.",
     "https://s3.example.no/b/a-1: it is encrypted. Give the private key of its recipient by `k3s_restore_private_key`."),
    ("/db: 3 MiB are free, and restoring 40 MiB needs 336. Make room. `etcd_snapshot` with `state: pruned` removes old snapshots.",
     "/db: 3 MiB are free, and restoring 40 MiB needs 336. Make room. The playbook snapshot removes old ones, as k3s_snapshot_keep says."),
    ("k3s.service: after 480 s node server1 is not ready: /etc/rancher/k3s/config.yaml: no such file",
     "k3s.service: after 480 s node server1 is not ready: /etc/rancher/k3s/config.yaml: no such file"),
]


@pytest.mark.parametrize(("module", "person"), SAID, ids=[str(number) for number in range(len(SAID))])
def test_a_failure_names_what_the_person_wrote(module, person):
    assert said(module) == person


def test_what_names_variables_already_stays_so():
    for _module, person in SAID:
        assert said(person) == person


def test_a_task_outside_of_the_role_keeps_the_modules_own_words():
    for variables in ({}, {"ansible_role_name": "company.platform.k3s"}, None):
        assert in_roles_words({"failed": True, "msg": SAID[0][0]}, variables)["msg"] == SAID[0][0]
    assert in_roles_words({"failed": True, "msg": SAID[0][0]}, {"ansible_role_name": "nordic.gitops.k3s"})["msg"] == SAID[0][1]
