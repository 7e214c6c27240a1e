# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of credentials that the API server did not accept."""

from __future__ import annotations

import base64
import json
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.credentials import lapsed, token_end
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import configuration


def web_token(**claims):
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{body}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("value", "end"),
    [
        (f"Bearer {web_token(exp=1700000000)}", 1700000000.0),
        (web_token(sub="anna", exp=17), 17.0),
        (web_token(sub="anna"), None),
        ("Bearer opaque", None),
        ("Bearer a.b.c", None),
        (f"Bearer {web_token(exp='soon')}", None),
        ("", None),
    ],
)
def test_a_tokens_end_is_read_where_it_has_one(value, end):
    assert token_end(value) == end


def test_an_expired_token_is_dated_and_not_shown():
    token = web_token(exp=1700000000)
    said = lapsed(configuration({"host": "https://10.0.0.1", "api_key": token}))
    assert said == "the token expired on 2023-11-14 22:13 UTC"


def test_a_token_that_still_holds_is_not_blamed():
    token = web_token(exp=time.time() + 600)
    assert lapsed(configuration({"host": "https://10.0.0.1", "api_key": token})) == ""
