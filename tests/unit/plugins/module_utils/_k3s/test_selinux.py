# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a file is labelled. No kernel with SELinux is here: what its tool is asked is recorded, not what it does."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.selinux import relabel


@pytest.fixture
def restored(tmp_path, monkeypatch):
    """What restorecon was asked to label."""
    record, program = tmp_path / "record", tmp_path / "bin" / "restorecon"
    record.touch()
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {record}\n', encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return lambda: record.read_text(encoding="ascii").splitlines()


@pytest.fixture
def kernel(tmp_path):
    """What the kernel shows where SELinux is on."""
    path = tmp_path / "enforce"
    path.write_text("1", encoding="ascii")
    return str(path)


def test_a_file_gets_the_context_of_its_name(restored, kernel):
    relabel("/usr/local/bin/k3s", kernel)
    assert restored() == ["-F /usr/local/bin/k3s"]


def test_without_selinux_nothing_is_run(restored, tmp_path):
    relabel("/usr/local/bin/k3s", str(tmp_path / "absent"))
    assert restored() == []


def test_a_machine_without_its_tools_goes_on(restored, kernel, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    relabel("/usr/local/bin/k3s", kernel)
    assert restored() == []
