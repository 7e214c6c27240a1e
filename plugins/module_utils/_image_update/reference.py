# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image's reference in its three parts. Source: the grammar of OCI's distribution specification."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,}\Z")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
NAME = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*\Z")


@dataclass(frozen=True)
class Reference:
    """name[:tag][@digest]; a part that is not there is ""."""

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def of(cls, text: str) -> Reference:
        """Split a reference: a tag begins after the last slash only, as a registry may have a port."""
        rest, _at, digest = text.partition("@")
        folder, slash, last = rest.rpartition("/")
        name, _colon, tag = last.partition(":")
        return cls(folder + slash + name, tag, digest)

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def checked(name: str, tag: str, digest: str, where: str) -> Reference:
    """A reference from options, or a Failure that says which part is wrong."""
    if not NAME.match(name):
        split = Reference.of(name)
        hint = f"Write the name {split.name}, and the rest as tag or digest." if NAME.match(split.name) else "Write it as registry.example.org/team/app."
        raise Failure(f"{name!r} is not the name of an image", where, hint)
    if tag and not TAG.match(tag):
        raise Failure(f"{tag!r} is not a tag", where, "At most 128 letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_'.")
    if digest and not DIGEST.match(digest):
        raise Failure(f"{digest!r} is not a digest", where, "Write it as sha256:, followed by 64 hexadecimal digits.")
    if not tag and not digest:
        raise Failure("neither tag nor digest is given", where, "Give one of them, or both.")
    return Reference(name, tag, digest)
