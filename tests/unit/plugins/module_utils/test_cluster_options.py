# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection options: the same words as kubernetes.core, one documentation, clear refusals, no secret shown."""

from __future__ import annotations

import json
import os
import re
import stat
import sys

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.nordic.gitops.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import options
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import CONNECTION_SPEC, configuration
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import bare_url

TOKEN = "sesame-opens-this"


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch, tmp_path):
    for name in list(os.environ):
        if re.match(r"K8S_AUTH_|KUBE|https?_proxy$|no_proxy$|all_proxy$", name, re.IGNORECASE):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def parsed(values):
    result = ArgumentSpecValidator(CONNECTION_SPEC).validate(values)
    assert result.error_messages == []
    return result.validated_parameters


def content(user=None, server="https://10.1.2.3:6443", **cluster):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": dict({"server": server}, **cluster)}],
        "users": [{"name": "u", "user": {"token": TOKEN} if user is None else user}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "elsewhere", "context": {"cluster": "gone", "user": "u"}},
        ],
    }


def written(path, **values):
    path.write_text(yaml.safe_dump(content(**values)))
    return str(path)


def authorization(config):
    return {setting["key"].lower(): setting["value"] for setting in config.auth_settings().values()}.get(
        "authorization"
    )


def test_the_documentation_and_the_argument_spec_say_the_same():
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(CONNECTION_SPEC)
    for name, option in CONNECTION_SPEC.items():
        assert documented[name]["type"] == option["type"], name
        assert documented[name].get("aliases", []) == option.get("aliases", []), name
        assert documented[name].get("elements") == option.get("elements"), name
        named = set(re.findall(r"E\((K8S_AUTH_\w+)\)", str(documented[name]["description"])))
        assert named == set(option.get("fallback", (None, []))[1]), name
    sub = CONNECTION_SPEC["proxy_headers"]["options"]
    assert set(documented["proxy_headers"]["suboptions"]) == set(sub)
    for name, option in sub.items():
        text = str(documented["proxy_headers"]["suboptions"][name]["description"])
        assert set(re.findall(r"E\((K8S_AUTH_\w+)\)", text)) == set(option["fallback"][1]), name


def test_the_options_are_those_of_kubernetes_core():
    """Names, aliases and variables, from the collection that users of this field know by heart."""
    from ansible_collections.kubernetes.core.plugins.module_utils import args_common as theirs

    assert set(CONNECTION_SPEC) == set(theirs.AUTH_ARG_SPEC)
    for name, option in theirs.AUTH_ARG_SPEC.items():
        assert CONNECTION_SPEC[name].get("aliases", []) == option.get("aliases", []), name
    for true_name, name in theirs.AUTH_ARG_MAP.items():
        if name != "proxy_headers":
            variables = {f"K8S_AUTH_{name.upper()}", f"K8S_AUTH_{true_name.upper()}"}
            assert set(CONNECTION_SPEC[name]["fallback"][1]) == variables, name
    assert set(CONNECTION_SPEC["proxy_headers"]["options"]) == set(theirs.AUTH_PROXY_HEADERS_SPEC)


def test_every_secret_option_is_no_log():
    secret = {name for name, option in CONNECTION_SPEC.items() if option.get("no_log")}
    assert secret == {"api_key", "password"}
    headers = CONNECTION_SPEC["proxy_headers"]["options"]
    assert {name for name, option in headers.items() if option.get("no_log")} == {"proxy_basic_auth", "basic_auth"}


def test_an_inline_kubeconfig_prints_as_a_word_and_still_works():
    params = parsed({"kubeconfig": content()})
    assert TOKEN not in repr(params) and TOKEN not in str(params) and TOKEN not in json.dumps(params)
    config = configuration(params)
    assert config.host == "https://10.1.2.3:6443"
    assert authorization(config) == f"Bearer {TOKEN}"


def test_variables_stand_in_for_options(monkeypatch, tmp_path):
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", written(tmp_path / "config"))
    monkeypatch.setenv("K8S_AUTH_VERIFY_SSL", "no")
    monkeypatch.setenv("K8S_AUTH_IMPERSONATE_USER", "anna")
    monkeypatch.setenv("K8S_AUTH_IMPERSONATE_GROUPS", "dev,ops")
    monkeypatch.setenv("K8S_AUTH_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH", "me:word")
    params = parsed({})
    config = configuration(params)
    assert (config.host, config.verify_ssl, config.proxy) == (
        "https://10.1.2.3:6443",
        False,
        "http://proxy.example:3128",
    )
    assert config.proxy_headers == {"proxy-authorization": "Basic bWU6d29yZA=="}
    assert options.impersonation(params) == [
        ("Impersonate-User", "anna"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
    ]


def test_options_win_over_the_kubeconfig(tmp_path):
    params = parsed(
        {
            "kubeconfig": written(tmp_path / "config"),
            "host": "https://other.example/",
            "api_key": "mine",
            "validate_certs": False,
        }
    )
    config = configuration(params)
    assert (config.host, config.verify_ssl, authorization(config)) == ("https://other.example", False, "Bearer mine")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"api_key": TOKEN}, f"Bearer {TOKEN}"),
        ({"username": "anna", "password": "word"}, "Basic YW5uYTp3b3Jk"),
    ],
)
def test_host_and_credentials_need_no_file(given, expected):
    config = configuration(parsed(dict(given, host="https://10.9.9.9:6443")))
    assert (config.host, authorization(config)) == ("https://10.9.9.9:6443", expected)


def test_host_alone_is_anonymous_where_no_kubeconfig_exists():
    config = configuration(parsed({"host": "http://127.0.0.1:8001"}))
    assert (config.host, authorization(config)) == ("http://127.0.0.1:8001", None)


def test_several_paths_are_merged(tmp_path):
    users = content()
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump({"current-context": "there", "contexts": [], "clusters": [], "users": []}))
    users["contexts"].append({"name": "there", "context": {"cluster": "c", "user": "u"}})
    del users["current-context"]
    second = tmp_path / "second"
    second.write_text(yaml.safe_dump(users))
    config = configuration(parsed({"kubeconfig": os.pathsep.join([str(first), str(second), "/not/there"])}))
    assert config.host == "https://10.1.2.3:6443"


def test_the_proxy_of_the_kubeconfig_is_used(tmp_path):
    path = written(tmp_path / "config", **{"proxy-url": "http://proxy.example:3128"})
    assert configuration({"kubeconfig": path}).proxy == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kubeconfig": "/not/there"}, ["/not/there", "no kubeconfig file"]),
        ({"kubeconfig": "/not/there", "context": "x"}, ["/not/there", "no kubeconfig file"]),
        ({"context": "here"}, ["no kubeconfig file", "K8S_AUTH_KUBECONFIG"]),
        ({}, ["no kubeconfig file"]),
        ({"kubeconfig": content(), "context": "there"}, ['has no context named "there"']),
        ({"kubeconfig": content(), "context": "elsewhere"}, ['has no cluster named "gone"']),
        ({"kubeconfig": {"clusters": []}}, ["current-context"]),
        ({"kubeconfig": {"current-context": "a", "contexts": {"a": 1}, "clusters": []}}, ["contexts"]),
        ({"kubeconfig": content(), "ca_cert": "/no/ca.pem"}, ["ca_cert", "/no/ca.pem"]),
        ({"kubeconfig": content(), "client_cert": "/no/c.pem"}, ["client_cert", "/no/c.pem"]),
        ({"kubeconfig": content(**{"certificate-authority": "/no/ca"})}, ["/no/ca"]),
        ({"host": "10.0.0.1:6443", "api_key": TOKEN}, ["https://", "10.0.0.1:6443"]),
        ({"host": "https://", "api_key": TOKEN}, ["https://"]),
        ({"kubeconfig": content(user={"exec": {"command": "/no/plugin", "apiVersion": "v1"}})}, ["/no/plugin"]),
    ],
)
def test_what_cannot_work_is_refused_in_words(given, words):
    with pytest.raises(Failure) as caught:
        configuration(parsed(given))
    for word in words:
        assert word in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_broken_kubeconfig_file_names_its_line(tmp_path):
    path = tmp_path / "config"
    path.write_text("clusters: []\ncontexts: [\nusers: secret-" + TOKEN)
    with pytest.raises(Failure, match=r"line \d") as caught:
        configuration({"kubeconfig": str(path)})
    assert str(path) in str(caught.value) and TOKEN not in str(caught.value)


def test_an_empty_kubeconfig_file_is_refused(tmp_path):
    path = tmp_path / "config"
    path.write_text("")
    with pytest.raises(Failure, match="empty"):
        configuration({"kubeconfig": str(path)})


def test_a_kubeconfig_that_may_not_be_read_is_named(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    with pytest.raises(Failure, match="no kubeconfig file"):
        configuration({"kubeconfig": str(folder)})


def test_groups_without_a_user_are_refused():
    with pytest.raises(Failure, match="impersonate_user"):
        options.impersonation({"impersonate_groups": ["ops"]})


def test_a_kubeconfig_of_another_type_is_refused():
    assert ArgumentSpecValidator(CONNECTION_SPEC).validate({"kubeconfig": 7}).error_messages


def test_credentials_in_a_url_are_not_shown():
    assert bare_url("https://anna:word@api.example/x") == "https://api.example/x"
    assert bare_url("https://api.example/a@b") == "https://api.example/a@b"


def plugin(path, body):
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


def test_a_credential_plugin_is_asked(tmp_path):
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": TOKEN}}
    user = plugin(tmp_path / "plugin", f"print({json.dumps(answer)!r})")
    assert authorization(configuration({"kubeconfig": content(user=user)})) == f"Bearer {TOKEN}"


def test_a_failing_credential_plugin_is_quoted(tmp_path):
    user = plugin(tmp_path / "plugin", "import sys; sys.exit('log in to the portal first')")
    with pytest.raises(Failure, match="credential plugin.*log in to the portal first"):
        configuration({"kubeconfig": content(user=user)})


def test_the_service_account_of_a_pod_is_used_before_the_default_file(tmp_path, monkeypatch):
    """The loader's own files for a pod are below /var/run; without them the variables of a pod lead to a clear word."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    if os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"):
        assert configuration({}).host == "https://10.0.0.1:443"
    else:
        with pytest.raises(Failure, match="service account"):
            configuration({})
