# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret and no control character leaves through the one exit for text, in whichever way somebody else writes it."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import CONNECTION_SPEC, configuration
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._git import GIT_SPEC, Source
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import (
    CONTROL,
    MASK,
    HiddenType,
    Url,
    lines,
    masked,
    masked_text,
    one_line,
    register,
    register_login,
    register_object,
)
from hypothesis import example, given
from hypothesis import strategies as st

# "#" and "*" stand apart: the texts around a secret are made of the one, the mask of the other.
SECRETS = st.text(st.characters(exclude_characters="#*", exclude_categories=("Cs",)), min_size=6, max_size=40).filter(lambda text: len(text.strip()) >= 6)
WRITTEN = {
    "as it is": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 without its end": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "in a URL": lambda text: quote(text, safe=""),
    "in a path": quote,
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in UTF-8 JSON": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "in HTML": html.escape,
    "in a message of Python": lambda text: repr(text)[1:-1],
    "in a message about bytes": lambda text: repr(text.encode())[2:-1],
}


@pytest.mark.parametrize("way", WRITTEN)
@given(SECRETS, st.integers(0, 400), st.integers(1, 400))
@example("sesame\nopens", 0, 3)
@example("häßliche Wörter", 295, 300)
def test_a_registered_secret_is_shown_in_no_form_wherever_a_text_is_cut(way, secret, before, limit):
    register(secret)
    written = WRITTEN[way](secret)
    text = "#" * before + written + "#"
    shown = one_line(text, limit)
    assert written not in shown
    # Of a secret that would reach over the end not even its first characters are shown.
    assert set(shown) <= set("#" + MASK + "…"), shown
    assert written not in masked_text(text)


@given(SECRETS, SECRETS, st.integers(0, 3))
def test_the_password_is_not_shown_in_the_base64_of_a_login_or_of_anything_around_it(username, password, shift):
    register_login(username, password)
    inner = base64.b64encode(("#" * shift + f"{username}:{password}").encode()).decode()
    assert base64.b64encode(password.encode()).decode()[4:-4] not in masked_text(inner) or len(password) < 9
    assert masked_text(base64.b64encode(f"{username}:{password}".encode()).decode()) == MASK


@given(st.lists(SECRETS, min_size=1, max_size=5), st.data())
def test_secrets_that_overlap_are_masked_as_one(several, data):
    register(*several)
    text = "".join(data.draw(st.permutations(several))) + several[0][1:]
    shown = masked_text(text)
    assert not any(secret in shown for secret in several)


@given(st.text(st.sampled_from(list("aZ0-:/@. \n\t\r\0\x1b\x7f\x9b\u202e\u2028\u2066\ud800é€")), max_size=60))
def test_no_control_character_and_no_forged_line_reaches_a_terminal(text):
    for shown in (one_line(text), Failure("refused", text).where):
        assert not CONTROL.search(shown)
    for shown in (lines(text), str(Failure(text, "place", text)), masked({"reason": [text]})["reason"][0]):
        assert not CONTROL.search(shown.replace("\n", "").replace("\t", ""))
        shown.encode("utf-8")
    assert lines(lines(text)) == lines(text)


@pytest.mark.parametrize("known", ["", "word-of-pass"])
def test_what_leaves_is_plain_text_that_holds_nothing_else(known):
    register(known)
    given_url = Url("https://server.example.com/acme.git")
    given_url.full = "https://robot:word-of-pass@server.example.com/acme.git"
    for text in (given_url, HiddenType("dict")({"a": "word-of-pass"})):
        assert not hasattr(masked({"a": [text]})["a"][0], "full") and not hasattr(lines(text), "full") and lines(text) == str(text)


def test_each_way_in_registers_its_secrets(tmp_path):
    Source.of({"repository": "https://robot:gate-way@git.example.com/acme/platform.git"})
    Source.of({"repository": "https://only-a-token@git.example.com/acme/platform.git"})
    Source.of({"repository": "https://git.example.com/acme/platform.git", "git_username": "robot", "git_password": "pass%word"})
    configuration({"host": "https://10.0.0.1:6443", "api_key": "bearer-of-news"})
    configuration({"host": "https://10.0.0.1:6443", "username": "operator", "password": "open-door"})
    configuration({"host": "https://10.0.0.1:6443", "api_key": "bearer-of-news", "proxy": "http://me:proxy-word@10.0.0.2:3128",
                   "proxy_headers": {"proxy_basic_auth": "me:other-word"}})
    kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                  "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"}}],
                  "users": [{"name": "u", "user": {"token": "from-the-file"}},
                            {"name": "other", "user": {"auth-provider": {"name": "oidc", "config": {"client-secret": "oidc-word"}}}}]}
    configuration({"kubeconfig": kubeconfig})
    register_object({"apiVersion": "v1", "kind": "Secret", "data": {"a": base64.b64encode(b"in-the-cluster").decode()},
                     "stringData": {"b": "in-the-repository"}})
    for secret in ("gate-way", "only-a-token", "pass%word", "bearer-of-news", "open-door", "proxy-word", "other-word", "from-the-file", "oidc-word",
                   "in-the-cluster", "in-the-repository"):
        assert masked_text(f"a gateway said {secret}!") == f"a gateway said {MASK}!", secret
        assert masked_text(base64.b64encode(secret.encode()).decode()) == MASK, secret


def test_a_value_of_a_secret_that_is_a_common_word_does_not_mask_every_text():
    register_object({"apiVersion": "v1", "kind": "Secret", "stringData": {"tls": "true", "port": "5432"}})
    register_object({"apiVersion": "v1", "kind": "ConfigMap", "data": {"greeting": "welcome-to-all"}})
    register_object({"apiVersion": "v1", "kind": "Secret", "data": ["no", "mapping"], "stringData": {"a": 5}})
    assert masked_text("tls is true, port 5432, welcome-to-all") == "tls is true, port 5432, welcome-to-all"


def test_a_result_keeps_the_names_of_objects_and_hides_what_is_said_about_them():
    register("payments")
    change = {"object": {"kind": "Secret", "name": "payments"}, "reason": ".data.key is payments", "source": "apps/payments.yaml:3"}
    assert masked([change]) == [{"object": {"kind": "Secret", "name": "payments"}, "reason": f".data.key is {MASK}", "source": f"apps/{MASK}.yaml:3"}]


def test_a_secret_that_becomes_known_after_the_error_is_not_shown_either():
    failure = Failure("said latecomer", "here", errors=["latecomer"])
    register("latecomer")
    assert "latecomer" not in str(failure) and failure.details == {"errors": [MASK]}


@pytest.mark.parametrize("spec, option", [(GIT_SPEC, "repository"), (CONNECTION_SPEC, "proxy"), (CONNECTION_SPEC, "host")])
def test_credentials_in_a_url_are_not_in_the_returned_invocation(spec, option):
    given_url = "https://robot:word-of-pass@server.example.com:8443/acme.git"
    result = ArgumentSpecValidator(spec).validate({"repository": "/srv/git/platform", option: given_url} if spec is GIT_SPEC else {option: given_url})
    assert not result.error_messages
    value = result.validated_parameters[option]
    assert json.dumps(value) == '"https://server.example.com:8443/acme.git"' and isinstance(value, Url) and value.full == given_url
    if option == "repository":
        assert Source.of({option: value}).password == "word-of-pass"
    else:
        config = configuration({"host": "https://10.0.0.1:6443", "api_key": "bearer-of-news", option: value})
        assert getattr(config, option) == given_url


@pytest.mark.parametrize("option", ["api_key", "username", "password", "impersonate_user", "host", "proxy"])
def test_a_secret_with_a_line_break_is_refused_without_being_shown(option):
    secret = "https://first\nsecond-half" if option in ("host", "proxy") else "first-half\nsecond-half"
    with pytest.raises(Failure, match=f"{option} has a line break") as caught:
        configuration({"host": "https://10.0.0.1:6443", "api_key": "bearer-of-news", option: secret})
    assert "second-half" not in str(caught.value) and "first-half" not in str(caught.value)
