# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, lines of known_hosts and GPG keys: read as Argo CD, ssh and gpg read them, so that nothing is sent that they would not take.
Nothing here asks a server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
import warnings
from typing import Any, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import MissingLibrary
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line


class Wrong(Exception):
    """What is wrong with one entry."""


class Entry(NamedTuple):
    """name: how a person calls it. key: where it is in the ConfigMap. text: what is written, "" where only its name is known."""

    name: str
    key: str
    text: str


# As Argo CD has it (util/cert): the longest certificate and the most of them for one server.
LONGEST, MOST = 128, 256
_HOST = re.compile(r"([a-zA-Z0-9]|[a-zA-Z0-9_][a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])(\.([a-zA-Z0-9]|[a-zA-Z0-9_][a-zA-Z0-9_-]{0,61}[a-zA-Z0-9]))*\.?\Z")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,60})-----(.*?)-----END \1-----", re.DOTALL)


# ---- TLS certificates


def certificate(value: Mapping[str, Any], absent: bool) -> List[Entry]:
    """The certificates of one server."""
    server, text = str(value.get("serverName") or ""), str(value.get("certData") or "")
    if ":" in server:
        raise Wrong(f"serverName: {one_line(server, 100)} has to be without a port; Argo CD looks a certificate up by the name alone")
    if not _HOST.match(server) or len(server) > 253:
        raise Wrong(f"serverName: {one_line(server, 100) or 'it is missing'}; the name of a server is needed, such as git.example.no")
    if not absent:
        _check_certificates(text)
    return [Entry(server, server, text.strip() + "\n")]


def _check_certificates(text: str) -> None:
    try:
        from cryptography import x509
    except ImportError as error:
        raise MissingLibrary("cryptography", error) from error

    found = list(_PEM.finditer(text))
    others = sorted({block.group(1) for block in found if block.group(1) != "CERTIFICATE"})
    if others:
        raise Wrong(f"certData holds {' and '.join(others)}; it is for certificates alone, and everybody who may read Argo CD's ConfigMaps reads them")
    if not found or text.count("-----BEGIN CERTIFICATE-----") != len(found):
        raise Wrong("certData holds no whole certificate in PEM format" if not found else "certData holds a certificate whose end is missing")
    if len(found) > MOST:
        raise Wrong(f"certData holds {len(found)} certificates; Argo CD takes {MOST}")
    for number, block in enumerate(found):
        if block.group(0).count("\n") >= LONGEST:
            raise Wrong(f"certData: certificate {number + 1} of {len(found)} has more than {LONGEST} lines, which Argo CD does not read")
        if text[:block.start()].rpartition("\n")[2]:
            raise Wrong(f"certData: certificate {number + 1} of {len(found)} begins in the middle of a line")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a serial number or a date that the package finds odd
                x509.load_pem_x509_certificate(block.group(0).encode())
        except Exception as error:  # the package's parser has errors of several types
            raise Wrong(f"certData: certificate {number + 1} of {len(found)} cannot be read ({type(error).__name__})") from None


def same_certificates(one: str, other: str) -> bool:
    """Whether two texts hold the same certificates in the same order, however their lines are broken."""
    return _certificates(one) == _certificates(other)


def _certificates(text: str) -> List[str]:
    return ["".join(block.group(2).split()) for block in _PEM.finditer(text) if block.group(1) == "CERTIFICATE"]


# ---- SSH known hosts


TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa", "ssh-dss", "sk-ssh-ed25519@openssh.com",
         "sk-ecdsa-sha2-nistp256@openssh.com")


def known_hosts(line: str, absent: bool) -> List[Entry]:
    """The entries of one line, as ssh-keyscan prints it; one for each of its hosts. absent: a host, or a host and a type, is enough."""
    if "\n" in line.strip():
        raise Wrong("has several lines; each has to be an element of its own")
    fields = line.split()
    if not fields or line.lstrip().startswith("#"):
        raise Wrong("is no line of known_hosts: HOST TYPE KEY")
    if fields[0].startswith("@"):
        raise Wrong(f"begins with the marker {one_line(fields[0], 40)}, which Argo CD does not read")
    if fields[0].startswith("|"):
        raise Wrong("has a hashed host, which Argo CD's API does not take; ssh-keyscan without -H prints it in full")
    hosts = fields[0].split(",")
    for host in hosts:
        _check_host(host)
    kind, key = (*fields[1:3], "", "")[:2]
    if not key and not (absent and len(fields) <= 2):
        raise Wrong("is no line of known_hosts: HOST TYPE KEY")
    if kind and kind not in TYPES:
        raise Wrong(f"{one_line(kind, 60)} is no type of an SSH key; there are {', '.join(TYPES)}")
    if key:
        _check_key(kind, key)
    return [Entry(f"{host} {kind}".strip(), "", " ".join(filter(None, (host, kind, key)))) for host in hosts]


def _check_host(host: str) -> None:
    found = re.match(r"\[(.*)\]:([0-9]{1,5})\Z", host)
    name = found.group(1) if found else host
    if _HOST.match(name):
        return
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        raise Wrong(f"{one_line(host, 100)} is no host; it has to be a name, an address, or [name]:port, without wildcards") from None


def _check_key(kind: str, text: str) -> None:
    """In the form of RFC 4253, section 6.6: fields with their lengths, the type first."""
    try:
        blob = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise Wrong("the key is no base64") from None
    fields: List[bytes] = []
    at = 0
    while at < len(blob):
        size = int.from_bytes(blob[at:at + 4], "big")
        fields.append(blob[at + 4:at + 4 + size])
        at += 4 + size
    if at != len(blob) or len(fields) < 2:
        raise Wrong("the key is cut off")
    if fields[0] != kind.encode():
        raise Wrong(f"the key is of the type {one_line(fields[0].decode('ascii', 'replace'), 60)}, not {kind}")
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key
    except ImportError as error:
        raise MissingLibrary("cryptography", error) from error
    try:
        load_ssh_public_key(f"{kind} {text}".encode())
    except UnsupportedAlgorithm:
        return  # one of a security key, which the package does not know
    except Exception as error:  # the package's parser has errors of several types
        raise Wrong(f"the key cannot be read ({type(error).__name__})") from None


class _Line(NamedTuple):
    text: str
    hosts: Tuple[str, ...] = ()
    kind: str = ""
    key: str = ""


def _lines(text: str) -> Iterator[_Line]:
    """The lines of a file; of a comment, a line that is none of ours to read, or one with a marker, only its text."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 3 or fields[0][0] in "#@|":
            yield _Line(line)
        else:
            yield _Line(line, tuple(fields[0].split(",")), fields[1], fields[2])


def known_host(text: str, entry: Entry) -> str:
    """The entry as a file has it, "" where it does not."""
    host, kind, key = _wanted(entry)
    found = [line for line in _lines(text) if host in line.hosts and kind in ("", line.kind)]
    exact = [line for line in found if line.key == key]
    if len(exact) == 1 == len(found):
        return entry.text
    return f"{host} {found[0].kind} {found[0].key}" if found else ""


def without_host(text: str, entry: Entry, exact: bool = False) -> str:
    """A file without a host's keys of this type; exact: without this key, where the entry has one. Everything else stays as it is, the other
    hosts of a line too."""
    host, kind, key = _wanted(entry)
    kept = []
    for line in _lines(text):
        if host not in line.hosts or kind not in ("", line.kind) or exact and key not in ("", line.key):
            kept.append(line.text)
        elif len(line.hosts) > 1:
            others = ",".join(each for each in line.hosts if each != host)
            kept.append(line.text.replace(",".join(line.hosts), others, 1))
    return "".join(f"{line}\n" for line in kept)


def _wanted(entry: Entry) -> Tuple[str, str, str]:
    fields: Sequence[str] = entry.text.split()
    host, kind, key = (*fields, "", "")[:3]
    return host, kind, key


# ---- GPG keys


_PUBLIC, _ARMOR = "PGP PUBLIC KEY BLOCK", re.compile(r"-----BEGIN (PGP [A-Z ]{1,40})-----[^\n]*\n(.*?)\n-----END \1-----", re.DOTALL)
PUBLIC_KEY, SECRET_KEY, USER_ID = 6, 5, 13  # RFC 4880, section 4.3


def gpg_key(text: str, absent: bool) -> List[Entry]:
    """One public key, by the ID that gpg gives it. absent: that ID, or a fingerprint, is enough."""
    name = "".join(text.split()).upper()
    if absent and re.fullmatch("(0X)?([0-9A-F]{24})?[0-9A-F]{16}", name):
        return [Entry(name[-16:], name[-16:], "")]
    identity = _identity(_packets_of(text))
    return [Entry(identity, identity, text.strip() + "\n")]


def same_gpg_key(one: str, other: str) -> bool:
    """Whether two texts are the same key, whatever the lines around it say."""
    try:
        return _binary(one) == _binary(other)
    except Wrong:
        return False


def _binary(text: str) -> bytes:
    found = [(block.group(1), block.group(2)) for block in _ARMOR.finditer(text.replace("\r", ""))]
    if any("PRIVATE" in kind for kind, _body in found):
        raise Wrong("is a private key; gpg --export --armor makes the public one, and the private one is now to be taken for known")
    if not found or found[0][0] != _PUBLIC:
        raise Wrong("is no GPG public key with ASCII armor; gpg --export --armor makes one")
    if len(found) > 1:
        raise Wrong(f"holds {len(found)} blocks; each key has to be an element of its own")
    lines = [line.strip() for line in found[0][1].split("\n")]
    while lines and lines[0] and ": " in lines[0]:
        lines.pop(0)
    check = lines.pop()[1:] if lines and lines[-1].startswith("=") else ""
    try:
        data = base64.b64decode("".join(lines).encode("ascii"), validate=True)
        expected = base64.b64decode(check.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise Wrong("is no base64 between its first and its last line") from None
    if check and _crc24(data).to_bytes(3, "big") != expected:
        raise Wrong("is damaged: its checksum does not match")
    return data


def _crc24(data: bytes) -> int:
    """RFC 4880, section 6.1"""
    value = 0xB704CE
    for byte in data:
        value ^= byte << 16
        for _bit in range(8):
            value <<= 1
            if value & 0x1000000:
                value ^= 0x1864CFB
    return value & 0xFFFFFF


def _packets_of(text: str) -> List[Tuple[int, bytes]]:
    data, at = _binary(text), 0
    found: List[Tuple[int, bytes]] = []
    while at < len(data):
        tag, start, size = _header(data, at)
        if start + size > len(data):
            raise Wrong("is cut off")
        found.append((tag, data[start:start + size]))
        at = start + size
    return found


def _header(data: bytes, at: int) -> Tuple[int, int, int]:
    """(tag, where the body begins, its length): RFC 4880, section 4.2."""
    first, rest = data[at], data[at + 1:at + 6]
    if not first & 0x80 or not rest:
        raise Wrong("is no OpenPGP data")
    if not first & 0x40:
        width = 1 << (first & 3)
        if width > 4 or len(rest) < width:
            raise Wrong("is cut off")
        return first >> 2 & 15, at + 1 + width, int.from_bytes(rest[:width], "big")
    if rest[0] < 192:
        return first & 63, at + 2, rest[0]
    if rest[0] < 224 and len(rest) > 1:
        return first & 63, at + 3, ((rest[0] - 192) << 8) + rest[1] + 192
    if rest[0] == 255 and len(rest) == 5:
        return first & 63, at + 6, int.from_bytes(rest[1:], "big")
    raise Wrong("is cut off")


def _identity(packets: Sequence[Tuple[int, bytes]]) -> str:
    """The ID of 16 digits."""
    tags = [tag for tag, _body in packets]
    if SECRET_KEY in tags:
        raise Wrong("is a private key; gpg --export --armor makes the public one, and the private one is now to be taken for known")
    if not tags or tags[0] != PUBLIC_KEY or USER_ID not in tags:
        raise Wrong("is no GPG public key with a user ID")
    if tags.count(PUBLIC_KEY) > 1:
        raise Wrong(f"holds {tags.count(PUBLIC_KEY)} keys; each has to be an element of its own")
    body = packets[0][1]
    if body[:1] != b"\x04" or len(body) < 12:
        raise Wrong(f"is an OpenPGP key of version {body[0] if body else 0}; Argo CD knows keys by the ID of version 4")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest()[-16:].upper()
