# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set images and versions in a manifest repository by one commit, whoever else pushes meanwhile.

    Image, Value, Dependency    what is asked for                             (places.py, chart.py)
    plan                        which bytes of which files change: pure but for reading the mirror
    update                      plan, commit, push; planned again on the new state when somebody else was quicker
"""

from __future__ import annotations

import difflib
import itertools
import random
import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import checked_path, did_you_mean
from ansible_collections.nordic.gitops.plugins.module_utils._git.commit import Commit
from ansible_collections.nordic.gitops.plugins.module_utils._git.mirror import Mirror
from ansible_collections.nordic.gitops.plugins.module_utils._git.push import Identity, Overtaken, branch_of, push, regular_file, write_commit, write_tree
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.chart import Dependency, dependency_places
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.places import (
    Image, Place, Value, added_place, image_places, images_in, one_answer, value_place)
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked_text, register
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import apply, write_path

LONGEST_LINE = 1000  # characters of a line that the diff shows whole
# A line of a manifest that holds one value and nothing else; of JSON on one line, or of `{name: a, value: b}`, the diff shows what changes.
_ONE_VALUE = re.compile(
    r"""\s*(?:-\s+)*(?:[\w./"'-]+[ ]*:(?:\s+|$))?(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'{}\[\],#][^"'{}\[\],]*)?,?\s*(?:#.*)?\Z""", re.DOTALL)
# In the commit of a review branch: the commit that it was made on. It tells our own commit from anybody else's.
BASE_TRAILER = "Updated-From"
SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 16 << 20  # of all files that are read for one commit: ten times the largest bundle of definitions

Update = Union[Image, Value, Dependency]


class OpenSecret(Refused):
    """A value that is a secret. values: what must not be shown."""

    values: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What is to be written, and how the commit is made. message: {summary} stands for what changes."""

    updates: Tuple[Update, ...]
    identity: Identity
    message: str
    trailers: Tuple[Tuple[str, str], ...] = ()
    review_branch: str = ""


@dataclass(frozen=True)
class Plan:
    """places: every place of what was asked for. files: the new text of each file that changes, by path, beside the old one."""

    base: Commit
    places: Tuple[Place, ...]
    files: Mapping[str, Tuple[str, str]] = field(default_factory=dict)

    @property
    def changes(self) -> List[Place]:
        return [place for place in self.places if place.edits]

    def diff(self) -> str:
        """A unified diff without context: nothing is shown but the lines that change, and of a line with several values those that do."""
        lines: List[str] = []
        for path, (before, after) in sorted(self.files.items()):
            told = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"{path} (before)", f"{path} (after)", n=0)
            lines += itertools.islice(told, 2)
            for line in told:
                alone = line.startswith("@@") or len(line) <= LONGEST_LINE and _ONE_VALUE.match(line, 1)
                lines.append(line if alone else f"{line[0]}{self._in_a_line(path, line[0] == '-', line)}\n")
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)

    def _in_a_line(self, path: str, old: bool, line: str) -> str:
        """The changes of a line, in the place of the line: beside them others may stand that nobody should see."""
        values = [(write_path(place.path), place.before if old else place.after) for place in self.changes if place.file == path]
        return ", ".join(f"{name}: {value}" for name, value in values if value.rpartition(":")[2] in line) + ", beside other values of the line"

    def summary(self) -> str:
        """What changes, in one line: shop/web 1.4.1 -> 1.4.2."""
        words: Dict[str, None] = {}
        for place in self.changes:
            if place.path != ("digest",):
                words[_word(place)] = None
        shown = list(words)
        return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _word(place: Place) -> str:
    name, _colon, new = place.after.rpartition(":")
    if name and "/" not in new and place.before.startswith(name):
        return f"{name} {place.before[len(name):].lstrip(':@') or 'no tag'} -> {new}"
    return f"{write_path(place.path)} {place.before or 'nothing'} -> {place.after}"


@dataclass(frozen=True)
class Result:
    """commit: the commit that holds what was asked for, "" in check mode where it would be made; branch: where it is."""

    plan: Plan
    changed: bool
    commit: str
    branch: str

    def as_dict(self) -> Dict[str, Any]:
        places = [{"file": place.file, "line": place.line, "path": write_path(place.path), "before": place.before, "after": place.after,
                   "changed": bool(place.edits)} for place in self.plan.places]
        return {"changed": self.changed, "base": self.plan.base.id, "commit": self.commit,
                "branch": self.branch, "places": places}


def update(mirror: Mirror, request: Request, check_mode: bool, progress: Callable[[str], None] = lambda text: None,
           sleep: Callable[[float], None] = time.sleep) -> Result:
    """Make the repository hold what was asked for, by one commit or none. Raises Failure or Refused, and nothing was pushed then."""
    branch = branch_of(mirror)
    review = f"refs/heads/{request.review_branch}" if request.review_branch else ""
    if review == branch:
        raise Failure("review_branch is the branch itself", "review_branch", "Name another one, or leave it out.")
    known = None if check_mode or review else _on_the_known_tip(mirror, branch, request)
    first: Optional[Plan] = None  # made on what the server had when it was first asked
    moved = False
    deadline = time.monotonic() + mirror.source.timeout
    while True:
        made = known or plan(mirror, mirror.newest(branch, moved), request.updates)
        _hide_old_secrets(request, made)
        if not known:
            first = first or made
            _unchanged_since(first, made)
        where = (review or branch)[len("refs/heads/"):]
        if not made.changes:
            return Result(made, False, made.base.id, branch[len("refs/heads/"):])
        there = _review_tip(mirror, review) if review else None
        _no_secret(request, made)
        tree = write_tree(mirror, made.base, {path: after.encode() for path, (_before, after) in made.files.items()})
        if there is not None and there.tree == tree and _parent(mirror, there) == made.base.id:
            return Result(made, False, there.id, where)
        if check_mode:
            return Result(made, True, "", where)
        try:
            oid = write_commit(mirror, made.base, tree, _message(request, made, review), request.identity)
            push(mirror, oid, review or branch, (there.id if there else "") if review else made.base.id)
            return Result(made, True, oid, where)
        except Overtaken as overtaken:
            if time.monotonic() > deadline:
                raise Failure(f"others kept pushing for {mirror.source.timeout} seconds", mirror.source.url, "Nothing was pushed. Run it again.") from None
            if overtaken.meanwhile:
                first = first or made
            progress("the branch has moved: planning again")
            if not known:
                sleep(random.uniform(0, 0.25))
            known, moved = None, True


def _on_the_known_tip(mirror: Mirror, branch: str, request: Request) -> Optional[Plan]:
    """The plan on the branch as the mirror last saw it, so that nothing is fetched first: the server takes the push only where
    the branch is still the same. None where an old state is not enough: nothing changes by it, or it cannot be done there."""
    try:
        base = mirror.known_tip(branch)
        made = plan(mirror, base, request.updates) if base else None
        if made and made.changes:
            _no_secret(request, made)
            return made
    except Failure:
        pass  # the newest state may differ, and says it itself if not
    return None


def plan(mirror: Mirror, base: Commit, updates: Sequence[Update]) -> Plan:
    """What would change on top of this commit."""
    before: Dict[str, str] = {}
    after: Dict[str, str] = {}
    left = MAX_BYTES

    def text(path: str) -> str:
        nonlocal left
        if path not in after:
            regular_file(mirror, base, path)
            content = mirror.read(base, path)
            left -= len(content)
            if left < 0:
                raise Refused(f"the files in question hold more than {MAX_BYTES:,} bytes together", path, "Name the files.")
            before[path] = after[path] = _decoded(content, path)
        return after[path]

    places: List[Place] = []
    for one in updates:
        if isinstance(one, Image):
            found = _images(mirror, base, one, text)
        elif isinstance(one, Value):
            found = [value_place(one, text(one.file))]
        else:
            found = dependency_places(one, {path: text(path) for path in _chart_files(mirror, base, one.folder)})
        for file in {place.file: None for place in found}:
            edits = [edit for place in found if place.file == file for edit in place.edits]
            after[file] = apply(after[file], edits, file) if edits else after[file]
        places += found
    _once(places)
    return Plan(base, tuple(places), {path: (before[path], after[path]) for path in after if after[path] != before[path]})


def _images(mirror: Mirror, base: Commit, image: Image, text: Callable[[str], str]) -> List[Place]:
    name = image.reference.name
    files = candidates(mirror, base, image.files, name)
    found = [place for path in files for place in image_places(image, path, text(path))]
    if not found and image.add:
        return [added_place(image, image.files[0], text(image.files[0]))]
    if not found:
        others: Dict[str, None] = {}
        for path in candidates(mirror, base, image.files, "image")[:200]:
            others.update(itertools.islice(images_in(text(path), path).items(), 200))
        inside = f" in containers named {image.container}" if image.container else ""
        raise Failure(f"the image {name} is nowhere in {', '.join(image.files)}{inside}", mirror.source.url,
                      did_you_mean(name, list(others), "There are") or "Name the files or folders that use it.")
    one_answer(image, found)
    return found


def candidates(mirror: Mirror, base: Commit, places: Sequence[str], word: str) -> List[str]:
    """The YAML and JSON files, at these paths or below, in which the word stands: Git searches them faster than we could read them."""
    found: Dict[str, None] = {}
    for place in places:
        inside = checked_path(place)
        if inside and mirror.find(base, inside).kind == "blob":
            found[inside] = None
            continue
        answer = mirror.command("grep", "-l", "-z", "-F", "-a", "-e", word, base.tree, "--", *([f":(literal){inside}"] if inside else []))
        if answer.status not in (0, 1):
            raise Failure("git grep failed", inside or ".", "Check the mirror in git_cache.")
        for name in filter(None, answer.out.split(b"\0")):
            path = name.partition(b":")[2].decode("utf-8", "surrogateescape")
            if path.endswith(SUFFIXES) or path.rsplit("/", 1)[-1] == "Kustomization":
                found[path] = None
    return sorted(found)


def _chart_files(mirror: Mirror, base: Commit, folder: str) -> List[str]:
    names = {entry.path for entry in mirror.listing(base, mirror.tree(base, folder or ".").id, recurse=False)}
    if "Chart.yaml" not in names:
        raise Failure("holds no Chart.yaml", folder or ".", "Name the folder of the chart.")
    return [f"{folder}/{name}" if folder else name for name in ("Chart.yaml", "Chart.lock") if name in names]


def _decoded(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"is not UTF-8 text (byte {error.start})", path) from None


def _once(places: Sequence[Place]) -> None:
    seen: Dict[Any, Place] = {}
    for place in places:
        other = seen.setdefault(place.key, place)
        if other is not place and place.path != ("digest",):
            raise Refused(f"is asked for twice: {other.after} and {place.after}", str(place), "Ask for it once.")


def _unchanged_since(first: Plan, now: Plan) -> None:
    """Between two pipelines of one image nobody can tell whose value is the newer one."""
    were = {place.key: place for place in first.places}
    for place in now.places:
        old = were.get(place.key)
        if old is not None and place.edits and place.before != old.before and place.path != ("digest",):
            raise Refused(f"somebody else changed it meanwhile from {old.before} to {place.before}, this run wants {place.after}", str(place),
                          "Nothing was pushed. Run it again if this run's value is the newer one.")


def _no_secret(request: Request, made: Plan) -> None:
    """Refuse to push a value that is a secret. Tags, digests and versions have a form of their own, and need no look (it takes half a second)."""
    if not _has_values(request):
        return
    from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import added_lines, check_text

    for path, (before, after) in made.files.items():
        found = check_text(after, path, added_lines(after, before))
        if found:
            refused = OpenSecret(found[0].what, f"{path}:{found[0].line}", "Nothing was pushed. Seal it instead.")
            refused.values = tuple(place.after for place in _at(made, path, found))
            raise refused


def _hide_old_secrets(request: Request, made: Plan) -> None:
    """A secret that is taken out of a file stays in its history, but is shown neither in the diff nor in the commit's message."""
    if not _has_values(request):
        return
    from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import check_text

    for path, (before, _after) in made.files.items():
        found = check_text(before, path, {place.line for place in made.changes if place.file == path})
        register(*(place.before for place in _at(made, path, found)))


def _has_values(request: Request) -> bool:
    return any(isinstance(one, Value) for one in request.updates)


def _at(made: Plan, path: str, found: Sequence[Any]) -> List[Place]:
    """The places of these findings: a value is one line, before and after."""
    lines = {one.line for one in found}
    return [place for place in made.changes if place.file == path and place.line in lines]


# ---- the branch for review

def _review_tip(mirror: Mirror, ref: str) -> Optional[Commit]:
    """The review branch's commit, which must be ours: what somebody else put there is not thrown away."""
    if ref not in mirror.refs(ref):
        return None
    commit = mirror.resolve(ref)
    made_on = _trailer(mirror, commit)
    if not made_on or made_on != _parent(mirror, commit):
        raise Refused(f"the branch {ref[len('refs/heads/'):]} has the commit {commit.id} by {commit.author}, which this module did not make",
                      mirror.source.url, "Merge or remove that branch, or name another review_branch.")
    return commit


def _raw(mirror: Mirror, commit: Commit) -> str:
    return mirror.command("cat-file", "commit", commit.id).out.decode("utf-8", "replace")


def _parent(mirror: Mirror, commit: Commit) -> str:
    parents = [line.split(" ", 1)[1] for line in _raw(mirror, commit).split("\n\n", 1)[0].splitlines() if line.startswith("parent ")]
    return parents[0] if len(parents) == 1 else ""


def _trailer(mirror: Mirror, commit: Commit) -> str:
    lines = _raw(mirror, commit).rstrip().splitlines()
    return next((line.split(": ", 1)[1] for line in reversed(lines) if line.startswith(f"{BASE_TRAILER}: ")), "")


def _message(request: Request, made: Plan, review: str) -> str:
    text = request.message.replace("{summary}", masked_text(made.summary())).strip()
    trailers = [f"{key}: {value}" for key, value in request.trailers] + ([f"{BASE_TRAILER}: {made.base.id}"] if review else [])
    return text + ("\n\n" + "\n".join(trailers) if trailers else "") + "\n"
