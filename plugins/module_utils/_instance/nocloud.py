# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk from which a guest without a metadata service is told its name, network and user data (cloud-init's data source NoCloud)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .._errors import Failure

# The first word, and what makes it behave as mkisofs.
PROGRAMS: Sequence[Tuple[str, Sequence[str]]] = (("xorriso", ("-as", "mkisofs")), ("genisoimage", ()), ("mkisofs", ()))


def interface(mac: str, addresses: Sequence[str] = (), router: str = "", resolver: str = "") -> Dict[str, Any]:
    """One entry of network-config. addresses with their prefix, none: by DHCP, which knows the guest by its MAC. Guests made of one image
    share a machine-id, and would else be given one address."""
    one: Dict[str, Any] = {"match": {"macaddress": mac}}
    if not addresses:
        return {**one, "dhcp4": True, "dhcp-identifier": "mac"}
    made = {**one, "addresses": list(addresses)}
    if router:
        made["gateway6" if ":" in router else "gateway4"] = router
    if resolver:
        made["nameservers"] = {"addresses": [resolver]}
    return made


def image(instance_id: str, name: str, user_data: str, interfaces: Sequence[Mapping[str, Any]]) -> bytes:
    """The ISO image. instance_id: another one is another first boot."""
    command = _program()
    network = {"version": 2, "ethernets": {f"port{number}": dict(one) for number, one in enumerate(interfaces)}}
    files: List[Tuple[str, str]] = [
        ("meta-data", json.dumps({"instance-id": instance_id, "local-hostname": name})),
        ("user-data", user_data or "#cloud-config\n{}\n"),
        # JSON is YAML.
        ("network-config", json.dumps(network)),
    ]
    with tempfile.TemporaryDirectory(prefix="nordic-seed-") as folder:
        for file, text in files:
            with open(os.open(os.path.join(folder, file), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as handle:
                handle.write(text)
        made = os.path.join(folder, "seed.iso")
        done = subprocess.run(
            [*command, "-quiet", "-volid", "cidata", "-joliet", "-rock", "-output", made, *(os.path.join(folder, file) for file, _text in files)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise Failure(f"{command[0]} could not make the seed of {name}: {(done.stderr or done.stdout).strip()[-300:]}")
        with open(made, "rb") as iso:
            return iso.read()


def _program() -> List[str]:
    for program, words in PROGRAMS:
        found = shutil.which(program)
        if found:
            return [found, *words]
    raise Failure("there is no program that makes the seed of a guest", hint=f"Install one of: {', '.join(program for program, _words in PROGRAMS)}.")


__all__ = ["image", "interface"]
