# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs on the controller what a node asks of the store of snapshots. The keys of the store are never on a node.

A node may be in somebody else's hands, so a request is judged before it is signed: a task that lists gets no URL that deletes, and none gets one for what
is not a snapshot in its folder.

boto3 would sign too, but botocore and the kubernetes client from 37 on cannot be installed together: they want different releases of python-dateutil.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import urllib.parse
from typing import Any, Callable, Dict, Mapping, Sequence

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.cms import SUFFIX
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import KEYS, S3_SPEC, Store, label, request
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.snapshot import FILE
from ansible_collections.nordic.gitops.plugins.plugin_utils._controller_action import plain

EXPIRES = 3600  # seconds from its signature until a request must have begun
ROUNDS = 200  # of a module that is run again with what it asked for, a page of a list each at most
# What is done with an object, by the task's state. The bucket and the list of the folder may always be asked for.
ALLOWED = {"info": ("HEAD",), "present": ("HEAD", "PUT"), "verified": ("HEAD", "GET"), "staged": ("HEAD", "GET"), "absent": ("HEAD", "DELETE"),
           "pruned": ("HEAD", "DELETE")}


class Signer:
    """For one task: its store, its state and the snapshots that it is about."""

    def __init__(self, option: Any, state: str, name: str = "", file: str = "") -> None:
        """option: s3, as it was given to the task."""
        self._params = _checked(option)
        self.store = Store.of(self._params)  # refuses what its rules refuse, before anything is done
        self.state, self.name, self.file = state, name, file.rpartition("/")[2]

    def sign(self, asked: Mapping[str, Any]) -> str:
        """The URL of a request that a node asks for, if the task may send it."""
        if not self._is_part_of_the_task(asked):
            raise Refused(f"the node asks to send {asked.get('method')} {asked.get('name')}, which is not part of this task", str(self.store),
                          "Nothing was signed for it. Is the node in somebody else's hands?")
        return self.url(asked, time.time())

    def _is_part_of_the_task(self, asked: Mapping[str, Any]) -> bool:
        method, name, after, metadata = (asked.get(key) for key in ("method", "name", "after", "metadata"))
        allowed = ALLOWED.get(self.state, ())
        if set(asked) != set(request("")) or not all(isinstance(text, str) for text in (method, name, after)) or not isinstance(metadata, Mapping):
            return False
        if not allowed:
            return False
        if not name:
            return method in ("HEAD", "GET") and not metadata
        if method not in allowed or after or not FILE.match(str(name)) or "/" in str(name):
            return False
        if method == "PUT" or method == "DELETE":
            return name in (self.file, self.file + SUFFIX) if self.file else str(name).startswith(f"{self.name}-")
        return True

    def url(self, asked: Mapping[str, Any], now: float) -> str:
        store, params, folder = self.store, self._params, f"{self.store.folder}/" if self.store.folder else ""
        scheme, _sign, host = store.endpoint.partition("://")
        host, bucket = (f"{store.bucket}.{host}", "/") if params["virtual_host"] else (host, f"/{store.bucket}")
        query = {}
        if asked["method"] == "GET" and not asked["name"]:
            query = {"list-type": "2", "prefix": folder, "delimiter": "/", **({"start-after": asked["after"]} if asked["after"] else {})}
        if params["session_token"]:
            query["X-Amz-Security-Token"] = params["session_token"]
        headers = {"host": host, **{f"x-amz-meta-{key}": str(value) for key, value in asked["metadata"].items()}}
        path = f"{bucket.rstrip('/')}/{folder}{asked['name']}" if asked["name"] else bucket
        return f"{scheme}://{host}" + presigned(asked["method"], path, query, headers, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), params["region"],
                                                params["access_key"], params["secret_key"])


def presigned(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], now: str, region: str, access_key: str, secret_key: str,
              expires: int = EXPIRES) -> str:
    """Path and query of a URL with Signature Version 4, as the documentation of Amazon S3 builds it. It holds no digest of what is sent."""
    scope, signed = f"{now[:8]}/{region}/s3/aws4_request", ";".join(sorted(headers))
    query = {**query, "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{access_key}/{scope}", "X-Amz-Date": now, "X-Amz-Expires": str(expires),
             "X-Amz-SignedHeaders": signed}
    quoted = "&".join(f"{urllib.parse.quote(key, safe='')}={urllib.parse.quote(value, safe='')}" for key, value in sorted(query.items()))
    path = urllib.parse.quote(path)
    canonical = "\n".join([method, path, quoted, *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)), "", signed, "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return f"{path}?{quoted}&X-Amz-Signature={hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"


def with_signed_requests(execute: Callable[[Dict[str, Any]], Dict[str, Any]], arguments: Mapping[str, Any], signer: Signer) -> Dict[str, Any]:
    """What comes of the module, which execute() runs with these arguments: again and again, until it has all URLs that it needs."""
    store = {key: value for key, value in arguments["s3"].items() if key not in KEYS}
    signed: Dict[str, str] = {}
    for _round in range(ROUNDS):
        # The module's own options want them, and there is nothing that it could do with them.
        result = execute({**arguments, "s3": {**store, "access_key": "", "secret_key": "", "signed": signed}})
        asked = result.pop("unsigned", None)
        if result.get("failed") or not asked:
            return result
        new = {label(each): signer.sign(each) for each in _requests(asked)}
        if not set(new) - set(signed):
            raise Failure("the node asks again for requests that were signed", str(signer.store), "Is its version of this collection another one?")
        signed = {**signed, **new}
    raise Failure(f"the node asked for signed requests {ROUNDS} times, and for further ones", str(signer.store), "Does the store answer with endless lists?")


def _checked(option: Any) -> Dict[str, Any]:
    """As the module itself would take it."""
    validation = ArgumentSpecValidator({"s3": {"type": "dict", "options": S3_SPEC}}).validate({"s3": plain(option)})
    if validation.error_messages:
        raise Failure("; ".join(validation.error_messages))
    return dict(validation.validated_parameters["s3"])


def _requests(asked: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked):
        raise Refused("the node's answer is not one of this module", "unsigned")
    return asked
