# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A k3s that the install script set up: its arguments and variables are read, and none of them is lost without a word."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given, strategies

from ansible_collections.nordic.gitops.plugins.module_utils._k3s import adoption, files

UNIT = """[Unit]
Description=Lightweight Kubernetes

[Service]
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-{env}
KillMode=process
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s \\
    server \\
\t'--cluster-init' \\
\t'--disable=traefik' \\
\t'--disable=servicelb' \\
\t'--node-label=env=prod' \\
\t'--kubelet-arg=max-pods=50' \\
\t'--flannel-backend' \\
\t'host-gw' \\
\t'--cluster-cidr=10.52.0.0/16' \\
\t'-d' \\
\t'/srv/k3s' \\

"""
ENV = "K3S_TOKEN='hunter2-token'\nHTTP_PROXY='http://proxy:3128'\nNO_PROXY=10.0.0.0/8\nK3S_DATASTORE_ENDPOINT='mysql://k3s:hunter2@tcp(db)/k3s'\n"


@pytest.fixture
def there(tmp_path: Path) -> adoption.Found:
    (tmp_path / "k3s.service.env").write_text(ENV, encoding="utf-8")
    (tmp_path / "k3s.service").write_text(UNIT.replace("{env}", str(tmp_path / "k3s.service.env")), encoding="utf-8")
    (tmp_path / "config.yaml").write_text("# mine\ntls-san:\n  - k3s.example.no\ncluster-cidr: 10.99.0.0/16\nselinux: true\n", encoding="utf-8")
    return adoption.found(str(tmp_path / "k3s.service"), str(tmp_path / "config.yaml"))


COVERED: Dict[str, Any] = {
    "disable": ["servicelb", "traefik"], "node-label": ["env=prod"], "kubelet-arg": "max-pods=50", "flannel-backend": "host-gw",
    "cluster-cidr": "10.52.0.0/16", "data-dir": "/srv/k3s", "tls-san": ["k3s.example.no"], "selinux": True,
    "datastore-endpoint": "mysql://k3s:hunter2@tcp(db)/k3s"}
VARIABLES = {"HTTP_PROXY": "x", "NO_PROXY": "y"}


def test_arguments_variables_and_the_configuration_file_are_one_configuration(there):
    assert there.config == {"cluster-init": True, "disable": ["traefik", "servicelb"], "node-label": "env=prod", "kubelet-arg": "max-pods=50",
                            "flannel-backend": "host-gw", "cluster-cidr": "10.52.0.0/16", "data-dir": "/srv/k3s", "tls-san": ["k3s.example.no"],
                            "selinux": True, "token": "hunter2-token", "datastore-endpoint": "mysql://k3s:hunter2@tcp(db)/k3s"}
    assert set(there.environment) == {"HTTP_PROXY", "NO_PROXY"}


def test_what_the_configuration_says_too_is_not_lost(there):
    assert adoption.lost(there, COVERED, VARIABLES) == []


@pytest.mark.parametrize("key", [key for key in COVERED if key != "datastore-endpoint"])
def test_each_key_that_the_configuration_lacks_or_changes_is_told(there, key):
    without = {name: value for name, value in COVERED.items() if name != key}
    assert [row[0] for row in adoption.lost(there, without, VARIABLES)] == [key]
    assert "would become other" in adoption.table(adoption.lost(there, {**COVERED, key: "other"}, VARIABLES))


def test_variables_that_would_be_lost_are_named_and_no_secret_is_shown(there):
    told = adoption.table(adoption.lost(there, {}, {}))
    assert "environment HTTP_PROXY" in told and "environment NO_PROXY" in told and "datastore-endpoint" in told
    assert "hunter2" not in told and "proxy:3128" not in told and "hunter2" not in str(there.result())
    assert "hunter2" not in adoption.table(adoption.lost(there, {**COVERED, "datastore-endpoint": "mysql://k3s:hunter23@x/y"}, VARIABLES))


def test_what_is_known_without_its_secrets_is_judged_the_same_where_they_do_not_matter(there):
    """As k3s_plan gets it from k3s_info."""
    told = there.result()
    shown = adoption.Found(told["config"], dict.fromkeys(told["environment"], ""))
    assert adoption.lost(shown, COVERED, VARIABLES) == [] and adoption.lost(shown, {}, {}) == adoption.lost(there, {}, {})


def test_our_own_unit_is_nobody_elses(tmp_path):
    (tmp_path / "k3s.service").write_text(files.unit("server"), encoding="utf-8")
    (tmp_path / "config.yaml").write_text("data-dir: /srv\n", encoding="utf-8")
    assert adoption.found(str(tmp_path / "k3s.service"), str(tmp_path / "config.yaml")) == adoption.Found()
    assert adoption.found(str(tmp_path / "none.service"), str(tmp_path / "config.yaml")) == adoption.Found()


WORD = strategies.text(strategies.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=12)


@given(strategies.dictionaries(strategies.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True).filter(lambda key: key not in adoption.SHORT), WORD.filter(
    lambda word: word != "true"), max_size=6))
def test_whatever_arguments_a_unit_has_they_are_read_as_systemd_does(given_arguments):
    line = " \\\n\t".join(shlex.quote(f"--{key}={value}") for key, value in given_arguments.items())
    assert adoption.arguments(f"[Service]\nExecStart=/usr/local/bin/k3s server \\\n\t{line}\n") == given_arguments
