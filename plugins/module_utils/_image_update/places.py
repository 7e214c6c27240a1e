# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image, a value or a chart's version stands in a file, and what is to be written there. Text in, changes out."""

from __future__ import annotations

import difflib
import itertools
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.reference import Reference
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import (
    Edit, Node, Path, anchored, append_item, documents, find, insert_key, parse_path, reads_as_text, set_scalar, write_path)

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
# kustomize takes exactly these names for its file.
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


@dataclass(frozen=True)
class Image:
    """Bring every place of this image's name to a tag, a digest, or both.

    container: only in containers of this name. add: where it is nowhere, files names the kustomization that gets an entry for it.
    """

    reference: Reference
    files: Tuple[str, ...]  # files or folders in the repository
    container: str = ""
    add: bool = False


@dataclass(frozen=True)
class Value:
    """Set the value at a path of one file. document: the position of the document in it, from 0; None where there is only one."""

    file: str
    path: Path
    value: str
    document: Optional[int] = None


@dataclass(frozen=True)
class Place:
    """One value to be written. before, after: as a person reads it, a whole reference for an image in a manifest."""

    file: str
    line: int
    document: int
    path: Path
    before: str
    after: str
    edits: Tuple[Edit, ...]

    @property
    def key(self) -> Tuple[str, int, Path]:
        """What stays the same when somebody else changes the file meanwhile."""
        return self.file, self.document, self.path

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {write_path(self.path)}"


def image_places(image: Image, file: str, text: str) -> List[Place]:
    """Every place of the image in a file, also those that are as they should be (no edits)."""
    found: List[Place] = []
    kustomization = file.rsplit("/", 1)[-1] in KUSTOMIZATIONS
    for number, document in enumerate(documents(text, file)):
        if kustomization and not image.container:
            found += _kustomize_places(image, file, text, number, document)
        else:
            found += _container_places(image, file, text, number, document)
    return found


def _container_places(image: Image, file: str, text: str, number: int, document: Node) -> Iterator[Place]:
    for path, node in document.walk():
        if node.kind != "mapping" or len(path) < 2 or path[-2] not in CONTAINERS or not isinstance(path[-1], int):
            continue
        value = node.get("image")
        if value is None or image.container and node.text("name") != image.container:
            continue
        target = value
        if value.kind == "alias":
            target = next(iter(anchored(document).get(value.value, ())), value)
        before = Reference.of(target.value)
        if target.kind != "scalar" or before.name != image.reference.name:
            continue
        where = path + ("image",)
        after = _updated(before, image.reference, f"{file}:{value.line}: {write_path(where)}")
        edits = (set_scalar(text, document, value, str(after), file),) if after != before else ()
        yield Place(file, value.line, number, where, str(before), str(after), edits)


def _updated(before: Reference, wanted: Reference, where: str) -> Reference:
    if before.digest and wanted.tag and not wanted.digest:
        if before.tag == wanted.tag:
            return before
        raise Refused(f"has the digest {before.digest}, which decides what runs, whatever the tag says", where,
                      "Give the digest of the new image too, or remove the old one.")
    # A tag that stood beside another digest would name an image that does not run.
    return Reference(before.name, wanted.tag, wanted.digest)


def _kustomize_places(image: Image, file: str, text: str, number: int, document: Node) -> List[Place]:
    listed = document.get("images")
    entries = [(position, entry) for position, entry in enumerate(listed.items if listed and listed.kind == "sequence" else ())
               if entry.kind == "mapping" and image.reference.name in (entry.text("name"), entry.text("newName"))]
    if len(entries) > 1:
        lines = " and ".join(f"{file}:{entry.line} ({entry.text('name')})" for _position, entry in entries)
        raise Refused(f"{len(entries)} entries of images match {image.reference.name}: {lines}", file, "Remove one of them, or set the value by its path.")
    found = []
    for position, entry in entries:
        path: Path = ("images", position)
        place = f"{file}:{entry.line}: {write_path(path)}"
        before = Reference(image.reference.name, entry.text("newTag"), entry.text("digest"))
        wanted = image.reference
        if before.digest and wanted.tag and not wanted.digest and before.tag != wanted.tag:
            raise Refused(f"has the digest {before.digest}, which decides what runs, whatever newTag says", place,
                          "Give the digest of the new image too, or remove the old one.")
        if before.tag and wanted.digest and not wanted.tag and before.digest != wanted.digest:
            raise Refused(f"has newTag {before.tag}, which would stand beside the digest of another image", place, "Give the tag too, or remove newTag.")
        after = Reference(wanted.name, wanted.tag or before.tag, wanted.digest or before.digest)
        edits: List[Edit] = []
        for key, old, new in (("newTag", before.tag, after.tag), ("digest", before.digest, after.digest)):
            node = entry.get(key)
            if new == old:
                continue
            edits.append(insert_key(text, entry, key, new, file) if node is None else set_scalar(text, document, node, new, file))
        found.append(Place(file, entry.line, number, path, str(before), str(after), tuple(edits)))
    return found


def added_place(image: Image, file: str, text: str) -> Place:
    """A new entry in a kustomization's images."""
    found = documents(text, file)
    if len(found) != 1:
        raise Refused(f"holds {len(found)} documents", file, "A kustomization is one.")
    wanted = image.reference
    listed = found[0].get("images")
    entry = {key: value for key, value in (("name", wanted.name), ("newTag", wanted.tag), ("digest", wanted.digest)) if value}
    edit = append_item(text, found[0], "images", entry, file)
    line = text.count("\n", 0, edit.start) + edit.text.count("\n", 0, edit.text.index("name: ")) + 1
    return Place(file, line, 0, ("images", len(listed.items) if listed else 0), wanted.name, str(wanted), (edit,))


def one_answer(image: Image, places: Sequence[Place]) -> None:
    """Refuse to guess: one name with two tags may be two applications."""
    old = {place.before for place in places if place.edits}
    if len(old) > 1:
        listed = "; ".join(f"{place}: {place.before}" for place in places[:20])
        raise Refused(f"{image.reference.name} has several values: {listed}", image.reference.name,
                      "Select one by files or container, or set each value by its path.")


def value_place(value: Value, text: str) -> Place:
    """The place of a value in its file."""
    found = documents(text, value.file)
    if value.document is None and len(found) > 1:
        raise Refused(f"holds {len(found)} documents", value.file, "Say which one with document, counted from 0.")
    number = value.document or 0
    if number >= len(found):
        raise Failure(f"holds {len(found)} documents, counted from 0, none at {number}", value.file)
    document = found[number]
    node = find(document, value.path)
    if node is None:
        raise Failure(f"there is no {write_path(value.path)}", value.file, _close(document, value.path))
    edits = () if node.kind == "scalar" and node.value == value.value and _is_text(node) else (set_scalar(text, document, node, value.value, value.file),)
    return Place(value.file, node.line, number, value.path, node.value, value.value, edits)


def _is_text(node: Node) -> bool:
    """Whether no reader takes the value for a number: an unquoted 1.10 is 1.1 to the next one."""
    return bool(node.style) or reads_as_text(node.value)


def _close(document: Node, path: Path) -> str:
    scalars = (where for where, node in document.walk() if node.kind == "scalar" and where and len(where) <= 20)
    paths = {write_path(where): None for where in itertools.islice(scalars, 5_000)}
    asked = write_path(path)
    near = difflib.get_close_matches(asked, list(paths), n=3, cutoff=0.5)
    near += [one for one in paths if one.rsplit(".", 1)[-1] == asked.rsplit(".", 1)[-1] and one not in near]
    return f"Did you mean {' or '.join(near[:3])}?" if near else f"It has {', '.join(list(paths)[:10])}." if paths else "The file has no value."


def images_in(text: str, file: str) -> Dict[str, None]:
    """The names of all images of a file, for a hint."""
    names: Dict[str, None] = {}
    for document in documents(text, file):
        for path, node in document.walk():
            if path and path[-1] == "image" and node.kind == "scalar" and len(path) > 2 and path[-3] in CONTAINERS:
                names[Reference.of(node.value).name] = None
        listed = document.get("images") if file.rsplit("/", 1)[-1] in KUSTOMIZATIONS else None
        for entry in listed.items if listed and listed.kind == "sequence" else ():
            names[entry.text("newName") or entry.text("name")] = None
    return names


def checked_value(file: str, path: str, value: str, document: Optional[int]) -> Value:
    return Value(file, parse_path(path), value, document)
