# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/health.md, made from the rules and their cases: `make health-page`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._objects import health_rules as data
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health import HEALTH
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_cel import LONGEST, SECONDS
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_rules import Rule, kinds_of
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.wait import MOMENT

CHECKOUT = Path(__file__).resolve().parents[1]
PAGE = CHECKOUT / "docs" / "health.md"
CASES = CHECKOUT / "tests" / "unit" / "plugins" / "module_utils" / "_objects" / "health_cases.yml"
OFTEN = 5  # a reason that is given more often is told once

# What the functions of health.py ask of the kinds that come with Kubernetes, and of Argo CD's Application: (healthy when, failed when).
BUILT_IN: Dict[str, Tuple[str, str]] = {
    "Deployment": ("all replicas are updated, ready and available and no other is left, or its spec pauses it",
                   "its progress deadline passed, or admission or a quota refuses its ReplicaSet or its first Pod"),
    "StatefulSet": ("all replicas are ready and available, those that `partition` leaves are at the new revision, and no other is left; "
                    "at once with `OnDelete`", ""),
    "DaemonSet": ("updated, ready and available on every node that it wants", ""),
    "ReplicaSet": ("all replicas are ready and available and no other is left", "admission or a quota refuses its Pods"),
    "ReplicationController": ("as a ReplicaSet", "as a ReplicaSet"),
    "Pod": ("ready, or ended with success; one with `restartPolicy` `Never` or `OnFailure` must end; with the resources that its spec asks for",
            "it failed, its new resources fit no node, a container ended with an error or cannot start (`ImagePullBackOff`, `CrashLoopBackOff`, …)"),
    "Job": ("`Complete`, or suspended by its spec and without Pods", "`Failed` or `FailureTarget`"),
    "CronJob": ("at once, whatever its last Job did", ""),
    "PersistentVolumeClaim": ("`Bound`; in a wait also while its class waits for a first consumer and no object of the wait makes a Pod that uses it",
                              "`Lost`"),
    "PersistentVolume": ("`Bound`, `Available` or `Released`", "`Failed`"),
    "Namespace": ("`Active`", ""),
    "Node": ("condition `Ready`, with a network and without pressure", ""),
    "Service": ("at once; of type LoadBalancer, when it has an address or `externalIPs`", "its load balancer cannot have its ports"),
    "Ingress": ("at once: many clusters never write an address", ""),
    "PodDisruptionBudget": ("enough of its Pods are healthy, all of them are, or it has none", ""),
    "HorizontalPodAutoscaler": ("its controller found its target, also without metrics", "its spec is invalid, or its target may not be scaled"),
    "CustomResourceDefinition": ("`Established`", "its names are not accepted"),
    "APIService": ("condition `Available`", ""),
    "Application": ("`Synced`, and `Healthy` or `Suspended`", "`Degraded`, or the sync failed"),
}

PAGE_TEXT = """\
# Health

<!-- Made by `make health-page` from the rules and their cases. Do not edit it. -->

`wait` of `nordic.gitops.reconcile`, its waves, and the filter `nordic.gitops.health` judge an object by the rules on this page, and by nothing
else. The verdict is one of these:

| Verdict | Meaning |
|---|---|
| `Current` | It is what its spec asks for, or its spec asks it to stand still. |
| `InProgress` | Its controller is at work, or has not seen this version yet. |
| `Failed` | Its controller gave up, or says that something is wrong. |
| `Terminating` | It is being deleted. The message names the finalizers that hold it. |
| `NotFound` | The cluster has no such object. |
| `Unknown` | It is no object of Kubernetes. |

These questions are asked in this order:

1. Is it being deleted? Then it is `Terminating`.
2. Is `status.observedGeneration` older than `metadata.generation`? Then it is `InProgress`. A generation that is a text counts too.
3. Is one of the conditions `Stalled` and `Reconciling` of kstatus true? Then it is `Failed` or `InProgress`.
4. What does the rule of its kind say? [A rule of your own](#rules-of-your-own) comes first, then [Kubernetes](#what-comes-with-kubernetes) and
   [the table of other kinds](#other-kinds).
5. A kind without a rule is judged by [the words and conditions](#kinds-without-a-rule) that most controllers use.

A condition that speaks of an older generation is no answer yet. Of several conditions of one type the latest counts.

## In a playbook

```yaml
- name: Go on only when the Deployment is healthy
  ansible.builtin.assert:
    that: verdict.status == 'Current'
    fail_msg: "{{{{ verdict.status }}}}: {{{{ verdict.message }}}}"
  vars:
    cart: "{{{{ query('kubernetes.core.k8s', api_version='apps/v1', kind='Deployment',
              namespace='shop', resource_name='cart') }}}}"
    verdict: "{{{{ cart | first | default(none) | nordic.gitops.health }}}}"
```

## Rules of your own

`health_rules` of `nordic.gitops.reconcile` and of the filter takes CEL expressions with the names that Flux uses in `healthCheckExprs`. They are asked in
the order `inProgress`, `failed`, `current`; while none is true, the object is `InProgress`. An expression starts from `apiVersion`, `kind`, `metadata`, `spec`,
`status`, or `data`. A field that the object does not have makes it false, and the message says so. A rule that cannot be read, an unknown name, and
an unknown function are refused before anything is written. An expression has at most {longest} characters, and one evaluation takes at most {seconds:g} second.
The Python package `cel-python` must be installed where the module runs.

```yaml
- name: Wait for a kind whose status is described by a rule of your own
  nordic.gitops.reconcile:
    name: shop
    repository: https://git.example.no/platform/manifests.git
    health_rules:
      - apiVersion: example.com/v1
        kind: Database
        inProgress: status.stage in ['restoring', 'replaying']
        failed: status.stage == 'lost' || has(status.failure)
        current: status.stage == 'serving' && status.replicas >= spec.replicas
```

## What comes with Kubernetes

| Kind | Healthy when | Failed when |
|---|---|---|
{built_in}

Every other kind that comes with Kubernetes is healthy at once, unless one of its conditions says otherwise.

## Other kinds

{kinds} kinds in {rules} rules. `(may be missing)` stands for a condition that older versions of the controller do not write. A word or a reason that is not in
a rule means what it means [everywhere](#words). A kind that always gets a status is `InProgress` until it has one.

{rows}

## Kinds without a rule

The first of the conditions {summary} that the object has speaks for the others. Without one of them, every one of
these must be true: {ready}. Beside them count:

| True means | Conditions |
|---|---|
| failed | {failed}, and every type that ends in {failed_endings} |
| in progress | {working}, and every type that ends in {working_endings} |
| stands still | {still} |

A condition that should be true and is false means failed if its reason is a word for a failure, otherwise in progress. Words count in {states}. {begun}
mean in progress for a kind whose name ends in {ends}; such a kind is also in progress while it has one of {started} and none of {ended}.
{holds} ask the object to stand still. A text in {errors} is a failure where nothing says that it is healthy.
Where there is no summary, every type that ends in `Ready` should be true. Beside a summary that is true, {beside} must not be false.
The conditions of a route's `status.parents` and of a policy's `status.ancestors` count, as in the Gateway API. A condition's type is read
in any case (`ready`, `READY`), its status may be a word (`Failed`), and the conditions may be a map. A status that is one word, or true or false, is read too.
A condition that is true with a reason that is a failure (`Completed` with `Failed`) is a failure.

| A field of the status | means |
|---|---|
{flags}

Where no summary is true, these are in progress too: {doubts} false, `status.ready` or `status.replicas` of `1/3`, more than none of {missing}, and {counted}.

An object without a status is healthy: nobody reports on it. While `reconcile` waits, a custom resource that could have a status and has none is `InProgress`
for {moment:g} seconds, in case its controller has not seen it yet.

## Words

Compared without case, spaces, and punctuation. A word that is not in the table means failed if it ends in `failed`, `error`, `errors`, `failure`, `backoff`,
`invalid`, `exceeded`, `denied` or `notfound`, or begins with `err`, `failed`, `invalid`, `cannot` or `unable`; it means in progress if it ends in
`ing`, begins with `waiting`, `pending` or `partial`, or is a healthy word after `not`, `non` or `un`.

| Meaning | Words |
|---|---|
{words}

## Where kstatus and Argo CD say otherwise

The table of cases, `tests/unit/plugins/module_utils/_objects/health_cases.yml`, has {cases} objects of {case_kinds} kinds. They were all given to
kstatus (cli-utils 0.37.2) and to Argo CD 3 (its `Healthy` and `Suspended` are our `Current`, `Degraded` is `Failed`, `Progressing` is `InProgress`).

| | The same verdict | Another verdict | An error |
|---|---|---|---|
| kstatus | {kstatus_same} | {kstatus} | {kstatus_error} |
| Argo CD | {argo_same} | {argo} | {argo_error} |

{differing} objects have another verdict or an error. These reasons are given more than five times:

| Reason | Objects |
|---|---|
{reasons}

The other {others} are, one by one:

| Object | Here | kstatus | Argo CD | Why |
|---|---|---|---|---|
{differences}
"""


def page() -> str:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    differences = [case for case in cases if case.get("why")]
    reasons = Counter(case["why"] for case in differences)
    others = [case for case in differences if reasons[case["why"]] <= OFTEN]
    said = {name: [case.get(name, "the same") for case in cases] for name in ("kstatus", "argo")}
    kstatus, argo = ((words.count("the same"), words.count("error")) for words in said.values())
    return PAGE_TEXT.format(
        longest=LONGEST, seconds=SECONDS, moment=MOMENT,
        built_in="\n".join(_built_in()),
        kinds=sum(1 for rule in data.RULES for _key in kinds_of(rule)), rules=len(data.RULES),
        rows="\n".join(_row(rule) for rule in sorted(data.RULES, key=_sorted_by)),
        summary=_codes(data.SUMMARY), ready=_codes(data.READY_TYPES), failed=_codes(data.FAILED_TYPES), working=_codes(data.WORKING_TYPES),
        still=_codes(data.STILL_TYPES), states=_codes(data.STATES.split()), ends=_codes(data.ENDS), holds=_codes(data.HOLDS.split()),
        errors=_codes(data.ERRORS.split()), beside=_codes(data.BESIDE),
        words="\n".join(f"| {_MEANINGS[meaning]} | {', '.join(sorted(words.split()))} |" for meaning, words in data.WORDS.items()),
        cases=len(cases), case_kinds=len({(case["of"].get("apiVersion", "").rpartition("/")[0], case["of"]["kind"]) for case in cases}),
        kstatus_same=kstatus[0], kstatus=len(cases) - sum(kstatus), kstatus_error=kstatus[1],
        argo_same=argo[0], argo=len(cases) - sum(argo), argo_error=argo[1],
        differing=len(differences), others=len(others),
        reasons="\n".join(f"| {_cell(why)} | {times} |" for why, times in reasons.most_common() if times > OFTEN),
        failed_endings=_codes(data.FAILED_ENDINGS), working_endings=_codes(data.WORKING_ENDINGS), begun=_codes(data.BEGUN.split()),
        started=_codes(f"status.{name}" for name in data.STARTED.split()), ended=_codes(f"status.{name}" for name in data.ENDED.split()),
        flags="\n".join(_flags()), doubts=_codes(data.DOUBTS.split()),
        missing=_codes(f"status.{name}" for name in data.MISSING.split()),
        counted=", ".join(f"{_codes(names.split())} below `{path}`" for path, names in data.COUNTED),
        differences="\n".join(f"| {_cell(case['case'])} | {case['is']} | {case.get('kstatus', 'the same')} | {case.get('argo', 'the same')} "
                              f"| {_cell(case['why'])} |" for case in others),
    )


_MEANINGS = {data.HEALTHY: "healthy", data.WORKING: "in progress", data.FAILED: "failed", data.STILL: "stands still"}


def _built_in() -> Iterable[str]:
    told = {(group, kind): BUILT_IN[kind] for group, kind in HEALTH if (group, kind) != ("argoproj.io", "Rollout")}
    for (group, kind), (healthy, failed) in told.items():
        yield f"| {kind}{_of_group(group)} | {healthy} | {failed} |"


def _flags() -> Iterable[str]:
    for value, means in (("true", data.TRUE_MEANS), ("false", data.FALSE_MEANS)):
        for meaning, names in means.items():
            known = [name for name in names.split() if name not in data.DOUBTS.split()]
            yield f"| {_codes(known)} {value} | {_MEANINGS[meaning]} |"


def _of_group(group: str) -> str:
    return f" ({group})" if group else ""


def _sorted_by(rule: Rule) -> tuple:
    group, kind = next(kinds_of(rule))
    return group.lstrip("*.").split(".")[-2:], group, kind


def _row(rule: Rule) -> str:
    kinds: Dict[str, List[str]] = {}
    for group, kind in kinds_of(rule):
        kinds.setdefault(group, []).append("every kind" if kind == "*" else kind)
    named = "; ".join(f"**{', '.join(names)}** ({group})" for group, names in kinds.items())
    words = {meaning: [word for word, means in rule.words.items() if means == meaning] for meaning in _MEANINGS}
    healthy = [f"{_codes_of(rule.ready)} true" if rule.ready else "", *(f"`{path}` is a healthy word" for path in rule.state.split()),
               *(_counted(pair) for pair in rule.counts.split()),
               *(f"`{have}` is `{want.rstrip('?')}`" for want, _sign, have in (pair.partition("==") for pair in rule.equal.split())),
               f"word {_codes(words[data.HEALTHY])}" if words[data.HEALTHY] else "",
               "at once" if rule.silent and not rule.ready else "without a status" if rule.silent else ""]
    failed = [f"{_codes(rule.failed.split())} true" if rule.failed else "",
              f"{_codes(kind.rstrip('?!') for kind in rule.ready.split())} false" if rule.false == data.FAILED and rule.ready else "",
              f"{_codes(rule.errors.split())} is set" if rule.errors else "", f"word {_codes(words[data.FAILED])}" if words[data.FAILED] else "",
              "any other word" if rule.other == data.FAILED else ""]
    working = [f"{_codes(rule.working.split())} true" if rule.working else "", f"`{rule.seen}` is older than the generation" if rule.seen else "",
               f"a word of standing still, unless it says paused, while {_codes(rule.runs.split())}" if rule.runs else "",
               f"word {_codes(words[data.WORKING])}" if words[data.WORKING] else ""]
    still = [f"{_codes(rule.still.split())} true" if rule.still else "", _codes(_asked(path) for path in f"{rule.holds} {rule.off}".split()),
             f"word {_codes(words[data.STILL])}" if words[data.STILL] else ""]
    told = [(name, "; ".join(part for part in column if part)) for name, column in
            (("Healthy", healthy), ("Failed", failed), ("In progress", working), ("Stands still", still))]
    parts = [f"Conditions of {_codes(path.rstrip('?!') for path in rule.parts.split())} count"] if rule.parts else []
    notes = [f"{rule.note[0].upper()}{rule.note[1:]}"] if rule.note else []
    about = [f"[Status]({rule.about})"] if rule.about else []
    return f"- {named}. " + " ".join(f"{text}." for text in [*(f"*{name}:* {text}" for name, text in told if text), *parts, *notes, *about])


def _asked(path: str) -> str:
    return path.replace("@", "annotation ", 1) if path.startswith("@") else path


def _counted(pair: str) -> str:
    have, slash, want = pair.partition("/")
    if not slash:
        return f"both numbers of `{have}` are equal"
    have = have.replace("?", "").replace("+", "` and `")
    return f"`{have}` is set" if want == "1" else f"`{have}` reaches `{want}`"


def _codes_of(kinds: str) -> str:
    return ", ".join(f"`{kind.rstrip('?!')}`{' (may be missing)' if kind.endswith('?') else ' (only its failures count)' if kind.endswith('!') else ''}"
                     for kind in kinds.split())


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
