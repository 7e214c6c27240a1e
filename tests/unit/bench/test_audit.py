# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests are told apart by what the API server logged."""

from __future__ import annotations

import pytest

from bench.audit import count

OBJECT = (("resource", "configmaps"), ("namespace", "bench"), ("name", "cart"))


def event(verb, uri, reference=OBJECT, stage="ResponseComplete"):
    found = {"stage": stage, "verb": verb, "requestURI": uri, "userAgent": "somebody", "user": {"username": "admin"}}
    return dict(found, objectRef=dict(reference)) if reference else found


@pytest.mark.parametrize(
    "uri",
    [
        "/api",
        "/apis",
        "/api/v1",
        "/apis/apps/v1",
        "/apis/apps",
        "/version",
        "/openapi/v3",
        "/openapi/v2?timeout=32s",
        "/api?timeout=1s",
    ],
)
def test_discovery_is_what_a_server_says_of_itself(uri):
    assert count([event("get", uri, None)]) == {"discovery": 1}


@pytest.mark.parametrize("uri", ["/healthz", "/metrics", "/logs/kube"])
def test_other_paths_without_an_object_are_not_discovery(uri):
    assert count([event("get", uri, None)]) == {"other": 1}


@pytest.mark.parametrize("verb", ["create", "update", "patch", "delete", "deletecollection"])
def test_every_verb_that_changes_something_is_a_write(verb):
    assert count([event(verb, "/api/v1/namespaces/bench/configmaps/cart")]) == {"write": 1, "write: " + verb: 1}


def test_a_dry_run_is_no_write():
    assert count([event("patch", "/api/v1/namespaces/bench/configmaps/cart?fieldManager=x&dryRun=All")]) == {"dry run": 1}


def test_a_list_and_a_get_are_told_apart():
    events = [event("list", "/api/v1/configmaps", {"resource": "configmaps"}), event("get", "/api/v1/namespaces/bench/configmaps/cart")]
    assert count(events) == {"get": 1, "list": 1}


def test_a_watch_counts_once_though_it_is_logged_when_it_starts_and_when_it_ends():
    watch = [event("watch", "/api/v1/configmaps?watch=true", stage=stage) for stage in ("ResponseStarted", "ResponseComplete")]
    assert count(watch) == {"watch": 1}
    assert count(watch[:1]) == {"watch": 1}
