# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is now, in the words of k3s. Looks, and changes nothing; what cannot be learned is null, with the reason beside it."""

from __future__ import annotations

import base64
import calendar
import csv
import hashlib
import os
import platform
import re
import socket
import time
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import BINARY, CONFIG_DIR, PASSWORDS, ROLES, configuration, files
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.api import Api, ApiFailure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import sha256_of, version_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.etcd import EtcdFailure, View
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.health import Health, has_cluster, has_embedded_etcd, node_name
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.host import Host
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import authority_of, password_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.installation import Installation
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.manifests import Manifests
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.membership import LABELLED, TAINTED
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.servers import own_addresses, recorded_members, recorded_servers
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import Service
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.spec import Outcome, Spec
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.unfinished import pending

# Certificates by the folder that k3s keeps them in; the soonest to expire decides.
CERTIFICATES = {"server": ("server/tls", "server/tls/etcd", "agent"), "agent": ("agent",)}


def observe(salt: str, with_cluster: bool, wanted: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """The module's result. wanted: what the host is to be. salt makes the token's fingerprint comparable within one play, and with nothing outside of it."""
    role = next((role for role in ROLES if os.path.exists(Service(role).path)), None)
    configured = configuration.of_this_node()
    data_dir = configuration.data_dir(configured)
    service = Service(role or "server")
    state = service.state()
    name = node_name(configured)
    checksum = sha256_of(BINARY)
    found: Dict[str, Any] = {
        "installed": bool(checksum), "version": _version(checksum), "binary": BINARY if checksum else None, "binary_sha256": checksum or None, "role": role,
        "service": {"name": service.name, "state": state.active, "enabled": state.enabled, "pid": state.pid or None, "restarts": state.restarts},
        "restart_pending": pending(),
        "node_name": name, "default_node_name": node_name(configuration.of_this_node(drop_ins_only=True)),
        "hostname": socket.gethostname(), "machine_id": (files.read("/etc/machine-id") or "").strip(), "architecture": platform.machine(),
        "data_dir": data_dir, "datastore": datastore(role, data_dir, configured), "has_cluster": has_cluster(role or "server", data_dir),
        "server_url": configured.get("server") or None, "cluster_init": configuration.is_true(configured.get("cluster-init")),
        "https_port": configuration.port(configured), "snapshot_dir": configuration.snapshot_dir(configured),
        "registered_name": registered_name(data_dir), "fixed": {key: configured[key] for key in configuration.FIXED if configured.get(key)},
        "set_up_by_others": configuration.adopted().result(),
        "token_fingerprint": fingerprint(_token(role, data_dir), salt), "agent_token_fingerprint": fingerprint(_agents_password(data_dir), salt),
        "ca_fingerprint": authority_of(data_dir),
        "certificates": certificates(role, data_dir), "snapshots": _snapshots(configuration.snapshot_dir(configured)),
        "manifests": sorted({*Manifests(data_dir).ours(), *Manifests(data_dir).waiting()}),
    }
    if with_cluster:
        found.update(_cluster(role, data_dir, name, state.runs))
        found.update(_recorded(role, data_dir, bool(found["etcd"])))
    if wanted:
        found["wanted"] = what_is_wanted(wanted, found)
    return found


def what_is_wanted(params: Mapping[str, Any], found: Mapping[str, Any]) -> Dict[str, Any]:
    """What the host is to be, as k3s reads it and without secrets, and what is different now. The keys that make it join are the plan's."""
    spec = Spec(
        role=params["role"], config={key: value for key, value in params["config"].items() if key != "cluster-init"}, drop_ins=params["drop_ins"],
        registries=params["registries"], files=params["files"], token=(params["token"] or "").strip(), agent_token=(params["agent_token"] or "").strip(),
        environment={name: str(value) for name, value in params["environment"].items()}, adopt=params["adopt"], check_mode=True)
    there = configuration.of_this_node()
    joins = {**({"server": there["server"]} if there.get("server") else {}), **({"cluster-init": True} if found["cluster_init"] else {})}
    part = found["has_cluster"] and found["role"] == spec.role
    differences = Installation(replace(spec, config={**spec.config, **joins}), Host(), Outcome()).differences() if part else {"changes": [], "restarts": []}
    merged = configuration.merged(params["config"], params["drop_ins"])
    return {"role": spec.role, "address": params["address"] or None, "binary": params["binary"] or None, "adopt": spec.adopt,
            "config": {key: files.MASK if files.secrets_of(value, key) else value for key, value in merged.items()},
            "environment": sorted(spec.environment), **differences}


def _version(checksum: str) -> Optional[str]:
    try:
        return str(version_of(BINARY)) if checksum else None
    except Failure:
        return None


def datastore(role: Optional[str], data_dir: str, configured: Dict[str, str]) -> Optional[str]:
    """etcd, sqlite or external; None where there is none, or none yet."""
    if role == "agent":
        return None
    if configured.get("datastore-endpoint"):
        return "external"
    if has_embedded_etcd(data_dir):
        return "etcd"
    if os.path.exists(os.path.join(data_dir, "server/db/state.db")):
        return "sqlite"
    return None


def _cluster(role: Optional[str], data_dir: str, name: str, runs: bool) -> Dict[str, Any]:
    """What only a running k3s tells."""
    found: Dict[str, Any] = {"ready": None, "node": None, "nodes": None, "etcd": None, "trouble": None}
    if not role or not runs:
        return found
    health = Health(role, data_dir, name)
    try:
        view = health.etcd_view()
        found["etcd"] = etcd_facts(view) if view else None
    except EtcdFailure as failure:
        found["trouble"] = str(failure)
    try:
        api = Api.of_node(data_dir, 5)
        nodes = api.nodes() if role == "server" else [node for node in [api.node(name)] if node]
        facts = [{"name": node.name, "ready": node.ready, "message": node.message, "roles": list(node.roles), "version": node.version,
                  "unschedulable": node.unschedulable, "addresses": list(node.addresses),
                  "marked": bool({LABELLED, TAINTED} & set(node.annotations))} for node in nodes]
        found["nodes"] = facts if role == "server" else None
        found["node"] = next((fact for fact in facts if fact["name"] == name), None)
        found["ready"] = bool(found["node"] and found["node"]["ready"])
    except ApiFailure as failure:
        found["trouble"] = str(failure)
        found["ready"] = False
    return found


def _recorded(role: Optional[str], data_dir: str, answered: bool) -> Dict[str, Any]:
    """Which servers the files of this host name: the only ones to tell where no etcd can be asked."""
    found: Dict[str, Any] = {"addresses": own_addresses(), "recorded_members": [], "recorded_servers": [], "record_trouble": None}
    if role == "agent":
        found["recorded_servers"] = recorded_servers(data_dir)
    elif not answered:
        try:
            found["recorded_members"] = recorded_members(data_dir)
        except Failure as failure:
            found["record_trouble"] = str(failure)
    return found


def etcd_facts(view: View) -> Dict[str, Any]:
    healthy = {member.id for member in view.healthy_voters}
    return {
        "members": [{"name": member.name, "node": member.node, "id": f"{member.id:x}", "address": member.address, "voter": not member.learner,
                     "healthy": member.id in healthy, "leader": member.id == view.leader_id} for member in view.members],
        "voters": len(view.voters), "healthy_voters": len(healthy), "learners": len(view.learners), "quorum": view.quorum,
        "leader": view.leader.name if view.leader else None, "is_leader": bool(view.leader and view.leader == view.own),
        "may_stop": not view.may_stop(), "objection": view.may_stop() or None, "alarms": list(view.alarms), "version": view.version,
        "database_bytes": view.db_size,
    }


# The token: never itself, only whether there is one and whether two are the same


def _token(role: Optional[str], data_dir: str) -> str:
    for path in (os.path.join(CONFIG_DIR, "token"), os.path.join(data_dir, "server/token")):
        text = (files.read(path) or "").strip()
        if text:
            return text
    return ""


def _agents_password(data_dir: str) -> str:
    """With which agents join, as this server knows it: an agent token, or the cluster's own."""
    rows = csv.reader((files.read(os.path.join(data_dir, PASSWORDS)) or "").splitlines())
    return next((row[0] for row in rows if len(row) > 1 and row[1] == "node"), "")


def fingerprint(token: str, salt: str) -> Optional[str]:
    """Of the token's secret part, made slowly, so that nobody guesses a weak one from a log."""
    if not token or not salt:
        return None
    return hashlib.scrypt(password_of(token).encode(), salt=salt.encode(), n=1 << 14, r=8, p=1, dklen=16).hex()


# Certificates


def certificates(role: Optional[str], data_dir: str) -> Dict[str, Any]:
    """How many there are, and the one that expires first."""
    found: List[Tuple[float, str]] = []
    for folder in CERTIFICATES.get(role or "", ()):
        place = os.path.join(data_dir, folder)
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            if name.endswith(".crt") and "-ca" not in name:
                end = expiry(files.read(os.path.join(place, name)) or "")
                if end is not None:
                    found.append((end, os.path.join(folder, name)))
    if not found:
        return {"count": 0, "first_expiry": None, "first_name": None, "days_left": None}
    end, name = min(found)
    return {"count": len(found), "first_expiry": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)), "first_name": name,
            "days_left": int((end - time.time()) // 86400)}


def registered_name(data_dir: str) -> Optional[str]:
    """The name of the Node that this host registered: its kubelet's certificate has it."""
    text = files.read(os.path.join(data_dir, "agent/client-kubelet.crt")) or ""
    found = re.search("-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", text, re.DOTALL)
    if not found:
        return None
    try:
        data = base64.b64decode(found.group(1))
        place = data.index(b"system:node:")
        return data[place:place + data[place - 1]].decode("ascii").partition("system:node:")[2] or None  # the byte before a DER string is its length
    except (ValueError, IndexError):
        return None


def expiry(pem: str) -> Optional[float]:
    """When the first certificate of a PEM file ends. Python's standard library has no public parser for one that is no CA's.

    `openssl x509 -enddate` tells the same. Users would lose the answer on hosts without openssl, which k3s does not need, and the some twenty processes
    of a server would take longer than all the rest of what is looked at.
    """
    found = re.search("-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", pem, re.DOTALL)
    if not found:
        return None
    try:
        body = _inside(_inside(base64.b64decode(found.group(1)))[0][1])
        fields = body[1:] if body[0][0] == 0xA0 else body  # an explicit version comes first
        kind, text = _inside(fields[3][1])[1]  # serial number, algorithm, issuer, validity: from, to
        moment = text.decode("ascii")
        if kind == 0x17:  # UTCTime has two digits for the year, RFC 5280 section 4.1.2.5.1
            moment = ("19" if int(moment[:2]) >= 50 else "20") + moment
        return float(calendar.timegm(time.strptime(moment, "%Y%m%d%H%M%SZ")))
    except (ValueError, IndexError):
        return None


def _inside(data: bytes) -> List[Tuple[int, bytes]]:
    """DER's values at one level, as (tag, content). The outermost one of `data` is opened when it is alone."""
    found: List[Tuple[int, bytes]] = []
    place = 0
    while place < len(data):
        tag, length = data[place], data[place + 1]
        place += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[place:place + size], "big")
            place += size
        found.append((tag, data[place:place + length]))
        place += length
    return _inside(found[0][1]) if len(found) == 1 and found[0][0] == 0x30 else found


def _snapshots(folder: str) -> int:
    return len([name for name in os.listdir(folder) if not name.startswith(".")]) if os.path.isdir(folder) else 0
