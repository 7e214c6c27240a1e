# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run on targets with Python 3.9, whatever the controller has: their code must parse there and use nothing newer at run time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

OLDEST = (3, 9)

# What came after 3.9 and is easily taken for granted: names by the module they are imported from, and keyword arguments of calls.
NEWER_NAMES = {
    "typing": {"TypeAlias", "ParamSpec", "Concatenate", "TypeGuard", "Self", "Never", "LiteralString", "NotRequired", "Required", "Unpack", "assert_never",
               "override", "dataclass_transform", "TypeVarTuple", "reveal_type"},
    "enum": {"StrEnum"},
    "itertools": {"pairwise", "batched"},
    "datetime": {"UTC"},
    "contextlib": {"aclosing", "chdir"},
}
NEWER_MODULES = {"tomllib"}
NEWER_KEYWORDS = {("dataclass", "slots"), ("dataclass", "kw_only"), ("zip", "strict")}


def newer_than_oldest(source: str) -> list[str]:
    try:
        tree = ast.parse(source, feature_version=OLDEST)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    found = []
    annotations = {id(part) for annotation in annotated(tree) for part in ast.walk(annotation)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [f"line {node.lineno}: {node.module}.{alias.name}" for alias in node.names if alias.name in NEWER_NAMES.get(node.module or "", ())]
        elif isinstance(node, ast.Import):
            found += [f"line {node.lineno}: {alias.name}" for alias in node.names if alias.name in NEWER_MODULES]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in NEWER_NAMES.get(node.value.id, ()):
            found.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            found += [f"line {node.lineno}: {called}({keyword.arg}=)" for keyword in node.keywords if (called, keyword.arg) in NEWER_KEYWORDS]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in annotations and evaluated_union(node):
            found.append(f"line {node.lineno}: a union written with | outside of an annotation")
    return found


def annotated(tree: ast.AST) -> list[ast.expr]:
    """Every annotation; with `from __future__ import annotations` none of them is evaluated."""
    found = [node.annotation for node in ast.walk(tree) if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation]
    return found + [node.returns for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns]


def evaluated_union(node: ast.BinOp) -> bool:
    """X | None, or a union of built-in types; other operands of | are sets, flags or dictionaries as far as a parser can tell."""
    sides = (node.left, node.right)
    if any(isinstance(side, ast.Constant) and side.value is None for side in sides):
        return True
    return all(isinstance(side, ast.Name) and side.id in ("str", "int", "bytes", "float", "bool", "dict", "list", "tuple", "set") for side in sides)


def test_plugins_use_nothing_newer_than_python_3_9(copy):
    found = []
    for path in sorted((copy / "plugins").rglob("*.py")):
        found += [f"{path.relative_to(copy)}: {fault}" for fault in newer_than_oldest(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_plugins_do_not_evaluate_their_annotations(copy):
    """Without the future import `def f(x: int | None)` ends every module on Python 3.9."""
    without = [str(path.relative_to(copy)) for path in sorted((copy / "plugins").rglob("*.py"))
               if path.read_text(encoding="utf-8").strip() and "from __future__ import annotations" not in path.read_text(encoding="utf-8")
               and any(line and not line.startswith("#") for line in path.read_text(encoding="utf-8").splitlines())]
    assert not without


@pytest.mark.parametrize("source", [
    "match x:\n    case 1: pass", "with (open('a') as a, open('b') as b): pass\nmatch = 1\ntry: pass\nexcept* ValueError: pass", "X = int | None",
    "isinstance(x, str | bytes)", "zip(a, b, strict=True)", "@dataclass(slots=True)\nclass A: pass", "from enum import StrEnum", "import tomllib",
    "datetime.UTC",
])
def test_what_is_newer_is_found(source):
    assert newer_than_oldest(source)


@pytest.mark.parametrize("source", ["def f(x: int | None) -> str | None: ...", "x = {1} | other", "FLAGS = re.A | re.M", "zip(a, b)"])
def test_what_is_old_enough_passes(source):
    assert not newer_than_oldest(source)


def test_this_file_reads_the_same_oldest_version_as_ansible_test(checkout: Path):
    assert ">=3.9" in (checkout / "tests" / "config.yml").read_text(encoding="utf-8")
