# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an object's own status says about it, as one pure function: object in, status and plain words out.

The order of asking: what holds for every kind (deletion, a status of an older generation, the conditions Reconciling and Stalled of
kstatus), then the kind's own rule: a function here for what comes with Kubernetes and counts, a row of health_rules for the others,
and for a kind that nobody described the words and conditions that most controllers use. What Git itself asks to stand still
(a paused Deployment, a suspended Job) is Current, for no time will change it.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._objects import health_rules as data
from ansible_collections.nordic.gitops.plugins.module_utils._objects.health_rules import Rule

CURRENT = "Current"
IN_PROGRESS = "InProgress"
FAILED = "Failed"
TERMINATING = "Terminating"
NOT_FOUND = "NotFound"
UNKNOWN = "Unknown"
STATUSES = (CURRENT, IN_PROGRESS, FAILED, TERMINATING, NOT_FOUND, UNKNOWN)


class Health(NamedTuple):
    status: str  # one of STATUSES
    message: str  # what is missing, in plain words; for a Current object what is worth knowing, often nothing


Judge = Callable[[Dict[str, Any]], Health]
Rules = Mapping[Tuple[str, str], Judge]  # a user's own, by group and kind


def health(obj: Any, rules: Optional[Rules] = None) -> Health:
    """The health of one object as the server returned it; None means that the server has no such object.

    rules: those of the option health_rules, which take the place of ours for their kinds.
    """
    if obj is None:
        return Health(NOT_FOUND, "not in the cluster")
    if not isinstance(obj, dict) or not isinstance(obj.get("kind"), str):
        return Health(UNKNOWN, "not an object with a kind")
    group, kind = _group(obj), obj["kind"]
    judge = HEALTH.get((group, kind))
    if rules and (group, kind) in rules:
        found = _generic(obj) or rules[(group, kind)](obj)
    elif judge is not None:
        found = _refused_by_admission(obj) or _generic(obj) or judge(obj)
    else:
        rule = rule_of(group, kind)
        found = _generic(obj, rule) or (_by_rule(obj, rule) if rule else _by_words(obj))
    return Health(found.status, _line(found.message)) if found.message else found


def is_unreported(obj: Dict[str, Any], rules: Optional[Rules] = None) -> bool:
    """Whether nobody has reported on an object, of a kind that no rule describes."""
    key = (_group(obj), str(obj.get("kind")))
    return _says_nothing(obj.get("status")) and key not in HEALTH and key not in (rules or {}) and rule_of(*key) is None


def _says_nothing(status: Any) -> bool:
    """No status, or one whose fields are all empty."""
    return status in (None, "", [], {}) or isinstance(status, dict) and all(value in (None, "", [], {}) for value in status.values())


def rule_of(group: str, kind: str) -> Optional[Rule]:
    """The row of that kind, or of its group's kinds, or of the groups below one domain."""
    found = ROWS.get((group, kind)) or ROWS.get((group, "*"))
    while found is None and "." in group:
        group = group.partition(".")[2]
        found = ROWS.get(("*." + group, kind)) or ROWS.get(("*." + group, "*"))
    return found


# Reading values that the server does not promise: a custom resource may hold anything anywhere.


def _map(value: Any, *path: str) -> Dict[str, Any]:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _items(value: Any, *path: str) -> List[Dict[str, Any]]:
    found = _map(value, *path[:-1]).get(path[-1])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _text(value: Any, *path: str) -> str:
    found = _map(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else ""


def _number(value: Any, *path: str) -> Optional[int]:
    found = _map(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _count(value: Any, *path: str, default: int = 0) -> int:
    found = _number(value, *path)
    return default if found is None else found


def _at(value: Any, path: str) -> Any:
    """What is at a path of a row, such as status.phase or metadata.labels.'example.com/zone'; None when nothing is."""
    for name in _path(path):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _each(value: Any, path: str) -> List[Any]:
    """What is at a path of a row in each item of a list or of a map: status.racks[].members. One value without []."""
    above, many, below = path.partition("[]")
    if not many:
        return [_at(value, path)]
    found = _at(value, above)
    items = [found[key] for key in sorted(found, key=str)] if isinstance(found, dict) else found
    return [_at(item, below.lstrip(".")) if below else item for item in items] if isinstance(items, list) else []


@functools.lru_cache(maxsize=1024)
def _path(path: str) -> Tuple[str, ...]:
    return tuple(quoted or name for quoted, name in re.findall(r"'([^']*)'|([^.']+)", path))


def _line(text: str) -> str:
    return " ".join(text.split())


def _group(obj: Dict[str, Any]) -> str:
    version = obj.get("apiVersion")
    return version.rpartition("/")[0] if isinstance(version, str) else ""


def _older(obj: Dict[str, Any], seen: Any) -> bool:
    """Whether `seen` is an older generation of the object than metadata has.

    Some controllers write it as a text. One that is no number, or higher than the generation, is a hash of the spec (Argo Rollouts
    before 1.0), which cannot be compared.
    """
    written = _map(obj, "metadata").get("generation")
    generation = int(written) if isinstance(written, str) and re.match("[0-9]{1,18}$", written) else _number(obj, "metadata", "generation")
    if generation is None or isinstance(seen, bool):
        return False
    if isinstance(seen, (int, float)):
        return seen != generation
    return isinstance(seen, str) and bool(re.match("[0-9]{1,18}$", seen)) and int(seen) < generation


def _condition(obj: Dict[str, Any], kind: str) -> Dict[str, Any]:
    """The condition of that type, or an empty one. One that speaks of an older generation is not an answer yet."""
    return _of_type(obj, _items(obj, "status", "conditions"), kind)


def _of_type(obj: Dict[str, Any], conditions: List[Dict[str, Any]], kind: str) -> Dict[str, Any]:
    found = [one for one in conditions if one.get("type") == kind]
    if not found:
        return {}
    # A controller that appends a condition for each change leaves the older ones in place: the latest counts.
    latest = found[0] if len(found) == 1 else max(found, key=_age)
    return {} if _is_stale(obj, latest) else latest


def _is_stale(obj: Dict[str, Any], condition: Dict[str, Any]) -> bool:
    return _older(obj, condition.get("observedGeneration"))


def _age(condition: Dict[str, Any]) -> Tuple[str, ...]:
    return tuple(str(condition.get(key)) for key in ("lastTransitionTime", "observedGeneration", "status", "reason", "message"))


def _is(condition: Dict[str, Any], value: str) -> bool:
    found = condition.get("status")
    return isinstance(found, (str, bool)) and str(found).lower() == value.lower()


def _words(condition: Dict[str, Any], otherwise: str = "") -> str:
    """A condition's reason and message, the way a person would quote them."""
    parts = [_text(condition, key).strip() for key in ("reason", "message")]
    return ": ".join(part for part in parts if part) or otherwise


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _current(message: str = "") -> Health:
    return Health(CURRENT, message)


def _waiting(message: str) -> Health:
    return Health(IN_PROGRESS, message)


def _failed(message: str) -> Health:
    return Health(FAILED, message)


def _unseen() -> Health:
    return _waiting("its controller has not seen this version yet")


# Rules that hold for every kind.


def _generic(obj: Dict[str, Any], rule: Optional[Rule] = None) -> Optional[Health]:
    # Every object of every run passes here, so what most of them do not have costs them nothing.
    metadata, status = obj.get("metadata"), obj.get("status")
    if isinstance(metadata, dict) and isinstance(metadata.get("deletionTimestamp"), str):
        return Health(TERMINATING, _why_it_stays(obj))
    if not status or not isinstance(status, dict):
        return None
    if _older(obj, status.get("observedGeneration")):
        return _unseen()
    if rule is not None and rule.seen and _older(obj, _at(obj, rule.seen)):
        return _unseen()
    if "conditions" in status:
        stalled = _condition(obj, "Stalled")
        if _is(stalled, "True"):
            return _failed(_words(stalled, "its controller gave up"))
        reconciling = _condition(obj, "Reconciling")
        if _is(reconciling, "True"):
            ready = _condition(obj, "Ready")
            # Flux: the last try failed, and it goes on trying.
            why = f"; {_words(ready)}" if reconciling.get("reason") == "ProgressingWithRetry" and _is(ready, "False") else ""
            return _waiting(_words(reconciling, "its controller is at work") + why)
    return None


NAMESPACE_LEFT = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
)


def _why_it_stays(obj: Dict[str, Any]) -> str:
    finalizers = _map(obj, "metadata").get("finalizers")
    names = [str(name) for name in finalizers] if isinstance(finalizers, list) else []
    message = "being deleted"
    if names:
        message += f", held by the {'finalizer' if len(names) == 1 else 'finalizers'} {', '.join(names)}"
    # A Namespace says itself what is left inside (NamespaceStatus in the API reference).
    conditions = [_condition(obj, kind) for kind in NAMESPACE_LEFT]
    return "; ".join([message, *(_words(condition) for condition in conditions if _is(condition, "True"))])


# Words and types of conditions by their meaning.

_MEANS = {word: meaning for meaning, words in data.WORDS.items() for word in words.split()}
_TYPES = {
    **{kind: data.FAILED for kind in data.FAILED_TYPES},
    **{kind: data.WORKING for kind in data.WORKING_TYPES},
    **{kind: data.STILL for kind in data.STILL_TYPES},
}
_STATUS = {data.HEALTHY: CURRENT, data.WORKING: IN_PROGRESS, data.FAILED: FAILED, data.STILL: CURRENT}


def _plain(word: str) -> str:
    return re.sub("[^a-z0-9]", "", word.lower())


# A type of a condition by its letters alone: ready, READY, is_ready.
_SPELLED = {
    prefix + _plain(type_): type_
    for type_ in (*data.SUMMARY, *data.BESIDE, *_TYPES, *data.READY_TYPES)
    for prefix in ("", "is")
}


def meaning(word: str, kind: str = "") -> str:
    """What a word of a phase, a state or a reason means; empty when it is not known."""
    plain = _plain(word)
    found = _MEANS.get(plain, "")
    if found == data.HEALTHY and plain in data.BEGUN.split() and kind.endswith(data.ENDS):
        return data.WORKING
    if found or not plain or len(plain) > 60:
        return found
    if plain.startswith("no") and _MEANS.get(plain[2:]) == data.FAILED:
        return data.HEALTHY  # NoConflict
    if plain.endswith(("failed", "error", "errors", "failure", "backoff", "invalid", "exceeded", "denied", "notfound")) or plain.startswith(
        ("err", "failed", "invalid", "cannot", "unable")
    ):
        return data.FAILED
    if any(plain.startswith(no) and _MEANS.get(plain[len(no):]) == data.HEALTHY for no in ("not", "non", "un")):
        return data.WORKING
    return data.WORKING if plain.startswith(("waiting", "pending", "partial")) or plain.endswith(("ing", "pending", "inprogress")) else ""


class _Findings:
    """What the parts of a status say, the worst of which is the object's health."""

    def __init__(self) -> None:
        self.found: Dict[str, List[str]] = {data.FAILED: [], data.WORKING: [], data.STILL: [], data.HEALTHY: []}

    def add(self, meaning_: str, words: str) -> None:
        if words not in self.found[meaning_]:
            self.found[meaning_].append(words)

    def worst(self) -> Optional[Health]:
        for meaning_, words in self.found.items():
            if words:
                return Health(_STATUS[meaning_], "" if meaning_ == data.HEALTHY else "; ".join(words[:3]))
        return None


def _holds(obj: Dict[str, Any], paths: str) -> str:
    """What of the object itself asks its controller to stand still; empty when nothing does."""
    for path in paths.split():
        name, equals, wanted = path.partition("=")
        if name.startswith("@"):
            value = _map(obj, "metadata", "annotations").get(name[1:])
            if isinstance(value, str) and (value == wanted or not equals):
                return f"held by its annotation {name[1:]}"
        else:
            value = _at(obj, name)
            if str(value).lower() == wanted.lower() if equals and value is not None else value is True:
                return f"held by its own {name}"
    return ""


def _errors(obj: Dict[str, Any], paths: str) -> str:
    for path in paths.split():
        for value in _each(obj, path):
            if isinstance(value, str) and value.strip():
                return value
            if value is True or isinstance(value, int) and value > 0:
                return f"{path} is {str(value).lower()}"
            if isinstance(value, list) and value:
                return f"{path} has {_plural(len(value), 'entry').replace('entrys', 'entries')}"
    return ""


def _by_rule(obj: Dict[str, Any], rule: Rule) -> Health:
    held = _holds(obj, rule.holds)
    if held:
        return _current(held)
    if _holds(obj, rule.runs):
        still = {word: data.WORKING for word, said in rule.words.items() if said == data.STILL and word != "Paused"}
        rule = rule._replace(words={**rule.words, **still})
    off = _holds(obj, rule.off)
    status = obj.get("status")
    if not status:
        return _current(off) if rule.silent or off else _unseen()
    findings = _Findings()
    error = _errors(obj, rule.errors)
    if error:
        findings.add(data.FAILED, error)
    _judge_conditions(obj, rule, _items(obj, "status", "conditions"), findings, required=not rule.parts)
    for path in rule.parts.split():
        items = _parts(obj, path)
        for item in items:
            _judge_conditions(obj, rule, _items(item, "conditions"), findings, name=_part_name(item))
        if not items and not rule.silent and not path.endswith("?"):
            findings.add(data.WORKING, f"{path} is empty: its controller has not seen it yet")
    on_its_way = False
    for path in rule.state.split():
        for value in _each(obj, path):
            known = _judge_word(value, rule, findings, _message(obj), path)
            on_its_way = on_its_way or known == data.WORKING
    if findings.found[data.STILL] or off and not on_its_way:
        findings.found[data.WORKING] = []  # what stands still on purpose is not ready, and need not be
    for pair in rule.counts.split():
        _judge_count(obj, pair, findings)
    for pair in rule.equal.split():
        _judge_equal(obj, pair, findings)
    return findings.worst() or (_current(off) if rule.silent or off else _unseen())


def _parts(obj: Dict[str, Any], path: str) -> List[Dict[str, Any]]:
    """The parts of a status that have conditions of their own, without those that speak of an older generation beside newer ones."""
    found = _at(obj, path.rstrip("?!"))
    items = [found] if isinstance(found, dict) else [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    fresh = [item for item in items if not any(_is_stale(obj, one) for one in _items(item, "conditions"))]
    return items if path.endswith("!") or not fresh else fresh


def _part_name(item: Dict[str, Any]) -> str:
    return (
        _text(item, "parentRef", "name") or _text(item, "ancestorRef", "name") or _text(item, "name") or _text(item, "namespace")
    )


def _message(obj: Dict[str, Any]) -> str:
    return _text(obj, "status", "message") or _text(obj, "status", "reason")


def _judge_conditions(
    obj: Dict[str, Any],
    rule: Rule,
    conditions: List[Dict[str, Any]],
    findings: _Findings,
    name: str = "",
    required: bool = True,
) -> None:
    prefix = f"{name}: " if name else ""
    for kinds, meaning_ in ((rule.failed, data.FAILED), (rule.working, data.WORKING), (rule.still, data.STILL)):
        for kind in kinds.split():
            condition = _of_type(obj, conditions, kind)
            if _is(condition, "True"):
                reason = _text(condition, "reason")
                findings.add(rule.words.get(reason, meaning_), prefix + _words(condition, kind))
    for kind in rule.ready.split():
        optional, failing = kind.endswith("?"), kind.endswith("!")
        kind = kind.rstrip("?!")
        condition = _of_type(obj, conditions, kind)
        if failing:
            if _is(condition, "False") and meaning(_text(condition, "reason")) == data.FAILED:
                findings.add(data.FAILED, prefix + _words(condition))
        elif not condition:
            stale = any(one.get("type") == kind for one in conditions)
            if stale or not optional and (required or conditions):
                findings.add(data.WORKING, prefix + _unseen().message)
        elif _is(condition, "True"):
            findings.add(data.FAILED if rule.words.get(_text(condition, "reason")) == data.FAILED else data.HEALTHY, prefix + _words(condition))
        else:
            findings.add(_unready(condition, rule), prefix + _words(condition, f"{kind} is {condition.get('status') or 'not known'}"))


def _unready(condition: Dict[str, Any], rule: Rule) -> str:
    """What a condition means that should be True and is not."""
    reason = _text(condition, "reason")
    if reason in rule.words:
        return rule.words[reason]
    severity = _text(condition, "severity")  # Cluster API: only Error asks for a person
    if severity:
        return data.FAILED if severity == "Error" else data.WORKING
    known = meaning(reason)
    if known == data.FAILED or known == data.WORKING and reason != "NotReady" or known == data.STILL and rule is _NO_RULE:
        return known
    return rule.false or data.WORKING if _is(condition, "False") else data.WORKING


def _judge_word(value: Any, rule: Rule, findings: _Findings, message: str, path: str) -> str:
    """Adds what the word means, and returns it where it is a known one."""
    if isinstance(value, bool):
        known = data.HEALTHY if value else rule.false or data.WORKING
        findings.add(known, f"{path} is {str(value).lower()}")
        return known
    if not isinstance(value, (int, str)) or value == "":
        return ""
    known = rule.words.get(str(value), "") or (meaning(value) if isinstance(value, str) else "")
    findings.add(known or rule.other, ": ".join(part for part in (str(value), message) if part))
    return known


def _judge_count(obj: Dict[str, Any], pair: str, findings: _Findings) -> None:
    have_path, slash, want_path = pair.partition("/")
    name = have_path.partition("+")[0].rstrip("?").rpartition(".")[2]
    if slash:
        have_path, _plus, more_path = have_path.partition("+")
        have, want = _total(obj, have_path.rstrip("?")), int(want_path) if want_path.isdigit() else _total(obj, want_path)
        if more_path:
            have = (have or 0) + (_total(obj, more_path) or 0)
    else:  # one text, such as "2/3"
        match = re.match("([0-9]{1,9})/([0-9]{1,9})$", str(_at(obj, have_path)))
        have, want = (int(match.group(1)), int(match.group(2))) if match else (None, None)
    if want is None or have is None and have_path.endswith("?"):
        return
    if (have or 0) < want:
        findings.add(data.WORKING, f"{name} is {have or 0} of {want}")
    else:
        findings.add(data.HEALTHY, "")


def _total(obj: Dict[str, Any], path: str) -> Optional[int]:
    """The number at a path, the sum of all of them, or the length of what is there; None when nothing is."""
    numbers = [
        len(value) if isinstance(value, (list, dict)) else 1 if isinstance(value, str) and value else value
        for value in _each(obj, path)
    ]
    counted = [value for value in numbers if isinstance(value, int)]
    return sum(counted) if counted else None


def _judge_equal(obj: Dict[str, Any], pair: str, findings: _Findings) -> None:
    want_path, _equals, have_path = pair.partition("==")
    for want, have in zip(_each(obj, want_path.rstrip("?")), _each(obj, have_path)):
        if want is None and want_path.endswith("?"):
            continue
        if want is None or str(have) != str(want):
            findings.add(data.WORKING, f"{have_path} is {_shown(have)}, {want_path.rstrip('?')} is {_shown(want)}")
        else:
            findings.add(data.HEALTHY, "")


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)[:40]


# A kind that no row describes.


def _by_words(obj: Dict[str, Any]) -> Health:
    """Conditions and words as most controllers use them. What says nothing that we know is Current: waiting would bring nothing."""
    status, kind = _usual_status(obj.get("status")), obj["kind"]
    if not status:
        return _current()
    held = _holds(obj, data.HOLDS)
    if held:
        return _current(held)
    obj = {**obj, "status": status}
    findings, conditions = _Findings(), _items(obj, "status", "conditions")
    types = sorted({one["type"] for one in conditions if isinstance(one.get("type"), str)})
    stands_still = _judge_types(obj, conditions, types, findings)
    healthy = _judge_summary(obj, conditions, types, findings)
    for path in data.STATES.split():
        value = _at(obj, path)
        known = meaning(value, kind) if isinstance(value, str) else ""
        if known:
            findings.add(known, ": ".join(part for part in (value, _message(obj)) if part))
    error = _errors(obj, data.ERRORS)
    if error and not findings.found[data.HEALTHY]:
        findings.add(data.FAILED, error)
    for path in ("ancestors?", "parents?"):  # a policy or a route of the Gateway API's pattern
        for item in _parts(obj, f"status.{path}"):
            _judge_conditions(obj, _ATTACHED, _items(item, "conditions"), findings, name=_part_name(item))
    stands_still = _judge_flags(status, findings, healthy) or stands_still
    for name in ("ready", "replicas"):
        _judge_count(obj, f"status.{name}", findings)  # "1/3"
    if not healthy:
        _judge_replicas(obj, findings)
    if kind.endswith(data.ENDS) and not findings.worst() and any(status.get(name) for name in data.STARTED.split()):
        if not any(status.get(name) for name in data.ENDED.split()):
            findings.add(data.WORKING, "it has begun and not ended")
    if stands_still:
        findings.found[data.WORKING] = []
    return findings.worst() or _current()


def _usual_status(status: Any) -> Dict[str, Any]:
    """A status in the usual form: one word, true or false, a list of conditions, and a map of conditions are read too."""
    if isinstance(status, str):
        status = {"status": status}
    elif isinstance(status, bool):
        status = {"ready": status}
    elif isinstance(status, list):
        status = {"conditions": status}
    if not isinstance(status, dict):
        return {}
    conditions = status.get("conditions")
    if isinstance(conditions, dict):
        conditions = [{"type": key, **(one if isinstance(one, dict) else {"status": one})} for key, one in conditions.items()]
    if isinstance(conditions, list):
        status = {**status, "conditions": [_usual_condition(one) for one in conditions if isinstance(one, dict)]}
    return status


def _usual_condition(condition: Dict[str, Any]) -> Dict[str, Any]:
    """A condition whose type is written in another case, or whose status is a word."""
    type_, value = condition.get("type"), condition.get("status")
    known = _SPELLED.get(_plain(type_), type_) if isinstance(type_, str) else type_
    if not isinstance(value, str) or value.lower() in ("true", "false", "unknown"):
        return {**condition, "type": known}
    means = {data.HEALTHY: "True", data.FAILED: "False"}.get(meaning(value), "Unknown")
    return {**condition, "type": known, "status": means, "reason": condition.get("reason") or value}


def _judge_types(obj: Dict[str, Any], conditions: List[Dict[str, Any]], types: List[str], findings: _Findings) -> bool:
    """Conditions whose True is bad, or says that work goes on. Returns whether one says that it stands still."""
    still = False
    for type_ in types:
        condition = _of_type(obj, conditions, type_)
        known = _TYPES.get(type_) or (
            data.FAILED if type_.endswith(data.FAILED_ENDINGS) else data.WORKING if type_.endswith(data.WORKING_ENDINGS) else ""
        )
        if known and _is(condition, "True") and _text(condition, "reason") != "NewReplicaSetAvailable":
            findings.add(known, _words(condition, type_))
            still = still or known == data.STILL
        elif known == data.WORKING and _is(condition, "False") and meaning(_text(condition, "reason")) == data.FAILED:
            findings.add(data.FAILED, _words(condition))
    return still


def _judge_summary(obj: Dict[str, Any], conditions: List[Dict[str, Any]], types: List[str], findings: _Findings) -> bool:
    """The condition that speaks for the others, or all that should be True. Returns whether what was asked is True."""
    summary = [type_ for type_ in data.SUMMARY if type_ in types][:1] or [
        type_ for type_ in types if type_ in data.READY_TYPES or type_.endswith("Ready") and not type_.endswith("NotReady")
    ]
    summary += [type_ for type_ in data.BESIDE if type_ not in summary and _is(_of_type(obj, conditions, type_), "False")]
    healthy = bool(summary)
    for type_ in summary:
        condition = _of_type(obj, conditions, type_)
        if not condition:
            known, words = data.WORKING, _unseen().message
        elif not _is(condition, "True"):
            known, words = _unready(condition, _NO_RULE), _words(condition, f"{type_} is {condition.get('status') or 'not known'}")
        elif meaning(_text(condition, "reason")) == data.FAILED:  # Completed, with the reason Failed
            known, words = data.FAILED, _words(condition)
        elif condition.get("message") == data.RECONCILES or _plain(type_) in data.BEGUN.split() and str(obj["kind"]).endswith(data.ENDS):
            known, words = data.WORKING, _words(condition, type_)
        else:
            known, words = data.HEALTHY, ""
        findings.add(known, words)
        healthy = healthy and known == data.HEALTHY
    return healthy


def _judge_flags(status: Dict[str, Any], findings: _Findings, healthy: bool) -> bool:
    """Fields that are true or false. Returns whether one says that it stands still."""
    still = False
    for value, flags in ((True, data.TRUE_MEANS), (False, data.FALSE_MEANS)):
        for known, names in flags.items():
            for name in names.split():
                found = status.get(name)
                if (found is value or isinstance(found, str) and found.lower() == str(value).lower()) and not (healthy and name in data.DOUBTS.split()):
                    findings.add(known, f"status.{name} is {str(value).lower()}")
                    still = still or known == data.STILL
    return still


def _judge_replicas(obj: Dict[str, Any], findings: _Findings) -> None:
    for path, names in data.COUNTED:
        wanted = _number(obj, *path.split("."))
        for name in names.split():
            have = _number(obj, "status", name)
            if wanted is not None and have is not None and have < wanted:
                findings.add(data.WORKING, f"{name} is {have} of {wanted}")
    for name in data.MISSING.split():
        missing = _total(obj, f"status.{name}")
        if missing:
            findings.add(data.WORKING, f"{name} is {missing}")


_NO_RULE = Rule("")
_ATTACHED = Rule("", ready="Accepted? Programmed? ResolvedRefs?", failed="Conflicted PartiallyInvalid", false=data.FAILED, words={"Pending": data.WORKING})


def _by_condition(kind: str) -> Judge:
    """Current when that condition is True."""

    def rule(obj: Dict[str, Any]) -> Health:
        condition = _condition(obj, kind)
        if not condition:
            return _unseen()
        if _is(condition, "True"):
            return _current()
        return _waiting(_words(condition, f"{kind} is {condition.get('status') or 'not known'}"))

    return rule


def _node(obj: Dict[str, Any]) -> Health:
    ready = _condition(obj, "Ready")
    if not _is(ready, "True"):
        return _waiting(_words(ready, "the kubelet has not reported yet"))
    for kind in NODE_TROUBLE:
        condition = _condition(obj, kind)
        if _is(condition, "True"):
            return _waiting(_words(condition, kind))
    return _current("cordoned" if _map(obj, "spec").get("unschedulable") is True else "")


# A Node stays Ready with these, and evicts its Pods or cannot connect them.
NODE_TROUBLE = ("NetworkUnavailable", "DiskPressure", "MemoryPressure", "PIDPressure")


def _by_phase(current: Tuple[str, ...], failed: Tuple[str, ...]) -> Judge:
    def rule(obj: Dict[str, Any]) -> Health:
        phase, message = _text(obj, "status", "phase"), _text(obj, "status", "message")
        words = ": ".join(part for part in (phase, message) if part)
        if phase in current:
            return _current("" if phase == current[0] else words)
        if phase in failed:
            return _failed(words)
        return _waiting(words) if phase else _unseen()

    return rule


# Workloads.


def _deployment(obj: Dict[str, Any]) -> Health:
    wanted = _count(obj, "spec", "replicas", default=1)
    ready, existing = _count(obj, "status", "readyReplicas"), _count(obj, "status", "replicas")
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    updated = _count(obj, "status", "updatedReplicas")
    if _map(obj, "spec").get("paused") is True:
        if existing > wanted and existing == updated:  # it is scaled all the same
            return _waiting(f"paused by its own spec, {_plural(existing - wanted, 'replica')} still to end")
        return _current(f"paused by its own spec, {ready} of {wanted} replicas ready")
    progressing = _condition(obj, "Progressing")
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return _failed(f"{ready} of {wanted} replicas ready when its progress deadline passed{_because(obj)}")
    if wanted and not existing and _is_refused(_condition(obj, "ReplicaFailure")):
        # Not one Pod exists whose end could make room, so only a person can mend it.
        return _failed(f"0 of {wanted} replicas updated{_because(obj)}")
    if updated < wanted:
        return _waiting(f"{updated} of {wanted} replicas updated{_because(obj)}")
    if existing > min(updated, wanted):
        return _waiting(f"{_plural(existing - min(updated, wanted), 'old replica')} still to end")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} replicas ready{_because(obj)}")
    available = _count(obj, "status", "availableReplicas")
    if available < wanted:
        return _waiting(f"{available} of {wanted} replicas available (ready for minReadySeconds)")
    if not _is(_condition(obj, "Available"), "True"):
        return _waiting(_words(_condition(obj, "Available"), "not available yet"))
    if _is(progressing, "False"):
        return _waiting(_words(progressing, "not progressing"))
    return _current()


def _refused_by_admission(obj: Dict[str, Any]) -> Optional[Health]:
    """A Deployment whose ReplicaSet is refused. Its controller says so without ever marking the generation as seen."""
    if obj["kind"] != "Deployment" or _text(obj, "metadata", "deletionTimestamp"):
        return None
    progressing = _condition(obj, "Progressing")
    if progressing.get("reason") == "ReplicaSetCreateError" and _is(progressing, "False"):
        return _failed(_words(progressing)) if _is_refused(progressing) else _waiting(_words(progressing))
    return None


# What an API server refuses stays refused until somebody changes the object, the quota or the policy; a webhook or a
# ServiceAccount that is not there yet may come in the same run.
_COMES_BY_ITSELF = ("failed calling webhook", "error looking up service account", "timeout", "connection refused", "being terminated")


def _is_refused(condition: Dict[str, Any]) -> bool:
    message = _text(condition, "message")
    return bool(condition) and not any(words in message for words in _COMES_BY_ITSELF)


def _because(obj: Dict[str, Any]) -> str:
    """A quota or an admission webhook that refuses the Pods is told by the workload alone: there is no Pod to ask."""
    failure = _condition(obj, "ReplicaFailure")
    return f" ({_words(failure)})" if _is(failure, "True") and _words(failure) else ""


def _replica_set(obj: Dict[str, Any]) -> Health:
    wanted = _count(obj, "spec", "replicas", default=1)
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    ready, existing = _count(obj, "status", "readyReplicas"), _count(obj, "status", "replicas")
    failure = _condition(obj, "ReplicaFailure")
    if _is(failure, "True"):
        told = f"{existing} of {wanted} replicas could be created{_because(obj)}"
        return _failed(told) if existing < wanted and _is_refused(failure) else _waiting(told)
    if existing > wanted:
        return _waiting(f"{_plural(existing - wanted, 'replica')} still to end")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} replicas ready")
    if _count(obj, "status", "availableReplicas") < wanted:
        return _waiting(
            f"{_count(obj, 'status', 'availableReplicas')} of {wanted} replicas available (ready for minReadySeconds)"
        )
    return _current()


def _stateful_set(obj: Dict[str, Any]) -> Health:
    wanted = _count(obj, "spec", "replicas", default=1)
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    ready, existing = _count(obj, "status", "readyReplicas"), _count(obj, "status", "replicas")
    if existing > wanted:
        return _waiting(f"{_plural(existing - wanted, 'replica')} still to end")
    if ready < wanted:
        return _waiting(f"{ready} of {wanted} replicas ready")
    available = _number(obj, "status", "availableReplicas")
    if available is not None and available < wanted:
        return _waiting(f"{available} of {wanted} replicas available (ready for minReadySeconds)")
    now, later = _text(obj, "status", "currentRevision"), _text(obj, "status", "updateRevision")
    if _text(obj, "spec", "updateStrategy", "type") == "OnDelete":
        # Only a person deletes the old Pods, so there is nothing that waiting could bring.
        return _current(
            "" if now == later else "the old Pods stay until somebody deletes them (updateStrategy OnDelete)"
        )
    partition = _count(obj, "spec", "updateStrategy", "rollingUpdate", "partition")
    # One revision is all Pods' one: a partition keeps none at another.
    due, updated = wanted if now == later else max(wanted - partition, 0), _count(obj, "status", "updatedReplicas")
    # A roll-out that was reverted half-way has one revision again, while Pods of the other one still run.
    current = _number(obj, "status", "currentReplicas")
    if not later and current is not None and current < wanted:
        return _waiting(f"{current} of {wanted} replicas at the current revision")
    if later and updated < due:
        return _waiting(f"{updated} of {due} replicas updated")
    if now != later and not partition:
        return _waiting("the last old replica is still to be replaced")
    return _current(
        f"{_plural(wanted - updated, 'replica')} kept at the old revision by its partition"
        if now != later and updated < wanted
        else ""
    )


def _daemon_set(obj: Dict[str, Any]) -> Health:
    wanted = _number(obj, "status", "desiredNumberScheduled")
    if _number(obj, "status", "observedGeneration") is None or wanted is None:
        return _unseen()
    updated, ready = _count(obj, "status", "updatedNumberScheduled"), _count(obj, "status", "numberReady")
    scheduled, available = _count(obj, "status", "currentNumberScheduled"), _count(obj, "status", "numberAvailable")
    if scheduled < wanted:
        return _waiting(f"on {scheduled} of {_plural(wanted, 'node')}")
    if updated < wanted and _text(obj, "spec", "updateStrategy", "type") != "OnDelete":
        return _waiting(f"updated on {updated} of {_plural(wanted, 'node')}")
    if ready < wanted:
        return _waiting(f"ready on {ready} of {_plural(wanted, 'node')}")
    if available < wanted:
        return _waiting(f"available (ready for minReadySeconds) on {available} of {_plural(wanted, 'node')}")
    return _current("" if wanted else "no node matches it")


def _job(obj: Dict[str, Any]) -> Health:
    for kind, result in (("Complete", CURRENT), ("Failed", FAILED)):
        condition = _condition(obj, kind)
        if _is(condition, "True"):
            return Health(result, "" if result == CURRENT else _words(condition, "failed"))
    failed = _count(obj, "status", "failed")
    done, active = _count(obj, "status", "succeeded"), _count(obj, "status", "active")
    if _map(obj, "spec").get("suspend") is True:
        if active:
            return _waiting(f"suspended by its own spec, {_plural(active, 'Pod')} still to end")
        return _current("suspended by its own spec")
    if _is(_condition(obj, "FailureTarget"), "True"):
        return _failed(_words(_condition(obj, "FailureTarget")))
    if _number(obj, "spec", "parallelism") == 0 and not active and _text(obj, "status", "startTime"):
        return _current("held by its own parallelism of 0")
    trouble = f", {_plural(failed, 'Pod')} failed" if failed else ""
    wanted = _number(obj, "spec", "completions")
    if not _text(obj, "status", "startTime"):
        return _waiting("not started yet")
    if wanted is None:  # a work queue: one success ends it
        return _waiting(f"{_plural(active, 'Pod')} at work{trouble}")
    return _waiting(f"{done} of {_plural(wanted, 'completion')}, {_plural(active, 'Pod')} at work{trouble}")


def _cron_job(obj: Dict[str, Any]) -> Health:
    return _current("suspended by its own spec" if _map(obj, "spec").get("suspend") is True else "")


# Reasons of a waiting container which say that it will not start by itself as it is. The kubelet has some twenty
# (pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go); Argo CD knows them by this pattern.
def _is_trouble(reason: str) -> bool:
    names = ("InvalidImageName", "RegistryUnavailable", "SignatureValidationFailed")
    return reason.startswith("Err") or reason.endswith(("Error", "BackOff")) or reason in names


def _pod(obj: Dict[str, Any]) -> Health:
    phase = _text(obj, "status", "phase")
    if phase == "Succeeded":
        return _current("ran to its end")
    if phase == "Failed":
        return _failed(_pod_reason(obj) or _words(_map(obj, "status"), "failed"))
    trouble = next((reason for _name, reason, _message in _waiting_containers(obj) if _is_trouble(reason)), "")
    if trouble or any(_number(status, "state", "terminated", "exitCode") not in (0, None) for status in _statuses(obj)):
        return _failed(_pod_reason(obj))
    if phase == "Running" and _is(_condition(obj, "Ready"), "True"):
        resize = _resize(obj)
        if resize:
            return resize
        if _text(obj, "spec", "restartPolicy") in ("Never", "OnFailure"):
            return _waiting(f"running, to end by itself (restartPolicy {_text(obj, 'spec', 'restartPolicy')})")
        return _current()
    return _waiting(_pod_reason(obj) or ("running, not ready yet" if phase == "Running" else "not started yet"))


def _resize(pod: Dict[str, Any]) -> Optional[Health]:
    """A Pod that has not got the resources that its spec asks for (KEP 1287)."""
    for kind in ("PodResizePending", "PodResizeInProgress"):
        condition = _condition(pod, kind)
        if _is(condition, "True"):
            words = _words(condition, kind)
            return _failed(words) if condition.get("reason") in ("Infeasible", "Error") else _waiting(words)
    return None


def _statuses(pod: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [status for key in ("initContainerStatuses", "containerStatuses") for status in _items(pod, "status", key)]


def _waiting_containers(pod: Dict[str, Any]) -> List[Tuple[str, str, str]]:
    """(container, reason, message) of each container that waits for something."""
    found = []
    for status in _statuses(pod):
        state = _map(status, "state", "waiting")
        if _text(state, "reason"):
            found.append((_text(status, "name"), _text(state, "reason"), _text(state, "message")))
    return found


def _last_end(status: Dict[str, Any]) -> str:
    """How a container ended the last time: "last exit code 137 (OOMKilled)"."""
    end = _map(status, "lastState", "terminated") or _map(status, "state", "terminated")
    code = _number(end, "exitCode")
    if code is None:
        return ""
    reason = _text(end, "reason")
    return f"last exit code {code}" + (f" ({reason})" if reason and reason not in ("Error", "Completed") else "")


def _pod_reason(pod: Dict[str, Any]) -> str:
    """Why this Pod does not run, as the scheduler or the kubelet put it; empty when nothing is wrong with it."""
    scheduled = _condition(pod, "PodScheduled")
    if _is(scheduled, "False"):
        return _words(scheduled, "not scheduled yet")
    statuses = {_text(status, "name"): status for status in _statuses(pod)}
    waits = _waiting_containers(pod)
    for container, reason, message in sorted(waits, key=lambda wait: not _is_trouble(wait[1])):
        if not _is_trouble(reason):
            continue
        end = _last_end(statuses.get(container, {})) if reason == "CrashLoopBackOff" else ""
        told = ": ".join(part for part in (reason, end or message) if part)
        return f"container {container}: {told}"
    for container, status in statuses.items():
        if _number(status, "state", "terminated", "exitCode") not in (0, None):
            return f"container {container}: {_last_end(status)}"
    if _text(pod, "status", "phase") == "Failed":
        return _words(_map(pod, "status"), "failed")
    for container, reason, message in waits:
        if reason not in ("ContainerCreating", "PodInitializing"):
            return f"container {container}: " + ": ".join(part for part in (reason, message) if part)
    if _text(pod, "status", "phase") == "Running" and not _is(_condition(pod, "Ready"), "True"):
        late = [
            name
            for name, status in statuses.items()
            if status.get("ready") is False and "running" in _map(status, "state")
        ]
        return (
            f"container {late[0]}: running, its readiness probe has not passed"
            if late
            else _words(_condition(pod, "Ready"))
        )
    return ""


def pods_reason(pods: Iterable[Any]) -> str:
    """Why a workload's Pods do not run, in one line: the commonest reason first, with the Pods that have it.

    Pods on their way out are left out: what holds an old Pod says nothing about the new ones.
    """
    reasons: Dict[str, List[str]] = {}
    for pod in pods:
        if (
            not isinstance(pod, dict)
            or _text(pod, "metadata", "deletionTimestamp")
            or _text(pod, "status", "phase") == "Succeeded"
        ):
            continue
        reason = _pod_reason(pod)
        if reason:
            reasons.setdefault(reason, []).append(_text(pod, "metadata", "name"))
    told = []
    for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1]))[:3]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        told.append(f"Pod {names[0]}{more}: {reason}")
    return _line("; ".join(told))


# Storage and network.


def _claim(obj: Dict[str, Any]) -> Health:
    phase = _text(obj, "status", "phase")
    if phase == "Bound":
        return _bound_claim(obj)
    if phase == "Lost":
        return _failed("Lost: the volume it was bound to is gone")
    # A class with volumeBindingMode WaitForFirstConsumer looks the same; only the class and the Pods could tell.
    return _waiting("Pending: no volume bound yet (a class with WaitForFirstConsumer binds once a Pod uses the claim)")


def _bound_claim(obj: Dict[str, Any]) -> Health:
    """A claim that has its volume, while the volume grows or gets other attributes."""
    resizes = _map(obj, "status", "allocatedResourceStatuses").values()
    wrong = [word for word in resizes if isinstance(word, str) and word.endswith(("Infeasible", "Failed"))]
    if _text(obj, "status", "modifyVolumeStatus", "status") == "Infeasible":
        wrong.append("ModifyVolume Infeasible")
    for kind in ("ControllerResizeError", "NodeResizeError", "ModifyVolumeError"):
        condition = _condition(obj, kind)
        if _is(condition, "True"):
            wrong.append(_words(condition, kind))
    if wrong:
        return _failed("; ".join(sorted(wrong)))
    for kind in ("Resizing", "ModifyingVolume"):
        condition = _condition(obj, kind)
        if _is(condition, "True"):
            return _waiting(_words(condition, kind))
    # The file system grows when a Pod mounts it, and no Pod may be due.
    return _current("its file system grows once a Pod uses it" if _is(_condition(obj, "FileSystemResizePending"), "True") else "")


def _service(obj: Dict[str, Any]) -> Health:
    ports = _condition(obj, "LoadBalancerPortsError")
    if _is(ports, "True"):
        return _failed(_words(ports, "its load balancer cannot have its ports"))
    if _text(obj, "spec", "type") == "LoadBalancer" and not _items(obj, "status", "loadBalancer", "ingress"):
        if _map(obj, "spec").get("externalIPs"):
            return _current("no address of a load balancer, reachable by its externalIPs")
        return _waiting("no external address yet (it comes from a load balancer controller)")
    return _current()


def _ingress(obj: Dict[str, Any]) -> Health:
    # Many clusters route without ever writing an address here, so waiting for one would wait for ever.
    return _current("" if _items(obj, "status", "loadBalancer", "ingress") else "no address yet")


# Policy and autoscaling.


def _disruption_budget(obj: Dict[str, Any]) -> Health:
    if _number(obj, "status", "observedGeneration") is None:
        return _unseen()
    allowed = _condition(obj, "DisruptionAllowed")
    if allowed.get("reason") == "SyncFailed":
        return _waiting(_words(allowed))
    healthy, wanted = _count(obj, "status", "currentHealthy"), _count(obj, "status", "desiredHealthy")
    expected = _number(obj, "status", "expectedPods")
    if expected == 0:
        return _current("no Pod matches it")
    if healthy < wanted and (expected is None or healthy < expected):
        return _waiting(f"{healthy} of {wanted} Pods that it protects are healthy")
    return _current("no Pod may be evicted" if _number(obj, "status", "disruptionsAllowed") == 0 else "")


AUTOSCALER_V1 = "autoscaling.alpha.kubernetes.io/conditions"


def _autoscaler(obj: Dict[str, Any]) -> Health:
    """An autoscaler is Current once it has looked at its target and can scale it.

    Missing metrics are not a failure: every fresh one reports FailedGet...Metric until its Pods have run for a while, and on a cluster
    without a metrics server it stays so, though the workload runs as it should. What it says is kept in the message. A target that it
    cannot read may still come in the same run. Its first look takes up to 15 s (one resync period).
    """
    # The API of autoscaling/v1 has no conditions: the server puts them into an annotation.
    v1 = _map(obj, "metadata", "annotations").get(AUTOSCALER_V1)
    conditions = _parsed(v1) if isinstance(v1, str) else _items(obj, "status", "conditions")
    able, active = (_of_type(obj, conditions, kind) for kind in ("AbleToScale", "ScalingActive"))
    if not able:
        return _waiting("its controller has not looked at it yet")
    for condition in (able, active):
        reason = _text(condition, "reason")
        if reason.startswith("Invalid") or reason in ("AmbiguousSelector", "FailedUpdateScale"):
            return _failed(_words(condition))
        if reason == "FailedGetScale":
            return _waiting(_words(condition))
    if not _is(able, "True"):
        return _waiting(_words(able, "AbleToScale is not True"))
    told = "" if _is(active, "True") or _text(active, "reason") in ("", "ScalingDisabled") else _words(active)
    return _current(f"not scaling: {told}" if told else "")


def _parsed(text: str) -> List[Dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


# What extends the API.


def _definition(obj: Dict[str, Any]) -> Health:
    accepted, established = _condition(obj, "NamesAccepted"), _condition(obj, "Established")
    if _is(accepted, "False"):
        return _failed(_words(accepted, "its names are not accepted"))
    if _is(established, "True"):
        violations = _condition(obj, "NonStructuralSchema")
        return _current(_words(violations) if _is(violations, "True") else "")
    if _is(established, "False") and established.get("reason") != "Installing":
        return _failed(_words(established, "not established"))
    return _waiting(_words(established, "not established yet"))


# Argo CD's own kinds, for a cluster that carries it.


def _argo_application(obj: Dict[str, Any]) -> Health:
    state, message = _text(obj, "status", "health", "status"), _text(obj, "status", "health", "message")
    sync = _text(obj, "status", "sync", "status")
    operation = _map(obj, "status", "operationState")
    wanted, compared = _map(obj, "spec", "source"), _map(obj, "status", "sync", "comparedTo", "source")
    # An Application has no observedGeneration: its status may speak of the source it had before.
    if any(
        wanted.get(key) != compared.get(key)
        for key in ("repoURL", "path", "targetRevision", "chart")
        if wanted and compared
    ):
        return _unseen()
    if not sync and not state:
        return _unseen()
    words = f"{sync or 'not compared'}, {state or 'health not known'}{': ' + message if message else ''}"
    if state == "Degraded":
        return _failed(words)
    if operation.get("phase") in ("Failed", "Error"):
        return _failed(
            ": ".join(part for part in (f"sync {operation.get('phase')}", _text(operation, "message")) if part)
        )
    if sync == "Synced" and state in ("Healthy", "Suspended"):
        return _current("" if state == "Healthy" else words)
    return _waiting(words)


def _argo_rollout(obj: Dict[str, Any]) -> Health:
    """A status of Argo Rollouts before 1.0 has no phase: its Pods and hashes are compared."""
    rule = ROWS[("argoproj.io", "Rollout")]
    status = _map(obj, "status")
    if _text(status, "phase") or not status:
        return _by_rule(obj, rule)
    for kind, reason in (("InvalidSpec", ""), ("Progressing", "RolloutAborted"), ("Progressing", "ProgressDeadlineExceeded")):
        condition = _condition(obj, kind)
        if condition and reason in ("", condition.get("reason")):
            return _failed(_words(condition, kind))
    if status.get("pauseConditions") or _map(obj, "spec").get("paused") is True:
        return _current("paused")
    now = _text(status, "currentPodHash")
    if not now:
        return _unseen()
    wanted, updated = _count(obj, "spec", "replicas", default=1), _count(status, "updatedReplicas")
    available, existing = _count(status, "availableReplicas"), _count(status, "replicas")
    if updated < wanted:
        return _waiting(f"{updated} of {wanted} replicas updated")
    if available < updated:
        return _waiting(f"{available} of {updated} replicas available")
    stable = _text(status, "stableRS") or _text(status, "canary", "stableRS")
    if "blueGreen" in _map(obj, "spec", "strategy"):
        if _text(status, "blueGreen", "activeSelector") != now or stable not in ("", now):
            return _waiting("the active Service does not select the new Pods yet")
    elif existing > updated:
        return _waiting(f"{_plural(existing - updated, 'old replica')} still to end")
    elif stable != now:
        return _waiting("not all steps are done")
    return _current()


# What counts replicas or looks like nothing else has a function; every other kind has a row in health_rules.
HEALTH: Dict[Tuple[str, str], Judge] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("", "ReplicationController"): _replica_set,
    ("", "Pod"): _pod,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _by_phase(("Bound", "Available", "Released"), ("Failed",)),
    ("", "Namespace"): _by_phase(("Active",), ()),
    ("", "Node"): _node,
    ("", "Service"): _service,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _by_condition("Available"),
    ("argoproj.io", "Application"): _argo_application,
    ("argoproj.io", "Rollout"): _argo_rollout,
}
ROWS: Dict[Tuple[str, str], Rule] = data.table(data.RULES)
