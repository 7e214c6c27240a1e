# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as the stages see it, on a real API server."""

from __future__ import annotations

import json
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from lab.certificates import Authority
from lab.forward_proxy import ForwardProxy

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import ApiError, Cluster, Expired, discovery
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client(cluster):
    return Cluster.of({"kubeconfig": cluster.kubeconfig})


@pytest.fixture
def config_maps(client):
    return client.resource("v1", "ConfigMap")


def config_map(namespace, name="a", **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {"test": "cluster"}},
        "data": data or {"a": "1"},
    }


def deployment(namespace, **spec):
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": dict(
            {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]},
                },
            },
            **spec,
        ),
    }


# Discovery


def test_two_requests_tell_all_that_is_served(client):
    served = client.discover()
    assert client.requests == {"discover": 2}
    assert served.find("apps/v1", "Deployment").plural == "deployments"
    assert served.find("v1", "Namespace").namespaced is False
    assert served.find("apps/v1", "Scale") is None
    assert client.discover() is served and client.requests == {"discover": 2}
    assert client.discover(refresh=True) is not served


def test_an_old_servers_discovery_finds_the_same_resources(client, cluster, monkeypatch):
    monkeypatch.setattr(discovery, "AGGREGATED", "application/json")
    old = Cluster.of({"kubeconfig": cluster.kubeconfig})
    assert {resource.path() for resource in old.discover()} == {resource.path() for resource in client.discover()}
    assert old.requests["discover"] > 10
    ours = {(resource.group, resource.kind): resource.version for resource in client.discover()}
    for group, kind in ours:
        assert old.discover().preferred(group, kind) == client.discover().preferred(group, kind)


def test_an_api_version_that_is_gone_says_where_the_kind_is_now(client):
    with pytest.raises(Failure) as caught:
        client.resource("extensions/v1beta1", "Ingress", "apps/web.yaml:3")
    assert str(caught.value).startswith("apps/web.yaml:3: the cluster serves no Ingress in extensions/v1beta1")
    assert "Did you mean networking.k8s.io/v1 Ingress?" in str(caught.value)


def test_an_aggregated_api_that_is_down_hides_nothing_else(client, cluster):
    services = client.resource("apiregistration.k8s.io/v1", "APIService")
    service, _created = client.apply(
        services,
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1.down.example.com"},
            "spec": {
                "group": "down.example.com",
                "version": "v1",
                "insecureSkipTLSVerify": True,
                "service": {"name": "down", "namespace": "default"},
                "groupPriorityMinimum": 1000,
                "versionPriority": 10,
            },
        },
    )
    try:
        end = time.monotonic() + 20
        while not (served := client.discover(refresh=True)).stale and time.monotonic() < end:
            time.sleep(0.2)
        assert list(served.stale) == ["down.example.com"]
        assert served.find("apps/v1", "Deployment")
        assert "APIService" in served.suggestion("down.example.com/v1", "Thing")
    finally:
        client.delete(services, "", "v1.down.example.com", service["metadata"]["uid"])


@pytest.fixture
def gadgets(client):
    """A kind of our own, found by refreshing the discovery."""
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.cluster.example.com"},
        "spec": {
            "group": "cluster.example.com",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
                        }
                    },
                }
            ],
        },
    }
    definitions = client.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    stored, _created = client.apply(definitions, definition)
    end = time.monotonic() + 20
    while True:
        found = client.discover(refresh=True).find("cluster.example.com/v1", "Gadget")
        try:
            if found:
                client.list(found)
                break
        except ApiError as error:  # discovery knows it a moment before its handler does
            assert error.status in (404, 503)
        assert time.monotonic() < end
        time.sleep(0.1)
    yield found
    client.delete(definitions, "", definition["metadata"]["name"], stored["metadata"]["uid"])


def test_a_new_kind_is_found_after_a_refresh(client, gadgets, namespace):
    gadget = {"apiVersion": gadgets.api_version, "kind": "Gadget", "metadata": {"name": "g", "namespace": namespace}}
    assert client.apply(gadgets, dict(gadget, spec={"size": 1}))[1]
    with pytest.raises(ApiError) as caught:
        client.apply(gadgets, dict(gadget, spec={"sise": 1}))
    assert [field.lstrip(".") for field in caught.value.fields] == ["spec.sise"]


# Reading


def test_a_list_is_whole_and_its_items_say_what_they_are(client, config_maps, namespace):
    for name in "abc":
        client.apply(config_maps, config_map(namespace, name))
    items, version = client.list(config_maps, namespace, "test=cluster")
    assert [item["metadata"]["name"] for item in items] == ["a", "b", "c"]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "ConfigMap")}
    assert int(version) > 0 and client.requests["list"] == 1
    assert client.list(config_maps, namespace, "test=nothing")[0] == []
    everywhere = [item["metadata"]["namespace"] for item in client.list(config_maps)[0]]
    assert namespace in everywhere and "kube-system" in everywhere


def test_metadata_alone_can_be_listed(client, namespace):
    secrets = client.resource("v1", "Secret")
    client.apply(
        secrets,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "namespace": namespace, "labels": {"test": "cluster"}},
            "data": {"word": "c2VzYW1l"},
        },
    )
    [item] = client.list(secrets, namespace, "test=cluster", metadata_only=True)[0]
    assert (item["apiVersion"], item["kind"]) == ("v1", "Secret") and "data" not in item
    assert item["metadata"]["managedFields"][0]["manager"] == "nordic-gitops"
    assert [item["data"] for item in client.list(secrets, namespace, "test=cluster")[0]] == [{"word": "c2VzYW1l"}]


def test_a_missing_object_is_none_and_a_missing_right_is_an_error(client, config_maps, namespace, cluster):
    assert client.get(config_maps, namespace, "nothing") is None
    nobody = Cluster.of({"kubeconfig": cluster.user("nobody-reads")})
    with pytest.raises(ApiError) as caught:
        nobody.get(config_maps, namespace, "nothing")
    assert caught.value.status == 403


# Writing


def test_apply_creates_configures_and_changes_nothing_the_second_time(client, config_maps, namespace):
    first, created = client.apply(config_maps, config_map(namespace))
    assert created and first["metadata"]["managedFields"][0]["operation"] == "Apply"
    again, created_again = client.apply(config_maps, config_map(namespace))
    assert not created_again and again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    changed, _created = client.apply(config_maps, config_map(namespace, b="2"))
    assert changed["data"] == {"b": "2"}


def test_a_dry_run_writes_nothing(client, config_maps, namespace):
    planned, created = client.apply(config_maps, config_map(namespace), dry_run=True)
    assert created and planned["data"] == {"a": "1"}
    assert client.get(config_maps, namespace, "a") is None
    stored, _created = client.apply(config_maps, config_map(namespace))
    assert client.delete(config_maps, namespace, "a", stored["metadata"]["uid"], dry_run=True)
    patched = client.patch(config_maps, namespace, "a", [{"op": "add", "path": "/data/c", "value": "3"}], dry_run=True)
    assert patched["data"] == {"a": "1", "c": "3"}
    assert client.get(config_maps, namespace, "a")["data"] == {"a": "1"}


def test_a_field_of_somebody_else_is_a_conflict_unless_forced(client, config_maps, namespace, cluster):
    client.apply(config_maps, config_map(namespace))
    cluster.kubectl("-n", namespace, "patch", "configmap", "a", "-p", '{"data":{"a":"2"}}')
    with pytest.raises(ApiError) as caught:
        client.apply(config_maps, config_map(namespace), force=False)
    assert caught.value.conflicts == [(".data.a", "kubectl-patch")]
    assert client.apply(config_maps, config_map(namespace))[0]["data"] == {"a": "1"}


def test_a_resource_version_in_the_body_is_a_precondition(client, config_maps, namespace):
    stored, _created = client.apply(config_maps, config_map(namespace))
    client.apply(config_maps, config_map(namespace, a="2"))
    body = config_map(namespace, a="3")
    body["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
    with pytest.raises(ApiError) as caught:
        client.apply(config_maps, body)
    assert caught.value.stale and caught.value.status == 409
    body["metadata"].update(resourceVersion=None, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(ApiError) as other:
        client.apply(config_maps, body)
    assert other.value.stale and not other.value.immutable


def test_create_is_for_one_only(client, config_maps, namespace):
    assert client.create(config_maps, config_map(namespace))["data"] == {"a": "1"}
    with pytest.raises(ApiError) as caught:
        client.create(config_maps, config_map(namespace))
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    assert client.requests["create"] == 2


def test_a_patch_holds_only_while_its_test_does(client, config_maps, namespace):
    client.apply(config_maps, config_map(namespace))
    ops = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "2"}]
    assert client.patch(config_maps, namespace, "a", ops)["data"] == {"a": "2"}
    with pytest.raises(ApiError) as caught:
        client.patch(config_maps, namespace, "a", ops)
    assert caught.value.status == 422


def test_delete_touches_only_the_object_that_was_seen(client, config_maps, namespace):
    stored, _created = client.apply(config_maps, config_map(namespace))
    uid, version = stored["metadata"]["uid"], stored["metadata"]["resourceVersion"]
    with pytest.raises(ApiError) as another_uid:
        client.delete(config_maps, namespace, "a", "00000000-0000-0000-0000-000000000000")
    client.apply(config_maps, config_map(namespace, a="2"))
    with pytest.raises(ApiError) as another_version:
        client.delete(config_maps, namespace, "a", uid, version)
    assert another_uid.value.stale and another_version.value.stale
    assert client.delete(config_maps, namespace, "a", uid)
    assert client.delete(config_maps, namespace, "a", uid) is False


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (lambda namespace: deployment(namespace, replica=1), [".spec.replica"]),
        (lambda namespace: deployment(namespace, replicas="many"), [".spec.replicas"]),
        (lambda namespace: dict(config_map(namespace), dato={}), [".dato"]),
    ],
)
def test_a_field_the_schema_refuses_is_named(client, namespace, body, fields):
    intent = body(namespace)
    with pytest.raises(ApiError) as caught:
        client.apply(client.resource(intent["apiVersion"], intent["kind"]), intent)
    assert caught.value.fields == fields
    assert client.requests["apply"] == 1  # not one that passes by trying again


def test_an_invalid_value_is_named_by_its_field(client, namespace):
    with pytest.raises(ApiError) as caught:
        client.apply(client.resource("apps/v1", "Deployment"), deployment(namespace, replicas=-1))
    assert caught.value.fields == ["spec.replicas"] and not caught.value.immutable


def test_an_immutable_field_is_known_as_one(client, namespace):
    deployments = client.resource("apps/v1", "Deployment")
    client.apply(deployments, deployment(namespace))
    intent = deployment(namespace)
    intent["spec"]["selector"]["matchLabels"] = intent["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(ApiError) as caught:
        client.apply(deployments, intent)
    assert caught.value.immutable and caught.value.fields == ["spec.selector"]

    def job(image):
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "j", "namespace": namespace},
            "spec": {
                "suspend": True,
                "template": {
                    "spec": {"restartPolicy": "Never", "containers": [{"name": "j", "image": image, "command": [image]}]}
                },
            },
        }

    jobs = client.resource("batch/v1", "Job")
    client.apply(jobs, job("registry.example/a"))
    with pytest.raises(ApiError) as template:
        client.apply(jobs, job("registry.example/b"))
    assert template.value.immutable


def test_an_object_too_large_is_refused_in_words(client, config_maps, namespace):
    with pytest.raises(ApiError) as caught:
        client.apply(config_maps, config_map(namespace, a="x" * 3_200_000))
    assert caught.value.status == 413 and "larger than" in str(caught.value)
    with pytest.raises(ApiError, match="Too long") as invalid:
        client.apply(config_maps, config_map(namespace, a="x" * 1_100_000))
    assert invalid.value.status == 422


def test_a_namespace_that_is_missing_is_named(client, config_maps):
    with pytest.raises(ApiError, match='namespaces "not-there" not found.*must exist'):
        client.apply(config_maps, config_map("not-there"))


def test_many_threads_share_one_cluster(client, config_maps, namespace):
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: client.apply(config_maps, config_map(namespace, f"n{i}", i=str(i))), range(80)))
    assert [stored["data"]["i"] for stored, _created in results] == [str(i) for i in range(80)]
    assert client.requests["apply"] == 80 and client.retried == {}


# Watching


def test_a_watch_tells_what_happens_after_the_list(client, config_maps, namespace):
    _items, version = client.list(config_maps, namespace)
    stored, _created = client.apply(config_maps, config_map(namespace))
    client.apply(config_maps, config_map(namespace, "other"))
    client.delete(config_maps, namespace, "a", stored["metadata"]["uid"])
    seen = []
    with_events = client.watch(config_maps, namespace, "test=cluster", version, 30)
    for kind, body in with_events:
        seen.append((kind, body["metadata"]["name"]))
        if kind == "DELETED":
            break
    with_events.close()
    assert seen == [("ADDED", "a"), ("ADDED", "other"), ("DELETED", "a")]


def test_a_watch_ends_with_its_time(client, config_maps, namespace):
    began = time.monotonic()
    assert list(client.watch(config_maps, namespace, "test=none", client.list(config_maps, namespace)[1], 1)) == []
    assert time.monotonic() - began > 0.8


def test_another_thread_can_end_a_watch(client, config_maps, namespace):
    watch = client.watch(config_maps, namespace, "", client.list(config_maps, namespace)[1], 600)
    reader = threading.Thread(target=lambda: list(watch))
    reader.start()
    time.sleep(0.3)
    watch.close()
    reader.join(300)
    assert not reader.is_alive()


def test_a_version_that_is_too_old_asks_for_a_new_list(client, gadgets):
    # The server's memory of this kind begins when its definition does.
    with pytest.raises(Expired) as caught:
        list(client.watch(gadgets, "", "", "1", 10))
    assert caught.value.status == 410
    assert list(client.watch(gadgets, "", "", client.list(gadgets)[1], 1)) == []


# Credentials


def user_of(kubeconfig):
    with open(kubeconfig, encoding="utf-8") as file:
        return yaml.safe_load(file)["users"][0]["user"]


@pytest.mark.parametrize("inline", [False, True])
def test_a_kubeconfig_may_be_a_path_or_its_content(cluster, inline):
    kubeconfig = cluster.kubeconfig
    if inline:
        with open(kubeconfig, encoding="utf-8") as file:
            kubeconfig = yaml.safe_load(file)
    client = Cluster.of({"kubeconfig": kubeconfig})
    assert client.url == cluster.url and client.list(client.resource("v1", "Namespace"))[0]


def test_host_and_token_are_enough(cluster):
    client = Cluster.of({"host": cluster.url, "api_key": cluster.admin_token, "ca_cert": cluster.ca_file})
    assert client.list(client.resource("v1", "Namespace"))[0]


def test_host_and_a_client_certificate_are_enough(cluster):
    user = user_of(cluster.user("reader", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]))
    client = Cluster.of(
        {
            "host": cluster.url,
            "ca_cert": cluster.ca_file,
            "client_cert": user["client-certificate"],
            "client_key": user["client-key"],
        }
    )
    assert client.list(client.resource("v1", "ConfigMap"))[0]


def test_a_right_that_is_missing_is_named(cluster, namespace):
    client = Cluster.of(
        {"kubeconfig": cluster.user("anna", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}])}
    )
    with pytest.raises(ApiError) as caught:
        client.apply(client.resource("v1", "ConfigMap"), config_map(namespace))
    text = str(caught.value)
    assert caught.value.status == 403
    for word in (f"ConfigMap {namespace}/a", '"anna"', '"configmaps"', f'"{namespace}"', "patch", "Role"):
        assert word in text


def test_impersonation_acts_with_the_other_users_rights(cluster):
    anna = {"kubeconfig": cluster.kubeconfig, "impersonate_user": "anna-as"}
    client = Cluster.of(anna)
    with pytest.raises(ApiError, match='"anna-as"'):
        client.list(client.resource("v1", "Secret"))
    client = Cluster.of(dict(anna, impersonate_groups=["developers", "system:masters", "others"]))
    assert isinstance(client.list(client.resource("v1", "Secret"))[0], list)


def test_an_expired_certificate_says_since_when(cluster):
    client = Cluster.of({"kubeconfig": cluster.expired()})
    with pytest.raises(ApiError) as caught:
        client.discover()
    assert "expired on 20" in str(caught.value) and "renew" in str(caught.value)


def test_a_wrong_token_is_refused_and_not_shown(cluster):
    client = Cluster.of({"host": cluster.url, "api_key": "sesame-opens-nothing", "ca_cert": cluster.ca_file})
    with pytest.raises(ApiError, match="does not accept the credentials") as caught:
        client.discover()
    assert caught.value.status == 401 and cluster.url in str(caught.value)
    assert "sesame" not in str(caught.value) + repr(caught.value) + json.dumps(caught.value.details)


def test_another_ca_is_not_trusted(cluster, tmp_path):
    other = Authority(tmp_path / "other", "somebody else")
    client = Cluster.of({"host": cluster.url, "api_key": "x", "ca_cert": str(other.certificate)})
    with pytest.raises(ApiError, match="certificate is not trusted.*ca_cert"):
        client.discover()
    assert client.requests["discover"] <= 2  # no use in trying again


def test_a_ca_file_that_holds_none_is_named(cluster, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(ApiError, match="CA certificate cannot be used") as caught:
        Cluster.of({"host": cluster.url, "api_key": "x", "ca_cert": str(path)})
    assert str(path) in str(caught.value)


def test_a_key_of_another_certificate_is_named(cluster):
    one, other = user_of(cluster.user("one")), user_of(cluster.user("other"))
    with pytest.raises(ApiError, match="belong together") as caught:
        Cluster.of(
            {
                "host": cluster.url,
                "ca_cert": cluster.ca_file,
                "client_cert": one["client-certificate"],
                "client_key": other["client-key"],
            }
        )
    assert one["client-certificate"] in str(caught.value)


def test_the_check_of_the_certificate_can_be_switched_off(cluster):
    client = Cluster.of({"host": cluster.url, "api_key": cluster.admin_token, "validate_certs": False})
    assert client.resource("v1", "ConfigMap")


def plugin_kubeconfig(cluster, tmp_path, tokens):
    """A kubeconfig whose credential plugin answers these tokens in turn, and the file that counts its runs."""
    runs = tmp_path / "runs"
    script = tmp_path / "plugin"
    script.write_text(
        f"""#!{sys.executable}
import json, pathlib
runs = pathlib.Path({str(runs)!r})
number = len(runs.read_text()) if runs.exists() else 0
with runs.open("a") as file:
    file.write("x")
tokens = {tokens!r}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                   "status": {{"token": tokens[min(number, len(tokens) - 1)]}}}}))
"""
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}}
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "clusters": [{"name": "c", "cluster": {"server": cluster.url, "certificate-authority": cluster.ca_file}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return str(path), runs


def test_a_credential_plugin_is_asked_once_for_many_requests(cluster, tmp_path):
    kubeconfig, runs = plugin_kubeconfig(cluster, tmp_path, [cluster.admin_token])
    client = Cluster.of({"kubeconfig": kubeconfig})
    for _each in range(5):
        client.list(client.resource("v1", "Namespace"))
    assert runs.read_text() == "x"


def test_a_credential_plugin_is_asked_again_when_its_token_is_refused(cluster, tmp_path):
    kubeconfig, runs = plugin_kubeconfig(cluster, tmp_path, ["lapsed", cluster.admin_token])
    client = Cluster.of({"kubeconfig": kubeconfig})
    assert client.resource("v1", "Namespace") and runs.read_text() == "xx"


def test_a_credential_plugin_that_stays_wrong_is_asked_twice_and_no_more(cluster, tmp_path):
    kubeconfig, runs = plugin_kubeconfig(cluster, tmp_path, ["lapsed"])
    client = Cluster.of({"kubeconfig": kubeconfig})
    with pytest.raises(ApiError, match="401"):
        client.list(discovery.Resource("", "v1", "Namespace", "namespaces", False, ()))
    assert runs.read_text() == "xx"


def test_a_proxy_leads_to_the_cluster(cluster):
    with ForwardProxy(login="anna:word") as proxy:
        params = {
            "kubeconfig": cluster.kubeconfig,
            "proxy": proxy.url,
            "proxy_headers": {"proxy_basic_auth": "anna:word", "basic_auth": None, "user_agent": None},
        }
        client = Cluster.of(params)
        assert client.resource("v1", "ConfigMap")
        assert set(proxy.tunnels) == {cluster.url.partition("//")[2]}
        opened = len(proxy.tunnels)
        direct = Cluster.of(dict(params, no_proxy="localhost,127.0.0.0/8"))
        assert direct.resource("v1", "ConfigMap") and len(proxy.tunnels) == opened


def test_a_proxy_that_refuses_is_named_without_its_password(cluster):
    with ForwardProxy(login="anna:word") as proxy:
        params = {
            "kubeconfig": cluster.kubeconfig,
            "proxy": proxy.url.replace("://", "://anna:geheim@"),
            "proxy_headers": {"proxy_basic_auth": "anna:geheim"},
        }
        with pytest.raises(ApiError, match="407.*proxy_headers") as caught:
            Cluster.of(params).discover()
        assert proxy.url in str(caught.value) and "geheim" not in str(caught.value)
        assert cluster.admin_token not in str(caught.value)


def test_the_connection_options_reach_the_request(cluster):
    """The audit log, not our own account, says who came."""
    moment = cluster.moment()
    client = Cluster.of({"kubeconfig": cluster.kubeconfig})
    client.list(client.resource("v1", "ConfigMap"), "default")
    ours = [request for request in cluster.audit(moment) if request["userAgent"].startswith("nordic.gitops")]
    assert sorted(request["verb"] for request in ours) == ["get", "get", "list"]
    assert sum(client.requests.values()) == len(ours)
