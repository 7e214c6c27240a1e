# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that Kubernetes' files hold, found by structure: neither the order of keys nor the distance between them matters.

Each value is judged by itself. That a file is encrypted by its looks, or that other values of it are placeholders, excuses none.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Iterator, List, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.finding import Finding
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import Node, documents, write_path

# What stands for a secret and is none: ${NAME}, $(NAME), {{ template }}, <path:…> and <NAME>, sops' ENC[…], vals' ref+…, op://…
_PLACEHOLDER = re.compile(
    r"""(?xs) \s* ( \$\{\{.*?\}\} | \$\{[^}]*\} | \$\([^)]*\) | \{\{.*\}\} | <[^<>]*> | %[A-Za-z_]+% | ENC\[.*\] | ref\+\S+ | op://\S+
    | \$[A-Z_][A-Z0-9_]* )+ \s* \Z""")
# Names of variables and of values of charts that hold a secret themselves, not the name of a place where one is.
_NAME = re.compile(
    r"(?i)(?:^|[-_.]|(?<=[a-z]))(?:password|passwd|passphrase|token|api[-_]?key|private[-_]?key|secret[-_]?key|access[-_]?key|client[-_]?secret)\Z")
_VARIABLE = re.compile(r"(?i)(?:password|passwd|passphrase|token|secret|api_?key|private_?key|secret_?key|access_?key)\Z")
_ACTION = re.compile(r"(?s)\{\{.*?\}\}")
# In a line of a template: a name that says it is a secret, with a value of its own, or a password in a URL.
_LITERAL = re.compile(
    r"""(?ix) (?:password|passwd|passphrase|token|secret|api[-_]?key|private[-_]?key|access[-_]?key) ["']? \s* [:=] \s* ["']? (?!["'{$<]|\s*$) \S
    | ://[^/\s:@]*:(?!\{\{|\$)[^/\s@]+@""")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SUFFIXES = (".yaml", ".yml", ".json")


def findings(text: str, file: str) -> List[Finding]:
    """Every secret that lies open in a YAML or JSON file; none in a file that is neither (a template)."""
    try:
        parsed = documents(text, file)
    except Failure:
        return []
    found = []
    for document in parsed:
        is_object = document.get("kind") is not None
        for path, node in document.walk():
            if node.kind == "mapping":
                found += [Finding(file, line, what) for line, what in _in_mapping(path, node)]
            elif node.kind == "scalar" and not is_object and path and isinstance(path[-1], str) and _NAME.search(path[-1]) and _is_open(node):
                found.append(Finding(file, node.line, f"{write_path(path)} holds a value, and its name says that it is a secret"))
    return sorted(set(found))


def sealed_lines(text: str, file: str) -> Set[int]:
    """The lines of values that are encrypted by SealedSecrets: any text may look like a token."""
    try:
        parsed = documents(text, file)
    except Failure:
        return set()
    lines: Set[int] = set()
    for document in parsed:
        for path, node in document.walk():
            if node.kind == "scalar" and "encryptedData" in path:
                lines.update(range(node.line, node.line + text.count("\n", node.start, node.end) + 1))
    return lines


def _in_mapping(path: Tuple[object, ...], node: Node) -> Iterator[Tuple[int, str]]:
    kind = node.text("kind")
    if kind == "Secret":
        name = _name_of(node)
        for field in ("data", "stringData"):
            yield from _open_values(node.get(field), f"Secret {name}: {field}", encoded=field == "data")
        yield from _annotation(node, f"Secret {name}")
    elif kind == "SealedSecret":
        spec = node.get("spec")
        template = spec.get("template") if spec else None
        if template is not None:
            for field in ("data", "stringData"):
                yield from _open_values(template.get(field), f"SealedSecret {_name_of(node)}: spec.template.{field}", encoded=False, templates=True)
            yield from _annotation(template, f"SealedSecret {_name_of(node)}: spec.template")
        yield from _annotation(node, f"SealedSecret {_name_of(node)}")
    elif path and isinstance(path[-1], int) and len(path) > 1 and path[-2] == "env":
        value = node.get("value")
        if _VARIABLE.search(node.text("name")) and value is not None and _is_open(value):
            yield value.line, f"the variable {node.text('name')} holds a value, and its name says that it is a secret"


def _name_of(node: Node) -> str:
    metadata = node.get("metadata")
    if metadata is None:
        return ""
    namespace, name = metadata.text("namespace"), metadata.text("name")
    return f"{namespace}/{name}" if namespace else name


def _open_values(values: "Node | None", where: str, encoded: bool, templates: bool = False) -> Iterator[Tuple[int, str]]:
    if values is None or values.kind != "mapping":
        return
    for key, value in values.items:
        if value.kind == "scalar" and _is_open(value, encoded) and not (templates and _takes_its_secrets_from_actions(value.value)):
            yield value.line, f"{where}.{key.value} is not encrypted"


def _takes_its_secrets_from_actions(text: str) -> bool:
    """Whether a template, such as a whole configuration file, has an action wherever its own words say that a secret stands there."""
    if not _ACTION.search(text):
        return False
    return not any(_LITERAL.search(line) for line in _ACTION.sub("{{}}", text).splitlines())


def _annotation(node: Node, where: str) -> Iterator[Tuple[int, str]]:
    metadata = node.get("metadata")
    annotations = metadata.get("annotations") if metadata else None
    value = annotations.get(LAST_APPLIED) if annotations else None
    if value is not None:
        yield value.line, f"{where}: the annotation {LAST_APPLIED} holds the whole Secret"


def _is_open(node: Node, encoded: bool = False) -> bool:
    text = node.value
    if encoded:
        try:
            text = base64.b64decode(text, validate=False).decode("utf-8", "replace") if not _PLACEHOLDER.match(text) else text
        except (binascii.Error, ValueError):
            pass  # no base64: judged as it stands
    plain = node.kind == "scalar" and not node.style and text.lower() in ("", "null", "~", "true", "false")
    return node.kind == "scalar" and bool(text.strip()) and not plain and not _PLACEHOLDER.match(text)
