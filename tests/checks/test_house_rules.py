# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of this house that no other checker knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from workspace import collection

HEADER = (
    "# Copyright: nordic.gitops contributors",
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)

# What must be nowhere in the tree, with the reason. The patterns are written so that they do not match themselves.
TRACES = {
    r"(?<![\w.${}/*-])/(?:work|root/\.\w+|home/[a-z]\w*|Users/[A-Z]\w*)/\w": "a path of somebody's machine",
    r"\bT[O]DO\b|\bF[I]XME\b|\bX[X]X\b": "work that is not done",
    r"-----BEGIN (?:RSA |EC |OPENSSH )?PRIVATE K[E]Y-----\s+\w{40}": "a private key",
}

# A test that does not run proves nothing: what cannot run fails, and says what it misses. Only a test that needs to be root may
# stay away from a person who is not, and one place (tests/integration/conftest.py) leaves out what the summary then lists as
# NOT RUN. Code is not replaced under a test; a constant (a limit, a pause) may be made small.
UNTESTED = (r"pytest[.](?:skip|xfail|importorskip)\b|mark[.](?:skip|xfail)\b|mark[.]skipif(?!\(os[.]geteuid\(\) != 0,)"
            r"|unittest[.]mock|\bMagicM[o]ck\b|\bmonkeypatch[.]setattr\((?![\w.]+, \"_?[A-Z][A-Z0-9_]*\")")


def texts(folder: Path):
    """Every text file that Git knows or would take, by its name."""
    for name in sorted(collection.known_files(folder)):
        if name == "LICENSE":
            continue
        try:
            yield name, (folder / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def traces(name: str, text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [f"{name}:{number}: {reason}: {line.strip()[:120]}" for pattern, reason in TRACES.items() if re.search(pattern, line)]
    return found


def test_no_trace_of_a_machine_is_in_the_tree(checkout):
    found = [trace for name, text in texts(checkout) for trace in traces(name, text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["see /~work/main/x", "'/~root/.cache/x'", "/~home/anna/x", "# TO~DO: later"])
def test_a_trace_is_found(line):
    """The ~ keeps these lines from being found themselves."""
    assert traces("x", line.replace("~", ""))


@pytest.mark.parametrize("line", ["https://example.org/work/in", "${ROOT}/work/x", "/tmp/x", "network", "kubeconfig: /etc/rancher/k3s/k3s.yaml"])
def test_what_is_no_trace_passes(line):
    assert not traces("x", line)


def lacks_header(text: str) -> bool:
    lines = text.splitlines()
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    return bool(text.strip()) and tuple(lines[:3]) != HEADER


def test_every_python_file_says_its_licence(checkout):
    assert not [name for name, text in texts(checkout) if name.endswith(".py") and lacks_header(text)]


def test_a_file_without_a_licence_is_found():
    assert lacks_header("import os\n")
    assert lacks_header("\n".join(HEADER[:2]) + "\n")
    assert not lacks_header("#!/usr/bin/python\n" + "\n".join(HEADER) + "\nimport os\n")


def test_no_test_is_left_out_or_talks_to_a_mock(checkout):
    found = [f"{name}:{number}: {line.strip()}" for name, text in texts(checkout) if name.startswith("tests/") and name.endswith(".py")
             for number, line in enumerate(text.splitlines(), 1) if re.search(UNTESTED, line) and "# fake: " not in line
             and not (name == "tests/integration/conftest.py" and "as NOT RUN" in line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "pytest.sk~ip('no cluster')",
        "@pytest.mark.xf~ail",
        "@pytest.mark.sk~ipif(not GO, reason='no Go')",
        "from unittest~.mock import Mock",
        'monkeypatch.set~attr(module, "list_objects", lambda: [])',
    ],
)
def test_a_test_left_out_is_found(line):
    assert re.search(UNTESTED, line.replace("~", ""))
    assert not re.search(UNTESTED, 'monkeypatch.setattr(module, "PAUSE", 0.01)')


def private_names(name, text):
    """Names of another file that its author did not offer: what is imported or asked for with an underscore before it."""
    tree, modules, found = ast.parse(text), set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ansible_collections.nordic.gitops.plugins."):
            whole = node.module.endswith(("module_utils", "plugin_utils"))  # _k3s is a package's name
            found += [f"{name}:{node.lineno}: {one.name}" for one in node.names if one.name.startswith("_") and not whole]
            modules |= {one.asname or one.name for one in node.names if one.name.islower()}
    return found + [f"{name}:{node.lineno}: {node.value.id}.{node.attr}" for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name) and node.value.id in modules and node.attr.startswith("_") and not node.attr.startswith("__")]


def test_no_file_uses_a_private_name_of_another(checkout):
    found = [line for name, text in texts(checkout) if name.startswith("plugins/") and name.endswith(".py") for line in private_names(name, text)]
    assert not found, "\n".join(found)


def test_a_private_name_of_another_file_is_found():
    of = "from ansible_collections.nordic.gitops.plugins.module_utils"
    assert private_names("a.py", f"{of}._k3s.files import _write") and private_names("a.py", f"{of}._k3s import files\nfiles._write('x')")
    assert not private_names("a.py", f"{of} import _errors\n{of}._k3s import files\nfiles.write('x')\nself._write('x')")


def test_the_licence_is_the_one_that_galaxy_yml_names(checkout):
    text = (checkout / "LICENSE").read_text(encoding="utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in text and "Version 3, 29 June 2007" in text


def test_every_folder_of_module_utils_is_a_package_that_ansiballz_can_ship(copy):
    """Without __init__.py it imports in every test and fails on a target with nothing but a zip."""
    folders = {path.parent for path in (copy / "plugins" / "module_utils").rglob("*.py")} - {copy / "plugins" / "module_utils"}
    assert not [str(folder.relative_to(copy)) for folder in folders if not (folder / "__init__.py").exists()]


def test_the_requirements_of_an_execution_environment_are_the_collections_own(checkout):
    def entries(name):
        lines = (checkout / name).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if line and not line.startswith("#")}

    ours = entries("requirements.txt")
    # An execution environment brings ansible-core itself.
    assert entries("meta/ee-requirements.txt") == {line for line in ours if not line.startswith("ansible-core")}


@pytest.mark.parametrize("name", ["bindep.txt", "meta/ee-bindep.txt"])
def test_bindep_reads_the_system_packages(bench, checkout, name):
    outcome = bench.run("bindep", "--brief", "--file", str(checkout / name), "test", cwd=checkout)
    assert outcome.code in (0, 1) and "Traceback" not in outcome.output, outcome.output


def test_the_scripts_without_a_suffix_pass_shellcheck(bench, checkout, tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("#!/bin/sh\ncd $1\n", encoding="ascii")
    assert bench.run("shellcheck", str(bad), cwd=tmp_path).code == 1
    outcome = bench.run("shellcheck", str(checkout / ".ci" / "run"), cwd=tmp_path)
    assert outcome.code == 0, outcome.output


def test_make_help_lists_every_command(checkout):
    text = (checkout / "Makefile").read_text(encoding="utf-8")
    commands = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE).group(1).split()
    shown = subprocess.run(["make", "--no-print-directory", "-C", str(checkout), "help"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in shown.splitlines()] == commands


MASKED = re.compile(r"masked\(|str\(failure\)|failure\.details|(?:True|False|None)\b")


def test_what_a_module_returns_goes_through_the_one_exit_for_text(copy):
    """Results may hold what a server, a repository or a tool wrote: no value of theirs reaches a terminal unmasked."""
    bare = []
    for path in sorted((copy / "plugins" / "modules").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("exit_json", "fail_json", "warn"):
                given = [*call.args, *(keyword.value for keyword in call.keywords)]
                bare += [f"{path.name}:{call.lineno}: {ast.unparse(each)}" for each in given if not MASKED.match(ast.unparse(each))]
    # run() of reconcile masks its result whole, as the tests call it too.
    assert [line for line in bare if not line.startswith("reconcile.py")] == []


# What runs on the files and answers of others. On the hosts of a cluster (_k3s, _preflight) and for an instance (_instance) commands are run by their user.
SHUT_IN = ("_argocd", "_cluster", "_git", "_image_update", "_objects", "_reconcile", "_sealed_secrets", "_secrets_check")


def test_one_file_starts_the_programs_that_run_on_untrusted_files(checkout):
    found = [name for name, text in texts(checkout) if name.startswith(tuple(f"plugins/module_utils/{part}/" for part in SHUT_IN)) and name.endswith(".py")
             and re.search(r"\bsubprocess\b|\bos\.(system|popen|exec|spawn|posix_spawn)", text)]
    assert not found
