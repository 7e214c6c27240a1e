# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a caller may choose."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.options import ALWAYS_PRUNABLE, Options, PruneLimit

PARAMS: Dict[str, Any] = {
    "name": "shop", "namespace": None, "inventory_namespace": "default", "adopt": "unowned", "prune": True, "prune_limit": "50%",
    "prune_protected": False, "allow_empty": False, "on_conflict": "force", "replace_immutable": False, "move": False, "expect": None, "verify": "auto",
    "wait": True,
    "wait_timeout": 60, "health_rules": [], "repository": "https://example.com/r.git", "allowed_kinds": ["ConfigMap"], "allowed_namespaces": []}


@pytest.mark.parametrize("text, owned, allowed", [
    ("0", 100, 0), ("3", 100, 3), ("3", 2, 3), ("50%", 100, 50), ("50%", 101, 50), ("100%", 40, 40), ("0%", 40, 0),
    ("50%", 4, ALWAYS_PRUNABLE), ("1%", 100, ALWAYS_PRUNABLE), ("1%", 2000, 20)])
def test_a_limit_allows_so_many_and_not_one_more(text: str, owned: int, allowed: int) -> None:
    limit = PruneLimit.of(text)
    assert limit.allows(allowed, owned) and not limit.allows(allowed + 1, owned)


def test_nothing_pruned_is_within_every_limit() -> None:
    assert all(PruneLimit.of(text).allows(0, owned) for text in ("0", "0%", "5", "5%") for owned in (0, 7))


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "ten", "5 %", "1.5", "0x1", "5%%", "²", "None"])
def test_a_limit_that_cannot_be_read_is_told_with_what_to_write(text: str) -> None:
    with pytest.raises(Failure) as error:
        PruneLimit.of(text)
    assert repr(text) in str(error.value) and "50%" in str(error.value)


def test_the_options_are_the_modules_of_the_same_names() -> None:
    options = Options.of(PARAMS, True, False)
    assert (options.name, options.namespace, options.check_mode, options.diff) == ("shop", "", True, False)
    assert options.prune_limit == PruneLimit("50%", 50, True)


def test_a_limit_may_be_written_as_a_number() -> None:
    assert Options.of({**PARAMS, "prune_limit": 20}, False, False).prune_limit.allows(20, 20)


def test_the_options_are_a_value() -> None:
    with pytest.raises(AttributeError):
        Options.of(PARAMS, False, False).prune = False  # type: ignore[misc]
