# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests that k3s deploys by itself, from the folder server/manifests of each server.

k3s leaves the objects of a file that is gone. So a file that is taken out is kept aside until its objects are deleted, which is done once every
server has lost the file: a k3s that still had it would create them again. Ours are the files with the mark, theirs the objects that k3s says it
made for the file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, HOME, files
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import ADMIN
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.files import MARK, Change, ManagedFile

FOLDER = "server/manifests"
TAKEN_OUT = os.path.join(HOME, "manifests-taken-out")
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.ya?ml\Z")
SECRET = re.compile(r"[\"']?kind[\"']?\s*:\s*[\"']?Secret\b")
# k3s writes these whenever it starts.
PACKAGED = ("ccm", "coredns", "local-storage", "metrics-server", "rolebindings", "runtimes", "traefik")
# The AddOn of a file notes the kinds of what k3s made for it, such as "apps/v1, Kind=Deployment;/v1, Kind=Service".
KINDS = "addon.k3s.cattle.io/gvks"
KIND = re.compile(r"([^/;]*)/([^,;]+), Kind=([^;]+)")
NOT_SERVED = "no matches for kind"
DOCUMENT = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
LIST = re.compile(r"[\"']?kind[\"']?\s*:\s*[\"']?\w*List\b")
OWNER = "objectset.rio.cattle.io/owner-name"  # on each object that k3s made for a file, with the file's name without its suffix
OWNER_KIND = "objectset.rio.cattle.io/owner-gvk"
# What others may have put something into, or what holds data: it stays, and is named.
LEFT = ("Namespace", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition")
TIMEOUT = 120.0


@dataclass(frozen=True)
class Manifests:
    """Of one server."""

    data_dir: str
    home: str = HOME

    @property
    def folder(self) -> str:
        return os.path.join(self.data_dir, FOLDER)

    @property
    def taken_out(self) -> str:
        return os.path.join(self.home, os.path.basename(TAKEN_OUT))

    def ours(self) -> List[str]:
        """Names of the files that an earlier run put here."""
        names = sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []
        return [name for name in names if NAME.match(name) and (files.read(os.path.join(self.folder, name)) or "").startswith(MARK)]

    def waiting(self) -> List[str]:
        """Names of files that are gone, and whose objects are still to be deleted."""
        return sorted(os.listdir(self.taken_out)) if os.path.isdir(self.taken_out) else []

    def changes(self, wanted: Mapping[str, str]) -> List[Change]:
        """What differs from these files; what is not ours and not wanted stays."""
        names: Dict[str, str] = {}
        for name in sorted(wanted):
            check_name(name)
            other = names.setdefault(owner_of(name), name)
            if other != name:
                raise Failure(f"{other} and {name} are one to k3s, which tells manifests apart by their names without the ending", "manifests",
                              "Give one of them another name.")
        found = [ManagedFile(os.path.join(self.folder, name), MARK + text.rstrip("\n") + "\n", secret=bool(SECRET.search(text)))
                 for name, text in sorted(wanted.items())]
        found += [ManagedFile(os.path.join(self.folder, name), None, secret=True) for name in self.ours() if name not in wanted]
        return [change for change in map(files.compare, found) if change]

    def put(self, change: Change) -> None:
        """Written or taken out; a file that is wanted again is not waited for any more."""
        name = os.path.basename(change.path)
        aside = os.path.join(self.taken_out, name)
        if change.wanted.text is None:
            os.makedirs(self.taken_out, mode=0o700, exist_ok=True)
            Change(ManagedFile(aside, change.before), None, None).write(self.home)
        elif os.path.exists(aside):
            os.unlink(aside)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        change.write(self.home)


def check_name(name: str) -> None:
    if not NAME.match(name):
        raise Failure(f"{name!r} is not the name of a manifest", "manifests", "Small letters, digits, dots and dashes, and .yaml or .yml at its end.")
    if owner_of(name) in PACKAGED:
        raise Failure(f"{name} is one of k3s' own, which k3s writes again at every start", "manifests",
                      "Give it another name; `disable` in k3s_config turns k3s' own one off.")


def owner_of(name: str) -> str:
    """What k3s calls the file (AddOn)."""
    return name.rpartition(".")[0]


def delete_objects(manifests: Manifests, check_mode: bool) -> Tuple[List[str], List[str]]:
    """What was deleted, or would be, and what stays, of the files that were taken out."""
    deleted: List[str] = []
    left: List[str] = []
    waiting = manifests.waiting()
    # As after a file was renamed: k3s says that they are the other file's when it has applied that one, and would not create them again later.
    elsewhere = {one["metadata"]["uid"] for name in manifests.ours() for one in _named(manifests, name)} if waiting else set()
    for name in waiting:
        made = [one for one in _made(manifests, owner_of(name)) if one["metadata"]["uid"] not in elsewhere]
        goes, stays = of_owner(made, owner_of(name))
        deleted += [said(one) for one in goes]
        left += [said(one) for one in stays]
        if check_mode:
            continue
        if goes:
            listed = {"apiVersion": "v1", "kind": "List", "items": [_reference(one) for one in goes]}
            _kubectl(manifests, ["delete", "--ignore-not-found", "--wait=false", "-f", "-"], json.dumps(listed))
        _kubectl(manifests, ["delete", "addons.k3s.cattle.io", owner_of(name), "--namespace", "kube-system", "--ignore-not-found"])
        os.unlink(os.path.join(manifests.taken_out, name))
    return deleted, left


def of_owner(objects: Sequence[Mapping[str, Any]], owner: str) -> Tuple[List[Mapping[str, Any]], List[Mapping[str, Any]]]:
    """Those that k3s made for the file and that go with it, and those that stay."""
    made = [one for one in objects if _annotations(one).get(OWNER) == owner and "Kind=Addon" in _annotations(one).get(OWNER_KIND, "")]
    return [one for one in made if one["kind"] not in LEFT], [one for one in made if one["kind"] in LEFT]


def said(item: Mapping[str, Any]) -> str:
    metadata = item["metadata"]
    return f"{item['kind']} {metadata['namespace'] + '/' if metadata.get('namespace') else ''}{metadata['name']}"


def _annotations(item: Mapping[str, Any]) -> Dict[str, str]:
    return item.get("metadata", {}).get("annotations") or {}


def _reference(item: Mapping[str, Any]) -> Dict[str, Any]:
    metadata = {key: item["metadata"][key] for key in ("name", "namespace") if item["metadata"].get(key)}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}


def _made(manifests: Manifests, owner: str) -> List[Dict[str, Any]]:
    """All objects of the kinds that k3s made for a file, as it notes them itself: what the file says now need not be what k3s made of it."""
    addon = _get(manifests, ["addons.k3s.cattle.io", owner, "--namespace", "kube-system"])
    kinds = KIND.findall(_annotations(addon[0]).get(KINDS, "")) if addon else []
    found: List[Dict[str, Any]] = []
    for group, version, kind in kinds:
        try:
            found += _get(manifests, [f"{kind}.{version}.{group}", "--all-namespaces"])
        except Failure as failure:
            if "the server doesn't have a resource type" not in failure.what:  # its definition went, and all of it with that
                raise
    return found


def _named(manifests: Manifests, name: str) -> List[Dict[str, Any]]:
    """The live objects that a file in k3s' folder names."""
    path = os.path.join(manifests.folder, name)
    try:
        return _get(manifests, ["-f", path])
    except Failure as failure:
        if NOT_SERVED not in failure.what:
            raise
    found: List[Dict[str, Any]] = []
    for document in DOCUMENT.split(files.read(path) or ""):  # kubectl tells of none when it does not know one
        try:
            found += _get(manifests, ["-f", "-"], document)
        except Failure as failure:
            if NOT_SERVED not in failure.what or LIST.search(document):
                raise
    return found


def _get(manifests: Manifests, what: List[str], text: str = "") -> List[Dict[str, Any]]:
    answer = json.loads(_kubectl(manifests, ["get", "--ignore-not-found", "--output", "json", *what], text).strip() or "{}")
    return [one for one in (answer["items"] if "items" in answer else [answer]) if one.get("metadata", {}).get("uid")]


def _kubectl(manifests: Manifests, arguments: List[str], text: str = "") -> str:
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                   "KUBECONFIG": os.path.join(manifests.data_dir, ADMIN)}
    try:
        done = subprocess.run([BINARY, "kubectl", *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
                              errors="replace", timeout=TIMEOUT, check=False)
    except FileNotFoundError as error:
        raise Failure("there is no k3s here", BINARY) from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"kubectl did not end within {TIMEOUT:.0f} s", f"kubectl {arguments[0]}") from error
    if done.returncode:
        raise Failure(done.stderr.strip()[-400:] or f"exit code {done.returncode}", f"kubectl {arguments[0]}",
                      f"The objects of manifests that were taken out are in {manifests.taken_out}. Run it again when the API answers.")
    return done.stdout
