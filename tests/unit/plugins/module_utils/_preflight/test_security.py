# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SELinux, firewalld and ufw, by the files that they leave on a machine."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._preflight import security
from ansible_collections.nordic.gitops.plugins.module_utils._preflight.profile import Profile
from machines import lay_out

RUNS = {"sys/fs/cgroup/system.slice/firewalld.service/cgroup.procs": "812\n"}
ZONE = '<?xml version="1.0" encoding="utf-8"?>\n<zone%s>\n  <short>Public</short>\n  <service name="ssh"/>\n%s</zone>\n'
PORTS = "".join(f'  <port port="{port}" protocol="{protocol}"/>\n'
                for port, protocol in (("6443", "tcp"), ("2379-2380", "tcp"), ("10250", "tcp"), ("8472", "udp")))
SOURCES = '  <source address="10.42.0.0/15"/>\n'
UFW = {"etc/ufw/ufw.conf": "# comment\nENABLED=yes\nLOGLEVEL=low\n", "etc/default/ufw": 'DEFAULT_INPUT_POLICY="DROP"\n'}
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nVERSION_ID="9.4"\n'


def test_a_machine_without_any_of_them_passes(tmp_path):
    machine = lay_out(tmp_path, {})
    assert [security.selinux(machine).verdict, security.firewall(machine, Profile()).verdict] == ["pass", "pass"]


@pytest.mark.parametrize(("files", "verdict", "value"), [
    ({"sys/fs/selinux/enforce": "0"}, "pass", "permissive"),
    ({"sys/fs/selinux/enforce": "1"}, "warn", "enforcing, without k3s' policy"),
    ({"sys/fs/selinux/enforce": "1", "var/lib/selinux/targeted/active/modules/200/k3s/cil": "x"}, "pass", "enforcing, with k3s' policy"),
    ({"sys/fs/selinux/enforce": "1", "var/lib/selinux/targeted/active/modules/200/k3sx/cil": "x"}, "warn", "enforcing, without k3s' policy")])
def test_selinux_passes_with_k3s_own_policy_alone(tmp_path, files, verdict, value):
    finding = security.selinux(lay_out(tmp_path, files))
    assert (finding.verdict, finding.value) == (verdict, value)


def test_the_commands_for_selinux_are_those_of_the_system_at_hand(tmp_path):
    mend = security.selinux(lay_out(tmp_path, {"sys/fs/selinux/enforce": "1", "etc/os-release": ROCKY})).mend
    assert "dnf install -y container-selinux" in mend and "/common/centos/9/noarch k3s-selinux" in mend and "`selinux: true`" in mend


def test_firewalld_that_opens_nothing_is_told_with_the_commands_that_open_it(tmp_path):
    finding = security.firewall(lay_out(tmp_path, {**RUNS, "etc/firewalld/firewalld.conf": "DefaultZone=internal\n",
                                                   "usr/lib/firewalld/zones/internal.xml": ZONE % ("", "")}), Profile())
    assert finding.verdict == "warn" and "6443/tcp, 2379/tcp, 2380/tcp, 10250/tcp, 8472/udp" in finding.evidence[0]
    assert finding.mend.startswith(
        "Run `firewall-cmd --permanent --zone=internal --add-port=6443/tcp --add-port=2379/tcp --add-port=2380/tcp --add-port=10250/tcp "
        "--add-port=8472/udp && firewall-cmd --permanent --zone=trusted --add-source=10.42.0.0/16 --add-source=10.43.0.0/16 && firewall-cmd --reload`.")


def test_firewalld_that_lets_k3s_pass_passes(tmp_path):
    files = {**RUNS, "etc/firewalld/zones/public.xml": ZONE % ("", PORTS), "etc/firewalld/zones/trusted.xml": ZONE % (' target="ACCEPT"', SOURCES)}
    assert security.firewall(lay_out(tmp_path, files), Profile()).verdict == "pass"


def test_what_an_administrator_wrote_wins_over_what_the_package_brought(tmp_path):
    files = {**RUNS, "etc/firewalld/zones/public.xml": ZONE % ("", ""), "usr/lib/firewalld/zones/public.xml": ZONE % ("", PORTS)}
    assert security.firewall(lay_out(tmp_path, files), Profile()).verdict == "warn"


def test_an_agent_is_not_asked_for_the_ports_of_servers(tmp_path):
    mend = security.firewall(lay_out(tmp_path, RUNS), Profile("agent")).mend
    assert "10250/tcp" in mend and "6443" not in mend and "2379" not in mend


def test_ufw_is_told_what_its_own_rules_lack(tmp_path):
    rules = ("### tuple ### allow tcp 6443 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### allow any any 0.0.0.0/0 any 10.42.0.0/16 in\n"
             "### tuple ### deny tcp 10250 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### allow tcp 2379:2380 0.0.0.0/0 any 192.0.2.0/24 in\n")
    finding = security.firewall(lay_out(tmp_path, {**UFW, "etc/ufw/user.rules": rules}), Profile())
    assert finding.mend.startswith("Run `ufw allow 2379/tcp && ufw allow 2380/tcp && ufw allow 10250/tcp && ufw allow 8472/udp && "
                                   "ufw allow from 10.43.0.0/16 to any`.")


def test_ufw_that_is_not_enabled_is_in_nobodys_way(tmp_path):
    assert security.firewall(lay_out(tmp_path, {"etc/ufw/ufw.conf": "ENABLED=no\n"}), Profile()).verdict == "pass"
