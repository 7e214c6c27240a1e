# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, known hosts and GPG keys as a task gives them: what the programs make is taken, everything else is named."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._argocd import trust_format
from ansible_collections.nordic.gitops.plugins.module_utils._argocd.trust_format import Wrong
from hypothesis import given
from hypothesis import strategies as st
from trusting import certificate, gpg_keys, ssh_key

READERS = {"a certificate": lambda text, absent: trust_format.certificate({"serverName": "git.example.no", "certData": text}, absent),
           "a known host": trust_format.known_hosts, "a GPG key": trust_format.gpg_key}


@pytest.fixture(scope="module")
def gpg():
    with gpg_keys("one@example.no", "two@example.no") as keys:
        yield keys


@pytest.mark.parametrize("reader", READERS)
@given(text=st.one_of(st.text(max_size=200), st.builds(
    lambda data, kind: f"-----BEGIN {kind}-----\n\n{base64.b64encode(data).decode()}\n-----END {kind}-----\n",
    st.binary(max_size=60), st.sampled_from(["PGP PUBLIC KEY BLOCK", "CERTIFICATE"])), st.builds(
        lambda data: f"host ssh-rsa {base64.b64encode(data).decode()}", st.binary(max_size=60))), absent=st.booleans())
def test_whatever_text_it_is_it_is_read_or_named(reader, text, absent):
    try:
        READERS[reader](text, absent)
    except Wrong as problem:
        assert str(problem)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_line_of_ssh_keyscan_is_an_entry_for_each_of_its_hosts(kind, tmp_path):
    line = f"git.example.no,[git.example.no]:2222,2001:db8::1 {ssh_key(tmp_path, kind)}"
    assert [entry.text for entry in trust_format.known_hosts(line, False)] == [
        f"{host} {ssh_key(tmp_path, kind)}" for host in ("git.example.no", "[git.example.no]:2222", "2001:db8::1")]


@pytest.mark.parametrize("line, message", [
    ("", "no line of known_hosts"), ("# a comment", "no line of known_hosts"), ("git.example.no", "HOST TYPE KEY"),
    ("git.example.no ssh-ed25519", "HOST TYPE KEY"), ("@cert-authority *.example.no ssh-rsa AAAA", "marker @cert-authority"),
    ("|1|abc=|def= ssh-ed25519 AAAA", "hashed host"), ("*.example.no ssh-ed25519 {key}", "without wildcards"),
    ("git.example.no ssh-rsa {key}", "of the type ssh-ed25519, not ssh-rsa"), ("git.example.no ssh-fancy {key}", "no type of an SSH key"),
    ("git.example.no ssh-ed25519 {key}x", "no base64"), ("git.example.no ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==", "cut off"),
    ("a.example.no ssh-ed25519 {key}\nb.example.no ssh-ed25519 {key}", "several lines"),
    ("git.example.no ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAABGFiY2Q=", "cannot be read"),
])
def test_a_line_that_ssh_or_argo_cd_would_not_take_is_named(line, message, tmp_path):
    with pytest.raises(Wrong, match=message):
        trust_format.known_hosts(line.replace("{key}", ssh_key(tmp_path, "ed25519").split()[1]), False)


def test_of_a_file_of_known_hosts_only_the_entry_that_is_meant_changes(tmp_path):
    ours, other = ssh_key(tmp_path / "a", "ed25519"), ssh_key(tmp_path / "b", "ed25519")
    text = f"# ours\ngit.example.no,git {other}\nother.example.no {other}\n|1|a=|b= {other}\n@revoked bad.example.no {other}\nnot a line\n"
    (entry,) = trust_format.known_hosts(f"git.example.no {ours}", False)
    assert trust_format.known_host(text, entry) == f"git.example.no {other}" != entry.text
    assert trust_format.without_host(text, entry) == text.replace("git.example.no,git", "git")
    assert trust_format.known_host(f"{text}{entry.text}\n", entry) != entry.text  # the other key of that host and type is still trusted
    assert trust_format.without_host(f"git.example.no {ours} a comment\n", entry) == ""
    assert trust_format.known_host(f"git.example.no {ours} a comment\n", entry) == entry.text


@pytest.mark.parametrize("server, text, message", [
    ("git.example.no:443", "{one}", "without a port"), ("", "{one}", "it is missing"), ("*.example.no", "{one}", "the name of a server is needed"),
    ("git.example.no", "", "no whole certificate"), ("git.example.no", "-----BEGIN CERTIFICATE-----\nabc", "no whole certificate"),
    ("git.example.no", "{one}-----BEGIN CERTIFICATE-----\nabc", "end is missing"), ("git.example.no", "{key}", "holds .*PRIVATE KEY"),
    ("git.example.no", "{one}{key}", "holds .*PRIVATE KEY"), ("git.example.no", "x{one}", "in the middle of a line"),
    ("git.example.no", "{one}-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", "certificate 2 of 2 cannot be read"),
])
def test_a_certificate_that_argo_cd_would_not_read_is_named_and_a_private_key_is_never_taken(server, text, message):
    one, key = certificate("git.example.no")
    with pytest.raises(Wrong, match=message) as caught:
        trust_format.certificate({"serverName": server, "certData": text.replace("{one}", one).replace("{key}", key)}, False)
    assert key.split("\n")[1] not in str(caught.value)


def test_a_chain_is_one_entry_and_the_same_with_its_lines_broken_elsewhere():
    one, other = certificate("git.example.no")[0], certificate("ca.example.no")[0]
    (entry,) = trust_format.certificate({"serverName": "git.example.no", "certData": f"subject=git\n{one}{other}"}, False)
    assert trust_format.same_certificates(entry.text, f"{one}\r\nissuer=ca\n{other}") and not trust_format.same_certificates(entry.text, other + one)


def test_a_public_key_of_gpg_has_the_id_that_gpg_gives_it(gpg):
    for key in gpg:
        (entry,) = trust_format.gpg_key(key.public, False)
        assert entry.key == key.fingerprint[-16:]
        assert trust_format.gpg_key(key.fingerprint, True)[0].key == trust_format.gpg_key(f"0x{entry.key.lower()}", True)[0].key == entry.key
    assert trust_format.same_gpg_key(gpg[0].public, gpg[0].public.replace("BLOCK-----\n\n", "BLOCK-----\nComment: mine\n\n"))
    assert not trust_format.same_gpg_key(gpg[0].public, gpg[1].public)


def test_anything_else_than_one_public_key_is_named_and_a_private_one_is_never_taken(gpg):
    cases = {"is a private key": gpg[0].private, "holds 2 keys": gpg.both, "no GPG public key": "F7842A5CEAA9C0B1",
             "holds 2 blocks": gpg[0].public + gpg[1].public, "checksum does not match": gpg[0].public.replace("\nmD", "\nmE", 1),
             "no base64": gpg[0].public.replace("\nmD", "\n!!", 1)}
    for message, text in cases.items():
        with pytest.raises(Wrong, match=message):
            trust_format.gpg_key(text, False)
