# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where data may lie: what is asked and what the provider answers, against what is allowed, before anything is made."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from .._errors import Failure, Refused
from .provider import Place


@dataclass(frozen=True)
class Residency:
    """An empty tuple allows any. Hosts may be patterns such as *.example.no."""

    regions: Tuple[str, ...] = ()
    zones: Tuple[str, ...] = ()
    hosts: Tuple[str, ...] = ()

    @classmethod
    def of(cls, options: Optional[Mapping[str, Any]]) -> "Residency":
        given = options or {}
        made = cls(*(tuple(given.get(name) or ()) for name in ("regions", "zones", "endpoint_hosts")))
        if options is not None and made == cls():
            raise Failure("residency allows everything", hint="Name the allowed regions, zones or endpoint_hosts.")
        return made


def check_region(rule: Residency, region: str, what: str = "the region") -> None:
    """Of the option alone, so that a wrong one does not even get a token."""
    if rule.regions and region not in rule.regions:
        raise Refused(f"{what} {region} is not allowed", hint=f"Allowed are: {', '.join(rule.regions)}.")


def check_url(rule: Residency, url: str, what: str) -> None:
    """The host of an endpoint, a registry, or a target of snapshots."""
    # What a backslash or a space means in one, each library sees in its own way: it might connect elsewhere than was judged.
    plain = re.search(r"[\\\x00-\x20\x7f]", url) is None
    host = (urlsplit(url if "://" in url else f"//{url}").hostname or "") if plain else ""
    if rule.hosts and not (host and any(fnmatch.fnmatchcase(host, pattern.lower()) for pattern in rule.hosts)):
        raise Refused(f"{what} is at {host or url}, which is not an allowed host", hint=f"Allowed are: {', '.join(rule.hosts)}.")


def check_zones(rule: Residency, zones: Sequence[str]) -> None:
    wrong = sorted({zone for zone in zones if zone and rule.zones and zone not in rule.zones})
    if wrong:
        raise Refused(f"availability zone {', '.join(wrong)} is not allowed", hint=f"Allowed are: {', '.join(rule.zones)}.")


def check_untold_zones(rule: Residency, what: str, offered: Sequence[str]) -> None:
    """What names no zone comes into whichever the provider chooses."""
    wrong = sorted(zone for zone in offered if rule.zones and zone not in rule.zones)
    if wrong:
        raise Refused(f"{what} names no availability zone, and the provider may choose {', '.join(wrong)}, which is not allowed",
                      hint=f"Set its zone. Allowed are: {', '.join(rule.zones)}.")


def check_place(rule: Residency, asked: str, place: Place, services: Sequence[str]) -> None:
    """What the catalog says about each service that is going to be used."""
    check_region(rule, asked)
    if place.provider == "libvirt" and rule.regions and not rule.hosts:
        raise Refused("a host with libvirt does not know which region it is in", hint="Name the hosts of that region in residency.endpoint_hosts.")
    for service in services:
        if service not in place.endpoints:
            known = ", ".join(place.regions.get(service, ())) or "none"
            raise Refused(f"the catalog has no {service} endpoint in the region {asked}", hint=f"Regions of this service: {known}.")
        check_url(rule, place.endpoints[service], f"the {service} endpoint of {asked}")
    if place.region != asked:
        raise Refused(f"the provider answers for the region {place.region}, {asked} was asked for")


def check_project(asked: Optional[str], place: Place) -> None:
    if asked and asked != place.project_id:
        raise Refused(
            f"the credentials are of the project {place.project_id}, {asked} is expected", hint="Nothing was looked for in it, and nothing was changed."
        )


def evidence(rule: Residency, asked: str, place: Place, zones: Sequence[str]) -> Dict[str, Any]:
    """For the audit: what was asked, what the provider answered, and when."""
    allowed: Dict[str, List[str]] = {"regions": list(rule.regions), "zones": list(rule.zones), "endpoint_hosts": list(rule.hosts)}
    return {
        "asked": {"region": asked, "zones": sorted({zone for zone in zones if zone})},
        "allowed": allowed,
        "answered": {
            "provider": place.provider,
            "region": place.region,
            "project_id": place.project_id,
            "endpoints": dict(place.endpoints),
            "catalog_regions": {service: list(regions) for service, regions in place.regions.items()},
        },
        "at": place.answered,
    }
