# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a chart before helm reads it: which charts it holds, packed ones too, and that no schema leads out of it."""

from __future__ import annotations

import io
import json
import posixpath
import tarfile
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile import yaml_strict
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.directory import CHART

SCHEMA = "values.schema.json"
MAX_UNPACKED = 128 * 1024 * 1024  # of all packed charts together; helm's own limit is 100 MiB for each
MAX_PACKED = 500  # packed charts, inside each other too
# The schemas of JSON Schema itself, which helm has built in.
DRAFTS = frozenset(f"{scheme}://json-schema.org/{draft}/schema" for scheme in ("http", "https")
                   for draft in ("draft-04", "draft-06", "draft-07", "draft/2019-09", "draft/2020-12"))
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def judge(content: Mapping[str, bytes], chart: str) -> List[str]:
    """The names of the charts below charts/ that the chart at this path holds; refuses schemas that lead out, in packed charts too."""
    names: List[str] = []
    budget = [MAX_UNPACKED, MAX_PACKED]
    prefix = "" if chart == "." else chart + "/"
    for path, data in content.items():
        if not path.startswith(prefix):
            continue
        _judge_schema(path, data)
        parts = path[len(prefix):].split("/")
        if parts[0] == "charts" and len(parts) == 3 and parts[2] == CHART:
            names.append(_name(path, data))
        if parts[0] != "charts" and "charts" not in parts or not path.endswith(".tgz"):
            continue
        found = _judge_packed(path, data, budget)
        if parts[0] == "charts" and len(parts) == 2:
            names.extend(found)
    return names


def _judge_packed(where: str, data: bytes, budget: List[int]) -> List[str]:
    names = []
    for name, inner in _members(where, data, budget):
        place = f"{where} ({name})"
        _judge_schema(place, inner, name)
        if name.endswith(".tgz"):
            _judge_packed(place, inner, budget)
        elif name.count("/") == 1 and posixpath.basename(name) == CHART:
            names.append(_name(place, inner))
    return names


def _members(where: str, data: bytes, budget: List[int]) -> Iterator[Tuple[str, bytes]]:
    """The files of a packed chart that are judged, without ever holding more of it than one file."""
    budget[1] -= 1
    if budget[1] < 0:
        raise Refused(f"holds more than {MAX_PACKED} packed charts", where)
    try:
        with tarfile.open(fileobj=_Bounded(data, budget, where), mode="r|") as archive:
            for member in archive:
                if member.isfile() and (member.name.endswith((SCHEMA, ".tgz")) or posixpath.basename(member.name) == CHART):
                    file = archive.extractfile(member)
                    if file is not None:
                        yield posixpath.normpath(member.name), file.read()
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise Failure(f"is no packed chart: {error}", where, "Make it with helm package, or commit the chart's folder.") from None


class _Bounded(io.RawIOBase):
    """The bytes that a gzip file unfolds to; refused beyond the budget that all packed charts share."""

    def __init__(self, data: bytes, budget: List[int], where: str) -> None:
        import gzip

        self._file = gzip.GzipFile(fileobj=io.BytesIO(data))
        self._budget, self._where = budget, where

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if size >= 0 else 1 << 16)
        self._budget[0] -= len(data)
        if self._budget[0] < 0:
            raise Refused(f"the packed charts unfold to more than {MAX_UNPACKED >> 20} MiB", self._where)
        return data


def _name(where: str, data: bytes) -> str:
    documents, problems = yaml_strict.parse(data, where)
    if problems:
        raise problems[0]
    body = documents[0].body if documents else None
    return str(body.get("name")) if isinstance(body, dict) else ""


def _judge_schema(where: str, data: bytes, name: str = "") -> None:
    """helm's reader of schemas opens files and fetches URLs that $ref and $schema name."""
    if posixpath.basename(name or where) != SCHEMA:
        return

    def look(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        for key, value in pairs:
            if not isinstance(value, str):
                continue
            bare = value.partition("#")[0]
            if key in _REFERENCES and bare and bare not in DRAFTS or key == "$schema" and bare not in DRAFTS:
                raise Refused(f"{key} leads to {_shown(value)}, out of the chart", where,
                              "Write the definition into this schema, and refer to it with #/…" if key != "$schema" else "Name a draft of JSON Schema.")
        return {}

    try:
        json.loads(data.decode("utf-8", "replace"), object_pairs_hook=look, strict=False)
    except RecursionError:
        raise Refused("is nested too deep", where) from None
    except ValueError as error:
        raise Failure(f"is not JSON: {error}", where) from None


def _shown(url: str) -> str:
    return bare_url("".join(char if char.isprintable() else " " for char in url[:200]))
