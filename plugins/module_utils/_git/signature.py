# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who signed a commit, by the keys that are trusted and no others: neither the user's key ring nor a key server counts."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from typing import Dict, List, Optional, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.asked import one_line
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.meaning import words
from ansible_collections.nordic.gitops.plugins.module_utils._git.source import SETTINGS, Source, as_variables

_KINDS = {"ssh": "an ssh key", "gpg": "a GPG key", "": "neither a GPG nor an ssh key"}

# The words of gpg's status lines (doc/DETAILS in GnuPG), the most telling first.
_COMPLAINTS = (
    ("REVKEYSIG", "is signed by a key that was revoked"),
    ("EXPKEYSIG", "is signed by a key that has expired"),
    ("EXPSIG", "has a signature that has expired"),
    ("BADSIG", "has a signature that does not fit its content"),
)


def signer(git: Command, folder: str, source: Source, commit: Commit, raw: bytes) -> str:
    """The signer of the commit (raw is its object), or Refused: nothing unsigned, untrusted or altered gets past here."""
    keys = str(source.trusted_keys)
    made_with = _made_with(raw)
    label = f"the commit {commit.id[:12]} by {commit.author}"

    def refusal(complaint: str, hint: str) -> Refused:
        return Refused(f"{label} {complaint}", source.url, hint, commit=commit.id)

    if made_with is None:
        raise refusal("is not signed", f"Sign it with one of the keys in {keys}.")
    trusted = kind_of_keys(keys)
    if made_with != trusted:
        raise refusal(f"is signed with {_KINDS[made_with]}, but trusted_keys holds keys for {trusted}", "Give keys of the same kind as trusted_keys.")
    name, complaint = _by_ssh(git, folder, keys, commit.id) if trusted == "ssh" else _by_gpg(git, folder, keys, commit.id, source.timeout)
    if not name:
        raise refusal(complaint, f"The trusted keys are in {keys}.")
    return name


def kind_of_keys(path: str) -> str:
    """What the file holds: "gpg" (armoured, or binary, whose first byte has its top bit set, or a key box) or "ssh"."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if b"-----BEGIN PGP" in start or start[:1] >= b"\x80" or start[8:12] == b"KBXf":
        return "gpg"
    return "ssh"


def _made_with(raw: bytes) -> Optional[str]:
    header = raw.partition(b"\n\n")[0]
    signature = re.search(rb"^gpgsig(?:-sha256)? -----BEGIN ([A-Z ]+)-----", header, re.MULTILINE)
    if not signature:
        return None
    if signature.group(1) == b"SSH SIGNATURE":
        return "ssh"
    return "gpg" if signature.group(1).startswith(b"PGP") else ""


def _by_ssh(git: Command, folder: str, keys: str, oid: str) -> Tuple[str, str]:
    allowed = as_variables([*SETTINGS, ("gpg.ssh.allowedSignersFile", keys)])
    answer = git(folder, "verify-commit", "--raw", oid, variables=allowed)
    good = re.search(r'^Good "git" signature for (.+) with (\S+) key (\S+)$', answer.err, re.MULTILINE)
    if answer.status == 0 and good:
        return one_line(f"{good.group(1)} {good.group(3)}"), ""
    if "cannot run ssh-keygen" in answer.err:
        raise Failure("the program ssh-keygen isn't installed", "ssh-keygen", "Install OpenSSH 8.2 or later where this runs.")
    stranger = re.search(r'^Good "git" signature with (\S+) key (\S+)$', answer.err, re.MULTILINE)
    if stranger:
        return "", f"is signed by the {stranger.group(1)} key {stranger.group(2)}, which is not trusted"
    return "", f"has a signature that can't be verified: {words(answer.err)}"


def _by_gpg(git: Command, folder: str, keys: str, oid: str, timeout: int) -> Tuple[str, str]:
    ring = tempfile.mkdtemp(prefix="keys-")
    try:
        trusted = _import_keys(git, ring, keys, timeout)
        answer = git(folder, "verify-commit", "--raw", oid, variables={"GNUPGHOME": ring})
    finally:
        shutil.rmtree(ring, ignore_errors=True)
    status: Dict[str, List[str]] = {}
    for line in answer.err.splitlines():
        if line.startswith("[GNUPG:] "):
            word, *rest = line[len("[GNUPG:] ") :].split(" ")
            status.setdefault(word, rest)
    # The last field of VALIDSIG is the primary key's fingerprint, whichever subkey signed. It is compared with what was imported:
    # a system-wide gpg.conf may fetch unknown keys by itself, and then a stranger's signature is good too.
    if answer.status == 0 and "GOODSIG" in status and status.get("VALIDSIG", [""])[-1] in trusted:
        return one_line(f"{' '.join(status['GOODSIG'][1:])} {status['VALIDSIG'][-1]}"), ""
    for word, complaint in _COMPLAINTS:
        if word in status:
            return "", f"{complaint}: {one_line(' '.join(status[word][1:]) or status[word][0])}"
    for word in ("NO_PUBKEY", "ERRSIG", "VALIDSIG"):
        if word in status:
            return "", f"is signed by the GPG key {status[word][0]}, which is not trusted"
    return "", f"has a signature that can't be verified: {words(answer.err)}"


def _import_keys(git: Command, ring: str, keys: str, timeout: int) -> Set[str]:
    """Fingerprints of the keys in the file, now in a key ring of their own."""
    command = ["gpg", "--homedir", ring, "--batch", "--no-autostart", "--status-fd", "1", "--import", "--", keys]
    try:
        done = subprocess.run(command, env=git.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise Failure("the program gpg isn't installed", "gpg", "Install GnuPG where this runs.") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"gpg did not end within {timeout} seconds", keys) from None
    prints = set(re.findall(r"^\[GNUPG:\] IMPORT_OK \d+ ([0-9A-F]+)$", done.stdout.decode("utf-8", "replace"), re.MULTILINE))
    if not prints:
        raise Failure("trusted_keys holds no GPG public key", keys, "Make the file with gpg --export --armor.")
    return prints
