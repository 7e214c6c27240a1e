# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checksums, programs for another machine, one previous kept; the token's forms; and what is read of a certificate."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import binary, info, options
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import Source, checksum_of, sha256_of
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.identity import password_of

SUM = "0123456789abcdef" * 4
RELEASE = f"{SUM}  k3s\n{'f' * 64}  k3s-airgap-images-amd64.tar.zst\n"


def test_a_checksum_is_one_or_a_line_of_k3s_own_list() -> None:
    assert checksum_of(SUM.upper() + "\n", "anything") == SUM == checksum_of(RELEASE, "k3s")
    assert checksum_of(RELEASE, "k3s-airgap-images-amd64.tar.zst") == "f" * 64


@pytest.mark.parametrize(("text", "said"), [("abc", "64 hexadecimal digits"), (RELEASE.replace("  k3s\n", "  k3s-arm64\n"), "no line for k3s")])
def test_what_is_no_checksum_says_what_one_is(text: str, said: str) -> None:
    with pytest.raises(Failure, match=said):
        checksum_of(text, "k3s")


def test_a_file_of_another_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k3s"
    path.write_bytes(b"x")
    assert binary.on_this_node(Source(str(path), checksum=sha256_of(str(path)))) == str(path)
    with pytest.raises(Failure, match=f"not {SUM}.*nothing was changed"):
        binary.on_this_node(Source(str(path), checksum=SUM))
    with pytest.raises(Failure, match="no such file on this node"):
        binary.on_this_node(Source(str(tmp_path / "none")))


def test_a_download_is_verified_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "k3s"
    path.write_bytes(b"content")
    good = Source(url=path.as_uri(), checksum=sha256_of(str(path)))
    found = binary.fetched(good, str(tmp_path / "home"))
    assert found and Path(found).read_bytes() == b"content"
    with pytest.raises(Failure, match="what was downloaded has SHA-256"):
        binary.fetched(Source(url=path.as_uri(), checksum=SUM), str(tmp_path / "home"))
    assert os.listdir(tmp_path / "home" / "staged") == [good.checksum]
    with pytest.raises(Failure) as error:
        binary.fetched(Source(url="https://user:hunter2@127.0.0.1:1/k3s", checksum=SUM), str(tmp_path / "home"))
    assert "cannot be downloaded" in str(error.value) and "hunter2" not in str(error.value)


def test_a_program_for_another_processor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k3s"
    shutil.copy(os.path.realpath(sys.executable), path)
    binary.refuse_other_machine(str(path))
    data = bytearray(path.read_bytes())
    data[18:20] = (183 if platform.machine() != "aarch64" else 62).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(Failure, match=f"this host is {platform.machine()}.*each architecture"):
        binary.refuse_other_machine(str(path))
    path.write_text("#!/bin/sh\n", encoding="ascii")
    with pytest.raises(Failure, match="not a Linux executable"):
        binary.refuse_other_machine(str(path))


def test_a_program_that_is_no_k3s_is_refused_in_its_own_words(tmp_path: Path) -> None:
    path = tmp_path / "k3s"
    path.write_text("#!/bin/sh\necho something else\n", encoding="ascii")
    path.chmod(0o755)
    with pytest.raises(Failure, match="something else.*Is this a k3s binary"):
        binary.version_of(str(path))
    path.write_text("#!/bin/sh\necho 'k3s version v1.30.5+k3s1 (9b586704)'\n", encoding="ascii")
    assert str(binary.version_of(str(path))) == "v1.30.5+k3s1"


def test_the_program_that_ran_is_kept_until_the_next_one(tmp_path: Path) -> None:
    target, home = tmp_path / "bin" / "k3s", str(tmp_path / "home")
    for content in (b"one", b"two", b"three"):
        (tmp_path / "new").write_bytes(content)
        if target.exists():
            binary.keep_previous(str(target), home)
        binary.install(str(tmp_path / "new"), str(target))
        assert target.read_bytes() == content and os.access(target, os.X_OK)
    assert (tmp_path / "home" / "previous").read_bytes() == b"two" and os.listdir(tmp_path / "bin") == ["k3s"]


def test_both_forms_of_a_token_have_one_secret() -> None:
    assert password_of(f"K10{SUM}::server:hunter2") == "hunter2" == password_of("hunter2") == password_of(f"K10{SUM}::hunter2")
    assert password_of("a::b:c") == "a::b:c"


def test_a_fingerprint_is_comparable_within_a_play_and_tells_nothing() -> None:
    one = info.fingerprint(f"K10{SUM}::server:hunter2", "salt")
    assert one == info.fingerprint("hunter2", "salt") != info.fingerprint("hunter2", "other salt") and "hunter2" not in str(one)
    assert info.fingerprint("", "salt") is None is info.fingerprint("hunter2", "")


def test_the_end_of_a_certificate_is_read(tmp_path: Path) -> None:
    from lab.certificates import Authority

    certificate, _key = Authority(tmp_path).server("x")
    told = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", str(certificate)], capture_output=True, text=True, check=True).stdout
    end = info.expiry(certificate.read_text(encoding="ascii"))
    import calendar
    import time

    assert end == calendar.timegm(time.strptime(told.strip(), "notAfter=%b %d %H:%M:%S %Y GMT"))


@pytest.mark.parametrize("pem", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_has_no_end(pem: str) -> None:
    assert info.expiry(pem) is None


def test_every_meaning_of_k3s_words_is_a_pattern_that_compiles() -> None:
    from ansible_collections.nordic.gitops.plugins.module_utils._k3s.service import MEANINGS

    assert all(re.compile(pattern) and meaning.endswith(".") for pattern, meaning in MEANINGS)


@pytest.mark.parametrize("name", ["agent1", "worker-7.lab.example.no", "x" * 60])
def test_the_node_that_a_host_registered_is_read_from_its_kubelets_certificate(tmp_path: Path, name: str) -> None:
    (tmp_path / "agent").mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", os.devnull, "-out",
                    str(tmp_path / "agent" / "client-kubelet.crt"), "-subj", f"/O=system:nodes/CN=system:node:{name[:52]}"], check=True, capture_output=True)
    assert info.registered_name(str(tmp_path)) == name[:52]
    assert info.registered_name(str(tmp_path / "none")) is None
    (tmp_path / "agent" / "client-kubelet.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert info.registered_name(str(tmp_path)) is None


def test_a_program_is_verified_by_the_list_of_checksums_beside_it_in_the_release(tmp_path: Path) -> None:
    release = tmp_path / "v1.30.5+k3s1"
    release.mkdir()
    (release / "k3s").write_bytes(b"program")
    (release / "sha256sum-amd64.txt").write_text(f"{sha256_of(str(release / 'k3s'))}  k3s\n{'f' * 64}  k3s-airgap-images-amd64.tar\n")
    folder = release.as_uri().replace("+", "%2B")
    params = {**{name: entry.get("default") for name, entry in options.SPEC.items()}, "binary_url": f"{folder}/k3s",
              "checksum": f"{folder}/sha256sum-amd64.txt"}
    program = options.spec_of(params, False).program
    assert program and program.checksum == sha256_of(str(release / "k3s")) and binary.fetched(program, str(tmp_path / "home"))
    with pytest.raises(Failure, match="sha256sum-arm64.txt.*cannot be downloaded"):
        options.spec_of({**params, "checksum": f"{folder}/sha256sum-arm64.txt"}, False)
