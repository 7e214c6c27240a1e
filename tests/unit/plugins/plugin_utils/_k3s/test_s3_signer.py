# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller signs for a node, and what it does not."""

from __future__ import annotations

import json
import urllib.parse

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.s3 import label, request
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s import s3_signer
from ansible_collections.nordic.gitops.plugins.plugin_utils._k3s.s3_signer import Signer, presigned, with_signed_requests

KEYS = {"access_key": "hush-access", "secret_key": "hush-secret", "session_token": "hush-session"}
OPTION = {"endpoint": "https://s3.no-osl-1.example.no", "bucket": "snapshots", "region": "no-osl-1", "folder": "production", **KEYS}
FILE = "nightly-server1-1790000000"
LIST = request("GET")

ITS_OWN = [("info", LIST), ("info", request("GET", after="production/a-1790000000")), ("staged", request("GET", FILE)), ("verified", request("HEAD", FILE)),
           ("present", request("PUT", FILE, metadata={"node": "server1"})), ("present", request("HEAD")), ("pruned", request("DELETE", FILE)),
           ("absent", request("DELETE", f"{FILE}.cms")), ("present", LIST)]
NOT_ITS_OWN = [
    ("info", request("DELETE", FILE)), ("info", request("GET", FILE)), ("staged", request("PUT", FILE)), ("staged", request("DELETE", FILE)),
    ("present", request("GET", FILE)), ("present", request("DELETE", FILE)), ("pruned", request("PUT", FILE)), ("pruned", request("GET", FILE)),
    ("pruned", request("DELETE", "weekly-server1-1790000000")), ("pruned", request("DELETE", "../staging/nightly-server1-1790000000")),
    ("pruned", request("DELETE", "nightly-more/server1-1790000000")), ("pruned", request("DELETE", "nightly-notes.txt")),
    ("present", request("PUT", "weekly-server1-1790000000")), ("staged", request("GET", "secrets.txt")), ("info", request("PUT")), ("info", request("DELETE")),
    ("info", request("POST")), ("info", request("HEAD", FILE, after="x")), ("info", request("GET", metadata={"a": "b"})), ("info", {}),
    ("info", {**LIST, "bucket": "others"}), ("info", {**LIST, "method": ["GET"]}), ("info", {**LIST, "metadata": "x"}), ("info", {**LIST, "name": None}),
    ("restored", request("GET")), ("discarded", request("DELETE", FILE))]


def test_a_url_is_signed_as_the_documentation_of_amazon_s3_signs_it():
    """The example of "Authenticating Requests: Using Query Parameters"."""
    assert presigned("GET", "/test.txt", {}, {"host": "examplebucket.s3.amazonaws.com"}, "20130524T000000Z", "us-east-1", "AKIAIOSFODNN7EXAMPLE",
                     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", 86400).endswith(
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize(("state", "asked"), ITS_OWN)
def test_what_belongs_to_a_task_is_signed_for_an_hour(state, asked):
    url = Signer(OPTION, state, "nightly").sign(asked)
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    assert url.startswith("https://s3.no-osl-1.example.no/snapshots") and query["X-Amz-Expires"] == "3600" and "hush-secret" not in url
    assert query["X-Amz-Credential"].endswith("/no-osl-1/s3/aws4_request") and query["X-Amz-Security-Token"] == "hush-session"


@pytest.mark.parametrize(("state", "asked"), NOT_ITS_OWN)
def test_a_node_gets_no_url_for_what_is_not_part_of_the_task(state, asked):
    with pytest.raises(Refused, match="which is not part of this task"):
        Signer(OPTION, state, "nightly").sign(asked)


def test_of_one_file_only_that_file_and_its_encrypted_form_are_deleted():
    signer = Signer(OPTION, "absent", "", f"/srv/snapshots/{FILE}")
    for suffix in ("", ".cms"):
        assert f"/production/{FILE}{suffix}?" in signer.sign(request("DELETE", FILE + suffix))
    with pytest.raises(Refused):
        signer.sign(request("DELETE", "nightly-server1-1790000001"))


@pytest.mark.parametrize(("asked", "begin"), [(LIST, "?"), (request("HEAD"), "?"), (request("HEAD", FILE), f"production/{FILE}?")])
def test_a_bucket_that_is_a_host_of_its_own_is_signed_as_one(asked, begin):
    assert Signer({**OPTION, "virtual_host": True}, "info").sign(asked).startswith(f"https://snapshots.s3.no-osl-1.example.no/{begin}")


def test_a_module_is_run_again_with_what_it_asked_for_and_never_with_a_key():
    runs = []

    def execute(arguments):
        runs.append(arguments)
        wanted = [LIST, request("GET", FILE)][:len(runs)]
        missing = [each for each in wanted if label(each) not in arguments["s3"]["signed"]]
        return {"changed": False, "unsigned": missing} if missing else {"changed": True, "file": FILE}

    told = with_signed_requests(execute, {"state": "staged", "name": "nightly", "s3": OPTION}, Signer(OPTION, "staged", "nightly"))
    assert told == {"changed": True, "file": FILE} and len(runs) == 3
    assert all(secret not in json.dumps(run) for run in runs for secret in ("hush-secret",))
    assert all(run["s3"]["access_key"] == run["s3"]["secret_key"] == "" and "session_token" not in run["s3"] for run in runs)


def test_a_failure_of_the_module_is_its_answer():
    told = with_signed_requests(lambda _given: {"failed": True, "msg": "no"}, {"s3": OPTION}, Signer(OPTION, "info"))
    assert told == {"failed": True, "msg": "no"}


def test_a_node_that_asks_without_end_is_given_up_on(monkeypatch):
    monkeypatch.setattr(s3_signer, "ROUNDS", 3)
    with pytest.raises(Failure, match="3 times"):
        with_signed_requests(lambda given: {"unsigned": [request("GET", after=f"a-{len(given['s3']['signed'])}")]}, {"s3": OPTION}, Signer(OPTION, "info"))
    with pytest.raises(Failure, match="asks again for requests that were signed"):
        with_signed_requests(lambda _given: {"unsigned": [LIST]}, {"s3": OPTION}, Signer(OPTION, "info"))


@pytest.mark.parametrize("asked", ["text", LIST, ["head"]])
def test_an_answer_that_is_none_of_the_module_is_refused(asked):
    with pytest.raises(Refused, match="not one of this module"):
        with_signed_requests(lambda _given: {"unsigned": asked}, {"s3": OPTION}, Signer(OPTION, "info"))


@pytest.mark.parametrize(("changes", "said"), [
    ({"region": "us-east-1", "allowed_regions": ["no-osl-1"]}, "region us-east-1 is not one of those allowed"),
    ({"endpoint": "http://s3.example.no"}, "clear text"), ({"secret_key": None}, "secret_key"), ({"bucket": None}, "bucket"), ({"speed": 1}, "speed")])
def test_what_the_rules_refuse_is_refused_before_the_node_does_anything(changes, said):
    with pytest.raises(Failure, match=said) as told:
        Signer({key: value for key, value in {**OPTION, **changes}.items() if value is not None}, "present", "nightly")
    assert "hush" not in str(told.value)
