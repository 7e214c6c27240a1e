# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`, with a dozen services: it shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from lab import argocd, build, processes
from lab.components import CLUSTER_BINARIES
from lab.demo import kept
from workspace import environ, places

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.built("Argo CD")]


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """What is built for long is so before the time of a test counts."""
    build.build([*CLUSTER_BINARIES, "helm", "sealed-secrets-controller"], build.print_line)
    argocd.program(build.print_line)


def surroundings(tmp_path: Path, **more: str) -> Dict[str, str]:
    return {
        **environ.variables(Path(sys.prefix)),
        "TMPDIR": str(tmp_path),
        "DEMO_SERVICES": "12",
        "DEMO_KEEP": "",
        **more,
    }


def start(variables: Dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-B", "-m", "lab.demo"],
        cwd=places.CHECKOUT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_reconciles_heals_and_prunes_and_leaves_nothing(tmp_path: Path) -> None:
    demo = start(surroundings(tmp_path))
    told, _nothing = demo.communicate(timeout=800)
    assert demo.returncode == 0, told
    for promise in (
        "97 created; in sync",
        "97 unchanged; in sync",
        "7 configured, 3 created, 87 unchanged; in sync",
        ".spec.replicas is 0, its autoscaler's minimum is 2",
        "8 pruned, 89 unchanged; in sync",
        "production-payment-gateway: Synced, Healthy at commit",
        "SealedSecret payment/db-pass from Git is now the Secret payment/db-pass",
        "Done after",
    ):
        assert promise in told, told
    assert list(tmp_path.iterdir()) == [] and processes.naming(tmp_path) == {}


@pytest.mark.parametrize("services", ["11", "a dozen"])
def test_too_few_services_are_refused_before_anything_is_started(tmp_path: Path, services: str) -> None:
    demo = start(surroundings(tmp_path, DEMO_SERVICES=services))
    told, _nothing = demo.communicate(timeout=60)
    assert demo.returncode != 0 and f"DEMO_SERVICES={services}: it has to be a number, 12 or more" in told, told
    assert "Start etcd" not in told and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(surroundings(tmp_path))
    wait_until(lambda: any("kube-apiserver" in words[0] for words in processes.naming(tmp_path).values()), demo)
    # Also what the modules have for themselves: one that is interrupted is gone only after the demo, if at all.
    assert {path.name.rpartition("-")[0] for path in tmp_path.iterdir()} == {"nordic-demo", "nordic-demo-modules"}
    demo.send_signal(number)
    told, _nothing = demo.communicate(timeout=60)
    assert demo.returncode == 130, told
    wait_until(lambda: not processes.naming(tmp_path), None)
    assert list(tmp_path.iterdir()) == []


def test_a_kept_demo_says_how_to_explore_and_how_to_end_it(tmp_path: Path) -> None:
    try:
        demo = start(surroundings(tmp_path, DEMO_KEEP="1"))
        told, _nothing = demo.communicate(timeout=800)
        assert demo.returncode == 0, told
        assert "make cluster-shell" in told and "make demo-down" in told
        again = start(surroundings(tmp_path, DEMO_KEEP="1"))
        assert "a kept one runs already" in again.communicate(timeout=60)[0] and again.returncode == 1
        assert "deployment.apps/cart" in lab(tmp_path, "cluster", "shell", "kubectl", "--namespace", "shop", "get", "deployments", "--output", "name")
    finally:
        ended = lab(tmp_path, "demo-down")
    assert "The demo is ended" in ended and not kept().exists() and "No demo was kept" in lab(tmp_path, "demo-down")
    assert list(tmp_path.iterdir()) == [] and processes.naming(kept()) == {}


def lab(tmp_path: Path, *words: str) -> str:
    command = [sys.executable, "-B", "-m", "lab", *words]
    return subprocess.run(command, cwd=places.CHECKOUT, env=surroundings(tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=120).stdout


def wait_until(true: Any, process: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.1)
