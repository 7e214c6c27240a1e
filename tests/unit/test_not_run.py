# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves out is said at its end, and is never counted as passed; what has to wait for a build comes last."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import places

TESTS = places.CHECKOUT / "tests"


@pytest.fixture
def session(tmp_path):
    """Runs pytest on two tests under this collection's own rules, on a machine that has no systemd-nspawn."""
    (tmp_path / "tests" / "integration").mkdir(parents=True)
    for name in ("pytest.ini", "tests/conftest.py", "tests/integration/conftest.py"):
        shutil.copy(places.CHECKOUT / name, tmp_path / name)
    (tmp_path / "tests" / "integration" / "test_two.py").write_text(
        "import pytest\n\n@pytest.mark.hosts\ndef test_with_hosts():\n    pass\n\n@pytest.mark.full\ndef test_that_takes_long():\n    pass\n", encoding="utf-8")

    def run(*arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NORDIC_", "PYTEST_"))}
        environment.update(PATH=str(Path(sys.executable).parent), PYTHONPATH=f"{environment['PYTHONPATH']}{os.pathsep}{TESTS}", **variables)
        done = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout
    return run


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_cannot_run_fails_unless_that_is_asked_for(session, workers):
    code, words = session(*workers)
    assert code == 1 and "1 skipped, 1 error" in words and "NORDIC_WITHOUT_HOSTS=1 leaves the tests with hosts out" in words, words
    code, words = session(*workers, NORDIC_WITHOUT_HOSTS="1")
    assert code == 0 and "2 skipped" in words and "passed" not in words, words
    assert "NOT RUN: tests/integration/test_two.py::test_with_hosts: " in words and "NORDIC_WITHOUT_HOSTS is set" in words, words


def test_what_takes_long_runs_in_the_full_run_and_is_named_in_the_other(session):
    assert "NOT RUN: tests/integration/test_two.py::test_that_takes_long: `make test-full` runs it" in session(NORDIC_WITHOUT_HOSTS="1")[1]
    code, words = session(NORDIC_WITHOUT_HOSTS="1", NORDIC_FULL="1")
    assert code == 0 and "1 passed, 1 skipped" in words and "test_that_takes_long" not in words, words


def test_what_is_built_last_is_needed_last(session, tmp_path):
    marks = {"s3": "built('S3 server')", "hosts": "hosts", "k3s": "built('k3s')", "plain": "timeout(9)", "early": "built('hosts')"}
    (tmp_path / "tests" / "integration" / "test_two.py").write_text(
        "import pytest\n\n" + "".join(f"@pytest.mark.{mark}\ndef test_{name}():\n    pass\n\n" for name, mark in marks.items()), encoding="utf-8")
    code, words = session("--collect-only", "-q")
    assert code == 0 and re.findall(r"::test_(\w+)", words) == ["plain", "early", "hosts", "k3s", "s3"], words


@pytest.mark.parametrize(("k3s", "order"), [("there", ["long", "plain", "hosts"]), ("built meanwhile", ["plain", "hosts", "long"])])
def test_what_takes_longest_begins_first_where_nothing_has_to_be_built_for_it(session, tmp_path, k3s, order):
    marks = {"plain": ["timeout(9)"], "hosts": ["hosts", "built('hosts')"], "long": ["xdist_group('in_turn')", "built('k3s')"]}
    (tmp_path / "tests" / "integration" / "test_two.py").write_text("import pytest\n\n" + "".join(
        "".join(f"@pytest.mark.{mark}\n" for mark in each) + f"def test_{name}():\n    pass\n\n" for name, each in marks.items()), encoding="utf-8")
    code, words = session("--collect-only", "-q", NORDIC_TEST_K3S=k3s)
    assert code == 0 and re.findall(r"::test_(\w+)", words) == order, words
