# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel: version, options, modules, eBPF, control groups."""

from __future__ import annotations

import gzip
import os

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import bpf, cgroups, ebpf, kernel
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.machine import Machine
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile
from machines import lay_out, mountinfo

RELEASE = "proc/sys/kernel/osrelease"
V2 = mountinfo("0:26 /sys/fs/cgroup cgroup2 cgroup2")


@pytest.mark.parametrize(
    ("release", "cni", "verdict"),
    [
        ("6.8.0-31-generic", "cilium", "pass"),
        ("5.10.0-28-amd64", "cilium", "pass"),
        ("5.4.0-190-generic", "cilium", "fail"),
        ("5.4.0-190-generic", "flannel", "warn"),
        ("4.18.0-553.el8_10.x86_64", "calico-ebpf", "warn"),
        ("4.18.0-553.el8_10.x86_64", "flannel", "warn"),
        ("4.18.0-25-generic", "flannel", "fail"),
        ("3.10.0-1160.el7.x86_64", "flannel", "fail"),
        ("5.4.0-190-generic", "flannel-wireguard", "fail"),
        ("6.18.44+", "none", "pass"),
        ("nonsense", "none", "fail"),
        ("", "none", "fail"),
    ],
)
def test_the_version_is_judged_by_what_the_cni_needs(tmp_path, release, cni, verdict):
    finding = kernel.version(lay_out(tmp_path, {RELEASE: release}), Profile(cni=cni))
    assert finding.verdict == verdict
    assert release in finding.evidence[0]


def all_options(*, without=(), module=()):
    return "".join(f"CONFIG_{symbol.name}={'m' if symbol.name in module else 'y'}\n" for symbol in kernel.SYMBOLS if symbol.name not in without)


@pytest.mark.parametrize("file", ["proc/config.gz", "boot/config-6.1.0", "lib/modules/6.1.0/config"])
def test_the_options_are_read_wherever_a_distribution_keeps_them(tmp_path, file):
    text = all_options(without=["VETH", "PSI"], module=["VXLAN"])
    content = gzip.compress(text.encode()) if file.endswith(".gz") else text
    finding = kernel.config(lay_out(tmp_path, {RELEASE: "6.1.0", file: content}), Profile())
    assert finding.verdict == "fail"
    assert [sentence.split()[1] for sentence in finding.evidence] == ["CONFIG_VETH", "CONFIG_PSI"]
    assert f"/{file}" in finding.evidence[0] and "can be done without" in finding.evidence[1]


def test_what_one_cni_needs_is_not_asked_for_another(tmp_path):
    machine = lay_out(tmp_path, {RELEASE: "6.1.0", "boot/config-6.1.0": all_options(without=["NET_CLS_BPF", "BRIDGE_NETFILTER", "WIREGUARD"])})
    assert kernel.config(machine, Profile(cni="cilium")).data["missing"] == ["NET_CLS_BPF"]
    assert kernel.config(machine, Profile(cni="flannel")).data["missing"] == ["BRIDGE_NETFILTER"]
    assert kernel.config(machine, Profile(cni="flannel-wireguard")).data["missing"] == ["BRIDGE_NETFILTER", "WIREGUARD"]


def test_a_kernel_that_does_not_tell_its_options_is_no_reason_to_refuse(tmp_path):
    assert kernel.config(lay_out(tmp_path, {RELEASE: "6.1.0"}), Profile()).verdict == "warn"


def test_a_module_is_found_loaded_built_in_loadable_or_missing_each_by_its_source(tmp_path):
    machine = lay_out(tmp_path, {
        RELEASE: "6.1.0",
        "proc/modules": "overlay 151552 0 - Live 0x0000000000000000\n",
        "lib/modules/6.1.0/modules.builtin": "kernel/net/netfilter/nf_conntrack.ko\n",
        "lib/modules/6.1.0/modules.dep": "kernel/net/bridge/br_netfilter.ko.zst: kernel/net/bridge/bridge.ko.zst\nkernel/drivers/md/dm-crypt.ko.xz:\n",
        "boot/config-6.1.0": "CONFIG_VETH=y\nCONFIG_VXLAN=m\n",
        "sys/module/wireguard/initstate": "live\n",
    })
    asked = []

    def modprobe(name):
        asked.append(name)
        return name == "xt_comment"

    finding = kernel.modules(machine, Profile(), modprobe)
    states = finding.data["modules"]
    assert states["overlay"] == states["wireguard"] == "loaded"
    assert states["nf_conntrack"] == states["veth"] == "built in"
    assert states["br_netfilter"] == states["dm_crypt"] == states["xt_comment"] == "loadable"
    assert states["vxlan"] == states["iptable_nat"] == states["nf_tables"] == "missing"
    assert set(asked) == {"xt_comment", "vxlan", "iptable_nat", "nf_tables"}
    assert finding.verdict == "fail" and finding.evidence[0].startswith("iptable_nat is missing")


def test_wireguard_is_asked_for_where_it_is_the_backend_and_else_only_told(tmp_path):
    options = "".join(f"CONFIG_{row.symbol}=y\n" for row in kernel.MODULES if row.name != "wireguard")
    machine = lay_out(tmp_path, {RELEASE: "6.1.0", "boot/config-6.1.0": options})
    assert kernel.modules(machine, Profile(cni="flannel"), lambda name: False).verdict == "warn"
    assert kernel.modules(machine, Profile(cni="flannel-wireguard"), lambda name: False).verdict == "fail"


def test_a_long_read_of_a_sysctl_is_not_refused():
    """The kernel answers a read of 4 MB or more from /proc/sys with ENOMEM."""
    assert Machine().release == os.uname().release
    assert Machine().kernel() > (2, 6)


# ---- eBPF

EVERYTHING = bpf.Probe(dict.fromkeys(bpf.MAPS, ""), dict.fromkeys(bpf.PROGRAMS, ""), "", "")
NOTHING = bpf.Probe(dict.fromkeys(bpf.MAPS, "EPERM: no"), dict.fromkeys(bpf.PROGRAMS, "EPERM: no"), "EPERM: no", "EPERM: no")
GOOD = {ebpf.BTF: b"\x9f\xeb\x01\x00", ebpf.JIT: "1\n", "proc/self/mountinfo": V2}


@pytest.mark.skipif(os.geteuid() != 0, reason="bpf() is root's")
def test_this_kernel_makes_maps_and_runs_programs_and_leaves_no_descriptor_open():
    before = len(os.listdir("/proc/self/fd"))
    probe = bpf.probe()
    assert len(os.listdir("/proc/self/fd")) == before
    assert probe.maps["hash"] == probe.maps["array"] == probe.programs["socket filter"] == "", probe
    assert probe.stored == "" and probe.ran == "", probe


@pytest.mark.skipif(os.geteuid() != 0, reason="bpf() is root's")
def test_what_the_kernels_verifier_refuses_is_told_in_its_own_words():
    never_ends = bytes.fromhex("b700000000000000")  # r0 = 0, and no exit
    told = bpf._Kernel(bpf.NUMBERS[os.uname().machine]).attempt(lambda: bpf._Kernel(bpf.NUMBERS[os.uname().machine]).load(1, 0, never_ends))
    assert told.startswith("EINVAL")


def test_what_each_cni_needs_is_refused_where_it_is_missing(tmp_path):
    machine = lay_out(tmp_path, GOOD)
    assert ebpf.judge(EVERYTHING, machine, Profile(cni="cilium")).verdict == "pass"
    assert ebpf.judge(EVERYTHING, machine, Profile(cni="calico-ebpf")).verdict == "pass"
    finding = ebpf.judge(NOTHING, machine, Profile(cni="cilium"))
    assert finding.verdict == "fail" and "EPERM" in finding.value
    assert any("Cilium needs it" in sentence for sentence in finding.evidence)


def test_calico_needs_btf_and_cilium_does_not(tmp_path):
    machine = lay_out(tmp_path, {**GOOD, ebpf.BTF: b""})
    assert ebpf.judge(EVERYTHING, machine, Profile(cni="calico-ebpf")).verdict == "fail"
    assert ebpf.judge(EVERYTHING, machine, Profile(cni="cilium")).verdict == "pass"


def test_no_jit_is_a_warning(tmp_path):
    machine = lay_out(tmp_path, {**GOOD, ebpf.JIT: "0\n"})
    assert ebpf.judge(EVERYTHING, machine, Profile(cni="cilium")).verdict == "warn"


def test_flannel_needs_no_ebpf_but_runc_does_with_cgroup_v2(tmp_path):
    (tmp_path / "v1").mkdir()
    v1 = lay_out(tmp_path / "v1", {"proc/self/mountinfo": mountinfo("0:30 /sys/fs/cgroup/cpu cgroup cgroup rw,cpu")})
    assert ebpf.judge(NOTHING, v1, Profile()).verdict == "not applicable"
    v2 = lay_out(tmp_path / "v2", GOOD)
    finding = ebpf.judge(NOTHING, v2, Profile())
    assert finding.verdict == "fail" and "runc with cgroup v2" in finding.evidence[0]


# ---- control groups


def controllers(*names):
    return mountinfo(*(f"0:{30 + place} /sys/fs/cgroup/{name} cgroup cgroup rw,{name}" for place, name in enumerate(names)))


V1 = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb")


@pytest.mark.parametrize(
    ("files", "verdict", "value"),
    [
        ({"proc/self/mountinfo": V2, "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma"}, "pass", "v2, all controllers"),
        ({"proc/self/mountinfo": V2, "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids"}, "fail", "v2, missing: memory"),
        ({"proc/self/mountinfo": controllers(*V1)}, "warn", "v1, all controllers"),
        ({"proc/self/mountinfo": controllers("cpu", "cpuset", "pids", "devices", "freezer", "cpuacct")}, "fail", "v1, missing: memory"),
        ({"proc/self/mountinfo": mountinfo("8:1 / ext4 /dev/sda1")}, "fail", "none"),
    ],
)
def test_control_groups_are_judged_by_version_and_controllers(tmp_path, files, verdict, value):
    finding = cgroups.judge(lay_out(tmp_path, files))
    assert (finding.verdict, finding.value) == (verdict, value)


def test_a_controller_that_the_command_line_disabled_is_told_as_such(tmp_path):
    """A Raspberry Pi boots so."""
    finding = cgroups.judge(lay_out(tmp_path, {
        "proc/self/mountinfo": V2, "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids",
        "proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t80\t0\n"}))
    assert any("memory is disabled (kernel command line)" in sentence for sentence in finding.evidence)
