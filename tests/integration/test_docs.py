# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What README and guide show: it parses, its arguments exist, and what a reader would type or apply works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.action import sealed_secret, sealed_secrets_key
from ansible_collections.nordic.gitops.plugins.inventory import instances
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.options import SPEC as IMAGE_UPDATE_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._instance.options import CLOUD_SPEC, FLEET_SPEC, INSTANCE_SPEC
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.deletion import KEEP, PRUNING
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.guard import RULES
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import Options
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.order import KINDS
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.plan import MARKS
from ansible_collections.nordic.gitops.plugins.module_utils._objects.ownership import PEOPLE
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.options import SPEC as K3S_SPEC
from ansible_collections.nordic.gitops.plugins.modules import (
    argocd_admin,
    argocd_application,
    argocd_applicationset,
    argocd_cluster,
    argocd_info,
    argocd_project,
    argocd_repository,
    argocd_sync,
    etcd_snapshot,
    etcd_snapshot_info,
    k3s_info,
    k3s_manifests,
    k3s_node,
    node_preflight,
    secrets_check,
)
from ansible_collections.nordic.gitops.plugins.modules.reconcile import SPEC
from reconciling import Reconciler, config_map, deployment, operations
from workspace import environ

CHECKOUT = Path(__file__).resolve().parents[2]
README, GUIDE = CHECKOUT / "README.md", CHECKOUT / "docs" / "guide.md"
PAGES = (README, *sorted((CHECKOUT / "docs").glob("*.md")), *sorted((CHECKOUT / "roles").glob("*/README.md")))
MODULES = {"nordic.gitops.reconcile": {**SPEC, **GIT_SPEC, **CONNECTION_SPEC}, "nordic.gitops.k3s": K3S_SPEC,
           "nordic.gitops.image_update": {**IMAGE_UPDATE_SPEC, **GIT_SPEC},
           "nordic.gitops.kvm_instance": {**CLOUD_SPEC, **FLEET_SPEC, **INSTANCE_SPEC},
           **{f"nordic.gitops.{one.__name__.rpartition('.')[2]}": one.SPEC for one in (sealed_secret, sealed_secrets_key)},
           **{f"nordic.gitops.{one.__name__.rpartition('.')[2]}": one.SPEC
              for one in (argocd_admin, argocd_application, argocd_applicationset, argocd_cluster, argocd_info, argocd_project, argocd_repository, argocd_sync,
                          etcd_snapshot, etcd_snapshot_info, k3s_info, k3s_manifests, k3s_node, node_preflight, secrets_check)}}
# What a task has beside its module.
KEYWORDS = {"name", "register", "loop", "when", "check_mode", "diff", "vars", "changed_when"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def blocks(page: Path, language: str) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if found.group(1) == language:
            yield Block(page, text[:found.start()].count("\n") + 1, found.group(1), found.group(2))


EXAMPLES = [block for page in PAGES for block in blocks(page, "yaml")]


# ---- every YAML block


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_every_example_is_one_of_a_kind_we_know_and_its_arguments_exist(block):
    documents = list(yaml.safe_load_all(block.text))
    assert documents
    assert not [problem for document in documents for problem in problems_of(document)]


def test_a_wrong_example_is_found():
    task = {"name": "Wrong", "nordic.gitops.reconcile": {"name": "a", "repository": "b", "prunelimit": 3}}
    assert "prunelimit" in str(problems_of([task]))
    assert problems_of([{"name": "No module"}]) and problems_of({"surprise": True})
    assert "value of wait must be" not in str(problems_of([{"nordic.gitops.reconcile": {"name": "a", "repository": "b", "wait": True}}]))
    assert problems_of([{"hosts": "all", "roles": [{"role": "nordic.gitops.reconcile", "reconcile_nmae": "a"}]}])
    assert problems_of({"instance_gate": ["true"], "instance_gat": ["true"]}) and not problems_of({"instance_gate": ["true"]})
    assert "regoin" in str(problems_of({"plugin": "nordic.gitops.instances", "regoin": "no-oslo-1"}))


def problems_of(document: Any) -> List[str]:
    if isinstance(document, list):
        return [problem for entry in document for problem in (play(entry) if "hosts" in entry else task_of(entry))]
    if {"apiVersion", "kind", "metadata"} <= set(document):
        return []
    if document.get("version") == 3:  # of ansible-builder
        return [] if {"name": "nordic.gitops"} in document["dependencies"]["galaxy"]["collections"] else ["the collection is missing"]
    if set(document) == {"inputs", "injectors"}:  # a credential type of AWX
        known = {f"reconcile_{option}" for option in MODULES["nordic.gitops.reconcile"]}
        return [f"{name} is no variable" for name in set(document["injectors"]["extra_vars"]) - known]
    if document.get("plugin") == "nordic.gitops.instances":
        known = {*yaml.safe_load(instances.DOCUMENTATION)["options"], *CLOUD_SPEC, "address"}
        return [f"{name} is no option of the inventory" for name in set(document) - known]
    if set(document) == {"repos"}:  # of pre-commit
        known = {hook["id"] for hook in yaml.safe_load((CHECKOUT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
        return [f"{hook['id']} is no hook" for repo in document["repos"] for hook in repo["hooks"] if hook["id"] not in known]
    prefix = next(iter(document)).partition("_")[0]
    if (CHECKOUT / "roles" / prefix).is_dir():  # variables of a role
        known = yaml.safe_load((CHECKOUT / "roles" / prefix / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
        return [f"{name} is no variable of the role {prefix}" for name in set(document) - set(known)]
    return [f"neither tasks nor a play nor an object: {document}"]


def play(entry: Dict[str, Any]) -> List[str]:
    found = [problem for task in entry.get("tasks", []) for problem in task_of(task)]
    for group in entry.get("module_defaults", {}).values():
        found += [f"{option} is no connection option" for option in group if option not in CONNECTION_SPEC]
    for role in entry.get("roles", []):
        known = yaml.safe_load((CHECKOUT / "roles" / role["role"].rpartition(".")[2] / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
        found += [f"{key} is no variable of {role['role']}" for key in set(role) - {"role"} - set(known["argument_specs"]["main"]["options"])]
    return found


def task_of(task: Dict[str, Any]) -> List[str]:
    (module, *more) = sorted(set(task) - KEYWORDS) or [""]
    if more or not (module in MODULES or module.startswith("ansible.builtin.")):
        return [f"a task with {[module, *more]}"]
    if module not in MODULES:
        return []
    return ArgumentSpecValidator(MODULES[module]).validate(task[module]).error_messages


# ---- what the text promises


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        code = "\n".join(re.findall(r"`[^`]+`|^```.*?^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
        assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets, page.name
    table = re.findall(r"^\| (.*?) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"make ([a-z-]+)", " ".join(table)))
    assert {"test", "test-full", "bench", "lint", "cluster", "cluster-down", "hosts", "hosts-down", "build"} <= named


def test_the_readme_names_everything_that_is_in_the_collection():
    text = README.read_text(encoding="utf-8")
    content = [path.stem for folder in ("modules", "lookup", "filter") for path in (CHECKOUT / "plugins" / folder).glob("*.py")]
    content += [path.name for path in (CHECKOUT / "roles").iterdir() if path.is_dir()]
    content += [path.stem for path in (CHECKOUT / "playbooks").glob("*.yml") if path.stem != "demo"]
    assert not [name for name in content if f"`{name}`" not in text]


def test_the_guide_tells_of_every_safety_rule_and_annotation():
    text = GUIDE.read_text(encoding="utf-8")
    for rule in (*PRUNING, *RULES):
        assert f"| `{rule.__name__}` |" in text, rule.__name__
    for key, values in KEEP:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{key}` | `")]
        assert re.findall(r"`([^`]+)`", row)[1:] == list(values)


def test_the_guide_tells_of_every_kind_that_has_a_place_in_the_order():
    section = between("## Order", "## Health")
    assert not [kind for _group, kind in KINDS if not re.search(rf"\b{kind}\b", section)]


def test_the_guide_tells_of_every_tool_whose_objects_are_refused_and_of_every_persons_tool():
    text = between("## What is healed", "## Order")
    assert not [tool for _place, _key, tool in MARKS if tool not in text]
    assert not [tool for tool in PEOPLE if f"`{tool}`" not in text]


def test_every_policy_is_in_the_guide():
    text = GUIDE.read_text(encoding="utf-8")
    # How the run was started, and what is read from an Application (docs/argocd.md).
    policies = set(Options.__dataclass_fields__) - {"check_mode", "diff", "tracked_by", "installation", "create_namespace"}
    assert not [option for option in policies if f"`{option}" not in text and f"{option}:" not in text]
    for option in ("adopt", "on_conflict"):
        assert not [choice for choice in SPEC[option]["choices"] if f"| `{choice}`" not in text]


def test_who_knows_kubeseal_finds_each_of_its_options_and_ours_by_their_names(binaries):
    rows = [line.strip("| ").split(" | ") for line in between_titles(CHECKOUT / "docs" / "sealed_secrets.md", "If you know kubeseal") if line.startswith("| ")]
    theirs, ours = (" ".join(row[side] for row in rows) for side in (0, 1))
    shown = subprocess.run([str(binaries / "kubeseal"), "--help"], capture_output=True, text=True, check=False)
    flags = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)", shown.stdout + shown.stderr, re.MULTILINE)
    assert len(flags) > 40
    # --rotate is the old name of --re-encrypt, which its help no longer tells.
    assert sorted(re.findall(r"`(--?\w[\w-]*)", theirs)) == sorted([*(name for pair in flags for name in pair if name), "--rotate"])
    assert "SEALED_SECRETS_" in theirs
    named = set(re.findall(r"`([a-z_]+)`", ours)) - {"module_defaults"}
    assert "allow_wider_scope" in named and named <= set(sealed_secret.SPEC)


def between_titles(page: Path, title: str) -> List[str]:
    """The lines of one chapter."""
    return page.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0].splitlines()


def wrong_rows(page):
    """Of a table of statements, files and tests: each row without a file or a test, and each file or test that does not exist."""
    tests = {name for path in (CHECKOUT / "tests").rglob("test_*.py")
             for name in re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    wrong = []
    for row in re.findall(r"^\| (?!The article)(?!-)(.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        statement, files, shown = row.split(" | ")
        links, names = re.findall(r"\]\(([^)#]+)", files), re.findall(r"`(test_\w+)`", shown)
        wrong += [] if links and names else [statement]
        wrong += [one for one in links if not (page.parent / one).exists()] + [one for one in names if one not in tests]
    return wrong


def test_each_statement_of_the_article_leads_to_files_and_to_a_test():
    page = CHECKOUT / "docs" / "article.md"
    assert page.read_text(encoding="utf-8").count("\n| ") > 12 and not wrong_rows(page)


def test_a_statement_without_a_file_or_a_test_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("| The article | Files | Shown by |\n|---|---|---|\n| one | [a](gone.py) | `test_that_is_nowhere` |\n| two | a | b |\n", encoding="utf-8")
    assert wrong_rows(page) == ["gone.py", "test_that_is_nowhere", "two"]


def test_the_table_of_contents_leads_somewhere():
    for page in (README, GUIDE):
        for target, part in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert part in anchors(page.parent / target if target else page), f"{page.name}: {target}#{part}"


def anchors(page: Path) -> List[str]:
    """The names that Git hosts give to a page's headings."""
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)]


def between(start: str, end: str) -> str:
    text = GUIDE.read_text(encoding="utf-8")
    return text[text.index(start):text.index(end)]


# ---- what a reader would do


def test_the_first_playbook_of_the_readme_works_by_the_letter(cluster, tmp_path):
    (playbook,) = [block for block in blocks(README, "yaml") if "playbook_dir" in block.text]
    (commands,) = [block for block in blocks(README, "sh") if "ansible-playbook hello.yml" in block.text]
    (tmp_path / "hello.yml").write_text(playbook.text, encoding="utf-8")
    surroundings = {
        **environ.variables(Path(sys.prefix)), "KUBECONFIG": str(cluster.kubeconfig), "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GIT_AUTHOR_NAME": "Ingrid", "GIT_AUTHOR_EMAIL": "ingrid@example.com", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_COMMITTER_NAME": "Ingrid", "GIT_COMMITTER_EMAIL": "ingrid@example.com", "ANSIBLE_NOCOLOR": "1",
    }
    try:
        done = subprocess.run(["sh", "-eu", "-c", commands.text], cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        first, second = re.findall(r"changed=(\d)", done.stdout)
        assert (first, second) == ("1", "0"), done.stdout
        assert done.stdout.count("in sync: True, healthy: True") == 2, done.stdout
        assert cluster.kubectl("get", "configmap", "hello", "--namespace", "default", "--output", "jsonpath={.data.greeting}") == "hei"

        cluster.kubectl("patch", "configmap", "hello", "--namespace", "default", "--patch", '{"data":{"greeting":"moin"}}')
        shown = subprocess.run(["ansible-playbook", "hello.yml", "--check", "--diff"], cwd=tmp_path, env=surroundings, capture_output=True,
                               text=True, check=True).stdout
        assert "-  greeting: moin" in shown and "+  greeting: hei" in shown, shown
    finally:
        cluster.kubectl("delete", "configmap", "hello", "nordic-gitops-hello", "--namespace", "default", "--ignore-not-found")


@pytest.fixture
def deployer(cluster, namespace):
    """The guide's account with the guide's rights, in the test's namespace instead of `shop`; its kubeconfig."""
    account = cluster.service_account("deployer", namespace=namespace)
    (example,) = [block for block in blocks(GUIDE, "yaml") if "kind: RoleBinding" in block.text]
    objects = [rename(document, namespace) for document in yaml.safe_load_all(example.text)]
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", input=yaml.safe_dump_all(objects))
    yield account
    for body in objects:
        if body["kind"] == "ClusterRole":
            cluster.kubectl("delete", "clusterrole", body["metadata"]["name"], "--ignore-not-found")


def rename(body: Dict[str, Any], namespace: str) -> Dict[str, Any]:
    """The same object for another namespace; its name too where it is for the whole cluster, which tests share."""
    text = re.sub(r"(namespace: )shop\b", rf"\g<1>{namespace}", yaml.safe_dump(body))
    return yaml.safe_load(text.replace("nordic-gitops-applications", f"nordic-gitops-applications-{namespace}"))


def test_the_guides_rights_are_enough_for_one_namespace(cluster, namespace, deployer, git_repo, tmp_path):
    run = Reconciler(name="shop", namespace=namespace, inventory_namespace=namespace, repository=git_repo.url, kubeconfig=deployer,
                     git_cache=str(tmp_path / "cache"), wait=True, wait_timeout=60)
    git_repo.write("web.yaml", deployment("web") + "---\n" + config_map("settings"))
    git_repo.commit()
    assert operations(run(check_mode=True)) == {"Deployment web": "created", "ConfigMap settings": "created"}
    result = run()
    assert result["in_sync"] and result["healthy"]
    cluster.kubectl("scale", "deployment", "web", "--replicas=2", "--namespace", namespace)
    assert operations(run()) == {"Deployment web": "configured"}
    git_repo.write("web.yaml", deployment("web"))
    git_repo.commit()
    assert operations(run()) == {"ConfigMap settings": "pruned"}
    assert not run()["changed"]


def test_check_mode_shows_the_very_diff_that_the_run_makes(cluster, namespace, git_repo, tmp_path):
    run = Reconciler(name=namespace, namespace=namespace, inventory_namespace=namespace, repository=git_repo.url,
                     kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path / "cache"))
    git_repo.write("web.yaml", deployment("web") + "---\n" + config_map("settings"))
    git_repo.commit()
    run()
    cluster.kubectl("patch", "configmap", "settings", "--namespace", namespace, "--patch", '{"data":{"key":"two","added":"by hand"}}')
    cluster.kubectl("set", "env", "deployment/web", "ADDED=by-hand", "FIRST=b", "--namespace", namespace)
    foretold, happened = run(check_mode=True, diff=True)["diff"], run(diff=True)["diff"]
    assert [entry["before"] for entry in foretold] == [entry["before"] for entry in happened]
    assert [entry["after"] for entry in foretold] == [entry["after"] for entry in happened]
    assert len(happened) == 2 and not any("hand" in entry["after"] for entry in happened)


def test_the_commands_that_show_what_belongs_to_a_reconcile_work(cluster, namespace, git_repo, tmp_path):
    git_repo.write("settings.yaml", config_map("settings"))
    git_repo.commit()
    Reconciler(name=namespace, namespace=namespace, inventory_namespace=namespace, repository=git_repo.url,
               kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path / "cache"))()
    (commands,) = [block for block in blocks(GUIDE, "sh") if "applyset" in block.text]
    text = commands.text.replace("nordic-gitops-shop", f"nordic-gitops-{namespace} --namespace {namespace}")
    told = subprocess.run(["sh", "-eu", "-c", text], env=cluster.env(), capture_output=True, text=True, check=True).stdout
    assert "configmap/settings" in told, told


def test_the_guides_way_to_remove_everything_works(cluster, namespace, git_repo, tmp_path):
    (example,) = [block for block in blocks(GUIDE, "yaml") if "allow_empty" in block.text]
    options = yaml.safe_load(example.text)[0]["nordic.gitops.reconcile"]
    run = Reconciler(name=namespace, namespace=namespace, inventory_namespace=namespace, repository=git_repo.url, path=options["path"],
                     kubeconfig=str(cluster.kubeconfig), git_cache=str(tmp_path / "cache"))
    for number in range(12):
        git_repo.write(f"{options['path']}/{number}.yaml", config_map(f"settings-{number}"))
    git_repo.commit()
    run()
    for number in range(12):
        git_repo.remove(f"{options['path']}/{number}.yaml")
    git_repo.write(f"{options['path']}/.gitkeep", "")
    git_repo.commit()
    result = run(**{name: options[name] for name in ("allow_empty", "prune_limit", "prune_protected")})
    assert result["counts"]["pruned"] == 12 and result["in_sync"]
