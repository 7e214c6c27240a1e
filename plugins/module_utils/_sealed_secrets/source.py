# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificate a task seals with, and the cluster that it may ask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import CONNECTION_SPEC, ApiError
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import WARN_BEFORE, Cache, Certificate, from_file, from_url, now
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.controller import CONTROLLER_SPEC, Controller

CERTIFICATE_SPEC: Dict[str, Dict[str, Any]] = {
    **CONTROLLER_SPEC,
    "certificate": {"type": "str"},
    "certificate_cache": {"type": "path", "default": "~/.cache/nordic.gitops/certificates"},
    "allow_other_certificate": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Source:
    """controller is None where no connection to a cluster is there to be used."""

    certificate: Certificate
    origin: str
    controller: Optional[Controller]

    def result(self) -> Dict[str, Any]:
        return {"fingerprint": self.certificate.fingerprint, "not_after": self.certificate.not_after.isoformat(), "source": self.origin}


def controller_of(params: Mapping[str, Any]) -> Optional[Controller]:
    """The controller; None where no connection is configured."""
    try:
        return Controller(params)
    except Failure:
        if any(params.get(option) is not None for option in CONNECTION_SPEC if option != "proxy_headers"):
            raise
        return None


def find(params: Mapping[str, Any], notes: List[str]) -> Source:
    """The certificate of the options; one that is given has to be the one that the cluster, where it answers, seals with."""
    given = params["certificate"]
    cache = Cache(params["certificate_cache"])
    controller: Optional[Controller]
    if not given:
        controller = Controller(params)
        origin = f"{controller} of {controller.cluster.url}"
        found = cache.fetch(origin, controller.certificate, notes)
    else:
        controller = controller_of(params)
        is_url = re.match(r"https?://", given)
        origin = bare_url(given)
        found = cache.fetch(origin, lambda: from_url(given, params["timeout"]), notes) if is_url else Certificate.parse(from_file(given), origin)
        _compare(found, origin, controller, cache, params, notes)
    found.usable(origin, now())
    if found.not_after - now() < WARN_BEFORE:
        notes.append(f"The certificate {found.fingerprint} ends on {found.not_after:%Y-%m-%d}.")
    return Source(found, origin, controller)


def _compare(given: Certificate, origin: str, controller: Optional[Controller], cache: Cache, params: Mapping[str, Any], notes: List[str]) -> None:
    if controller is None:
        return
    try:
        served = cache.fetch(f"{controller} of {controller.cluster.url}", controller.certificate, [])
    except ApiError as error:
        notes.append(f"The certificate could not be compared with the cluster's: {error}")
        return
    if served.fingerprint != given.fingerprint and not params["allow_other_certificate"]:
        raise Failure(f"the certificate has the key {given.fingerprint}, the controller of this cluster seals with {served.fingerprint}", origin,
                      "It is of another cluster, or an old one. Set allow_other_certificate if that is meant.")
