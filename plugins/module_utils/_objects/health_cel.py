# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health rules that a user writes: CEL expressions for one kind, with the names and the meaning of Flux' healthCheckExprs.

Everything that can be wrong with an expression is said when it is read, before anything is written. An evaluation is bounded in time
and in the size of what it makes. A field that the object does not have yet makes an expression false, not an error.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Callable, Dict, List, Mapping, Set, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, MissingLibrary
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import CURRENT, FAILED, IN_PROGRESS, Health, Judge, Rules

LIBRARY = "cel-python>=0.4"
LONGEST = 4000  # characters of one expression
SECONDS = 1.0  # that one evaluation may take
LARGEST = 100_000  # characters or items of what an expression makes on its way

# In the order in which they are asked, as Flux does it.
EXPRESSIONS = (("inProgress", IN_PROGRESS), ("failed", FAILED), ("current", CURRENT))
FIELDS = ("apiVersion", "kind", "metadata", "spec", "status", "data")
MACROS = ("all", "exists", "exists_one", "filter", "map")


class TooMuch(Exception):
    """An evaluation that took too long or made something too large."""


def read_rules(rows: List[Mapping[str, Any]]) -> Rules:
    """The rules by group and kind, compiled. Raises a Failure that names the row and the expression."""
    rules: Dict[Tuple[str, str], Judge] = {}
    for number, row in enumerate(rows, 1):
        where = f"health_rules[{number}]"
        group, kind = str(row.get("api_version") or "").rpartition("/")[0], str(row.get("kind") or "")
        if not kind or not row.get("api_version") or not row.get("current"):
            raise Failure("api_version, kind and current are required", where)
        if (group, kind) in rules:
            raise Failure(f"there is another rule for {kind}{'.' + group if group else ''}", where, "Write one rule for each kind.")
        programs = {
            name: _compile(str(row[name]), f"{where}.{name}") for name, _status in EXPRESSIONS if row.get(name)
        }
        rules[(group, kind)] = functools.partial(_judge, programs)
    return rules


def _judge(programs: Mapping[str, Callable[[Dict[str, Any]], bool]], obj: Dict[str, Any]) -> Health:
    errors = []
    for name, status in EXPRESSIONS:
        if name not in programs:
            continue
        try:
            if programs[name](obj):
                message = "" if status == CURRENT else f"the expression {name} of health_rules is true"
                return Health(status, message)
        except TooMuch as error:
            errors.append(f"{name}: {error}")
        except Exception as error:  # the library raises many kinds; each means that the object does not answer the question
            errors.append(f"{name}: {_said(error)}")
    told = f" ({'; '.join(errors)})" if errors else ""
    return Health(IN_PROGRESS, f"no expression of health_rules is true{told}")


def _said(error: Exception) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.partition(" (in activation")[0]


def _compile(text: str, where: str) -> Callable[[Dict[str, Any]], bool]:
    library = _library()
    if len(text) > LONGEST:
        raise Failure(f"the expression has {len(text)} characters", where, f"The limit is {LONGEST}.")
    environment = library.environment()
    try:
        tree = environment.compile(text)
        _check_names(tree, library, where)
        program = environment.program(tree)
    except library.parse_error as error:
        raise Failure(f"not a CEL expression: {text!r}", where, f"It cannot be read at line {error.line}, column {error.column}."
                      if getattr(error, "line", None) else "") from error
    except RecursionError as error:
        raise Failure("the expression is nested too deeply", where) from error

    def evaluate(obj: Dict[str, Any]) -> bool:
        context = {name: library.to_cel(_plain(obj.get(name), name)) for name in FIELDS if obj.get(name) is not None}
        for name in ("metadata", "spec", "status"):
            context.setdefault(name, library.to_cel({}))
        found = program.evaluate(context)
        if not isinstance(found, (bool, library.boolean)):
            raise TypeError(f"gives {type(found).__name__}, not true or false")
        return bool(found)

    try:
        evaluate({})
    except RecursionError as error:
        raise Failure("the expression is nested too deeply", where) from error
    except Exception:  # an empty object lacks what the expression asks for, in whatever words the library says it
        return evaluate
    return evaluate


def _plain(value: Any, name: str) -> Any:
    if name == "metadata" and isinstance(value, dict):
        return {key: kept for key, kept in value.items() if key != "managedFields"}  # large, and nobody asks for it
    return value


def _check_names(tree: Any, library: Any, where: str) -> None:
    """Unknown functions and variables, which the library would tell only when it meets them."""
    known = set(library.functions)
    bound: Set[str] = set()
    for node in tree.iter_subtrees():
        if node.data == "member_dot_arg":
            name = str(node.children[1])
            if name in MACROS and len(node.children) > 2:
                bound.update(str(found.children[0]) for found in node.children[2].children[0].iter_subtrees() if found.data == "ident")
            elif name not in known:
                raise Failure(f"CEL has no function {name}", where)
        elif node.data == "ident_arg" and str(node.children[0]) not in known | {"has", "dyn"}:
            raise Failure(f"CEL has no function {node.children[0]}", where)
    for node in tree.iter_subtrees():
        if node.data == "ident" and str(node.children[0]) not in bound | known | set(FIELDS):
            raise Failure(f"unknown name {node.children[0]}", where, f"An expression starts from one of {', '.join(FIELDS)}.")


class _Library:
    """The parts of cel-python that are used, with an evaluator that ends."""

    def __init__(self) -> None:
        try:
            import celpy
            from celpy.adapter import json_to_cel
            from celpy.celparser import CELParseError
            from celpy.celtypes import BoolType
            from celpy.evaluation import Evaluator, base_functions
        except ImportError as error:
            raise MissingLibrary(LIBRARY, error) from error

        class Bounded(Evaluator):  # type: ignore[misc,type-arg,unused-ignore]  # it looks at the clock at each step
            ends = 0.0

            def visit(self, tree: Any) -> Any:
                if time.monotonic() > self.ends:
                    raise TooMuch(f"took longer than {SECONDS:g} s")
                found = super().visit(tree)
                if isinstance(found, (str, bytes, list)) and len(found) > LARGEST:
                    raise TooMuch(f"made more than {LARGEST} characters or items")
                return found

            def sub_evaluator(self, ast: Any) -> Any:
                inner = type(self)(ast, activation=self.activation)
                inner.ends = self.ends
                return inner

        class Runner(celpy.InterpretedRunner):  # type: ignore[misc,unused-ignore]
            def evaluate(self, context: Any) -> Any:
                evaluator = Bounded(ast=self.ast, activation=self.new_activation())
                evaluator.ends = time.monotonic() + SECONDS
                return evaluator.evaluate(context)

        self.environment = functools.partial(celpy.Environment, runner_class=Runner)
        self.parse_error, self.boolean, self.to_cel = CELParseError, BoolType, json_to_cel
        self.functions = [name for name in base_functions if name.isidentifier()]


@functools.lru_cache(maxsize=1)
def _library() -> _Library:
    return _Library()
