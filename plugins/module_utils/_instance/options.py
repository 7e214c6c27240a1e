# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that modules and the inventory plugin share."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from .._errors import Failure
from .libvirt import Libvirt
from .openstack import OpenStack
from .plan import ON_DRIFT
from .provider import Provider

CLOUD_SPEC: Dict[str, Any] = dict(
    cloud=dict(type="str"),
    clouds_file=dict(type="path"),
    auth=dict(type="dict", no_log=True),
    auth_type=dict(type="str"),
    region=dict(type="str", required=True),
    project_id=dict(type="str"),
    interface=dict(type="str", choices=["public", "internal", "admin"]),
    ca_cert=dict(type="path"),
    validate_certs=dict(type="bool"),
    timeout=dict(type="int", default=60),
    libvirt=dict(
        type="dict",
        options=dict(
            uri=dict(type="str", required=True),
            pool=dict(type="str", default="default"),
            images=dict(
                type="list",
                elements="dict",
                options=dict(name=dict(type="str", required=True), path=dict(type="path", required=True), checksum=dict(type="str", required=True)),
            ),
            emulation=dict(type="bool", default=False),
            firmware=dict(type="str", choices=["bios", "uefi"], default="bios"),
            autostart=dict(type="bool", default=True),
            cache=dict(type="str", choices=["none", "writeback", "writethrough", "directsync"], default="none"),
            io=dict(type="str", choices=["native", "threads", "io_uring"], default="native"),
        ),
    ),
)
RESIDENCY_SPEC: Dict[str, Any] = dict(
    type="dict",
    options=dict(regions=dict(type="list", elements="str"), zones=dict(type="list", elements="str"), endpoint_hosts=dict(type="list", elements="str")),
)
ADDRESS_SPEC: Dict[str, Any] = dict(
    type="dict",
    options=dict(
        network=dict(type="str"),
        kind=dict(type="str", choices=["any", "fixed", "floating"], default="any"),
        version=dict(type="int", choices=[4, 6], default=4),
    ),
)
_VOLUME: Dict[str, Any] = dict(label=dict(type="str"), size=dict(type="int"), type=dict(type="str"), zone=dict(type="str"), volume=dict(type="str"))
# No defaults: what an entry leaves out, it takes from the top level.
INSTANCE_SPEC: Dict[str, Any] = dict(
    state=dict(type="str", choices=["present", "absent", "rebuilt", "started", "stopped"]),
    image=dict(type="str"),
    flavor=dict(type="str"),
    key=dict(type="str", no_log=False),
    public_key=dict(type="str", no_log=False),
    networks=dict(
        type="list",
        elements="dict",
        options=dict(
            network=dict(type="str"),
            subnet=dict(type="str"),
            address=dict(type="str"),
            port=dict(type="str"),
            security_groups=dict(type="list", elements="str"),
        ),
    ),
    security_groups=dict(type="list", elements="str"),
    server_group=dict(type="str"),
    zone=dict(type="str"),
    boot_volume=dict(type="dict", options={name: option for name, option in _VOLUME.items() if name != "label"}),
    volumes=dict(type="list", elements="dict", options=_VOLUME),
    floating_address=dict(type="dict", options=dict(network=dict(type="str"), address=dict(type="str"))),
    metadata=dict(type="dict"),
    user_data=dict(type="str", no_log=True),
    cloud_init=dict(type="dict", no_log=True),
    protected=dict(type="bool"),
)
FLEET_SPEC: Dict[str, Any] = dict(
    fleet=dict(type="str", required=True),
    name=dict(type="str"),
    instances=dict(type="list", elements="dict", options=dict(name=dict(type="str", required=True), **INSTANCE_SPEC)),
    residency=RESIDENCY_SPEC,
    on_drift=dict(type="dict", options={name: dict(type="str", choices=sorted(actions)) for name, actions in ON_DRIFT.items()}),
    allow_data_loss=dict(type="bool", default=False),
    prune=dict(type="bool", default=False),
    prune_limit=dict(type="str", default="50%"),
    delete_volumes=dict(type="bool", default=False),
    fingerprint_key=dict(type="str", no_log=True),
    parallel=dict(type="int", default=10),
    wait_for=dict(type="str", choices=["active", "ssh", "cloud_init"], default="active"),
    wait_timeout=dict(type="int", default=600),
    shutdown_timeout=dict(type="int", default=90),
    address=ADDRESS_SPEC,
    ssh=dict(
        type="dict",
        options=dict(
            user=dict(type="str"), port=dict(type="int", default=22), private_key_file=dict(type="path", no_log=False), known_hosts_file=dict(type="path")
        ),
    ),
    gate=dict(type="list", elements="str"),
)


def provider_of(params: Mapping[str, Any]) -> Provider:
    if params.get("timeout") is not None and int(params["timeout"]) < 1:
        raise Failure(f"timeout is {params['timeout']}", hint="It is at least 1.")
    if not params.get("libvirt"):
        return OpenStack(params)
    given = [name for name in ("cloud", "clouds_file", "auth") if params.get(name)]
    if given:
        raise Failure(f"give either libvirt or {given[0]}")
    return Libvirt(params)
