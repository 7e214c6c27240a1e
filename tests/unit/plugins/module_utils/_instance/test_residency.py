# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where data may lie, on values."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._instance import residency
from ansible_collections.nordic.gitops.plugins.module_utils._instance.provider import Place
from ansible_collections.nordic.gitops.plugins.module_utils._instance.residency import Residency

RULE = Residency(("no-oslo-1",), ("no-oslo-1a",), ("*.example.no",))
PLACE = Place(
    "openstack",
    "no-oslo-1",
    "p",
    {"compute": "https://nova.example.no:8774/v2.1", "image": "https://glance.example.com"},
    {"compute": ("no-oslo-1",)},
    "now",
)


def test_a_region_that_is_not_allowed_is_refused():
    with pytest.raises(Refused, match="us-east-1 is not allowed. Allowed are: no-oslo-1"):
        residency.check_region(RULE, "us-east-1")


def test_an_endpoint_at_another_host_is_refused():
    residency.check_place(RULE, "no-oslo-1", PLACE, ["compute"])
    with pytest.raises(Refused, match="the image endpoint of no-oslo-1 is at glance.example.com"):
        residency.check_place(RULE, "no-oslo-1", PLACE, ["compute", "image"])


def test_a_service_that_the_region_lacks_is_refused():
    with pytest.raises(Refused, match="no volume endpoint in the region no-oslo-1"):
        residency.check_place(RULE, "no-oslo-1", PLACE, ["volume"])


@pytest.mark.parametrize(
    "target, allowed",
    [
        ("https://registry.example.no/x", True),
        ("registry.example.no:5000", True),
        ("https://registry.example.no.evil.com", False),
        ("https://registry.example.no@evil.com/", False),
        ("https://REGISTRY.EXAMPLE.NO", True),
        ("https://evil.com\\@registry.example.no", False),
        ("https://evil.com /@registry.example.no", False),
        ("", False),
    ],
)
def test_the_host_of_a_target_is_what_counts(target, allowed):
    if allowed:
        residency.check_url(RULE, target, "the registry")
    else:
        with pytest.raises(Refused):
            residency.check_url(RULE, target, "the registry")


def test_a_zone_that_is_not_allowed_is_refused():
    residency.check_zones(RULE, ["no-oslo-1a", ""])
    with pytest.raises(Refused, match="no-oslo-1b"):
        residency.check_zones(RULE, ["no-oslo-1a", "no-oslo-1b"])


def test_a_rule_that_allows_everything_is_no_rule():
    with pytest.raises(Failure, match="allows everything"):
        Residency.of({"regions": [], "zones": None})
    assert Residency.of(None) == Residency()


def test_credentials_of_another_project_are_refused():
    residency.check_project("p", PLACE)
    with pytest.raises(Refused, match="of the project p, other is expected"):
        residency.check_project("other", PLACE)


def test_a_zone_that_the_provider_chooses_is_judged_too():
    residency.check_untold_zones(RULE, "web-1", ["no-oslo-1a"])
    residency.check_untold_zones(Residency(("no-oslo-1",)), "web-1", ["no-oslo-1a", "no-oslo-1b"])
    with pytest.raises(Refused, match="web-1 names no availability zone, and the provider may choose no-oslo-1b, which is not allowed. Set its zone"):
        residency.check_untold_zones(RULE, "web-1", ["no-oslo-1a", "no-oslo-1b"])
