# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of image_update, read once and handed down as a value."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, MissingLibrary
from ansible_collections.nordic.gitops.plugins.module_utils._git.validate import CONTROL, checked_path, checked_revision, one_line
from ansible_collections.nordic.gitops.plugins.module_utils._git.push import Identity
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import SHORTEST_VALUE
from ansible_collections.nordic.gitops.plugins.module_utils._image_update import Request, Update
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.chart import Dependency
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.places import KUSTOMIZATIONS, Image, checked_value
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.reference import checked

SPEC: Dict[str, Dict[str, Any]] = dict(
    images=dict(type="list", elements="dict", default=[], options=dict(
        name=dict(type="str", required=True),
        tag=dict(type="str"),
        digest=dict(type="str"),
        files=dict(type="list", elements="str", default=["."]),
        container=dict(type="str"),
        add=dict(type="bool", default=False),
    )),
    values=dict(type="list", elements="dict", default=[], options=dict(
        file=dict(type="str", required=True),
        path=dict(type="str", required=True),
        value=dict(type="str", required=True),
        document=dict(type="int"),
    )),
    dependencies=dict(type="list", elements="dict", default=[], options=dict(
        chart=dict(type="str", default="."),
        name=dict(type="str", required=True),
        version=dict(type="str", required=True),
    )),
    author=dict(type="str", required=True),
    commit_message=dict(type="str", default="Update {summary}"),
    trailers=dict(type="dict", default={}),
    signing_key=dict(type="path", no_log=False),
    review_branch=dict(type="str"),
)


def secrets(params: Mapping[str, Any]) -> List[str]:
    """The values that are refused in whichever file they are written, as their key or they themselves say."""
    from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import check_text  # it takes half a second

    values = [one["value"] for one in params["values"]]
    try:
        return [value for value, one in zip(values, params["values"])
                if check_text(f"{json.dumps(one['path'].rpartition('.')[2])}: {json.dumps(value)}\n", "values.yaml")]
    except MissingLibrary:
        return [value for value in values if len(value) >= SHORTEST_VALUE]


def _image(given: Mapping[str, Any], where: str) -> Image:
    files = tuple(checked_path(path) or "." for path in given["files"])
    if given["add"] and (len(files) != 1 or files[0].rsplit("/", 1)[-1] not in KUSTOMIZATIONS or given["container"]):
        raise Failure("add needs one kustomization to add to", f"{where}.files", "Name its file, such as production/kustomization.yaml, and no container.")
    return Image(checked(given["name"], given["tag"] or "", given["digest"] or "", where), files, given["container"] or "", given["add"])


def request_of(params: Mapping[str, Any]) -> Request:
    """The options as a Request, or a Failure that names the option."""
    updates: List[Update] = [
        *(_image(one, f"images[{number}]") for number, one in enumerate(params["images"])),
        *(checked_value(checked_path(one["file"]), one["path"], one["value"], one["document"]) for one in params["values"]),
        *(Dependency(checked_path(one["chart"]), one["name"], one["version"]) for one in params["dependencies"]),
    ]
    if not updates:
        raise Failure("nothing is asked for", "image_update", "Give images, values or dependencies.")
    if not params["commit_message"].strip() or "\0" in params["commit_message"]:
        raise Failure("commit_message is empty or has a NUL in it", "commit_message")
    trailers = []
    for key, value in params["trailers"].items():
        if not re.match(r"[A-Za-z0-9-]+\Z", key) or CONTROL.search(str(value)):
            raise Failure(f"{one_line(key, 60)} is not a trailer", "trailers", "Letters, digits and dashes for the key, one line for the value.")
        trailers.append((key, str(value)))
    review = params["review_branch"] or ""
    if review and (checked_revision(review) == "HEAD" or review.startswith("refs/")):
        raise Failure(f"{review} is not the name of a branch", "review_branch", "Write it without refs/heads/.")
    return Request(tuple(updates), Identity.of(params["author"], params["signing_key"]), params["commit_message"], tuple(trailers), review)
