# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each of these modules ends: by its result or by a failure, with nothing in either that nobody should see."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.nordic.gitops.plugins.module_utils._argocd.kinds import Body
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import masked


def end(module: Any, work: Callable[[], Body]) -> None:
    """A module's whole work, and its end. work: what makes the result."""
    try:
        result = masked(work())
    except Failure as failure:
        module.fail_json(msg=masked(str(failure)), **masked(failure.details))
    for note in result.pop("warnings", ()):
        module.warn(note)
    module.exit_json(**result)
