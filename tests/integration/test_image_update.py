# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""image_update against real Git servers: one commit, whoever else pushes, and nothing half done when something fails."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC, Mirror, Source
from ansible_collections.nordic.gitops.plugins.module_utils._git.command import Command
from ansible_collections.nordic.gitops.plugins.module_utils._image_update import update
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.chart import lock_digest
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.options import SPEC, request_of
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import added_lines, check_text
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import apply, set_scalar, write_path
from ansible_collections.nordic.gitops.plugins.modules.image_update import EXAMPLES
from canary import Canary
from hypothesis import Phase, assume, given, settings
from random_yaml import at, changes, loaded

NAME = "registry.example.org:5000/shop/web"
DEPLOYMENT = """# The shop's front.
kind: Deployment

spec:
  template:
    spec:
      containers:
      - name: web   # {}
        image: "%s"   # set by the pipeline
        command: [ 'run' ,  "--all" ]
        note: >-
          folded

          text
""" % f"{NAME}:1.0"
DEFAULTS = {name: spec.get("default") for name, spec in {**SPEC, **GIT_SPEC}.items()}


def item(name, spec, given):
    return {**{key: one.get("default") for key, one in spec[name]["options"].items()}, **given}


def params_of(options):
    params = {**DEFAULTS, "author": "Pipeline <pipeline@example.org>", **options}
    for name in ("images", "values", "dependencies"):
        params[name] = [item(name, SPEC, one) for one in params[name]]
    return params


def run(check_mode=False, sleep=time.sleep, **options):
    """The module's own work in this process, so that a Failure can be looked at."""
    params = params_of(options)
    with Mirror(Source.of(params)) as mirror:
        made = update(mirror, request_of(params), check_mode, sleep=sleep)
    return SimpleNamespace(diff=made.plan.diff(), **made.as_dict())


@pytest.fixture
def options(git_repo, tmp_path):
    """Set the image of git_repo to 1.1."""
    git_repo.write("production/web.yaml", DEPLOYMENT)
    git_repo.write("production/other.yaml", "kind: ConfigMap\ndata: {a: 'b'}\n")
    git_repo.commit("first")
    return {"repository": git_repo.url, "git_cache": str(tmp_path / "cache"), "images": [{"name": NAME, "tag": "1.1", "files": ["production"]}]}


def served(git_repo):
    """A server's bare repository beside git_repo, as pushes meet it."""
    bare = git_repo.path.with_name("served.git")
    git_repo.git("clone", "--quiet", "--bare", git_repo.url, str(bare))
    return bare


def hook(repository, name, script):
    path = Path(repository) / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def test_one_commit_changes_the_tag_and_no_other_byte(git_repo, options):
    first = git_repo.head()
    result = run(**options, trailers={"Build": "1742"})
    assert result.changed and result.branch == "main" and result.base == first and result.commit == git_repo.head("main")
    assert git_repo.git("diff", "--name-only", first, "main") == "production/web.yaml"
    assert git_repo.git("show", "main:production/web.yaml") + "\n" == DEPLOYMENT.replace(":1.0", ":1.1")
    assert git_repo.git("log", "-1", "--format=%an <%ae>%n%P%n%B", "main").splitlines() == [
        "Pipeline <pipeline@example.org>", first, f"Update {NAME} 1.0 -> 1.1", "", "Build: 1742"]
    assert result.places == [{"file": "production/web.yaml", "line": 9, "path": "spec.template.spec.containers[0].image", "before": f"{NAME}:1.0",
                              "after": f"{NAME}:1.1", "changed": True}]
    assert [line for line in result.diff.splitlines() if line[0] in "+-"] == [
        "--- production/web.yaml (before)", "+++ production/web.yaml (after)",
        f'-        image: "{NAME}:1.0"   # set by the pipeline', f'+        image: "{NAME}:1.1"   # set by the pipeline']


@pytest.mark.parametrize("text, shown", [
    ('{"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"name": "web", "image": "IMAGE:1.0", "args": ["SECRET"]}]}}}}',
     f"spec.template.spec.containers[0].image: {NAME}:1.%d, beside other values of the line"),
    ('kind: Deployment\nspec: {template: {spec: {containers: [\n  {name: web, env: [{name: A, value: "#"}],\n    image: "IMAGE:1.0", args: ["SECRET"]}]}}}\n',
     f"spec.template.spec.containers[0].image: {NAME}:1.%d, beside other values of the line"),
    ('kind: Deployment\nspec: {template: {spec: {containers: [\n  {name: web, args: ["SECRET"],\n    image: "IMAGE:1.0",\n  }]}}}\n',
     f'    image: "{NAME}:1.%d",'),
])
def test_the_diff_shows_of_a_line_with_several_values_only_what_changes(text, shown, git_repo, options):
    secret = Canary("beside")["beside"]
    git_repo.write("production/web.yaml", text.replace("IMAGE", NAME).replace("SECRET", secret))
    git_repo.commit()
    result = run(**options)
    assert secret not in result.diff and secret in git_repo.git("show", "main:production/web.yaml")
    assert [line for line in result.diff.splitlines()[2:] if line[0] in "+-"] == [sign + shown % tag for sign, tag in (("-", 0), ("+", 1))]


def test_a_second_run_commits_nothing(git_repo, options):
    run(**options)
    head = git_repo.head("main")
    result = run(**options)
    assert not result.changed and result.commit == head and git_repo.head("main") == head


def test_check_mode_says_what_the_run_does_and_pushes_nothing(git_repo, options):
    head = git_repo.head()
    promised = run(check_mode=True, **options)
    assert promised.changed and promised.commit == "" and git_repo.head("main") == head
    done = run(**options)
    assert (done.diff, done.places) == (promised.diff, promised.places)
    assert not run(check_mode=True, **options).changed


class Counting(Command):
    """Notes each command of Git."""

    def __init__(self, *given):
        super().__init__(*given)
        self.names = []

    def __call__(self, folder, *arguments, **more):
        self.names.append(arguments[0])
        return super().__call__(folder, *arguments, **more)

    def start(self, folder, *arguments):
        self.names.append(arguments[0])
        return super().start(folder, *arguments)


def processes(options):
    """What a run answers, and its processes of Git."""
    params = params_of(options)
    with Mirror(Source.of(params)) as mirror:
        mirror._git = Counting(mirror.source, mirror.limits)
        return update(mirror, request_of(params), False), mirror._git.names


def test_the_server_is_asked_twice_however_many_files_there_are(git_repo, options):
    """Whether it takes the push, and whether it has kept it; where the mirror is behind it does not, and is asked for the newest state."""
    run(**{**options, "revision": "main"})
    for number in range(300):
        git_repo.write(f"production/{number % 20}/{number}.yaml", "a: 1\n")
    git_repo.git("reset", "--quiet", "--hard", "main")
    git_repo.write("production/new.yaml", "a: 1\n")
    git_repo.commit("many")
    git_repo.branch("aside")
    named = {**options, "revision": "main", "images": [{"name": NAME, "tag": "1.2", "files": ["production/web.yaml"]}]}
    behind, names = processes(named)
    assert behind.changed and names == ["cat-file", "commit-tree", "push", "fetch", "commit-tree", "push", "ls-remote"]
    named["images"][0]["tag"] = "1.3"
    newest, names = processes(named)
    assert newest.changed and names == ["cat-file", "commit-tree", "push", "ls-remote"] and newest.plan.base.id == behind.commit
    unchanged, names = processes(named)
    assert not unchanged.changed and unchanged.commit == newest.commit and names == ["cat-file", "ls-remote"]


def test_a_tree_is_written_as_git_itself_writes_it(git_repo, options, tmp_path):
    """Folders that sort before and after files of their names, programs, links, and names that are no plain text."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    names = ["a", "a.b", "a-b", "a0", "ä", "zz", "x y"]
    for number in range(6):
        files = {"/".join(chance.choice(names) for _each in range(depth)) + f"/{number}.yaml" for depth in (1, 1, 2, 3, 3) for _again in range(4)}
        for file in files:
            git_repo.write(file, f"{file}\n").chmod(chance.choice([0o644, 0o755]))
        (git_repo.path / f"link-{number}").symlink_to(chance.choice(sorted(files)))
        git_repo.commit("more")
        changed = {file: f"{file} {number}\r\n".encode() * chance.choice([0, 1, 3000]) for file in chance.sample(sorted(files), 4)}
        with Mirror(Source.of(params_of({**options, "revision": "main"}))) as mirror:
            written = mirror.write_tree(mirror.resolve(), changed)
        for file, content in changed.items():
            git_repo.write(file, content)
        git_repo.commit("changed")
        assert written == git_repo.git("rev-parse", "HEAD^{tree}"), seed


def test_five_hundred_random_files_change_at_the_wanted_bytes_alone_in_one_commit(git_repo, options, tell):
    """A value of each is set; where its anchor is used elsewhere it is refused."""
    drawn = []

    @settings(max_examples=500, database=None, phases=[Phase.generate])
    @given(changes())
    def draw(change):
        text, document, number, path, node, value, used = change
        if not used:
            after = apply(text, [set_scalar(text, document, node, value, "x.yaml")], "x.yaml")
            assume(not check_text(after, "x.yaml", added_lines(after, text)))  # a password by chance: it would not be pushed
        drawn.append((f"random/{len(drawn) % 20}/{len(drawn)}.yaml", text, number, path, node, value, used))

    draw()
    for name, text, *_rest in drawn:
        git_repo.write(name, text)
    first = git_repo.commit("random")
    values, refused = [], []
    for name, _text, number, path, _node, value, used in drawn:
        (refused if used else values).append({"file": name, "path": write_path(path), "value": value, "document": number})
    asked = {**options, "images": [], "revision": "main"}
    for one in refused:
        with pytest.raises(Refused, match="its alias would change too"):
            run(check_mode=True, **{**asked, "values": [one]})
    result = run(**asked, values=values)
    assert git_repo.git("rev-parse", "main~1") == first and git_repo.git("status", "--porcelain") == ""  # the push has written the work tree

    changed = set()
    for name, text, number, path, node, value, used in drawn:
        after = (git_repo.path / name).read_bytes().decode()
        if used:
            assert after == text
            continue
        assert after.startswith(text[:node.start]) and after.endswith(text[node.end:]) and len(after) >= node.start + len(text) - node.end, name
        expected = loaded(text)
        at(expected[number], path[:-1])[path[-1]] = value
        assert loaded(after) == expected, name
        changed.update([name] if after != text else [])
    assert set(git_repo.git("diff", "--name-only", first, "main").split()) == changed == {place["file"] for place in result.places if place["changed"]}
    assert not run(**asked, values=values).changed and len(drawn) >= 500 and len(changed) > 400
    tell(f"random YAML files: {len(changed)} changed by one commit, {len(refused)} refused for an alias, {len(drawn)} in all")


def test_the_result_lists_every_place_of_an_image_with_those_that_need_no_change(git_repo, options):
    git_repo.write("production/jobs.yaml", f"""kind: List
items:
- kind: CronJob
  spec: {{jobTemplate: {{spec: {{template: {{spec: {{initContainers: [{{name: a, image: "{NAME}:1.0"}}], containers: [{{image: "{NAME}:1.1"}}]}}}}}}}}}}
""")
    git_repo.write("production/kustomization.yaml", f"images:\n- name: {NAME}\n  newTag: '1.1'\n")
    git_repo.commit()
    template = "items[0].spec.jobTemplate.spec.template.spec"
    places = [("production/jobs.yaml", 4, f"{template}.initContainers[0].image", True), ("production/jobs.yaml", 4, f"{template}.containers[0].image", False),
              ("production/kustomization.yaml", 2, "images[0]", False), ("production/web.yaml", 9, "spec.template.spec.containers[0].image", True)]
    result = run(**options)
    assert [(place["file"], place["line"], place["path"], place["changed"]) for place in result.places] == places
    assert [place["changed"] for place in run(**options).places] == [False] * 4


@pytest.mark.parametrize("selected", [
    {"images": [], "values": [{"file": "production/web.yaml", "path": "spec.template.spec.containers[0].image", "value": f"{NAME}:1.1"}]},
    {"images": [{"name": NAME, "tag": "1.1", "files": ["production/web.yaml"]}]},
    {"images": [{"name": NAME, "tag": "1.1", "files": ["production"], "container": "web"}]}], ids=["path", "file", "container"])
def test_of_one_image_with_two_tags_the_selected_one_changes_and_the_second_run_changes_nothing(git_repo, options, selected):
    other = DEPLOYMENT.replace(":1.0", ":0.9").replace("name: web", "name: canary")
    git_repo.write("production/canary.yaml", other)
    head = git_repo.commit("two tags")
    with pytest.raises(Refused, match=f"{NAME} has several values: production/canary.yaml:9 .*:0.9; production/web.yaml:9 .*:1.0.*set each value by its path"):
        run(**options)
    assert git_repo.head("main") == head
    assert run(**{**options, **selected}).changed and git_repo.git("diff", "--name-only", head, "main") == "production/web.yaml"
    assert git_repo.git("show", "main:production/web.yaml") + "\n" == DEPLOYMENT.replace(":1.0", ":1.1")
    assert not run(**{**options, **selected}).changed and git_repo.git("show", "main:production/canary.yaml") + "\n" == other


def test_several_images_values_and_files_are_one_commit(git_repo, options):
    git_repo.write("production/kustomization.yaml", "images:\n- name: api\n  newTag: v1\n")
    git_repo.write("charts/cart/values.yaml", "image:\n  tag: 1.10   # why\n")
    first = git_repo.commit()
    run(**{**options, "images": [*options["images"], {"name": "api", "tag": "v2"}]},
        values=[{"file": "charts/cart/values.yaml", "path": "image.tag", "value": "1.11"}])
    assert git_repo.git("rev-parse", "main~1") == first
    assert git_repo.git("diff", "--name-only", first, "main").split() == ["charts/cart/values.yaml", "production/kustomization.yaml", "production/web.yaml"]
    assert git_repo.git("show", "main:charts/cart/values.yaml") == 'image:\n  tag: "1.11"   # why'


def test_an_entry_of_a_kustomization_is_added_only_when_asked_and_once(git_repo, options):
    git_repo.write("production/kustomization.yaml", "resources: [web.yaml]  # all\n")
    head = git_repo.commit()
    image = {"name": "new", "tag": "1.10", "files": ["production/kustomization.yaml"]}
    with pytest.raises(Failure, match="the image new is nowhere in production/kustomization.yaml"):
        run(**{**options, "images": [image]})
    asked = {**options, "images": [{**image, "add": True}]}
    assert run(**asked).changed and git_repo.git("rev-parse", "main~1") == head
    assert git_repo.git("show", "main:production/kustomization.yaml") == 'resources: [web.yaml]  # all\nimages:\n- name: new\n  newTag: "1.10"'
    assert git_repo.git("log", "-1", "--format=%s", "main") == "Update new no tag -> 1.10"
    assert not run(**asked).changed
    for files in (["production"], ["production/web.yaml"], ["a/kustomization.yaml", "b/kustomization.yaml"]):
        with pytest.raises(Failure, match="add needs one kustomization"):
            run(**{**options, "images": [{**image, "add": True, "files": files}]})


def test_the_mode_of_a_file_stays(git_repo, options):
    (git_repo.path / "production/web.yaml").chmod(0o755)
    git_repo.commit()
    run(**options)
    assert git_repo.git("ls-tree", "main", "production/web.yaml").split()[0] == "100755"


def test_twenty_pipelines_at_once_are_twenty_commits_in_a_line(git_repo, options, tell):
    for number in range(20):
        git_repo.write(f"apps/{number}.yaml", f"spec:\n  containers:\n  - image: app{number}:1\n")
    git_repo.commit()
    bare = served(git_repo)

    def git(*arguments):
        return git_repo.git("--git-dir", str(bare), *arguments)

    before = int(git("rev-list", "--count", "main"))
    started = [start({**options, "repository": f"file://{bare}", "images": [{"name": f"app{number}", "tag": "2", "files": ["apps"]}]}) for number in range(20)]
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in started]
    assert [answer.get("changed") for answer in answers] == [True] * 20, answers
    assert int(git("rev-list", "--count", "main")) == before + 20 and git("rev-list", "--merges", "main") == ""
    assert all(":2" in git("show", f"main:apps/{number}.yaml") for number in range(20))
    assert {answer["commit"] for answer in answers} == set(git("rev-list", "-20", "main").split())
    tell(f"pipelines that push at once: {len(answers)}, commits in a line: {int(git('rev-list', '--count', 'main')) - before}")


def start(options):
    return subprocess.Popen([sys.executable, __file__, json.dumps(options)], stdout=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


def test_a_push_that_was_overtaken_is_planned_again_on_the_new_state(git_repo, options):
    """Somebody pushes between our plan and our push, at each of three attempts."""
    bare = served(git_repo)
    hook(bare, "pre-receive", f"""
n=$(ls {bare}/raced-* 2>/dev/null | wc -l); [ "$n" -lt 3 ] || exit 0
touch {bare}/raced-$n; unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
tree=$(git --git-dir={bare} rev-parse main^{{tree}}); parent=$(git --git-dir={bare} rev-parse main)
export GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o@o GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o@o
new=$(echo "other $n" | git --git-dir={bare} commit-tree $tree -p $parent)
git --git-dir={bare} update-ref refs/heads/main $new
""")
    result = run(**{**options, "repository": f"file://{bare}"}, sleep=lambda seconds: None)
    log = git_repo.git("--git-dir", str(bare), "log", "--format=%s", "main").splitlines()
    assert result.changed and log == [f"Update {NAME} 1.0 -> 1.1", "other 2", "other 1", "other 0", "first"]


def test_the_same_value_changed_meanwhile_stops_the_run_and_names_both(git_repo, options):
    bare = served(git_repo)
    git_repo.write("production/web.yaml", DEPLOYMENT.replace(":1.0", ":1.2"))
    git_repo.commit("newer")
    git_repo.git("push", "--quiet", str(bare), "HEAD:refs/heads/next")
    hook(bare, "pre-receive", f"unset GIT_QUARANTINE_PATH; git --git-dir={bare} update-ref refs/heads/main refs/heads/next\n")
    with pytest.raises(Refused, match=f"changed it meanwhile from {NAME}:1.0 to {NAME}:1.2, this run wants {NAME}:1.1"):
        run(**{**options, "repository": f"file://{bare}"}, sleep=lambda seconds: None)
    assert git_repo.git("--git-dir", str(bare), "log", "-1", "--format=%s", "main") == "newer"


def test_a_protected_branch_is_said_with_the_servers_words_and_the_mirror_is_as_before(git_repo, options, tmp_path):
    bare = served(git_repo)
    hook(bare, "pre-receive", "echo 'GH006: Protected branch update failed' >&2; exit 1\n")
    run(check_mode=True, **{**options, "repository": f"file://{bare}"})
    mirror = next((tmp_path / "cache").rglob("refs/commits"))
    before = sorted(os.listdir(mirror))
    with pytest.raises(Failure, match="the server refuses the push to main: .*pre-receive hook declined.*review_branch") as failure:
        run(**{**options, "repository": f"file://{bare}"})
    assert "Protected branch update failed" in failure.value.details["git"] and sorted(os.listdir(mirror)) == before


def test_what_a_server_takes_back_after_it_has_accepted_it_is_a_failure_and_not_forgotten(git_repo, options):
    bare = served(git_repo)
    hook(bare, "post-receive", f"git --git-dir={bare} update-ref refs/heads/main {git_repo.head()}\n")
    options = {**options, "repository": f"file://{bare}"}
    for _time in range(2):
        with pytest.raises(Failure, match="accepted the push, but refs/heads/main does not hold the commit"):
            run(**options)
    (bare / "hooks/post-receive").unlink()
    assert run(**options).commit == git_repo.git("--git-dir", str(bare), "rev-parse", "main") and not run(**options).changed
    assert git_repo.git("--git-dir", str(bare), "rev-list", "--count", "main") == "2"


def test_a_commit_that_others_built_upon_at_once_is_no_failure(git_repo, options):
    bare = served(git_repo)
    hook(bare, "post-receive", ON_TOP.format(bare=bare))
    assert run(**{**options, "repository": f"file://{bare}"}).changed


ON_TOP = """
export GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o@o GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o@o
git --git-dir={bare} update-ref refs/heads/main $(echo next | git --git-dir={bare} commit-tree main^{{tree}} -p main)
"""


# ---- an answer that is lost, or that is about something else

@pytest.mark.parametrize("meanwhile", ["nothing", "a commit on top"])
def test_a_push_whose_answer_is_lost_is_one_commit_and_is_told_by_the_branch(git_repo, options, meanwhile):
    """The server ends after it has written the branch and before it has said so."""
    bare = served(git_repo)
    more = ON_TOP.format(bare=bare) if meanwhile == "a commit on top" else ""
    hook(bare, "reference-transaction", f"""
while read -r old new name; do [ "$name" = refs/heads/main ] && touch {bare}/ours; done
[ "$1" = committed ] && [ -e {bare}/ours ] && [ ! -e {bare}/done ] || exit 0
touch {bare}/done; unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
{more}
kill -9 $PPID
""")
    options = {**options, "repository": f"file://{bare}"}
    result = run(**options)
    log = git_repo.git("--git-dir", str(bare), "log", "--format=%H %s", "main").splitlines()
    assert (bare / "done").exists() and result.changed and f"{result.commit} Update {NAME} 1.0 -> 1.1" in log
    assert len(log) == (3 if more else 2) and not run(**options).changed


def test_a_push_that_a_server_breaks_off_is_a_failure_and_the_next_run_makes_the_commit(git_repo, options):
    bare = served(git_repo)
    options = {**options, "repository": f"file://{bare}"}
    run(check_mode=True, **options)
    hook(bare, "pre-receive", "kill -9 $PPID\n")
    with pytest.raises(Failure, match="Nothing was pushed"):
        run(**options)
    (bare / "hooks/pre-receive").unlink()
    assert run(**options).changed and git_repo.git("--git-dir", str(bare), "rev-list", "--count", "main") == "2"


def test_a_remote_that_is_gone_is_said_and_the_warm_mirror_serves_the_next_run(git_repo, options):
    bare = served(git_repo)
    options = {**options, "repository": f"file://{bare}", "revision": "main"}
    run(check_mode=True, **options)
    away = bare.rename(bare.with_name("away.git"))
    for check_mode in (False, True):
        with pytest.raises(Failure, match="there is no Git repository at this path|can't be read"):
            run(check_mode=check_mode, **options)
    away.rename(bare)
    assert run(**options).changed and git_repo.git("--git-dir", str(bare), "log", "--format=%s", "main").splitlines() == [f"Update {NAME} 1.0 -> 1.1", "first"]


PROC_RECEIVE = """#!%s
# As servers do that keep a push for review: it says that another ref, or another commit, is what was written.
import sys

def lines():
    while True:
        size = int(sys.stdin.buffer.read(4), 16)
        if not size:
            return
        yield sys.stdin.buffer.read(size - 4).strip()

def say(*texts):
    for text in texts:
        sys.stdout.buffer.write(b"%%04x" %% (len(text) + 5) + text + b"\\n")
    sys.stdout.buffer.write(b"0000")
    sys.stdout.buffer.flush()

list(lines())
say(b"version=1\\0")
list(lines())
say(b"ok refs/heads/main", %r)
"""


@pytest.mark.parametrize("option", [b"option refname refs/changes/1", b"option new-oid " + b"1" * 40])
def test_a_push_that_a_server_takes_for_something_else_is_a_failure(git_repo, options, option):
    bare = served(git_repo)
    git_repo.git("--git-dir", str(bare), "config", "receive.procReceiveRefs", "refs/heads/main")
    hook(bare, "proc-receive", "")
    (bare / "hooks/proc-receive").write_text(PROC_RECEIVE % (sys.executable, option))
    with pytest.raises(Failure, match="accepted the push, but refs/heads/main does not hold the commit"):
        run(**{**options, "repository": f"file://{bare}"})


# ---- a mirror that is behind the server

WEB = "production/web.yaml"


@pytest.fixture
def behind(git_repo, options):
    """Options for a server whose newest commit the mirror does not know, and what makes that commit."""
    bare = served(git_repo)
    options = {**options, "repository": f"file://{bare}", "revision": "main"}

    def then(text, path=WEB, force=False):
        run(**options)
        git_repo.git("fetch", "--quiet", str(bare), "main")
        git_repo.git("reset", "--quiet", "--hard", "HEAD" if force else "FETCH_HEAD")
        git_repo.write(path, text)
        git_repo.commit("theirs")
        git_repo.git("push", "--quiet", *(["--force"] if force else []), str(bare), "HEAD:main")
        return options

    then.bare = bare
    then.log = lambda: git_repo.git("--git-dir", str(bare), "log", "--format=%s", "main").splitlines()
    then.text = lambda path=WEB: git_repo.git("--git-dir", str(bare), "show", f"main:{path}") + "\n"
    return then


def test_an_old_mirror_in_which_nothing_is_to_be_changed_is_not_believed(behind):
    options = behind(DEPLOYMENT)
    again = run(**options)
    assert again.changed and behind.text() == DEPLOYMENT.replace(":1.0", ":1.1") and behind.log()[:2] == [f"Update {NAME} 1.0 -> 1.1", "theirs"]


@pytest.mark.parametrize("newest, asked", [
    (DEPLOYMENT.replace("spec:\n  template", "spec:\n  replicas: 2\n  template"),
     {"images": [], "values": [{"file": WEB, "path": "spec.replicas", "value": "3"}]}),
    (DEPLOYMENT.replace("shop/web:1.0", "shop/cart:1.0"), {"images": [{"name": NAME.replace("web", "cart"), "tag": "2"}]}),
    (DEPLOYMENT, {"images": [{"name": NAME, "tag": "2", "files": ["production"]}]}),
])
def test_what_cannot_be_done_in_an_old_mirror_is_done_in_the_newest_state(behind, git_repo, newest, asked):
    """A path, an image, and one answer that only the newest commit has."""
    git_repo.write("production/second.yaml", DEPLOYMENT.replace(":1.0", ":0.9").replace("web:", "front:"))
    git_repo.commit("second")
    assert run(**{**behind(newest), **asked}).changed and behind.log()[1] == "theirs"


def test_what_the_newest_state_does_not_allow_is_said_of_it_and_nothing_is_pushed(behind):
    options = behind("kind: Deployment\n")
    with pytest.raises(Failure, match=f"the image {NAME} is nowhere in production"):
        run(**{**options, "images": [{"name": NAME, "tag": "2", "files": ["production"]}]})
    assert behind.log()[0] == "theirs"


def test_check_mode_speaks_of_the_newest_state(behind, git_repo):
    options = behind(DEPLOYMENT.replace(":1.0", ":3"))
    promised = run(check_mode=True, **{**options, "images": [{"name": NAME, "tag": "4", "files": ["production"]}]})
    assert promised.base == git_repo.head() and promised.places[0]["before"] == f"{NAME}:3"


def test_a_value_that_was_changed_before_the_run_began_is_no_race(behind):
    options = behind(DEPLOYMENT.replace(":1.0", ":3"))
    result = run(**{**options, "images": [{"name": NAME, "tag": "4", "files": ["production"]}]})
    assert result.changed and behind.log()[:2] == [f"Update {NAME} 3 -> 4", "theirs"]


def test_a_value_that_is_changed_while_a_run_with_a_known_tip_pushes_stops_it(behind, git_repo, tmp_path):
    options = {**behind(DEPLOYMENT), "images": [{"name": NAME, "tag": "4", "files": ["production"]}]}
    run(check_mode=True, **options)
    bare = git_repo.path.with_name("served.git")
    git_repo.write(WEB, DEPLOYMENT.replace(":1.0", ":5"))
    git_repo.commit("raced")
    git_repo.git("push", "--quiet", str(bare), "HEAD:refs/heads/next")
    hook(bare, "pre-receive", f"unset GIT_QUARANTINE_PATH; git --git-dir={bare} update-ref refs/heads/main refs/heads/next\n")
    with pytest.raises(Refused, match=f"changed it meanwhile from {NAME}:1.0 to {NAME}:5"):
        run(sleep=lambda seconds: None, **options)
    assert behind.log()[0] == "raced"


def test_a_commit_that_the_server_has_thrown_away_is_not_brought_back_by_a_mirror_that_knows_it(behind):
    options = behind("a: 1\n", path="other.yaml", force=True)
    result = run(**{**options, "images": [{"name": NAME, "tag": "2", "files": ["production"]}]})
    assert result.changed and behind.log() == [f"Update {NAME} 1.0 -> 2", "theirs", "first"]


def test_a_branch_that_is_gone_and_a_repository_of_another_history_are_told(behind, git_repo, tmp_path):
    options = {**behind(DEPLOYMENT), "images": [{"name": NAME, "tag": "4", "files": ["production"]}]}
    bare = git_repo.path.with_name("served.git")
    git_repo.git("--git-dir", str(bare), "branch", "-m", "main", "trunk")
    with pytest.raises(Failure, match="there is no branch, tag or commit refs/heads/main"):
        run(**options)
    git_repo.git("checkout", "--quiet", "--orphan", "fresh")
    git_repo.commit("another history")
    git_repo.git("push", "--quiet", str(bare), "HEAD:main")
    assert run(**options).changed and behind.log() == [f"Update {NAME} 1.0 -> 4", "another history"]


@pytest.mark.parametrize("content", ["", "f" * 40, "main", "../../x", "\udcff", "0" * 4096])
def test_a_note_of_a_known_tip_that_is_nonsense_is_ignored(behind, tmp_path, content):
    options = behind(DEPLOYMENT)
    notes = [path for path in (tmp_path / "cache").rglob("tips/*") if path.is_file()]
    assert notes
    for note in notes:
        note.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert run(**options).changed and behind.log()[1] == "theirs"


@pytest.mark.parametrize("what", ["tips", "refs/commits"])
def test_a_commit_that_the_server_has_is_no_failure_where_the_mirror_cannot_note_it(behind, tmp_path, what):
    """As on a disk that is full by then."""
    options = behind(DEPLOYMENT)
    (mirror,) = [path.parents[1] for path in (tmp_path / "cache").rglob("refs/commits")]
    shutil.rmtree(mirror / "tips")
    (mirror / "tips").write_text("no folder")
    assert run(**options).changed and behind.log()[1] == "theirs"
    if what == "refs/commits":
        hook(behind.bare, "post-receive", f"rm -rf {mirror}/refs/commits; touch {mirror}/refs/commits\n")
    options = {**options, "images": [{"name": NAME, "tag": "7", "files": ["production"]}]}
    assert run(**options).changed and behind.log()[:2] == [f"Update {NAME} 1.1 -> 7", f"Update {NAME} 1.0 -> 1.1"]


def test_an_unsigned_tip_is_refused_with_a_warm_mirror_too(behind, tmp_path):
    options = behind(DEPLOYMENT)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "signers").write_text("a@b " + key.with_suffix(".pub").read_text())
    run(check_mode=True, **options)
    with pytest.raises(Failure, match="sign"):
        run(**options, verify_signatures=True, trusted_keys=str(tmp_path / "signers"))
    assert behind.log()[0] == "theirs"


# ---- the branch for review

def test_a_review_branch_is_made_anew_from_the_base_each_time(git_repo, options):
    bare = served(git_repo)
    options = {**options, "repository": f"file://{bare}", "review_branch": "update/web"}
    first = run(**options)
    assert first.changed and first.branch == "update/web" and not run(**options).changed and not run(check_mode=True, **options).changed
    git_repo.write("new.yaml", "a: 1\n")
    git_repo.commit("somebody else")
    git_repo.git("push", "--quiet", str(bare), "main")
    assert run(check_mode=True, **options).changed
    second = run(**options)
    log = git_repo.git("--git-dir", str(bare), "log", "--format=%s", "update/web").splitlines()
    assert second.changed and log == [f"Update {NAME} 1.0 -> 1.1", "somebody else", "first"]
    third = run(**{**options, "images": [{"name": NAME, "tag": "1.3", "files": ["production"]}]})
    assert third.changed and ":1.3" in git_repo.git("--git-dir", str(bare), "show", "update/web:production/web.yaml")
    assert git_repo.git("--git-dir", str(bare), "rev-parse", "main") == git_repo.head()


@pytest.mark.parametrize("how", ["on top", "rebased"])
def test_a_commit_of_somebody_else_on_the_review_branch_is_never_overwritten(git_repo, options, how):
    options = {**options, "review_branch": "update/web"}
    ours = run(**options).commit
    git_repo.branch("work", ours if how == "on top" else "main")
    git_repo.write("theirs.yaml", "a: 1\n")
    theirs = git_repo.commit("theirs")
    if how == "rebased":
        git_repo.git("cherry-pick", ours)
        theirs = git_repo.head()
    git_repo.git("update-ref", "refs/heads/update/web", theirs)
    with pytest.raises(Refused, match=f"has the commit {theirs} by Astrid|has the commit {theirs} by Pipeline"):
        run(**{**options, "images": [{"name": NAME, "tag": "2", "files": ["production"]}]})
    assert git_repo.head("update/web") == theirs


def test_a_commit_that_somebody_pushes_to_the_review_branch_while_a_run_is_at_work_is_never_overwritten(git_repo, options):
    """It comes between the look at the branch and the push, which names the commit that was seen there."""
    bare = served(git_repo)
    options = {**options, "repository": f"file://{bare}", "review_branch": "update/web"}
    run(**options)
    git_repo.branch("work")
    git_repo.write("theirs.yaml", "a: 1\n")
    theirs = git_repo.commit("theirs")
    git_repo.git("push", "--quiet", str(bare), "work")
    hook(bare, "pre-receive", f"unset GIT_QUARANTINE_PATH; git --git-dir={bare} update-ref refs/heads/update/web {theirs}\n")
    with pytest.raises(Refused, match=f"has the commit {theirs} by"):
        run(**{**options, "images": [{"name": NAME, "tag": "2", "files": ["production"]}]}, sleep=lambda seconds: None)
    assert git_repo.git("--git-dir", str(bare), "rev-parse", "update/web") == theirs


# ---- signatures, servers, secrets

@pytest.mark.parametrize("kind", ["ssh", "gpg"])
def test_a_commit_is_signed_so_that_git_verifies_it(git_repo, options, tmp_path, kind, monkeypatch):
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    key = tmp_path / "key"
    if kind == "ssh":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        trusted = tmp_path / "signers"
        trusted.write_text("pipeline@example.org " + key.with_suffix(".pub").read_text())
    else:
        gpg = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-generate-key", "Pipeline <pipeline@example.org>", "ed25519", "sign", "never"], check=True, capture_output=True)
        key.write_bytes(subprocess.run([*gpg, "--armor", "--export-secret-keys"], check=True, capture_output=True).stdout)
        trusted = tmp_path / "trusted"
        trusted.write_bytes(subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout)
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    commit = run(**options, signing_key=str(key)).commit
    with Mirror(Source.of({**options, "revision": "main", "verify_signatures": True, "trusted_keys": str(trusted)})) as mirror:
        assert "pipeline@example.org" in mirror.resolve().signer and mirror.resolve().id == commit
    assert not [name for name in os.listdir("/tmp") if name.startswith("ng-")] or kind == "ssh"


def test_a_key_with_a_passphrase_is_refused_before_anything_is_pushed(git_repo, options, tmp_path):
    key, head = tmp_path / "key", git_repo.head()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(key)], check=True)
    with pytest.raises(Failure, match="the commit can't be signed.*passphrase"):
        run(**options, signing_key=str(key))
    assert git_repo.head("main") == head


@pytest.mark.parametrize("kind", ["git_daemon", "git_ssh", "git_https"])
def test_a_push_goes_over_every_transport(request, git_repo, options, kind):
    git_repo.git("config", "http.receivepack", "true")
    server = request.getfixturevalue(kind)
    known = {"git_username": "username", "git_password": "password", "git_ssh_key": "key", "git_ssh_known_hosts": "known_hosts", "git_ca_cert": "ca_file"}
    access = {option: str(getattr(server, name)) for option, name in known.items() if getattr(server, name, None)}
    assert run(**{**options, "repository": server.url, **access}).changed and ":1.1" in git_repo.git("show", "main:production/web.yaml")


@pytest.mark.parametrize("mirror_is", ["cold", "warm"])
def test_a_push_follows_a_redirect_within_the_server(git_repo, git_http, options, mirror_is):
    git_repo.git("config", "http.receivepack", "true")
    access = {"repository": git_http.former_url, "git_username": git_http.username, "git_password": git_http.password, "revision": "main"}
    if mirror_is == "warm":
        run(check_mode=True, **{**options, **access})
    assert run(**{**options, **access}).changed and ":1.1" in git_repo.git("show", "main:production/web.yaml")
    assert (301, "POST") not in [(status, method) for method, _path, status in git_http.requests]


def test_no_secret_is_in_any_output_file_object_or_process_list(git_repo, git_http, options, tmp_path):
    """A token, a key that signs and a value that is refused; of the process list the server's hook takes note while the push is at work."""
    git_repo.git("config", "http.receivepack", "true")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    canary = Canary("token", "wrong", "value", more=key.read_text().splitlines()[1:2])
    git_http.password = canary["token"]
    git_repo.write("values.yaml", "auth:\n  token: ''\n")
    git_repo.write("secret.yaml", "kind: Secret\nmetadata: {name: a}\nstringData:\n  a: ''\n")
    first = git_repo.commit()
    seen = tmp_path / "processes"
    hook(git_repo.path / ".git", "pre-receive", f"""
cat /proc/[0-9]*/cmdline >> {seen} 2>/dev/null
while read -r old new name; do git show $new:production/web.yaml | grep -q ':refused"' && {{ cat {tmp_path}/words >&2; exit 1; }}; done; exit 0
""")
    (tmp_path / "words").write_text(f"no: {canary['token']}\n")
    given = {"token": canary["token"], "wrong": canary["wrong"], "value": canary["value"], "careless": git_http.url_with_credentials}
    (tmp_path / "vars.yml").write_text(yaml.safe_dump(given))
    access = {"repository": git_http.url, "git_username": git_http.username, "git_password": "{{ token }}"}

    def task(tag, fails=False, **more):
        images = [{"name": NAME, "tag": tag, "files": ["production"]}] if tag else []
        return {"nordic.gitops.image_update": {**options, **access, "author": "Pipeline <pipeline@example.org>", "images": images, **more},
                "ignore_errors": fails}

    values = [{"file": "values.yaml", "path": "auth.token", "value": "{{ value }}"}]
    in_secret = [{"file": "secret.yaml", "path": "stringData.a", "value": "{{ value }}"}]
    tasks = [task("1.1", signing_key=str(key)), task("refused", True), task("", True, values=values), task("", True, values=in_secret),
             task("", True, values=values, repository="https://127.0.0.1:1/x.git"), task("1.2", True, git_password="{{ wrong }}"),
             task("1.3", repository="{{ careless }}", git_username=None, git_password=None)]
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    (tmp_path / "tmp").mkdir()
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-vvvv", "--diff", "--extra-vars", f"@{tmp_path / 'vars.yml'}"]
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1", "TMPDIR": str(tmp_path / "tmp"),
                   "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log")}
    with canary.watched():
        done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "changed=2" in output and "ignored=5" in output, output
    for words in ("refuses the push", "Seal it instead", "refuses the credentials", "can't be reached"):
        assert words in " ".join(output.split()), output
    canary.check("the output", output)
    assert seen.read_bytes().count(b"remote-http") >= 3, "the hook saw no push"
    canary.check("the process list while the push is at work", seen.read_bytes())
    assert canary.check_files(tmp_path, but=[tmp_path / "vars.yml", tmp_path / "words", key]) > 20
    mirrors = [path.parents[1] for path in (tmp_path / "cache").rglob("refs/commits")]
    assert mirrors and all(canary.check_objects(path) > 5 for path in [*mirrors, git_repo.path])
    assert git_repo.git("rev-list", "--count", f"{first}..main") == "2" and git_repo.git("diff", "--name-only", first, "main") == "production/web.yaml"


def test_a_secret_that_is_taken_out_of_a_file_is_shown_nowhere_and_not_in_the_commits_message(git_repo, options, tmp_path):
    canary = Canary("old", "raced")
    git_repo.write("values.yaml", f"auth:\n  token: {canary['old']}\nsize: 1\n")
    git_repo.write("secret.yaml", f"kind: Secret\nmetadata: {{name: a}}\nstringData:\n  a: {canary['old']}\n")
    git_repo.commit()
    values = [{"file": "values.yaml", "path": "auth.token", "value": "${TOKEN}"}, {"file": "values.yaml", "path": "size", "value": "2"},
              {"file": "secret.yaml", "path": "stringData.a", "value": "${TOKEN}"}]
    playbook = tmp_path / "playbook.yml"
    module = {"nordic.gitops.image_update": {**options, "author": "a <b@c>", "images": [], "values": values}, "register": "done"}
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{**module, "check_mode": True}, module,
                                                                                            {"ansible.builtin.debug": {"var": "done"}}]}]))
    with canary.watched():
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-vvvv", "--diff"], text=True, capture_output=True,
                              env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"}, timeout=300, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "changed=2" in output and '"after": "2"' in output, output
    canary.check("the output", output)
    assert git_repo.git("show", "main:values.yaml") == 'auth:\n  token: "${TOKEN}"\nsize: "2"'
    message = git_repo.git("log", "-1", "--format=%B", "main")
    canary.check("the message", message)
    assert message.startswith("Update auth.token ******** -> ${TOKEN}, size 1 -> 2, ")

    bare = served(git_repo)
    git_repo.write("values.yaml", f"auth:\n  token: {canary['raced']}\n")
    git_repo.commit("raced")
    git_repo.git("push", "--quiet", str(bare), "HEAD:refs/heads/next")
    hook(bare, "pre-receive", f"unset GIT_QUARANTINE_PATH; git --git-dir={bare} update-ref refs/heads/main refs/heads/next\n")
    again = [{"file": "values.yaml", "path": "auth.token", "value": "${OTHER}"}]
    with pytest.raises(Refused, match="somebody else changed it meanwhile") as refused:
        run(**{**options, "repository": f"file://{bare}", "images": []}, values=again, sleep=lambda seconds: None)
    canary.check("the message", str(refused.value))


def test_without_the_scanner_nothing_is_pushed_and_no_value_is_shown(git_repo, options, tmp_path):
    git_repo.write("values.yaml", "auth:\n  token: ''\n")
    head = git_repo.commit()
    canary = Canary("value")
    (tmp_path / "detect_secrets.py").write_text("raise ImportError('it is not installed')\n")
    (tmp_path / "vars.yml").write_text(yaml.safe_dump({"value": canary["value"]}))
    arguments = {**options, "author": "a <b@c>", "images": [], "values": [{"file": "values.yaml", "path": "auth.token", "value": "{{ value }}"}]}
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{"nordic.gitops.image_update": arguments}]}]))
    done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-vvvv", "--extra-vars", f"@{tmp_path / 'vars.yml'}"],
                          env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1", "PYTHONPATH": str(tmp_path)},
                          text=True, capture_output=True, timeout=300, check=False)
    output = done.stdout + done.stderr
    assert done.returncode and "pip install 'detect-secrets'" in output and '"module_args"' in output, output  # the module's own end
    canary.check("the output", output)
    assert git_repo.head("main") == head


def test_no_hook_of_a_repository_or_a_mirror_runs(git_repo, options, tmp_path):
    marker = tmp_path / "ran"
    git_repo.write(".githooks/pre-push", f"#!/bin/sh\ntouch {marker}\n").chmod(0o755)
    git_repo.commit()
    run(check_mode=True, **options)
    for mirror in (tmp_path / "cache").rglob("refs/commits"):
        for name in ("pre-push", "post-commit", "reference-transaction", "post-index-change"):
            hook(mirror.parents[1], name, f"touch {marker}\n")
    assert run(**options).changed and not marker.exists()


@pytest.mark.parametrize("how", ["shallow", "a ref of a killed fetch", "damaged trees", "damaged objects", "half of an object", "no objects"])
def test_a_mirror_that_is_shallow_dirty_or_damaged_makes_the_same_commit(git_repo, options, tmp_path, how):
    bare = served(git_repo)
    options = {**options, "repository": f"file://{bare}"}
    run(**options)
    (mirror,) = [path.parents[1] for path in (tmp_path / "cache").rglob("refs/commits")]
    assert (mirror / "shallow").exists()
    loose = list(mirror.glob("objects/??/*"))
    trees = [path for path in loose if zlib.decompress(path.read_bytes()).startswith(b"tree")]
    assert trees
    if how == "a ref of a killed fetch":
        (mirror / "refs" / "fetched").mkdir(exist_ok=True)
        (mirror / "refs" / "fetched" / "branch").write_text("f" * 40)
    elif how == "half of an object":
        loose[0].with_name(".nordic-half").write_bytes(b"x")
    elif how == "no objects":
        shutil.rmtree(mirror / "objects")
    for path in {"damaged trees": trees, "damaged objects": loose}.get(how, []):
        path.unlink()
        path.write_bytes(b"garbage")
    result = run(**{**options, "images": [{"name": NAME, "tag": "1.2", "files": ["production"]}]})
    assert result.changed and git_repo.git("--git-dir", str(bare), "rev-list", "--count", "main") == "3"
    assert git_repo.git("--git-dir", str(bare), "show", "main:production/web.yaml") + "\n" == DEPLOYMENT.replace(":1.0", ":1.2")
    git_repo.git("--git-dir", str(bare), "fsck", "--strict")


# ---- a hostile repository

def test_a_submodule_or_a_name_that_no_file_may_have_in_the_place_of_the_file_is_refused(git_repo, options):
    git_repo.write("production/a\x1b[2Jb.yaml", DEPLOYMENT)
    git_repo.git("add", "--all")
    git_repo.git("update-index", "--add", "--cacheinfo", f"160000,{git_repo.head()},production/sub.yaml")
    git_repo.git("commit", "--quiet", "-m", "hostile")
    for file, words in (("production/sub.yaml", "this is a submodule"), ("production", "control|may have|plain"),
                        ("production/sub.yaml/x", "no such file|submodule")):
        with pytest.raises(Failure, match=words) as failure:
            run(**{**options, "images": [{"name": NAME, "tag": "1.1", "files": [file]}]})
        assert "\x1b" not in str(failure.value)


def test_a_file_named_twice_in_a_tree_changes_where_it_was_read_and_nothing_is_left_out(git_repo, options):
    blob = git_repo.git("rev-parse", "HEAD:production/other.yaml")
    web = git_repo.git("rev-parse", "HEAD:production/web.yaml")
    twice = git_repo.git("mktree", input=f"100644 blob {web}\tweb.yaml\n100644 blob {blob}\tweb.yaml\n")
    top = git_repo.git("mktree", input=f"040000 tree {twice}\tproduction\n")
    git_repo.git("update-ref", "refs/heads/main", git_repo.git("commit-tree", top, "-p", "HEAD", "-m", "twice"))
    bare = served(git_repo)
    run(**{**options, "repository": f"file://{bare}", "images": [{"name": NAME, "tag": "1.1", "files": ["production/web.yaml"]}]})
    listed = git_repo.git("--git-dir", str(bare), "ls-tree", "main:production").splitlines()
    assert len(listed) == 2 and blob in listed[1] and web not in listed[0]


def test_a_file_that_is_too_large_and_files_that_are_too_much_together_are_refused(git_repo, options):
    for number in range(3):
        git_repo.write(f"production/large-{number}.yaml", f"# {NAME}\n" + "# x\n" * (6 << 18))
    git_repo.commit("large")
    with pytest.raises(Refused, match="hold more than 16,777,216 bytes together. Name the files."):
        run(**options)
    assert run(**{**options, "images": [{"name": NAME, "tag": "1.1", "files": ["production/web.yaml"]}]}).changed


# ---- bad input

@pytest.mark.parametrize("change, sentence", [
    ({"images": []}, "nothing is asked for"),
    ({"images": [{"name": "registry.example.org:5000/shop/wbe", "tag": "1"}]}, f"wbe is nowhere in . Did you mean {NAME}\\?"),
    ({"images": [{"name": NAME, "tag": "1", "container": "api"}]}, "in containers named api"),
    ({"images": [{"name": NAME, "tag": "1", "files": ["nowhere"]}]}, "nowhere: there is no such file or folder"),
    ({"images": [{"name": NAME, "tag": "1", "files": ["../x"]}]}, "has .. in it"),
    ({"images": [{"name": NAME, "tag": "1"}, {"name": NAME, "tag": "2"}]}, "is asked for twice"),
    ({"values": [{"file": "production/web.yaml", "path": "spec.replicas", "value": "1"}]}, "there is no spec.replicas"),
    ({"values": [{"file": "none.yaml", "path": "a", "value": "1"}]}, "none.yaml: there is no such file"),
    ({"revision": "mian"}, "there is no branch, tag or commit"), ({"revision": "refs/tags/v1"}, "refs/tags/v1 is not a branch"),
    ({"author": "nobody"}, "is not an author"), ({"author": "a <b@c>\nx"}, "is not an author"),
    ({"signing_key": "/nowhere"}, "signing_key can't be read"), ({"signing_key": "/etc/passwd"}, "is not a private key"),
    ({"review_branch": "main"}, "review_branch is the branch itself"), ({"review_branch": "refs/heads/x"}, "is not the name of a branch"),
    ({"review_branch": "-x"}, "starts with a dash"), ({"trailers": {"a b": "c"}}, "is not a trailer"), ({"trailers": {"a": "c\nd"}}, "is not a trailer"),
    ({"commit_message": " "}, "commit_message is empty"), ({"repository": "https://127.0.0.1:1/x.git"}, "can't be reached"),
    ({"dependencies": [{"name": "redis", "version": "^1"}]}, "Chart.yaml|is not an exact version"),
])
def test_bad_input_gets_a_clear_error_and_nothing_is_pushed(git_repo, options, change, sentence):
    head = git_repo.head()
    with pytest.raises(Failure, match=sentence):
        run(**{**options, **change})
    assert git_repo.head("main") == head


def test_a_value_that_is_a_secret_is_not_pushed(git_repo, options):
    git_repo.write("values.yaml", "auth:\n  token: ''\nimage: {tag: a}\n")
    head = git_repo.commit()
    for path, value in (("auth.token", "hunter2"), ("image.tag", "ghp_" + "a1B2c3" * 6)):
        with pytest.raises(Refused, match="Nothing was pushed. Seal it instead") as refused:
            run(**{**options, "images": []}, values=[{"file": "values.yaml", "path": path, "value": value}])
        assert value not in str(refused.value) and git_repo.head("main") == head


def test_a_link_is_not_written_through(git_repo, options):
    (git_repo.path / "link.yaml").symlink_to("production/web.yaml")
    git_repo.commit()
    with pytest.raises(Refused, match="link.yaml: is reached through a symbolic link"):
        run(**{**options, "images": [{"name": NAME, "tag": "1.1", "files": ["link.yaml"]}]})


def test_a_file_that_is_no_yaml_is_named(git_repo, options):
    git_repo.write("production/template.yaml", f"image: {NAME}\n{{{{ if }}}}: [\n")
    git_repo.commit()
    with pytest.raises(Failure, match="production/template.yaml:[0-9]+: is not valid YAML"):
        run(**options)


# ---- charts

@pytest.fixture
def chart(git_repo, binaries):
    """A chart with two dependencies from folders beside it, locked by helm itself. Returns what helm says of it."""
    helm = binaries / "helm"
    for name, version in (("redis", "18.0.0"), ("redis2", "18.1.0"), ("web", "1.0.0")):
        git_repo.write(f"lib/{name}/Chart.yaml", f"apiVersion: v2\nname: {name.rstrip('2')}\nversion: {version}\n")
    git_repo.write("charts/cart/Chart.yaml", "apiVersion: v2\nname: cart\nversion: 0.1.0\n# what it needs\ndependencies:\n- name: redis\n  version: 18.0.0\n"
                   "  repository: file://../../lib/redis\n  condition: redis.enabled\n  tags: [a, b]\n  import-values:\n  - child: default\n    parent: x\n"
                   "- {name: web, version: 1.0.0, repository: \"file://../../lib/web\", alias: front}\n")
    environment = {**os.environ, **{f"HELM_{name}_HOME": str(git_repo.path.with_name("helm")) for name in ("CACHE", "CONFIG", "DATA")}}

    def run_helm(*arguments):
        return subprocess.run([str(helm), *arguments], cwd=git_repo.path, env=environment, capture_output=True, text=True, check=False)

    assert run_helm("dependency", "update", "charts/cart").returncode == 0
    for packed in (git_repo.path / "charts/cart/charts").iterdir():
        packed.unlink()
    git_repo.commit("chart")
    return run_helm


def test_a_dependency_and_its_lock_change_together_and_helm_accepts_them(git_repo, options, chart):
    lock = (git_repo.path / "charts/cart/Chart.lock").read_text()
    text = (git_repo.path / "charts/cart/Chart.yaml").read_text()
    assert lock_digest(text, lock) == yaml.safe_load(lock)["digest"]
    result = run(**{**options, "images": []}, dependencies=[{"chart": "charts/cart", "name": "redis", "version": "18.1.0"}])
    assert result.changed and git_repo.git("show", "main:charts/cart/Chart.yaml") + "\n" == text.replace("18.0.0", "18.1.0")
    git_repo.git("reset", "--quiet", "--hard", "main")
    git_repo.remove("lib/redis")
    (git_repo.path / "lib/redis2").rename(git_repo.path / "lib/redis")
    built = chart("dependency", "build", "charts/cart")
    assert built.returncode == 0, built.stderr
    assert sorted(path.name for path in (git_repo.path / "charts/cart/charts").iterdir()) == ["redis-18.1.0.tgz", "web-1.0.0.tgz"]


def test_an_alias_names_a_dependency_and_two_of_one_chart_are_one_commit(git_repo, options, chart):
    result = run(**{**options, "images": []}, dependencies=[{"chart": "charts/cart", "name": "front", "version": "2.0.0"},
                                                            {"chart": "charts/cart", "name": "redis", "version": "18.1.0"}])
    lock = git_repo.git("show", "main:charts/cart/Chart.lock")
    assert result.changed and lock_digest(git_repo.git("show", "main:charts/cart/Chart.yaml"), lock) == yaml.safe_load(lock)["digest"]


@pytest.mark.parametrize("name, sentence", [("rdis", "there is no dependency rdis. It has redis, front"), ("web", "there is no dependency web")])
def test_an_unknown_dependency_is_named_with_those_there_are(git_repo, options, chart, name, sentence):
    with pytest.raises(Failure, match=sentence):
        run(**{**options, "images": []}, dependencies=[{"chart": "charts/cart", "name": name, "version": "1.0.0"}])


def test_a_lock_of_another_state_is_refused(git_repo, options, chart):
    path = git_repo.path / "charts/cart/Chart.yaml"
    path.write_text(path.read_text().replace("redis.enabled", "other.enabled"))
    git_repo.commit()
    with pytest.raises(Refused, match="does not belong to the chart as it is"):
        run(**{**options, "images": []}, dependencies=[{"chart": "charts/cart", "name": "redis", "version": "18.1.0"}])


# ---- kills

def test_a_run_killed_at_any_moment_and_run_again_is_one_commit(git_repo, options, tell):
    begin = time.monotonic()
    assert json.loads(start(options).communicate(timeout=120)[0])["changed"]
    whole, killed = time.monotonic() - begin, 0
    for number in range(10):
        wanted = {**options, "images": [{"name": NAME, "tag": f"2.{number}", "files": ["production"]}]}
        before = int(git_repo.git("rev-list", "--count", "main"))
        process = start(wanted)
        time.sleep(random.Random(number).uniform(0, whole))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        deadline = time.monotonic() + 30  # a push that the server has already got ends by itself
        while (git_repo.path / ".git/refs/heads/main.lock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert json.loads(start(wanted).communicate(timeout=120)[0])["branch"] == "main"
        assert int(git_repo.git("rev-list", "--count", "main")) == before + 1
    assert killed
    tell(f"image_update: 10 runs, {killed} of them killed and run again, one commit each")


# ---- as people use it

def test_the_module_runs_its_examples_in_a_playbook(git_repo, tmp_path, chart, options):
    git_repo.write("charts/cart/values.yaml", "image:\n  tag: old\n")
    git_repo.write("production/web.yaml", DEPLOYMENT.replace(NAME, "registry.example.org/shop/web"))
    git_repo.commit()
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    tasks = yaml.safe_load(EXAMPLES)
    for task in tasks:
        arguments = task["nordic.gitops.image_update"]
        for name in ("git_password", "git_ssh_key", "git_ssh_known_hosts"):
            arguments.pop(name, None)
        arguments.update(repository=git_repo.url, git_cache=options["git_cache"])
        if "signing_key" in arguments:
            arguments["signing_key"] = str(key)
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "--diff"]
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0 and "changed=2" in done.stdout, done.stdout + done.stderr
    assert '+        image: "registry.example.org/shop/web:1.4.2"' in done.stdout
    again = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout + again.stderr
    body = git_repo.git("log", "-1", "--format=%B", "update/cart")
    assert body.startswith("Cart: image.tag old -> 20261129") and "Build: 1742" in body
    assert git_repo.git("show", "update/cart:charts/cart/values.yaml") == 'image:\n  tag: "20261129"'


if __name__ == "__main__":
    try:
        outcome = vars(run(**json.loads(sys.argv[1])))
    except Failure as problem:
        outcome = {"failed": str(problem)}
    print(json.dumps(outcome))
