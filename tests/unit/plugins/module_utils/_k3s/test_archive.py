# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of images in each form that k3s imports; containerd's side of it is in tests/integration/test_k3s_examples.py."""

from __future__ import annotations

import bz2
import gzip
import os
import subprocess

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import archive


@pytest.mark.parametrize(("name", "pack"), [("a.tar", bytes), ("A.TAR", bytes), ("a.tar.gz", gzip.compress), ("a.tgz", gzip.compress),
                                            ("a.tar.bz2", bz2.compress), ("a.tbz", bz2.compress)])
def test_what_python_unpacks_needs_no_start(tmp_path, name, pack):
    content = os.urandom(1 << 16)
    (tmp_path / name).write_bytes(pack(content))
    with archive.unpacked(str(tmp_path / name)) as stream:
        assert stream.read() == content
    assert not archive.waits_for_a_start(name)


@pytest.mark.parametrize(("name", "program"), [("a.tar.zst", "zstd"), ("a.tzst", "zstd"), ("a.tar.lz4", "lz4"), ("a.tlz4", "lz4")])
def test_what_a_program_unpacks_needs_a_start_where_it_is_missing(tmp_path, monkeypatch, name, program):
    content = os.urandom(1 << 16)
    (tmp_path / name).write_bytes(subprocess.run([program, "-c"], input=content, capture_output=True, check=True).stdout)
    with archive.unpacked(str(tmp_path / name)) as stream:
        assert stream.read() == content
    assert not archive.waits_for_a_start(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert archive.waits_for_a_start(name)


@pytest.mark.parametrize("name", ["images.zip", "images.tar.xz", "images", "tar", ".tar.zst.part"])
def test_a_file_that_k3s_would_leave_alone_is_refused(name):
    with pytest.raises(Failure, match="not an archive that k3s imports"):
        archive.form_of(name)


def test_an_archive_that_is_cut_off_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "BINARY", "/bin/true")
    (tmp_path / "a.tgz").write_bytes(gzip.compress(os.urandom(1 << 16))[:-100])
    assert "cannot be unpacked" in archive.take(str(tmp_path / "a.tgz"))
