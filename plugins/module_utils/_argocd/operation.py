# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an Application says of its operations, its commits and its health, and the operation that a task asks for. Nothing here asks a server."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import IN_CLUSTER, Body
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import CONTROL

Commits = Tuple[str, ...]

# The entry of an operation's info by which it is known to be ours.
INFO = "nordic.gitops/operation"
INITIATOR = "nordic.gitops"
RUNNING, TERMINATING, SUCCEEDED = "Running", "Terminating", "Succeeded"
SYNCED, OUT_OF_SYNC = "Synced", "OutOfSync"
# An operation that a closed sync window holds back stays Running with these words.
BLOCKED = "Sync operation blocked by sync window"
SHOWN = 10


def status_of(live: Mapping[str, Any]) -> Body:
    """The status, {} before there is one. Argo CD writes into it what servers and tools say, so no line break or other control character
    of it is passed on, and null is nothing."""
    status: Body = _plain(live.get("status") or {})
    return status


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value if item is not None]
    return CONTROL.sub(" ", value) if isinstance(value, str) else value


def state_of(live: Mapping[str, Any]) -> Body:
    """The state of the operation that runs, or of the last one."""
    return dict(status_of(live).get("operationState") or {})


def sources_of(live: Mapping[str, Any]) -> List[Body]:
    """The sources, one or several."""
    spec = live.get("spec") or {}
    return list(spec.get("sources") or [spec.get("source") or {}])


def commits_in(part: Optional[Mapping[str, Any]]) -> Commits:
    """The commit of each source, from a sync status, a sync result, an operation's sync or an entry of the history."""
    part = part or {}
    return tuple(part.get("revisions") or ([part["revision"]] if part.get("revision") else ()))


def synced_commits(live: Mapping[str, Any]) -> Commits:
    """The commits of the last whole sync that succeeded."""
    history = status_of(live).get("history") or ()
    return commits_in(history[-1]) if history else ()


def is_automated(live: Mapping[str, Any]) -> bool:
    """Whether Argo CD syncs it by itself."""
    automated = ((live.get("spec") or {}).get("syncPolicy") or {}).get("automated")
    return automated is not None and automated.get("enabled") is not False


def is_busy(live: Mapping[str, Any]) -> bool:
    """Whether an operation runs or waits to run. Either field alone may say so: argo-cd#17155."""
    return bool(live.get("operation")) or state_of(live).get("phase") in (RUNNING, TERMINATING)


def is_retrying(live: Mapping[str, Any]) -> bool:
    """Whether the operation that runs has failed before."""
    state = state_of(live)
    return state.get("phase") == RUNNING and bool(state.get("retryCount"))


def is_ours(operation: Optional[Mapping[str, Any]], stamp: str) -> bool:
    """Whether an operation is the one that carries this stamp."""
    return any(entry.get("name") == INFO and entry.get("value") == stamp for entry in (operation or {}).get("info") or ())


def is_in_cluster(live: Mapping[str, Any]) -> bool:
    """Whether the objects are in the cluster that Argo CD itself runs in."""
    destination = (live.get("spec") or {}).get("destination") or {}
    return destination.get("server") in (IN_CLUSTER, None) and destination.get("name") in ("in-cluster", None)


def described(live: Mapping[str, Any]) -> str:
    """The operation that runs: which commit, whose, since when, and how often it is tried again."""
    state = state_of(live)
    operation = state.get("operation") or _plain(live.get("operation") or {})
    commits = ", ".join(commits_in(state.get("syncResult")) or commits_in(operation.get("sync"))) or "an unknown commit"
    by = operation.get("initiatedBy") or {}
    who = "auto-sync" if by.get("automated") else by.get("username") or "somebody"
    text = f"a sync of {commits} by {who} runs since {state.get('startedAt', 'just now')}"
    limit = (operation.get("retry") or {}).get("limit") or 0
    if state.get("retryCount"):
        left = "no end of retries" if limit < 0 else f"{max(0, limit - state['retryCount'])} retries"
        text += f", has failed {state['retryCount']} times with {left} left"
    return text + (f" ({words(state)})" if words(state) else "")


def new(live: Mapping[str, Any], commits: Commits, stamp: str, params: Mapping[str, Any]) -> Body:
    """The operation that syncs exactly these commits, otherwise as Argo CD's own API makes one of the Application's sync policy."""
    spec = live.get("spec") or {}
    policy = spec.get("syncPolicy") or {}
    options = params.get("syncOptions")
    sync: Body = {"prune": bool(params.get("prune")), "syncOptions": list(policy.get("syncOptions") or ()) if options is None else list(options)}
    if spec.get("sources"):
        sync["sources"], sync["revisions"] = spec["sources"], list(commits)
    else:
        sync["source"], sync["revision"] = spec.get("source"), commits[0]
    if params.get("dry_run"):
        sync["dryRun"] = True
    if params.get("resources"):
        sync["resources"] = list(params["resources"])
    # A retry that takes a newer commit would no longer be of the commit that was asked for.
    retry = {**(policy.get("retry") or {} if params.get("retry") is None else params["retry"]), "refresh": False}
    return {"sync": sync, "initiatedBy": {"username": INITIATOR}, "retry": retry, "info": [{"name": INFO, "value": stamp}]}


def called(each: Mapping[str, Any]) -> str:
    """How a person calls an object of a status or a sync result."""
    kind = f"{each['kind']}.{each['group']}" if each.get("group") else str(each.get("kind"))
    return f"{kind} {each['namespace']}/{each['name']}" if each.get("namespace") else f"{kind} {each.get('name')}"


def has_failed(each: Mapping[str, Any]) -> bool:
    """Whether an entry of a sync result is why the operation failed."""
    return each.get("status") == "SyncFailed" or each.get("hookPhase") in ("Failed", "Error")


def results(state: Mapping[str, Any]) -> List[Body]:
    """What the operation did with each object. What the server says of a Secret may hold its values, and stays away."""
    found = []
    for each in (state.get("syncResult") or {}).get("resources") or ():
        message = str(each.get("message") or "")
        if each.get("kind") == "Secret" and has_failed(each):
            message = "the server's words are left out, as they may show the Secret's values"
        found.append({"object": called(each), "status": each.get("hookPhase") if each.get("hookType") else each.get("status") or "", "message": message,
                      "hook": each.get("hookType") or "", "failed": has_failed(each)})
    return found


def words(state: Mapping[str, Any]) -> str:
    """What an operation says of itself."""
    return without_reason(str(state.get("message") or ""), any(each.get("kind") == "Secret" and has_failed(each)
                                                               for each in (state.get("syncResult") or {}).get("resources") or ()))


def without_reason(text: str, is_secret: bool = False) -> str:
    """Without the API server's words on a Secret, which quote the values that it does not take."""
    told, _comma, reason = text.partition(", reason:")
    return told if is_secret or "secret" in reason.lower() else text


def failure(state: Mapping[str, Any]) -> List[str]:
    """Why an operation failed: its own words, then those of each object."""
    told = results(state)
    failed = [each for each in told if each["failed"]]
    lines = [words(state) or f"its phase is {state.get('phase')}"]
    lines += [f"{each['object']}{' (hook ' + each['hook'] + ')' if each['hook'] else ''}: {each['message'] or each['status']}" for each in failed[:SHOWN]]
    if len(failed) > SHOWN:
        lines.append(f"(+{len(failed) - SHOWN} more)")
    return lines


def out_of_sync(live: Mapping[str, Any]) -> List[Body]:
    """The entries of the status whose objects are not what the repository says."""
    return [each for each in status_of(live).get("resources") or () if each.get("status") == OUT_OF_SYNC]


def few(names: List[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:SHOWN]) + (f" (+{len(names) - SHOWN} more)" if len(names) > SHOWN else "")


def images_of(live: Mapping[str, Any]) -> List[str]:
    """The images that run."""
    return list((status_of(live).get("summary") or {}).get("images") or ())


def history_of(live: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Each sync that Argo CD remembers, the newest first."""
    found = []
    for entry in reversed(status_of(live).get("history") or []):
        by = entry.get("initiatedBy") or {}
        found.append({"id": entry.get("id", 0), "commits": list(commits_in(entry)), "started_at": entry.get("deployStartedAt") or "",
                      "deployed_at": entry.get("deployedAt") or "", "by": "auto-sync" if by.get("automated") else by.get("username") or ""})
    return found
