# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of each service of the lab's OpenStack."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path
from typing import Any, Dict, Mapping

REGION = "no-oslo-1"
# A region that the catalog also lists. Nothing of it answers.
ABROAD = "us-east-1"
# Compute hosts and the availability zone of each.
HOSTS = {"lab-1": "no-oslo-1a", "lab-2": "no-oslo-1a", "lab-3": "no-oslo-1b"}
# What Cinder calls a backend, one in each zone.
BACKENDS = {"nvme-a": "no-oslo-1a", "nvme-b": "no-oslo-1b"}

# service type of the catalog -> (the service that listens, path of the URL)
ENDPOINTS = {
    "identity": ("keystone", "/v3"),
    "placement": ("placement", ""),
    "image": ("glance", ""),
    "network": ("neutron", ""),
    "compute": ("nova", "/v2.1"),
    "block-storage": ("cinder", "/v3"),
}
APIS = ("keystone", "placement", "glance", "neutron", "nova", "cinder")
DATABASES = ("keystone", "placement", "glance", "neutron", "nova_api", "nova", "nova_cell0", "cinder")

Sections = Mapping[str, Mapping[str, Any]]


def database(name: str) -> str:
    # Every process of the lab's cloud works in its state folder, so a relative path leads to the socket wherever that is.
    return f"mysql+pymysql://root@localhost/{name}?unix_socket=mysql.sock"


def write(state: Path, venv: Path, ports: Mapping[str, int], password: str) -> None:
    """One file a service in state/etc."""
    for name, sections in _services(state, venv, ports, password).items():
        parser = configparser.RawConfigParser()
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_dict({section: {key: _text(value) for key, value in values.items()} for section, values in sections.items()})
        file = state / "etc" / name / f"{name if name != 'glance' else 'glance-api'}.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        with file.open("w") as stream:
            parser.write(stream)
    # Nova's API looks for it beside nova.conf, wherever that says it is.
    shutil.copy(venv / "etc" / "nova" / "api-paste.ini", state / "etc" / "nova")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _services(state: Path, venv: Path, ports: Mapping[str, int], password: str) -> Dict[str, Sections]:
    identity = f"http://127.0.0.1:{ports['keystone']}/v3"
    account = {
        "auth_url": identity,
        "auth_type": "password",
        "username": "service",
        "password": password,
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
    }
    token = {**account, "www_authenticate_uri": identity, "service_token_roles": "service", "service_token_roles_required": True}
    queue = f"rabbit://lab:{password}@127.0.0.1:{ports['rabbitmq']}/"

    def common(name: str, **default: Any) -> Dict[str, Dict[str, Any]]:
        return {
            "DEFAULT": {"transport_url": queue, "state_path": state / name, "use_stderr": True, **default},
            "database": {"connection": database(name), "max_pool_size": 20, "max_overflow": 40},
            "keystone_authtoken": token,
            "oslo_concurrency": {"lock_path": state / name / "locks"},
            "oslo_messaging_notifications": {"driver": "noop"},
            "oslo_policy": {"enforce_scope": False, "enforce_new_defaults": False},
        }

    return {
        "keystone": {
            **common("keystone"),
            "fernet_tokens": {"key_repository": state / "keystone" / "fernet"},
            "credential": {"key_repository": state / "keystone" / "credential"},
            # A password of the lab is 128 random bits, so that a hash of it need not be slow.
            "identity": {"password_hash_rounds": 4},
            "token": {"provider": "fernet", "expiration": 14400},
        },
        "placement": {**common("placement"), "placement_database": {"connection": database("placement")}, "api": {"auth_strategy": "keystone"}},
        "glance": {
            **common("glance", enabled_backends="file:file"),
            "paste_deploy": {"flavor": "keystone", "config_file": venv / "etc" / "glance" / "glance-api-paste.ini"},
            "glance_store": {"default_backend": "file"},
            "file": {"filesystem_store_datadir": state / "glance" / "images"},
            "os_glance_staging_store": {"filesystem_store_datadir": state / "glance" / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": state / "glance" / "tasks"},
        },
        "neutron": {
            **common(
                "neutron",
                core_plugin="ml2",
                service_plugins="router",
                notify_nova_on_port_status_changes=False,
                api_paste_config=venv / "etc" / "neutron" / "api-paste.ini",
                dhcp_agent_notification=False,
                max_allowed_address_pair=10,
            ),
            "ml2": {"type_drivers": "local", "tenant_network_types": "local", "mechanism_drivers": "nordic_lab", "extension_drivers": "port_security"},
            "nova": account,
            "quotas": {
                name: -1
                for name in (
                    "quota_network",
                    "quota_subnet",
                    "quota_port",
                    "quota_router",
                    "quota_floatingip",
                    "quota_security_group",
                    "quota_security_group_rule",
                )
            },
        },
        "nova": {
            **common(
                "nova",
                compute_driver="fake.FakeDriverWithoutFakeNodes",
                my_ip="127.0.0.1",
                vif_plugging_is_fatal=False,
                vif_plugging_timeout=0,
                default_availability_zone="no-oslo-1a",
                service_down_time=3600,
                report_interval=60,
                allow_resize_to_same_host=True,
                running_deleted_instance_poll_interval=0,
                heal_instance_info_cache_interval=0,
                sync_power_state_interval=-1,
            ),
            "api_database": {"connection": database("nova_api"), "max_pool_size": 20, "max_overflow": 40},
            "api": {"auth_strategy": "keystone"},
            "wsgi": {"api_paste_config": venv / "etc" / "nova" / "api-paste.ini"},
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1},
            "filter_scheduler": {"max_instances_per_host": 100000, "host_subset_size": 3},
            "quota": {"cores": 4000, "ram": 20000000, "instances": 2000, "server_groups": 100, "server_group_members": 10},
            "glance": {**account, "api_servers": f"http://127.0.0.1:{ports['glance']}"},
            "neutron": account,
            "placement": account,
            "service_user": {**account, "send_service_user_token": True},
            "cinder": {**account, "catalog_info": "block-storage:cinder:publicURL", "os_region_name": REGION, "cross_az_attach": True},
        },
        "cinder": {
            **common(
                "cinder",
                enabled_backends=",".join(BACKENDS),
                api_paste_config=venv / "etc" / "cinder" / "api-paste.ini",
                resource_query_filters_file=venv / "etc" / "cinder" / "resource_filters.json",
                my_ip="127.0.0.1",
                host="lab-volumes",
                storage_availability_zone="no-oslo-1a",
                service_down_time=3600,
                report_interval=60,
                # The scheduler knows a backend from its first report on, which a busy machine's scheduler may miss: the next one comes soon.
                periodic_interval=5,
                periodic_fuzzy_delay=0,
                backend_stats_polling_interval=5,
                glance_api_servers=f"http://127.0.0.1:{ports['glance']}",
                image_conversion_dir=state / "cinder" / "conversion",
                quota_volumes=400,
                quota_gigabytes=100000,
                backup_driver="cinder.backup.drivers.posix.PosixBackupDriver",
            ),
            **{
                name: {"volume_driver": "nordic_lab_volumes.Volumes", "volume_backend_name": name, "backend_availability_zone": zone}
                for name, zone in BACKENDS.items()
            },
            "nova": account,
            "service_user": {**account, "send_service_user_token": True},
        },
    }


def programs(state: Path, ports: Mapping[str, int]) -> Dict[str, Dict[str, Any]]:
    """What launch.py is told: one process a package, its programs forked from that."""
    etc = state / "etc"
    env = {
        "OS_KEYSTONE_CONFIG_FILES": str(etc / "keystone" / "keystone.conf"),
        "OS_PLACEMENT_CONFIG_DIR": str(etc / "placement"),
        "OS_GLANCE_CONFIG_DIR": str(etc / "glance"),
        "OS_NEUTRON_CONFIG_DIR": str(etc / "neutron"),
        "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
        "OS_NOVA_CONFIG_DIR": str(etc / "nova"),
        "OS_CINDER_CONFIG_DIR": str(etc / "cinder"),
    }

    def wsgi(name: str, module: str) -> Dict[str, Any]:
        return {
            "log": str(state / "logs" / f"{name}-api.log"),
            "argv": [f"{name}-api"] + (["--config-file", str(etc / "cinder" / "cinder.conf")] if name == "cinder" else []),
            "env": {},
            "wsgi": module,
            "port": ports[name],
        }

    def service(package: str, name: str, main: str, *files: Path) -> Dict[str, Any]:
        argv = [f"{package}-{name}"]
        for file in (etc / package / f"{package}.conf", *files):
            argv += ["--config-file", str(file)]
        return {"log": str(state / "logs" / f"{package}-{name}.log"), "argv": argv, "env": {}, "main": f"{main}:main"}

    computes = []
    for host in HOSTS:
        file = etc / "nova" / f"{host}.ini"
        # Each compute host keeps its identity in its own state_path.
        (state / "nova" / host).mkdir(parents=True, exist_ok=True)
        file.write_text(f"[DEFAULT]\nhost = {host}\nstate_path = {state / 'nova' / host}\n")
        computes.append(service("nova", f"compute-{host}", "nova.cmd.compute", file))
    return {
        "keystone": {"env": env, "imports": [], "programs": [wsgi("keystone", "keystone.wsgi.api")]},
        "placement": {"env": env, "imports": [], "programs": [wsgi("placement", "placement.wsgi.api")]},
        "glance": {"env": env, "imports": [], "programs": [wsgi("glance", "glance.wsgi.api")]},
        "neutron": {"env": env, "imports": [], "programs": [wsgi("neutron", "neutron.wsgi.api")]},
        "nova": {
            "env": {**env, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"},
            "imports": ["nova.cmd.compute", "nova.virt.fake", "nova.compute.manager"],
            "programs": [
                wsgi("nova", "nova.wsgi.osapi_compute"),
                service("nova", "conductor", "nova.cmd.conductor"),
                service("nova", "scheduler", "nova.cmd.scheduler"),
                *computes,
            ],
        },
        "cinder": {
            "env": env,
            "imports": [],
            "programs": [
                wsgi("cinder", "cinder.wsgi.api"),
                service("cinder", "scheduler", "cinder.cmd.scheduler"),
                service("cinder", "volume", "cinder.cmd.volume"),
            ],
        },
    }
