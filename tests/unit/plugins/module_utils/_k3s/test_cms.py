# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies that only the holder of the private key can open, by the real openssl."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import cms


@pytest.fixture(scope="module", params=["rsa:2048", "ec"])
def pair(request, tmp_path_factory):
    """A certificate and its key, in PEM."""
    folder = tmp_path_factory.mktemp("pair")
    curve = ["-pkeyopt", "ec_paramgen_curve:P-256"] if request.param == "ec" else []
    subprocess.run(["openssl", "req", "-x509", "-newkey", request.param, *curve, "-nodes", "-keyout", "key", "-out", "crt", "-subj", "/CN=backup"],
                   cwd=folder, check=True, capture_output=True)
    return (folder / "crt").read_text(), (folder / "key").read_text()


@pytest.fixture
def sealed(pair, tmp_path):
    (tmp_path / "plain").write_bytes(b"secret of the cluster" * 100_000)
    cms.encrypt(str(tmp_path / "plain"), str(tmp_path / "sealed.cms"), pair[0])
    return tmp_path / "sealed.cms"


def test_it_comes_back_as_it_was(pair, sealed, tmp_path):
    cms.decrypt(str(sealed), str(tmp_path / "again"), pair[1])
    assert (tmp_path / "again").read_bytes() == (tmp_path / "plain").read_bytes()
    assert b"secret" not in sealed.read_bytes()


def test_nobody_else_can_read_the_files_and_nothing_else_is_left(pair, sealed, tmp_path):
    cms.decrypt(str(sealed), str(tmp_path / "again"), pair[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "plain", "sealed.cms"]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("again", "sealed.cms")} == {0o600}


def test_it_is_authenticated_encryption_with_256_bits(sealed):
    about = subprocess.run(["openssl", "asn1parse", "-inform", "DER", "-in", str(sealed)], capture_output=True, text=True, check=True).stdout
    assert "authEnvelopedData" in about and "aes-256-gcm" in about


@pytest.mark.parametrize("at", [0.3, 0.7, 0.9999])
def test_a_copy_that_was_altered_is_not_opened(pair, sealed, tmp_path, at):
    data = bytearray(sealed.read_bytes())
    data[int(at * len(data))] ^= 1
    sealed.write_bytes(data)
    with pytest.raises(Failure, match="openssl cms"):
        cms.decrypt(str(sealed), str(tmp_path / "again"), pair[1])
    assert not (tmp_path / "again").exists() and not (tmp_path / "again.part").exists()


def test_another_key_does_not_open_it(sealed, tmp_path):
    other = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA"], capture_output=True, text=True, check=True).stdout
    with pytest.raises(Failure, match="Is this the private key"):
        cms.decrypt(str(sealed), str(tmp_path / "again"), other)


def test_a_recipient_that_is_no_certificate_is_told(tmp_path):
    (tmp_path / "plain").write_text("x")
    with pytest.raises(Failure, match="Give a certificate in PEM"):
        cms.encrypt(str(tmp_path / "plain"), str(tmp_path / "sealed"), "nonsense")
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]
