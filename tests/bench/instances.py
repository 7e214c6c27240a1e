# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of instances on the lab's OpenStack: one task of ours against one task of openstack.cloud.server for each instance."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import yaml

from lab.openstack import PEER, Cloud
from workspace import collection

from .case import ANSIBLE_CFG
from .measure import Broken, Process, run
from .stats import Spread

COUNT, MANY, REPLACEMENTS = 20, 1000, 3  # the last is for each round
OURS, THEIRS = "nordic.gitops, kvm_instance", "openstack.cloud.server, %d tasks" % COUNT
INFO = "nordic.gitops, instance_info"
MAKE, AGAIN = "%d instances to ACTIVE" % COUNT, "%d instances unchanged" % COUNT
LIST, REPLACE = "{:,} instances listed".format(MANY), "one dead instance replaced"
API, CREATE, DELETE = "the API's own answer time", "the provider's own creation", "the provider's own deletion"
# The steps of a replacement by whose time they are; what is left is this collection's.
OURS_DELETE, OURS_CREATE = ("shut down", "remove the old one"), ("create", "wait until ACTIVE")
PEAK_MB = 150
HOW = {
    "instances": "whole ansible-playbook calls on one OpenStack, in turns, every second round in the other order; the driver of its Nova runs no guests, "
    "so that what is measured is API and client",
    "the cloud's own time": "from the request that creates the first instance until the last is ACTIVE, as Nova tells both times",
    "1,000 instances": "one was made; the others are copies of its rows in the databases of Nova and Neutron, which the APIs list as they list any",
    "the API's own answer time": "the same lists, asked for by plain requests of one process and thrown away",
    "replacement": "the steps that the module tells, of an instance in ERROR; the provider's own creation is that of an instance as this one, in the same "
    "round, by plain requests: from the one that creates it until it is ACTIVE, asked ten times a second, and its deletion until the cloud knows it no more. "
    "Of each replacement the part until the old one has given up its ports and volumes, the part of the new one, and the rest are told",
}
Say = Callable[[str], None]


class Bench:
    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        (folder / "home").mkdir(parents=True)
        (folder / "scratch").mkdir()
        (folder / "ansible.cfg").write_text(ANSIBLE_CFG, encoding="utf-8")
        self.figures: List[Dict[str, Any]] = []
        self.sdk = cloud.connect()

    def play(self, name: str, *tasks: Dict[str, Any]) -> Process:
        file = self.folder / ("%s.yml" % name)
        file.write_text(
            yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}], sort_keys=False), encoding="utf-8"
        )
        env = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(collection.linked()),
            "ANSIBLE_HOME": str(self.folder / "home" / ".ansible"),
            "OS_CLIENT_CONFIG_FILE": self.cloud.clouds_file,
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(PEER),
        }
        return run([str(Path(sys.executable).parent / "ansible-playbook"), str(file)], env, self.folder / "scratch", 3000)

    def add(self, operation: str, peer: str, seconds: float, **more: Any) -> None:
        self.figures.append({"case": "instances", "operation": operation, "peer": peer, "seconds": round(seconds, 3), **more})

    def ours(self, fleet: str, **options: Any) -> Dict[str, Any]:
        return {
            "nordic.gitops.kvm_instance": {
                "cloud": "nordic",
                "region": self.cloud.region,
                "fleet": fleet,
                "image": "ubuntu-24-04-lts",
                "flavor": "cv-nvme-2gb",
                "networks": [{"network": "private"}],
                "instances": [{"name": "%s-%d" % (fleet, n)} for n in range(COUNT)],
                **options,
            },
            "register": "answer",
        }

    def theirs(self, fleet: str, state: str = "present") -> Dict[str, Any]:
        return {
            "openstack.cloud.server": {
                "cloud": "nordic",
                "name": "%s-{{ item }}" % fleet,
                "image": "ubuntu-24-04-lts",
                "flavor": "cv-nvme-2gb",
                "network": "private",
                # Said, or its second run takes the group away that the cloud gave.
                "security_groups": ["default"],
                "auto_ip": False,
                "state": state,
            },
            "loop": list(range(COUNT)),
        }

    def round(self, number: int) -> None:
        fleet = "b%s" % secrets.token_hex(3)
        turns = {OURS: lambda: self.play("ours", self.ours(fleet + "o")), THEIRS: lambda: self.play("theirs", self.theirs(fleet + "t"))}
        order = list(turns) if number % 2 == 0 else list(reversed(turns))
        for operation in (MAKE, AGAIN):
            for peer in order:
                cost = turns[peer]()
                if ("changed=0" in cost.output) != (operation == AGAIN):
                    raise Broken("%s, %s:\n%s" % (peer, operation, cost.output[-2000:]))
                self.add(operation, peer, cost.seconds, cpu_seconds=cost.cpu_seconds, peak_mb=round(cost.peak_mb, 1))
                if operation == MAKE and peer == OURS:
                    servers = [one for one in self.sdk.compute.servers(details=True) if one.name.startswith(fleet + "o")]
                    self.add(MAKE, CREATE, _span(servers))
        for again in range(REPLACEMENTS):
            both = [lambda: self.plain(fleet + "p"), lambda: self.replace(fleet + "o")]
            for turn in both if (number + again) % 2 == 0 else reversed(both):
                turn()
        self.play("clean", self.ours(fleet + "o", state="absent"), self.theirs(fleet + "t", "absent"))

    def replace(self, fleet: str) -> None:
        victim = self.sdk.compute.find_server("%s-0" % fleet)
        self.cloud.connect("admin").compute.reset_server_state(victim, "error")
        kept = self.folder / "steps.json"
        self.play(
            "replace",
            self.ours(fleet, on_drift={"status": "replace"}, allow_data_loss=True),
            {"ansible.builtin.copy": {"content": "{{ answer.steps | to_json }}", "dest": str(kept)}},
        )
        steps = {step["step"]: step["seconds"] for step in json.loads(kept.read_text(encoding="utf-8"))}
        self.add(REPLACE, OURS, sum(steps.values()), steps=steps)
        parts = {"deleting": OURS_DELETE, "creating": OURS_CREATE, "the rest": [name for name in steps if name not in OURS_DELETE + OURS_CREATE]}
        for part, names in parts.items():
            self.add(REPLACE, "%s, %s" % (OURS, part), sum(steps.get(name, 0.0) for name in names))

    def plain(self, name: str) -> None:
        """What the provider takes for one, without this collection."""
        body = {"name": name, "flavorRef": self.sdk.compute.find_flavor("cv-nvme-2gb").id, "imageRef": self.sdk.image.find_image("ubuntu-24-04-lts").id,
                "networks": [{"uuid": self.sdk.network.find_network("private", project_id=self.sdk.current_project_id).id}]}
        began = time.monotonic()
        server = self.sdk.compute.post("/servers", json={"server": body}).json()["server"]["id"]
        while self.sdk.compute.get("/servers/%s" % server).json()["server"]["status"] != "ACTIVE":
            time.sleep(0.1)
        self.add(REPLACE, CREATE, time.monotonic() - began)
        began = time.monotonic()
        self.sdk.compute.delete_server(server)
        while self.sdk.compute.get("/servers/%s" % server).status_code != 404:
            time.sleep(0.1)
        self.add(REPLACE, DELETE, time.monotonic() - began)

    def many(self, say: Say) -> None:
        fleet = "m%s" % secrets.token_hex(3)
        say("instances: %d of them" % MANY)
        names = ["%s-%d" % (fleet, number) for number in range(MANY)]
        self.play("many", self.ours(fleet, instances=[{"name": names[0]}]))
        self.cloud.copy(self.sdk.compute.find_server(names[0]), names[1:])
        for _round in range(3):
            began = time.monotonic()
            for path in ("/servers/detail?limit=1000&tags=nordic:fleet:%s" % fleet,):
                self.sdk.compute.get(path, microversion="2.72").json()
            self.sdk.network.get("/ports?limit=1000&description=nordic:fleet%%3D%s" % fleet).json()
            for service, path in ((self.sdk.compute, "/os-server-groups"), (self.sdk.network, "/networks?limit=1000"),
                                  (self.sdk.network, "/floatingips?limit=1000"), (self.sdk.block_storage, "/volumes/detail?limit=1000")):
                service.get(path).json()
            self.add(LIST, API, time.monotonic() - began)
            cost = self.play(
                "list",
                {"nordic.gitops.instance_info": {"cloud": "nordic", "region": self.cloud.region, "fleet": fleet}, "register": "answer"},
                {"ansible.builtin.assert": {"that": "answer.instances | map(attribute='address') | unique | length == %d" % MANY, "quiet": True}},
            )
            self.add(LIST, INFO, cost.seconds, peak_mb=round(cost.peak_mb, 1))


def _span(servers: List[Any]) -> float:
    """What the cloud itself took for them, in whole seconds."""
    from datetime import datetime

    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text.replace("Z", "").split(".")[0])

    return max((max(moment(one.launched_at) for one in servers) - min(moment(one.created_at) for one in servers)).total_seconds(), 1.0)


def measure(rounds: int, folder: Path, say: Say) -> Dict[str, Any]:
    """The part `instances` of the results."""
    with Cloud.start(say=say) as cloud:
        bench = Bench(cloud, folder)
        for number in range(rounds):
            say("instances: round %d of %d" % (number + 1, rounds))
            bench.round(number)
        bench.many(say)
    return outcome(bench.figures, rounds)


def outcome(figures: List[Dict[str, Any]], rounds: int) -> Dict[str, Any]:
    groups: Dict[Any, List[Dict[str, Any]]] = {}
    for figure in figures:
        groups.setdefault((figure["operation"], figure["peer"]), []).append(figure)
    spreads = {key: Spread.of([each["seconds"] for each in group]) for key, group in groups.items()}
    summary = [
        {
            "case": "instances",
            "operation": operation,
            "peer": peer,
            "rounds": spread.count,
            "median": round(spread.median, 3),
            "low": round(spread.low, 3),
            "high": round(spread.high, 3),
        }
        for (operation, peer), spread in spreads.items()
    ]

    def ratio(name: str, operation: str, peer: str, limit: float) -> Dict[str, Any]:
        value = spreads[operation, OURS].median / spreads[operation, peer].median
        return {"name": name, "ratio": round(value, 3), "limit": limit, "holds": value <= limit, "compared_with": peer}

    beyond = spreads[LIST, INFO].median - spreads[LIST, API].median
    peak = max(each["peak_mb"] for each in groups[LIST, INFO])
    checks = [
        ratio("instances, %s, the whole call" % MAKE, MAKE, THEIRS, 0.3333),
        ratio("instances, %s, the whole call" % AGAIN, AGAIN, THEIRS, 0.1),
        ratio("instances, %s" % REPLACE, REPLACE, CREATE, 1.2),
        {"name": "instances, %s, beyond the API's own time" % LIST, "ratio": round(beyond, 2), "limit": 3.0, "holds": beyond <= 3.0, "unit": "s"},
        {"name": "instances, %s, peak memory" % LIST, "ratio": peak, "limit": float(PEAK_MB), "holds": peak <= PEAK_MB, "unit": "MB"},
    ]
    return {"settings": {"rounds": rounds, "instances": COUNT}, "how": HOW, "checks": checks, "summary": summary, "figures": figures}
