# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of snapshots: where they may go, and how a request is signed."""

from __future__ import annotations

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import s3

PARAMS = {"endpoint": "https://s3.no-osl-1.example.no", "bucket": "snapshots", "region": "no-osl-1", "allowed_regions": None, "folder": "/production/",
          "access_key": "key", "secret_key": "secret", "session_token": None, "ca_path": None, "allow_http": False, "timeout": 60}


def test_a_request_is_signed_as_the_documentation_of_amazon_s3_signs_it():
    """The example "GET Object" of "Signature Calculations for the Authorization Header"."""
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9", "x-amz-content-sha256": s3.EMPTY, "x-amz-date": "20130524T000000Z"}
    signed = s3.authorization("GET", "/test.txt", "", headers, s3.EMPTY, "20130524T000000Z", "us-east-1", "AKIAIOSFODNN7EXAMPLE",
                              "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert signed == ("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
                      "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
                      "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")


def test_a_query_is_signed_as_the_documentation_signs_it():
    """The example "Get Bucket (List Objects)" there."""
    headers = {"host": "examplebucket.s3.amazonaws.com", "x-amz-content-sha256": s3.EMPTY, "x-amz-date": "20130524T000000Z"}
    signed = s3.authorization("GET", "/", "max-keys=2&prefix=J", headers, s3.EMPTY, "20130524T000000Z", "us-east-1", "AKIAIOSFODNN7EXAMPLE",
                              "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert signed.endswith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")


def test_a_region_that_is_not_allowed_is_refused_by_its_name():
    with pytest.raises(Refused, match="region us-east-1 is not one of those allowed: no-osl-1, no-bgo-1"):
        s3.Store.of({**PARAMS, "region": "us-east-1", "allowed_regions": ["no-osl-1", "no-bgo-1"]})


def test_an_empty_list_of_regions_allows_none():
    with pytest.raises(Refused, match="allowed: none"):
        s3.Store.of({**PARAMS, "allowed_regions": []})


def test_plain_http_is_refused_unless_it_is_asked_for():
    with pytest.raises(Refused, match="clear text"):
        s3.Store.of({**PARAMS, "endpoint": "http://10.0.0.1:9000"})
    assert s3.Store.of({**PARAMS, "endpoint": "http://10.0.0.1:9000", "allow_http": True}).endpoint == "http://10.0.0.1:9000"


@pytest.mark.parametrize("endpoint", ["s3.example.no", "ftp://s3.example.no", "https://", "https://s3.example.no/bucket", "https://u:p@s3.example.no"])
def test_an_endpoint_that_is_none_is_told(endpoint):
    with pytest.raises(Failure, match="endpoint"):
        s3.Store.of({**PARAMS, "endpoint": endpoint})


def test_a_store_does_not_show_its_keys():
    store = s3.Store.of({**PARAMS, "secret_key": "hush-1", "access_key": "hush-2", "session_token": "hush-3"})
    assert "hush" not in repr(store) + str(store)
    assert str(store) == "https://s3.no-osl-1.example.no/snapshots/production"


def test_a_server_that_is_not_there_is_tried_again_and_then_told():
    pauses = []
    store = s3.Store("https://127.0.0.1:1", "b", "r", "", "k", "s", timeout=1, sleep=pauses.append)
    with pytest.raises(Failure, match="refused"):
        store.list()
    assert pauses == [0.5, 1.0, 2.0, 4.0]
