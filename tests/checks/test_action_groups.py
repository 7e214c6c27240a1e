# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module that talks to a cluster is in the action group, so that `module_defaults: group/nordic.gitops.gitops` reaches all of them."""

from __future__ import annotations

import re

import yaml

GROUP = "gitops"
# Whose documentation has this fragment takes the connection's options. In the group, any other module would refuse them.
FRAGMENT = re.compile(r"^\s+- nordic\.gitops\.connection$", re.MULTILINE)


def members(runtime: str) -> set[str]:
    return {entry for entry in yaml.safe_load(runtime)["action_groups"][GROUP] if isinstance(entry, str)}


def modules(folder) -> set[str]:
    """Those that take a connection to a cluster."""
    return {path.stem for path in (folder / "plugins" / "modules").glob("*.py") if FRAGMENT.search(path.read_text(encoding="utf-8"))}


def faults(folder) -> list[str]:
    """Where the group and the modules with a connection differ."""
    grouped = members((folder / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    found = [f"{name}: not in the action group {GROUP} of meta/runtime.yml" for name in sorted(modules(folder) - grouped)]
    return found + [f"{name}: in the action group {GROUP}, but there is no such module with a connection" for name in sorted(grouped - modules(folder))]


def test_no_module_is_missing_from_the_action_group(copy):
    assert not faults(copy)


def test_a_missing_and_a_surplus_member_are_found(planted):
    connected = "extends_documentation_fragment:\n  - nordic.gitops.connection\n"
    folder = planted({"plugins/modules/forgotten.py": connected, "plugins/modules/there.py": connected, "plugins/modules/apart.py": "",
                      "plugins/modules/surplus.py": "", "meta/runtime.yml": "---\naction_groups:\n  gitops:\n    - there\n    - gone\n    - surplus\n"})
    assert [fault.split(":")[0] for fault in faults(folder)] == ["forgotten", "gone", "surplus"]


def test_the_group_sets_the_connection_of_every_module_once(bench, copy, tmp_path):
    """Each module, called without any connection, complains about the kubeconfig that module_defaults named."""
    nowhere = tmp_path / "no-such-kubeconfig"
    for name in sorted(modules(copy)):
        play = [{"hosts": "localhost", "gather_facts": False, "module_defaults": {f"group/nordic.gitops.{GROUP}": {"kubeconfig": str(nowhere)}},
                 "tasks": [{f"nordic.gitops.{name}": REQUIRED.get(name, {})}]}]
        playbook = tmp_path / f"{name}.yml"
        playbook.write_text(yaml.safe_dump(play), encoding="utf-8")
        outcome = bench.run("ansible-playbook", str(playbook), cwd=tmp_path, root=copy.parents[2])
        assert outcome.code == 2 and str(nowhere) in outcome.output, outcome.output


# What a module cannot do without, beside the connection.
REQUIRED = {
    **{f"argocd_{kind}": {"name": "sample"} for kind in ("application", "applicationset", "info", "project", "sync")},
    "argocd_repository": {"url": "https://git.example.no/sample.git"},
    "argocd_admin": {"admin_password": "sample-4711"},
    "argocd_cluster": {"server": "https://sample.example.no"},
    "reconcile": {"name": "sample", "repository": "file:///nowhere", "path": "."},
    "sealed_secret": {"path": "sealed.yaml", "name": "sample", "namespace": "sample", "data": {"key": "value"}},
    "sealed_secrets_key": {},
}
