# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signed a commit, by the keys that are trusted and no others: neither the user's key ring nor a key server counts."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import Dict, List, Optional, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.known_errors import error_text
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import Source
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line

_KINDS = {"ssh": "an ssh key", "gpg": "a GPG key", "": "neither a GPG nor an ssh key"}

# The words of gpg's status lines (doc/DETAILS in GnuPG), the most telling first.
_COMPLAINTS = (
    ("REVKEYSIG", "is signed by a key that was revoked"),
    ("EXPKEYSIG", "is signed by a key that has expired"),
    ("EXPSIG", "has a signature that has expired"),
    ("BADSIG", "has a signature that does not fit its content"),
)


def signer(source: Source, commit: Commit, raw: bytes) -> str:
    """The signer of the commit (raw is its object), or Refused: nothing unsigned, untrusted or altered gets past here.

    The programs are asked directly, not through `git verify-commit`: that has ssh-keygen judge a key at the time of the commit, which
    whoever signs it writes as he likes.
    """
    keys = str(source.trusted_keys)
    signature, payload = parts(raw, len(commit.id))
    made_with = _made_with(signature)
    label = f"the commit {commit.id[:12]} by {commit.author}"

    def refusal(complaint: str, hint: str) -> Refused:
        return Refused(f"{label} {complaint}", source.url, hint, commit=commit.id)

    if made_with is None:
        raise refusal("is not signed", f"Sign it with one of the keys in {keys}.")
    trusted = kind_of_keys(keys)
    if made_with != trusted:
        raise refusal(f"is signed with {_KINDS[made_with]}, but trusted_keys holds keys for {trusted}", "Give keys of the same kind as trusted_keys.")
    with _Verification(source, "ssh-keygen" if trusted == "ssh" else "gpg", signature, payload) as verification:
        name, complaint = (_by_ssh if trusted == "ssh" else _by_gpg)(verification, keys)
    if not name:
        raise refusal(complaint, f"The trusted keys are in {keys}.")
    return name


def parts(raw: bytes, digits: int) -> Tuple[bytes, bytes]:
    """The signature of a commit, and what it signs: everything but the signatures themselves."""
    name = b"gpgsig-sha256" if digits == 64 else b"gpgsig"
    header, blank, message = raw.partition(b"\n\n")
    signature: List[bytes] = []
    rest: List[bytes] = []
    into = rest
    for line in header.split(b"\n"):
        key, _space, value = line.partition(b" ")
        if line.startswith(b" "):
            into.append(line[1:] if into is not rest else line)
        elif key in (b"gpgsig", b"gpgsig-sha256"):
            into = signature if key == name and not signature else []
            into.append(value)
        else:
            into = rest
            rest.append(line)
    return b"\n".join(signature) + b"\n" if signature else b"", b"\n".join(rest) + blank + message


def kind_of_keys(path: str) -> str:
    """What the file holds: "gpg" (armoured, or binary, whose first byte has its top bit set, or a key box) or "ssh"."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if b"-----BEGIN PGP" in start or start[:1] >= b"\x80" or start[8:12] == b"KBXf":
        return "gpg"
    return "ssh"


def _made_with(signature: bytes) -> Optional[str]:
    found = re.match(rb"-----BEGIN ([A-Z ]+)-----", signature)
    if not found:
        return None
    if found.group(1) == b"SSH SIGNATURE":
        return "ssh"
    return "gpg" if found.group(1).startswith(b"PGP") else ""


class _Verification:
    """A folder with one signature and what it signs, and a sandboxed program that looks at them."""

    def __init__(self, source: Source, name: str, signature: bytes, payload: bytes) -> None:
        self._source, self._name, self._signature, self.payload = source, name, signature, payload
        self.folder = self.signature = self.signed = ""

    def __enter__(self) -> _Verification:
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="nordic.gitops-signature-"))
        self.signature, self.signed = (os.path.join(self.folder, name) for name in ("signature", "signed"))
        for path, content in ((self.signature, self._signature), (self.signed, self.payload)):
            with open(path, "wb") as file:
                file.write(content)
        return self

    def __exit__(self, *_exception: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, keys: str, *arguments: str, feed: bytes = b"") -> _sandbox.Ended:
        program = shutil.which(self._name)
        if program is None:
            package = "OpenSSH 8.9" if self._name == "ssh-keygen" else "GnuPG"
            raise Failure(f"the program {self._name} isn't installed", self._name, f"Install {package} or later where this runs.")
        policy = _sandbox.Policy(
            program=program, write=[self.folder], read=[keys, "/etc/passwd", "/etc/nsswitch.conf", "/etc/group"],
            limits=_sandbox.Limits(seconds=float(self._source.timeout), memory=256 << 20), remove=[self.folder],
            allowed=self._name in self._source.allow_unsandboxed)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.folder, "TMPDIR": self.folder, "GNUPGHOME": self.folder, "LC_ALL": "C"}
        return _sandbox.run([program, *arguments], policy, self.folder, environment, feed)


def _by_ssh(verification: _Verification, keys: str) -> Tuple[str, str]:
    found = verification.run(keys, "-Y", "find-principals", "-f", keys, "-s", verification.signature)
    complaint = error_text(found.err)
    for principal in found.out.decode("utf-8", "replace").splitlines() if found.status == 0 else ():
        verified = verification.run(
            keys, "-Y", "verify", "-n", "git", "-f", keys, "-I", principal, "-s", verification.signature, feed=verification.payload)
        said = verified.out.decode("utf-8", "replace")
        good = re.search(r'^Good "git" signature for (.+) with (\S+) key (\S+)$', said, re.MULTILINE)
        if verified.status == 0 and good:
            return one_line(f"{good.group(1)} {good.group(3)}"), ""
        complaint = error_text(verified.err) or error_text(said)
    key = verification.run(keys, "-Y", "check-novalidate", "-n", "git", "-s", verification.signature, feed=verification.payload)
    stranger = re.search(r'^Good "git" signature with (\S+) key (\S+)$', key.out.decode("utf-8", "replace"), re.MULTILINE)
    if not stranger:
        return "", f"has a signature that can't be verified: {error_text(key.err) or complaint}"
    named = f"the {stranger.group(1)} key {stranger.group(2)}"
    if re.search(r"expired|not yet valid", complaint):
        return "", f"is signed by {named}, which is trusted for another time only (valid-after, valid-before): {complaint}"
    return "", f"is signed by {named}, which is not trusted"


def _by_gpg(verification: _Verification, keys: str) -> Tuple[str, str]:
    trusted = _import_keys(verification, keys)
    answer = verification.run(keys, *_GPG, "--verify", "--", verification.signature, verification.signed)
    status: Dict[str, List[str]] = {}
    for line in answer.out.decode("utf-8", "replace").splitlines():
        if line.startswith("[GNUPG:] "):
            word, *rest = line[len("[GNUPG:] ") :].split(" ")
            status.setdefault(word, rest)
    # The last field of VALIDSIG is the primary key's fingerprint, whichever subkey signed. It is compared with what was imported.
    if answer.status == 0 and "GOODSIG" in status and status.get("VALIDSIG", [""])[-1] in trusted:
        return one_line(f"{' '.join(status['GOODSIG'][1:])} {status['VALIDSIG'][-1]}"), ""
    for word, complaint in _COMPLAINTS:
        if word in status:
            return "", f"{complaint}: {one_line(' '.join(status[word][1:]) or status[word][0])}"
    for word in ("NO_PUBKEY", "ERRSIG", "VALIDSIG"):
        if word in status:
            return "", f"is signed by the GPG key {status[word][0]}, which is not trusted"
    return "", f"has a signature that can't be verified: {error_text(answer.err)}"


_GPG = ("--batch", "--no-autostart", "--no-auto-key-retrieve", "--status-fd", "1")


def _import_keys(verification: _Verification, keys: str) -> Set[str]:
    """Fingerprints of the keys in the file, now in a key ring of their own."""
    done = verification.run(keys, *_GPG, "--import", "--", keys)
    prints = set(re.findall(r"^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]+)$", done.out.decode("utf-8", "replace"), re.MULTILINE))
    if not prints:
        raise Failure("trusted_keys holds no GPG public key", keys, "Make the file with gpg --export --armor.")
    return prints
