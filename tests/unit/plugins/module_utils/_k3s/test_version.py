# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of k3s' versions, and the steps that Kubernetes allows."""

from __future__ import annotations

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.version import Version, refuse_agent_skew, refuse_server_step

IN_ORDER = ["v1.9.11+k3s1", "v1.29.4+k3s1", "v1.30.0-rc2+k3s1", "v1.30.0-rc10+k3s1", "v1.30.0+k3s1", "v1.30.0+k3s2", "v1.30.0+k3s10", "v1.30.3+k3s1",
            "v1.30.5+k3s1", "v1.36.3+k3s1", "v2.0.0+k3s1"]


def step(installed: str, wanted: str) -> str:
    return refuse_server_step(Version.of(installed), Version.of(wanted))


def skew(agent: str, server: str) -> str:
    return refuse_agent_skew(Version.of(agent), Version.of(server))


def test_versions_have_an_order() -> None:
    versions = [Version.of(text) for text in IN_ORDER]
    assert sorted(reversed(versions)) == versions
    assert all(one < other for one, other in zip(versions, versions[1:]))


@pytest.mark.parametrize("text", IN_ORDER)
def test_a_version_is_written_as_it_was_read(text: str) -> None:
    assert str(Version.of(text)) == text == str(Version.of(text[1:]))


def test_what_k3s_prints_of_itself_is_read() -> None:
    printed = "k3s version v1.30.3+k3s1 (f6466040)\ngo version go1.22.8\n"
    assert str(Version.of(printed)) == "v1.30.3+k3s1"


@pytest.mark.parametrize("text", ["", "latest", "1.30", "go version go1.22.8", "v1.30.3.4", "see v1.30.3", "v1.30.3+k3s1+more", "-1.2.3"])
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Failure, match="not a version of k3s.*v1.30.5"):
        Version.of(text)


@pytest.mark.parametrize(("installed", "wanted"), [("v1.30.3+k3s1", "v1.30.3+k3s1"), ("v1.30.3+k3s1", "v1.30.5+k3s1"), ("v1.30.3+k3s1", "v1.31.0+k3s1"),
                                                   ("v1.30.0-rc1+k3s1", "v1.30.0+k3s1")])
def test_a_patch_and_the_next_minor_are_allowed(installed: str, wanted: str) -> None:
    assert step(installed, wanted) == ""


def test_a_skipped_minor_is_refused_and_the_next_step_is_named() -> None:
    assert "v1.31 first" in step("v1.30.5+k3s1", "v1.32.1+k3s1")
    assert step("v1.30.5+k3s1", "v2.0.0+k3s1")


@pytest.mark.parametrize("wanted", ["v1.30.4+k3s9", "v1.29.9+k3s1", "v1.30.5+k3s1"])
def test_a_downgrade_is_refused_and_the_way_back_is_named(wanted: str) -> None:
    assert "Restore a snapshot" in step("v1.30.5+k3s2", wanted)


def test_an_agent_may_be_three_minors_older_and_never_newer() -> None:
    assert not skew("v1.27.1+k3s1", "v1.30.5+k3s1") and not skew("v1.30.5+k3s1", "v1.30.3+k3s1")
    assert "upgrade the agents" in skew("v1.26.1+k3s1", "v1.30.5+k3s1")
    assert "upgrade the servers" in skew("v1.31.0+k3s1", "v1.30.5+k3s1")
