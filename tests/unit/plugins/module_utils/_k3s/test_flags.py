# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that k3s would read as something else than what was meant are refused before they are written."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.flags import refuse_reserved


@pytest.mark.parametrize(("written", "said"), [
    ("0640", '"0640"'), ("0644", '"0644"'), ("0600", '"0600"'), ("416", '"0640"'), ("640.0", "not text"), ("true", "not text"), ("[0640]", "not text"),
    ("'416'", "everybody could write"), ("'0420'", "could not read and write"), ("'384'", "not a file mode"), ("'u=rw'", "not a file mode"),
    ("'0666'", "everybody could write"), ("'0o640'", "not a file mode"), ("'10640'", "not a file mode")])
@pytest.mark.parametrize("place", ["config", "drop_ins.50-x"])
def test_a_file_mode_that_k3s_would_misread_is_refused(written: str, said: str, place: str) -> None:
    """As Ansible's YAML reads it: 0640 without quotes is the number 416, which would open the administrator's file to everybody."""
    value: Any = yaml.safe_load(written)
    with pytest.raises(Failure) as refusal:
        refuse_reserved({place: {"write-kubeconfig-mode": value}})
    assert said in str(refusal.value) and place in str(refusal.value)


@pytest.mark.parametrize("value", ["0640", "640", "0600", "0660"])
def test_a_file_mode_in_quotes_is_taken(value: str) -> None:
    refuse_reserved({"config": {"write-kubeconfig-mode": value, "kubelet-arg": ["max-pods=10"], "https-listen-port": 7443}})
