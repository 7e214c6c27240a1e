# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API server refused, as a value: status, reason, the fields it names, and who holds them."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import one_line


class ApiError(Failure):
    """The API server's refusal, or no answer at all (status 0)."""

    status: int = 0
    reason: str = ""
    retryable: bool = False
    lost: bool = False

    def __init__(
        self,
        what: str,
        where: str = "",
        hint: str = "",
        status: int = 0,
        reason: str = "",
        causes: Optional[List[Dict[str, str]]] = None,
        retryable: bool = False,
        retry_after: Optional[float] = None,
        tries: int = 0,
    ) -> None:
        self.status = status
        self.reason = reason
        self.causes = causes or []
        self.retryable = retryable  # by a later run or attempt, with nothing else changed
        self.retry_after = retry_after
        self.tries = tries  # so many attempts are enough to see that it stays; 0: as many as there is time for
        self.lost = False  # an earlier attempt, whose answer did not arrive, may have been carried out
        super().__init__(what, where, hint, status=status, reason=reason, causes=self.causes)

    @property
    def conflicts(self) -> List[Tuple[str, str]]:
        """(field, manager) of each field that another manager holds with another value, as the server writes them."""
        return [
            (cause["field"], _manager(cause["message"]))
            for cause in self.causes
            if cause["reason"] == "FieldManagerConflict"
        ]

    @property
    def stale(self) -> bool:
        """The object is not the one that was seen: another uid or resourceVersion than the precondition asks."""
        if self.status == 422:
            # What an apply with another uid gets, and what a JSON patch gets whose `test` failed.
            return "metadata.uid: Invalid value" in self.what or "error in our request" in self.what and not self.causes
        return self.status == 409 and self.reason == "Conflict" and not self.conflicts

    @property
    def unserved(self) -> bool:
        """managedFields has an entry of an API version that the server no longer serves."""
        return "to an invalid group/version" in self.what

    @property
    def immutable(self) -> bool:
        """The change can only be had by deleting the object and creating it again."""
        return self.status in (409, 422) and not self.stale and any(
            re.search(_IMMUTABLE, text) for text in [self.what] + [cause["message"] for cause in self.causes]
        )

    @property
    def other_fields(self) -> List[str]:
        """What is refused for another reason than that it cannot be changed."""
        return sorted({cause["field"] or cause["message"] for cause in self.causes if not re.search(_IMMUTABLE, cause["message"])})

    @property
    def fields(self) -> List[str]:
        return [cause["field"] for cause in self.causes if cause["field"]]


class Expired(ApiError):
    """The resourceVersion is too old to watch from: list again."""


class Malformed(ApiError):
    """The answer is not what it says it is."""


class TooMuch(ApiError):
    """The answer is larger, or nested more deeply, than any that is needed."""


CAUSES = 100  # of one refusal, as many as a person reads
VALUE = 100  # characters of a refused value that are shown; a Pod template has thousands, in JSON or as Go prints it
MESSAGE = 4000  # characters of a server's message that are shown; a policy's refusal may list many rules
SHOWN_BODY = 64 * 1024  # bytes of an answer that is no Status object, in which its few words are looked for

# Not compiled here: most runs meet no error. Each wording is one that apimachinery's or a built-in kind's validation uses.
_IMMUTABLE = (
    r"(?i)field is immutable|is immutable|immutable field|may not change once set|cannot change .* after creation"
    r"|updates to .* are forbidden|may not be (?:changed|updated) (?:after|in an update)|cannot be changed once set"
    r"|is immutable after creation|cannot change roleRef"
    r"|updates to statefulset spec for fields other than|pod updates may not change fields other than"
)

# A server's 500 that says nothing about the request: the next attempt may well pass.
_PASSING = (
    r"(?i)failed calling webhook(?!.*x509)|conversion webhook .* failed(?!.*x509)|etcdserver: (?:request timed out|leader changed|not leader"
    r"|too many requests)|leader changed|connection refused|connection reset|i/o timeout|context deadline exceeded"
    r"|no endpoints available|resource quota evaluation timed out|apiserver is shutting down"
    r"|storage is \(re\)initializing|apiserver not ready|EOF$"
)

_HINTS = {
    401: "The credentials are wrong or have expired: renew the token or certificate of this user.",
    403: "Grant this permission to the user by a Role or ClusterRole and its binding.",
    413: "The object is larger than the API server takes (3 MiB a request, 1.5 MiB in etcd by default): split it.",
    406: "The server is too old, or what answers is no Kubernetes API server.",
}


def from_response(status: int, headers: Mapping[str, str], body: bytes, where: str, verb: str, url: str) -> ApiError:
    """The error for an answer that is no success."""
    answer = _status_object(body)
    message = _shortened(_words(answer.get("message"))) or _text(status, headers, body)
    details = answer.get("details")
    details = details if isinstance(details, dict) else {}
    reason = _words(answer.get("reason"))
    listed = details.get("causes")
    causes = [
        {key: _shortened(_words(cause.get(key))) for key in ("field", "message", "reason")}
        for cause in (listed[:CAUSES] if isinstance(listed, list) else ()) if isinstance(cause, dict)
    ] or _fields_of(message)[:CAUSES]
    if status == 401 and message == "Unauthorized":
        message = f"the API server at {url} does not accept the credentials (401 Unauthorized)"
    unexplained = status == 500 and reason == "InternalError" and not re.search(_PASSING, message)
    return ApiError(
        one_line(_joined(message), MESSAGE),
        where,
        _hint(status, message, details, verb),
        status,
        reason,
        causes,
        unexplained or _passing(status, reason, message, details, verb, known=bool(answer), conflict=bool(causes)),
        _retry_after(headers, details),
        tries=3 if unexplained else 0,
    )


def _passing(
    status: int, reason: str, message: str, details: Dict[str, Any], verb: str, known: bool, conflict: bool
) -> bool:
    if status in (429, 502, 503, 504):
        return True
    if status == 500:
        # Without a Status object it was a proxy or load balancer that answered.
        return not known or reason == "ServerTimeout" or bool(re.search(_PASSING, message))
    if status == 409 and not conflict:
        # ResourceQuota is updated with optimistic locking: two creations at once collide on it, not on our object.
        # And an apply that finds nothing creates: when somebody else was quicker, the next attempt changes theirs.
        return details.get("kind") == "resourcequotas" or (reason == "AlreadyExists" and verb == "apply")
    return False


def _hint(status: int, message: str, details: Dict[str, Any], verb: str) -> str:
    if status == 403 and "is forbidden: User" not in message and "cannot" not in message:
        return ""  # an admission plugin's own words, such as a quota's or a policy's
    if status == 404 and verb in ("apply", "patch") and details.get("kind") == "namespaces":
        return "The namespace must exist before the objects in it."
    if status == 400 and re.search("too large", message, re.IGNORECASE):
        return _HINTS[413]
    if "field not declared in schema" in message or 'unknown field "' in message:
        return "Correct or remove this field: `kubectl explain` shows the fields that the kind has."
    if status == 500 and "failed calling webhook" in message:
        return "The admission webhook's service does not answer: see whether its pods run."
    return _HINTS.get(status, "")


def _status_object(body: bytes) -> Dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) and answer.get("kind") == "Status" else {}


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _shortened(message: str) -> str:
    """A message without what is long of the values that it quotes, and without the difference of two Go structures."""
    message = re.sub(r"\s*\n\s*@@ [^\n]*(?:\n[ \t+-][^\n]*)*", "", message)
    parts: List[str] = []
    shown = 0
    for found in re.finditer(r"(?:Invalid|Unsupported|Duplicate) value: ", message):
        if found.end() < shown:
            continue  # inside of a value
        end = _end_of_value(message, found.end())
        value = message[found.end():end]
        if len(value) > VALUE:
            parts += (message[shown:found.end()], "{…}" if re.match(r"[\[{]|[\w.*&\[\]]+\{", value) else value[:VALUE // 2] + "…")
            shown = end
    return "".join(parts) + message[shown:]


def _end_of_value(message: str, begin: int) -> int:
    """Where a quoted value ends: at the ": " that is in no bracket and no text of it."""
    depth = 0
    for found in re.compile(r'"(?:[^"\\]|\\.)*"|[\[{(]|[\]})]|: ', re.DOTALL).finditer(message, begin):
        token = found.group()
        if token == ": " and depth <= 0:
            return found.start()
        depth += (token in "[{(") - (token in "]})")
    return len(message)


def _text(status: int, headers: Mapping[str, str], body: bytes) -> str:
    text = body[:SHOWN_BODY].decode("utf-8", "replace").strip()
    if "html" in headers.get("Content-Type", ""):
        text = re.sub("<[^<>]*>", " ", text)
    return f"answered {status} {one_line(text)}".strip()


def _retry_after(headers: Mapping[str, str], details: Dict[str, Any]) -> Optional[float]:
    value = headers.get("Retry-After") or details.get("retryAfterSeconds")
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value) if value else None
        return max(0.0, seconds) if seconds is not None and abs(seconds) < float("inf") else None
    except (TypeError, ValueError, OverflowError):
        return None  # an HTTP date: the API server never sends one, and a proxy's clock is not ours


def _fields_of(message: str) -> List[Dict[str, str]]:
    """The fields that strict decoding or the typed patch refuses; these messages come without causes."""
    causes = []
    for what, field in re.findall(r'(unknown|duplicate) field "([^"]+)"', message):
        causes.append({"field": field, "message": f"{what} field", "reason": "FieldValueInvalid"})
    typed = re.search(r"failed to create typed patch object[^:]*?\): (.*)", message, re.DOTALL)
    if typed:
        for line in re.sub(r"^errors:\s*", "", typed.group(1)).splitlines():
            field, _separator, said = line.strip().partition(": ")
            if said and field.startswith("."):
                causes.append({"field": field, "message": said, "reason": "FieldValueInvalid"})
    return causes


def _manager(message: str) -> str:
    """The manager of 'conflict with "kubectl" with subresource "scale" using apps/v1' (a Go-quoted name)."""
    quoted = re.search(r'conflict with ("(?:[^"\\]|\\.)*")', message)
    if not quoted:
        return message
    try:
        return str(json.loads(quoted.group(1)))
    except ValueError:
        return quoted.group(1).strip('"')


def _joined(message: str) -> str:
    parts = [part.strip() for part in message.splitlines() if part.strip()]
    return re.sub(r": errors:; ", ": ", "; ".join(parts)) or "refused"
