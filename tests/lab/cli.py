# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, List, Optional

from lab import build, places
from lab.components import BINARIES, CLUSTER_BINARIES, MODULES
from lab.errors import LabError
from lab.supervisor import ARGOCD, PARTS, SEALED_SECRETS

# What the lab's hosts need, made by Debian's tools and by Go.
ROOTFS, K3S = "rootfs", "k3s"
# The environment and the databases of the lab's OpenStack, from PyPI.
OPENSTACK = "openstack"
# libvirt's library, from PyPI. The guests' disk image is made by what boots one.
LIBVIRT = "libvirt"


def main(arguments: Optional[List[str]] = None) -> int:
    options = _parser().parse_args(arguments)
    # Asked to end, a build ends its compiler first; the default action would not give it the time.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(options.run(options) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _interrupt(*_signal: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("build", help="build components into the cache")
    one.add_argument("components", nargs="*", metavar="COMPONENT",
                     help=f"any of {', '.join(BINARIES)}, {K3S}, {ROOTFS}, {OPENSTACK}, {LIBVIRT}, {ARGOCD}; "
                          "all by default")
    one.set_defaults(run=_build)

    one = commands.add_parser("k3s", help="print the two k3s and the images for their nodes as JSON, built where needed")
    one.set_defaults(run=_k3s)

    one = commands.add_parser("bin", help="print a folder with all the binaries, built where needed")
    one.set_defaults(run=_bin)

    one = commands.add_parser("lock", help="write go.mod and go.sum of components anew (asks the Go module proxy)")
    one.add_argument("modules", nargs="*", metavar="MODULE", help=f"any of {', '.join(m.name for m in MODULES)}; all by default")
    one.set_defaults(run=_lock)

    one = commands.add_parser("digests", help="write into releases.json what the projects publish about their binaries (asks their servers)")
    one.set_defaults(run=_digests)

    cluster = commands.add_parser("cluster", help="a cluster that stays until it is stopped").add_subparsers(
        required=True, metavar="COMMAND")
    for name, run, text in (("start", _start, "start it and print the path of its kubeconfig"),
                            ("add", _add, "start real controllers beside it, for what is installed in it"),
                            ("stop", _stop, "end it"), ("status", _status, "say whether it runs")):
        one = cluster.add_parser(name, help=text)
        one.add_argument("--state", type=Path, default=places.default_state(), help="its folder (default: %(default)s)")
        one.set_defaults(run=run)
        if name in ("start", "add"):
            one.add_argument("--with", dest="parts", action="extend", type=_parts, default=[], metavar="PARTS",
                             help=f"the real controllers beside it, separated by commas: {', '.join(PARTS)}")
        if name == "status":
            one.add_argument("--json", action="store_true", help="print all of what is known of it")
    one = cluster.add_parser("shell", help="a shell, or one command, with kubectl and helm for the cluster that runs (or the kept demo's)")
    one.add_argument("--state", type=Path, help="its folder")
    one.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    one.set_defaults(run=_shell)

    commands.add_parser("demo-down", help="end the demo that DEMO_KEEP left").set_defaults(run=_demo_down)

    virt = commands.add_parser("virt", help="a host with libvirt that stays until it is stopped").add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (("start", _virt_start, "start it and print its URI"), ("stop", _virt_stop, "end it")):
        one = virt.add_parser(name, help=text)
        one.add_argument("--state", type=Path, default=places.default_state("virt"), help="its folder (default: %(default)s)")
        one.set_defaults(run=run)

    cloud = commands.add_parser("cloud", help="an OpenStack that stays until it is stopped").add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (("start", _cloud_start, "start it and print the path of its clouds.yaml"), ("stop", _cloud_stop, "end it"),
                            ("status", _cloud_status, "say whether it runs")):
        one = cloud.add_parser(name, help=text)
        one.add_argument("--state", type=Path, default=places.default_state("clouds"), help="its folder (default: %(default)s)")
        one.set_defaults(run=run)
        if name == "status":
            one.add_argument("--json", action="store_true", help="print all of what is known of it")

    _hosts_commands(commands.add_parser("hosts", help="hosts with a real systemd that stay until they are stopped").add_subparsers(
        required=True, metavar="COMMAND"))

    one = commands.add_parser("microservices", help="write a Git tree of microservices")
    from lab import microservices
    microservices.arguments(one)
    one.set_defaults(run=microservices.run)
    return parser


def _hosts_commands(commands: Any) -> None:
    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = commands.add_parser(name, help=text)
        one.add_argument("--state", type=Path, default=places.default_state("hosts-state"), help="their folder (default: %(default)s)")
        one.set_defaults(run=run)
        return one

    one = command("start", _hosts_start, "start them and print the path of their Ansible inventory")
    one.add_argument("--names", default="server1,server2,server3,agent1", help="server… and agent… come into the groups k3s_servers and k3s_agents "
                                                                               "(default: %(default)s)")
    one.add_argument("--disk", action="append", default=[], metavar="NAME=SIZE", help="little room in this host's /var/lib/rancher: server1=700m")
    one.add_argument("--k3s", default="", metavar="RELEASES", help="put what Ansible needs to know of these k3s of the lab beside the inventory (k3s.yml): "
                                                                   "new, or old,new")
    command("stop", _hosts_stop, "end them")
    one = command("status", _hosts_status, "say whether they run")
    one.add_argument("--json", action="store_true", help="print all of what is known of them")
    for name, run, text in (("kill", _hosts_kill, "power a host off, as a broken cable does it"), ("boot", _hosts_boot, "power it on again"),
                            ("fault", _hosts_fault, "give it a slow disk or a wrong clock; without an option, take them away"),
                            ("ssh", _hosts_ssh, "log in, or run a command there")):
        one = command(name, run, text)
        one.add_argument("name", metavar="NAME")
        if name == "fault":
            one.add_argument("--fsync-ms", type=int, default=0, help="each fsync takes so much longer")
            one.add_argument("--clock-seconds", type=int, default=0, help="the clock is wrong by so much")
        if name == "boot":
            one.add_argument("--fresh", action="store_true", help="with an empty disk, as a new host")
        if name == "ssh":
            one.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")


def _parts(words: str) -> List[str]:
    parts = words.split(",")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(PARTS)}")
    return parts


def _say(line: str) -> None:
    # Standard output is for the one path that a script takes from it.
    print(line, file=sys.stderr, flush=True)


def _build(options: argparse.Namespace) -> None:
    from lab import argocd
    wanted = options.components or [*BINARIES, K3S, ROOTFS, OPENSTACK, LIBVIRT, *([ARGOCD] if shutil.which(argocd.REDIS) else [])]
    built = build.build([name for name in wanted if name not in (K3S, ROOTFS, OPENSTACK, LIBVIRT, ARGOCD)], _say)
    for name, path in built.items():
        print(f"{name}: {path}", flush=True)
    if K3S in wanted:
        from lab import k3s
        for name, path in k3s.build_all(_say).items():
            print(f"{name}: {path}", flush=True)
    if ROOTFS in wanted:
        from lab.hosts import impediment, rootfs
        if not impediment():
            print(f"file system of hosts: {rootfs.make(_say)}", flush=True)
    if OPENSTACK in wanted:
        from lab.openstack import install
        if not install.impediment():
            print(f"OpenStack: {install.environment(_say)}", flush=True)
    if LIBVIRT in wanted:
        from lab import libvirt
        if not libvirt.impediment():
            print(f"libvirt-python: {libvirt.python(_say)}", flush=True)
    if ARGOCD in wanted:
        print(f"Argo CD: {argocd.program(_say)}", flush=True)


def _k3s(_options: argparse.Namespace) -> None:
    from lab import images, k3s
    found = {name: binary.facts() for name, binary in k3s.binaries(_say).items()}
    print(json.dumps({**found, "images": [str(path) for path in images.tars(_say)]}, indent=2))


def _bin(_options: argparse.Namespace) -> None:
    print(build.bin_folder(tuple(BINARIES), _say))


def _lock(options: argparse.Namespace) -> None:
    from lab import lock
    lock.lock(options.modules, _say)


def _digests(_options: argparse.Namespace) -> None:
    from lab import releases
    releases.pin(_say)


def _start(options: argparse.Namespace) -> None:
    from lab.cluster import AlreadyRuns, Cluster

    helm = build.build(["helm"], _say)["helm"]
    _build_parts(options.parts)
    begin = time.monotonic()
    _say(f"Starting a cluster in {options.state}")
    try:
        binaries = (*CLUSTER_BINARIES, "helm") if ARGOCD in options.parts else CLUSTER_BINARIES
        cluster = Cluster.start(options.state, detached=True, say=_say, owner=_owner(), parts=options.parts, binaries=binaries)
    except AlreadyRuns as runs:
        cluster = Cluster.join(options.state)
        if set(options.parts) - set(cluster.parts):
            raise LabError(f"{runs}, and without {', '.join(options.parts)}") from None
        _say(f"Not needed: {runs}.")
    else:
        if SEALED_SECRETS in options.parts:
            from lab import sealed_secrets
            sealed_secrets.install(cluster, "kube-system", sealed_secrets.values())
            sealed_secrets.ready(cluster, "kube-system")
        _say(f"Ready after {time.monotonic() - begin:.1f} s.")
    _say(f"`make cluster-shell` opens a shell with {cluster.bin}/kubectl and {helm}.\nIts kubeconfig:")
    print(cluster.kubeconfig)


def _add(options: argparse.Namespace) -> None:
    from lab.cluster import Cluster

    _build_parts(options.parts)
    Cluster.join(options.state).add(options.parts)


def _build_parts(parts: List[str]) -> None:
    """Before the cluster waits for them."""
    if SEALED_SECRETS in parts:
        build.build(["sealed-secrets-controller"], _say)
    if ARGOCD in parts:
        from lab import argocd
        argocd.program(_say)


def _stop(options: argparse.Namespace) -> None:
    from lab.cluster import stop_detached
    _say("The cluster is stopped." if stop_detached(options.state) else f"No cluster runs in {options.state}.")


def _shell(options: argparse.Namespace) -> None:
    from lab.cluster import Cluster, is_running
    from lab.demo import kept

    states = [options.state] if options.state else [places.default_state(), kept() / "cluster"]
    running = [state for state in states if is_running(state)]
    if not running:
        raise LabError("no cluster runs: `make cluster` starts one, `DEMO_KEEP=1 make demo` leaves the demo's")
    cluster = Cluster.join(running[0])
    env = cluster.env()
    env["PATH"] += os.pathsep + str(build.build(["helm"], _say)["helm"].parent)
    words = options.words or [os.environ.get("SHELL") or "/bin/sh"]
    if not options.words:
        _say(f"kubectl and helm use {cluster.kubeconfig}. `exit` leaves the shell, and the cluster runs on.")
    try:
        os.execvpe(words[0], words, env)  # replaced by it, so that Ctrl-C is the shell's own
    except OSError as error:
        raise LabError(f"{words[0]} cannot be run: {error.strerror}") from error


def _demo_down(_options: argparse.Namespace) -> None:
    from lab import demo
    _say("The demo is ended, and its folder removed." if demo.down() else "No demo was kept.")


def _status(options: argparse.Namespace) -> int:
    from lab.cluster import is_running
    if not is_running(options.state):
        _say(f"No cluster runs in {options.state}.")
        return 1
    info = json.loads((options.state / "cluster.json").read_text())
    print(json.dumps(info, indent=2) if options.json else info["kubeconfig"])
    return 0


def _owner() -> int:
    """A process that cannot hold a connection, and shall leave nothing behind when it is killed."""
    return int(os.environ.get("NORDIC_LAB_OWNER") or 0)


def _hosts_start(options: argparse.Namespace) -> None:
    from lab.hosts import AlreadyRuns, Hosts, k3s
    from lab.hosts.inventory import write_yaml

    names = [name.strip() for name in options.names.split(",") if name.strip()]
    disks = dict(disk.partition("=")[::2] for disk in options.disk)
    # Built before the hosts wait for it.
    settings = k3s.variables(options.k3s.split(","), _say) if options.k3s else {}
    begin = time.monotonic()
    _say(f"Starting {len(names)} hosts in {options.state}")
    try:
        hosts = Hosts.start(names, options.state, detached=True, say=_say, disks=disks, owner=_owner())
    except AlreadyRuns as runs:
        hosts = Hosts.join(options.state)
        if set(hosts.names) != set(names):
            raise LabError(f"{runs} (they are {', '.join(hosts.names)})") from None
        _say(f"Not needed: {runs}.")
    else:
        _say(f"Ready after {time.monotonic() - begin:.1f} s. Their inventory:")
    if settings:
        write_yaml(hosts.inventory.with_name("k3s.yml"), settings)
    print(hosts.inventory)


def _virt_start(options: argparse.Namespace) -> None:
    from lab.cluster import AlreadyRuns
    from lab.libvirt import VirtHost, guest
    guest.make(_say)
    try:
        host = VirtHost.start(options.state, detached=True, say=_say, owner=_owner())
    except AlreadyRuns:
        host = VirtHost.join(options.state)
        _say(f"Not needed: a host with libvirt runs in {options.state} already.")
    _say(f"Its library is for PYTHONPATH: {options.state / 'python'}, an image for guests: {options.state / 'guest.qcow2'}. Its URI:")
    print(host.uri)


def _virt_stop(options: argparse.Namespace) -> None:
    from lab.cluster import stop_detached
    _say("The host with libvirt is stopped." if stop_detached(options.state, 60) else f"No host with libvirt runs in {options.state}.")


def _cloud_start(options: argparse.Namespace) -> None:
    from lab.cluster import AlreadyRuns
    from lab.openstack import Cloud
    begin = time.monotonic()
    try:
        cloud = Cloud.start(options.state, detached=True, say=_say, owner=_owner())
    except AlreadyRuns:
        cloud = Cloud.join(options.state)
        _say(f"Not needed: a cloud runs in {options.state} already.")
    else:
        _say(f"Ready after {time.monotonic() - begin:.1f} s. Its users are in this clouds.yaml (OS_CLIENT_CONFIG_FILE):")
    print(cloud.clouds_file)


def _cloud_stop(options: argparse.Namespace) -> None:
    from lab.cluster import stop_detached
    _say("The cloud is stopped." if stop_detached(options.state, 60) else f"No cloud runs in {options.state}.")


def _cloud_status(options: argparse.Namespace) -> int:
    from lab.cluster import is_running
    if not is_running(options.state):
        _say(f"No cloud runs in {options.state}.")
        return 1
    info = json.loads((options.state / "cluster.json").read_text())
    print(json.dumps(info, indent=2) if options.json else info["clouds_file"])
    return 0


def _hosts_stop(options: argparse.Namespace) -> None:
    from lab.hosts import stop_detached
    _say("The hosts are stopped." if stop_detached(options.state) else f"No hosts run in {options.state}.")


def _hosts_status(options: argparse.Namespace) -> int:
    from lab.hosts import Hosts, is_running
    if not is_running(options.state):
        _say(f"No hosts run in {options.state}.")
        return 1
    with Hosts.join(options.state) as hosts:
        info = {**json.loads((options.state / "hosts.json").read_text()), "power": hosts.power()}
    print(json.dumps(info, indent=2) if options.json else info["inventory"])
    return 0


def _hosts_kill(options: argparse.Namespace) -> None:
    from lab.hosts import Hosts
    with Hosts.join(options.state) as hosts:
        hosts.kill(options.name)


def _hosts_boot(options: argparse.Namespace) -> None:
    from lab.hosts import Hosts
    with Hosts.join(options.state) as hosts:
        hosts.boot(options.name, options.fresh)


def _hosts_fault(options: argparse.Namespace) -> None:
    from lab.hosts import Hosts
    with Hosts.join(options.state) as hosts:
        hosts.fault(options.name, options.fsync_ms, options.clock_seconds)


def _hosts_ssh(options: argparse.Namespace) -> None:
    from lab.hosts import Hosts
    with Hosts.join(options.state) as hosts:
        command = hosts.ssh(options.name)
    os.execvp(command[0], [*command, *options.words])
