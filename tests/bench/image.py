# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One image's tag in a manifest repository of 10,000 files: by clone, yq, commit and push in a shell, and by the module image_update."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC, Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._image_update import update
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.options import SPEC, request_of
from lab import build
from lab.components import YQ
from lab.gitservers import GitDaemon
from lab.repository import Repository, git_env
from workspace import collection

from .measure import Broken

FOLDERS, FILES = 500, 20
OPERATION = "one tag of 10,000 files"
SHELL = "git clone --depth 1, yq, git commit, git push"
WORK, BEHIND = "nordic.gitops, the module's own time", "nordic.gitops, the module's own time after somebody else's push"
CALL = "nordic.gitops, whole ansible-playbook call"
HOW = {
    "server": "one git daemon for all, on the loopback, with a bare repository",
    "shell": "clones with --depth 1, so that it fetches one commit; the file is named, so that yq reads no other",
    "the module's own time": "from its options to the server's word that it has the commit, in one process that runs, with the mirror of an earlier run; "
                             "before each turn the module runs once more, so that the mirror has the newest commit",
    "after somebody else's push": "the same, but the branch was pushed to since, so that the mirror is one commit behind: one refused push and one fetch more",
    "whole call": "ansible-playbook with one task, from start to exit, with the mirror that has the newest commit",
}
NAME, FILE = "registry.example.org/shop/web", "apps/app-250/file-10.yaml"
MANIFEST = "# Part %d of the application.\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: web\n        image: %s:v0  # set\n"
SCRIPT = """set -eu
git clone --quiet --depth 1 "$URL" "$WORK"
cd "$WORK"
"$YQ" --inplace '.spec.template.spec.containers[0].image = strenv(IMAGE)' "$FILE"
git commit --quiet --all --message "Update $IMAGE"
git push --quiet origin main
"""
LIMIT = ("the module's own time: the shell", WORK, SHELL, 1 / 3)


def measure(rounds: int, folder: Path, say: Callable[[str], None]) -> Dict[str, Any]:
    """The part `image` of the results."""
    folder.mkdir(parents=True)
    say("image: a repository of {:,} files".format(FOLDERS * FILES))
    seconds: Dict[str, List[float]] = {SHELL: [], WORK: [], BEHIND: [], CALL: []}
    with Pipeline(folder) as pipeline:
        turns: Dict[str, Callable[[], float]] = {SHELL: pipeline.shell, WORK: pipeline.work, BEHIND: pipeline.work, CALL: pipeline.call}
        before = {WORK: pipeline.work, BEHIND: pipeline.shell, CALL: pipeline.work}  # not measured: who pushed last
        for number in range(rounds):
            order = list(turns)
            start = number % len(order)
            for name in order[start:] + order[:start]:
                say("image, round %d: %s" % (number + 1, name))
                before.get(name, lambda: 0.0)()
                seconds[name].append(turns[name]())
        peers = pipeline.versions()
    return {**outcome(seconds), "peers": peers}


def outcome(seconds: Dict[str, List[float]]) -> Dict[str, Any]:
    """Figures, summary and checks."""
    medians = {name: statistics.median(row) for name, row in seconds.items()}
    name, ours, theirs, limit = LIMIT
    ratio = medians[ours] / medians[theirs]
    summary = [{"case": "image", "operation": OPERATION, "peer": name, "rounds": len(row), "median": round(medians[name], 4), "low": round(min(row), 4),
                "high": round(max(row), 4)} for name, row in seconds.items()]
    figures = [{"case": "image", "operation": OPERATION, "peer": name, "seconds": round(each, 4)} for name, row in seconds.items() for each in row]
    return {"settings": {"rounds": len(seconds[SHELL]), "files": FOLDERS * FILES}, "how": HOW, "summary": summary, "figures": figures,
            "checks": [{"name": name, "ratio": round(ratio, 4), "limit": limit, "holds": ratio <= limit}]}


class Pipeline:
    """The manifest repository on its server, and the three ways to write a tag; each looks afterwards whether the server has it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.yq = str(build.cached(YQ, "yq", build.silent))
        repository = Repository(folder / "repository")
        for each in range(FOLDERS * FILES):
            repository.write("apps/app-%03d/file-%02d.yaml" % divmod(each, FILES), MANIFEST % (each, NAME))
        repository.commit("first")
        self.served = folder / "served.git"
        repository.git("clone", "--quiet", "--bare", repository.url, str(self.served))
        self.env = {**git_env(), "LC_ALL": "C.UTF-8", "HOME": str(folder), "ANSIBLE_HOME": str(folder / ".ansible"), "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_COLLECTIONS_PATH": str(collection.linked()), "ANSIBLE_LOCALHOST_WARNING": "false",
                    "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}

    def __enter__(self) -> "Pipeline":
        self.server = GitDaemon(self.served)
        self.server.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.server.__exit__(*exception)

    def versions(self) -> Dict[str, str]:
        def said(*command: str) -> str:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]

        return {"yq": said(self.yq, "--version"), "git": said("git", "--version")}

    def _next(self) -> str:
        self.number += 1
        return "v%d" % self.number

    def _options(self, tag: str) -> Dict[str, Any]:
        return {"repository": self.server.url, "revision": "main", "git_cache": str(self.folder / "cache"), "author": "Pipeline <pipeline@example.org>",
                "images": [{"name": NAME, "tag": tag, "files": [FILE]}]}

    def _landed(self, tag: str) -> None:
        def git(*arguments: str) -> str:
            return subprocess.run(["git", *arguments], cwd=self.served, env=self.env, check=True, capture_output=True, text=True).stdout

        if "image: %s:%s " % (NAME, tag) not in git("show", "main:" + FILE) or git("diff", "--name-only", "main~1", "main").split() != [FILE]:
            raise Broken("the server does not have %s as its newest commit" % tag)

    def shell(self) -> float:
        tag, work = self._next(), self.folder / ("clone-%d" % self.number)
        env = {**self.env, "URL": self.server.url, "WORK": str(work), "YQ": self.yq, "FILE": FILE, "IMAGE": "%s:%s" % (NAME, tag)}
        began = time.perf_counter()
        done = subprocess.run(["sh", "-c", SCRIPT], env=env, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode:
            raise Broken("the shell: %s" % done.stderr[-2000:])
        self._landed(tag)
        return took

    def work(self) -> float:
        tag = self._next()
        params = {**{name: spec.get("default") for name, spec in {**SPEC, **GIT_SPEC}.items()}, **self._options(tag)}
        defaults = {name: spec.get("default") for name, spec in SPEC["images"]["options"].items()}
        params["images"] = [{**defaults, **one} for one in params["images"]]
        began = time.perf_counter()
        with Mirror(Source.of(params)) as mirror:
            result = update(mirror, request_of(params), False)
        took = time.perf_counter() - began
        if not result.changed:
            raise Broken("image_update changed nothing")
        self._landed(tag)
        return took

    def call(self) -> float:
        tag = self._next()
        play = [{"name": "Deliver", "hosts": "localhost", "connection": "local", "gather_facts": False,
                 "tasks": [{"name": "Deliver", "nordic.gitops.image_update": self._options(tag)}]}]
        (self.folder / "play.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
        began = time.perf_counter()
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(self.folder / "play.yml")], capture_output=True, text=True,
                              env={**self.env, "PATH": os.environ["PATH"]}, check=False)
        took = time.perf_counter() - began
        if done.returncode or "changed=1" not in done.stdout:
            raise Broken("ansible-playbook: %s%s" % (done.stdout[-2000:], done.stderr[-2000:]))
        self._landed(tag)
        return took
