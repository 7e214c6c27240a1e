# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ansible and ssh find a set of hosts."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from lab.errors import LabError

# A host's group is told by its name; any other name is in no group.
GROUPS = (("server", "k3s_servers"), ("agent", "k3s_agents"))


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    public_key: str

    @property
    def group(self) -> Optional[str]:
        return next((group for prefix, group in GROUPS if self.name.startswith(prefix)), None)


def check_names(names: Sequence[str]) -> None:
    """Refuse what cannot be the name of a host."""
    if not names:
        raise LabError("no host is named; for example --names server1,agent1")
    for name in names:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", name) or name in ("localhost", "switch", "all", "ungrouped"):
            raise LabError(f"{name!r} is no name for a host: lower-case letters, digits and hyphens, at most 32, beginning with a letter")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise LabError(f"named twice: {', '.join(twice)}")
    if len(names) > 200:
        raise LabError(f"{len(names)} hosts; a set has room for 200")


def ssh_options(state: Path) -> List[str]:
    """Nobody's own settings, keys or known hosts take part, and a host that is not the one of this set is refused."""
    # ssh splits the value of UserKnownHostsFile at spaces, unless they are quoted for it.
    return ["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=no",
            "-o", f'UserKnownHostsFile="{state / "known_hosts"}"', "-o", "GlobalKnownHostsFile=none"]


def write_known_hosts(file: Path, hosts: Sequence[Host]) -> None:
    file.write_text("".join(f"{host.address},{host.name} {' '.join(host.public_key.split()[:2])}\n" for host in hosts))


def write_inventory(file: Path, hosts: Sequence[Host], state: Path) -> None:
    """An inventory of Ansible; state is the folder's name as Ansible's process sees it."""
    groups: Dict[str, Any] = {group: {"hosts": {}} for _prefix, group in GROUPS}
    groups["ungrouped"] = {"hosts": {}}
    for host in hosts:
        groups[host.group or "ungrouped"]["hosts"][host.name] = {"ansible_host": host.address}
    content = {"all": {
        "vars": {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(state / "keys" / "root"),
            "ansible_ssh_common_args": shlex.join(ssh_options(state)),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_pipelining": True,
        },
        "children": groups,
    }}
    write_yaml(file, content)


def write_yaml(file: Path, content: Any) -> None:
    import yaml  # Ansible's own dependency; the rest of the lab does without it

    file.write_text("---\n" + yaml.safe_dump(content, sort_keys=False, width=1000))
