# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealing, against the real controller and the real kubeseal."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import Cluster
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets import keys as sealing_keys
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.blob import SCOPE_ANNOTATIONS, SCOPES, Unopened, label, unseal
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.certificate import Certificate
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.controller import Controller
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.seal import Options, sealed_secret
from ansible_collections.nordic.gitops.plugins.module_utils._sealed_secrets.wanted import Wanted
from ansible_collections.nordic.gitops.plugins.modules.sealed_secret import EXAMPLES
from canary import PRIVATE_KEY, Canary
from reconciling import wait_until
from sealing import key
from workspace import places

SECRETS = "/api/v1/namespaces/{}/secrets"
SEALED = "/apis/bitnami.com/v1alpha1/namespaces/{}/sealedsecrets"


@pytest.fixture
def certificate(sealing):
    return Certificate.parse(sealing.ready("kube-system").encode(), "controller")


@pytest.fixture
def client(cluster):
    return Cluster.of({"kubeconfig": cluster.kubeconfig})


def value(chance: random.Random, largest: int) -> bytes:
    """Binary, text of several scripts, nothing, or a lot."""
    size = chance.choice([0, 1, 2, 15, 16, 17, 100, 4096, chance.randrange(largest)])
    kind = chance.randrange(3)
    if kind == 0:
        return chance.randbytes(size)
    if kind == 1:
        return "".join(chance.choice("aæøåß漢字🔑 \n\t\"'{}\\") for _each in range(size)).encode()[:largest]
    return b"p" * size


def case(chance: random.Random, number: int, namespaces, largest=20_000) -> Wanted:
    if number % 20 == 19:
        data = {"large": chance.randbytes(chance.randrange(1 << 20))}
    else:
        data = {chance.choice(["password", "tls.key", "A_B", "x", f"key-{index}"]): value(chance, largest) for index in range(chance.randrange(1, 4))}
    return Wanted(f"case-{number}", chance.choice(namespaces), chance.choice(SCOPES), data, type=chance.choice([None, "Opaque", "example.com/own"]),
                  immutable=chance.choice([None, True, False]), labels=chance.choice([{}, {"app": "shop"}]), annotations=chance.choice([{}, {"note": "æ"}]))


def keys_of(cluster) -> str:
    """The controller's keys, as a person backs them up with kubectl."""
    return cluster.kubectl("get", "secrets", "--namespace", "kube-system", "--selector", "sealedsecrets.bitnami.com/sealed-secrets-key", "--output", "yaml")


def secret_of(wanted: Wanted):
    """What is to be in the cluster, as kubeseal takes it."""
    annotations = {**wanted.annotations, **({} if wanted.scope == "strict" else {f"sealedsecrets.bitnami.com/{wanted.scope}": "true"})}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": dict(wanted.labels),
                                                               "annotations": annotations},
            "data": {key: base64.b64encode(each).decode() for key, each in wanted.values.items()}}
    body.update({key: each for key, each in (("type", wanted.type), ("immutable", wanted.immutable)) if each is not None})
    return body


def round_trip(count, seed, cluster, sealing, client, namespaces, play, tmp_path, tell):
    """The controller has two active keys, and a third one from the middle on; each case is sealed with any of those that it has by then."""
    chance = random.Random(seed)
    cases = [case(chance, number, namespaces) for number in range(count)]
    cases.append(Wanted("largest", namespaces[0], "strict", {"all": chance.randbytes(1 << 20)}))
    certificates, sealed = [], []

    def renewed():
        """The certificates of all keys, when the controller has got one more."""
        play([{"name": "Rotate", "nordic.gitops.sealed_secrets_key": {"state": "rotated"}}])
        found = [key.certificate for key in sealing_keys.of_cluster(client, "kube-system", "sealed-secrets-key") if key.active]
        newest = Certificate.parse(sealing.ready("kube-system").encode(), "controller")
        assert newest.fingerprint in {each.fingerprint for each in found} - {each.fingerprint for each in certificates} and len(found) > len(certificates)
        return found

    for part in (cases[:count // 2], cases[count // 2:]):
        certificates = renewed()
        for wanted in part:  # ours, opened by the controller
            certificate = chance.choice(certificates)
            body = sealed_secret(None, wanted, Options(certificate)).body
            cluster.api.do("POST", SEALED.format(wanted.namespace), body)
            sealed.append((wanted, certificate, body))
    for wanted, _certificate, _body in sealed:
        path = f"{SECRETS.format(wanted.namespace)}/{wanted.name}"
        wait_until(lambda path=path: cluster.api.send("GET", path)[0] == 200, 120)
        live = cluster.api.do("GET", path)
        assert {key: base64.b64decode(each) for key, each in (live.get("data") or {}).items()} == dict(wanted.values), wanted
        assert live["type"] == (wanted.type or "Opaque") and live.get("immutable") == wanted.immutable
        assert live["metadata"].get("labels", {}) == dict(wanted.labels)

    private = {key.fingerprint: key.private_key for key in sealing_keys.of_cluster(client, "kube-system", "sealed-secrets-key")}
    controller = Controller({"controller_name": "sealed-secrets-controller", "controller_namespace": "kube-system", "timeout": 60}, client)
    refused = 0
    for number, (wanted, certificate, ours) in enumerate(sealed):  # kubeseal's, opened by ours
        pem = tmp_path / f"{number}.pem"
        pem.write_bytes(certificate.pem)
        theirs = json.loads(sealing.seal(pem, input=json.dumps(secret_of(wanted))))
        bound = label(wanted.scope, wanted.namespace, wanted.name)
        for key, text in theirs["spec"]["encryptedData"].items():
            assert unseal(private.values(), text, bound) == (private[certificate.fingerprint], wanted.values[key])
        assert shape(ours) == shape(theirs) and set(theirs["spec"]["encryptedData"]) == set(wanted.values), wanted
        others = [other for other in {(scope, namespace, name) for scope in SCOPES for namespace in (wanted.namespace, "other")
                                      for name in (wanted.name, "other")} if label(*other) != bound]
        for text in theirs["spec"]["encryptedData"].values():
            for other in others:
                with pytest.raises(Unopened):
                    unseal(private.values(), text, label(*other))
        assert controller.opens(moved(ours, wanted.scope, wanted.namespace, wanted.name))
        assert not controller.opens(moved(ours, *chance.choice(sorted(others))))
        refused += 1
    used = [sum(certificate.fingerprint == each.fingerprint for _wanted, certificate, _body in sealed) for each in certificates]
    assert len(used) > 2 and all(used), used
    tell(f"sealing both ways: {len(cases)} cases of seed {seed}, {sum(len(wanted.values) for wanted in cases)} values of 0 to "
         f"{max(len(each) for wanted in cases for each in wanted.values.values()):,} bytes, by key {used}, {refused} moved ones refused by the controller")


def moved(body, scope, namespace, name):
    """The same blobs elsewhere."""
    annotations = {} if scope == "strict" else {SCOPE_ANNOTATIONS[scope]: "true"}
    return {**body, "metadata": {"name": name, "namespace": namespace, "annotations": annotations}}


def shape(body):
    """A SealedSecret without its ciphertext, and without what says nothing."""
    def full(part):
        return {key: full(each) for key, each in part.items() if each not in ({}, None, "")} if isinstance(part, dict) else part

    template = full(body["spec"]["template"])
    return {"metadata": full({**body["metadata"], "creationTimestamp": None}), "keys": {key: len(text) for key, text in body["spec"]["encryptedData"].items()},
            "template": {**template, "metadata": full({**template["metadata"], "creationTimestamp": None})}}


@pytest.fixture
def namespaces(cluster):
    names = [cluster.namespace("seal") for _each in range(2)]
    yield names
    for name in names:
        cluster.remove_namespace(name)


def test_what_we_seal_the_controller_opens_and_what_kubeseal_seals_we_open(cluster, sealing, client, namespaces, play, tmp_path, tell):
    round_trip(40, 20, cluster, sealing, client, namespaces, play, tmp_path, tell)


@pytest.mark.full
def test_three_hundred_cases_both_ways(cluster, sealing, client, namespaces, play, tmp_path, tell):
    round_trip(300, random.SystemRandom().randrange(10**6), cluster, sealing, client, namespaces, play, tmp_path, tell)


# In a playbook


@pytest.fixture
def play(cluster, sealing, tmp_path):
    """ansible-playbook with these tasks in a folder of the test; what it said, and its exit status."""
    work = tmp_path / "checkout"
    work.mkdir(exist_ok=True)
    password = tmp_path / "vault-password"
    password.write_text("the password of the vault\n", encoding="ascii")

    def run(tasks, *arguments, variables=None, fails=False, environment=None):
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "vars": variables or {}, "tasks": tasks}]), encoding="utf-8")
        values = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "ansible"), "HOME": str(tmp_path / "home"), "ANSIBLE_NOCOLOR": "1",
                  "ANSIBLE_VAULT_PASSWORD_FILE": str(password), "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig), "TMPDIR": str(tmp_path / "tmp"),
                  "ANSIBLE_DEPRECATION_WARNINGS": "0", **(environment or {})}
        values = {name: each for name, each in values.items() if each is not None}
        (tmp_path / "tmp").mkdir(exist_ok=True)
        done = subprocess.run([str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), *arguments], env=values, text=True, capture_output=True,
                              timeout=300, check=False, cwd=work)
        output = done.stdout + done.stderr
        assert "Traceback (most recent call last)" not in output, output
        assert (done.returncode != 0) == fails, output
        return output

    run.folder, run.password = work, password
    return run


def task(**options):
    return {"name": "Seal", "nordic.gitops.sealed_secret": options}


def live(cluster, namespace, name):
    status, body = cluster.api.send("GET", f"{SECRETS.format(namespace)}/{name}")
    return {key: base64.b64decode(each).decode() for key, each in body.get("data", {}).items()} if status == 200 else None


def test_the_articles_db_pass_is_sealed_applied_and_opened_and_the_second_run_changes_nothing(cluster, play, namespace):
    example = yaml.safe_load(EXAMPLES)[0]
    page = (places.CHECKOUT / "docs" / "sealed_secrets.md").read_text(encoding="utf-8")
    assert yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1)) == [example]  # the page begins with it too
    options = example["nordic.gitops.sealed_secret"]
    assert options["name"] == "db-pass"
    options["namespace"] = namespace
    variables = {"vault_db_password": "S3cure-pässword"}
    assert "changed=1" in play([example], variables=variables)
    file = play.folder / options["path"]
    cluster.kubectl("apply", "--filename", str(file))
    wait_until(lambda: live(cluster, namespace, "db-pass") == {"password": "S3cure-pässword"})
    before = file.read_bytes()
    assert "changed=0" in play([example], variables=variables) and file.read_bytes() == before  # the live Secret tells
    assert "changed=1" in play([example], variables={"vault_db_password": "another"}) and b"\n" in before
    after = file.read_text(encoding="utf-8").splitlines()
    assert len([line for line, other in zip(before.decode().splitlines(), after) if line != other]) == 1


def test_a_live_secret_that_somebody_changed_by_hand_proves_nothing(cluster, play, namespace):
    options = {"path": "a.yaml", "name": "a", "namespace": namespace, "data": {"k": "one"}}
    play([task(**options)])
    cluster.kubectl("apply", "--filename", str(play.folder / "a.yaml"))
    wait_until(lambda: live(cluster, namespace, "a") == {"k": "one"})
    edited = {"data": {"k": base64.b64encode(b"two").decode()}}
    cluster.kubectl("patch", "secret", "a", "--namespace", namespace, "--patch", json.dumps(edited))
    assert "changed=1" in play([task(**{**options, "data": {"k": "two"}})])  # the file held "one"


def test_waiting_ends_with_the_live_secret_and_an_old_failure_neither_fails_it_nor_passes_it(cluster, play, namespace):
    good = {"path": "a.yaml", "name": "a", "namespace": namespace, "data": {"k": "one"}, "fingerprint_key": "0123456789abcdef"}
    play([task(**good)])
    body = yaml.safe_load((play.folder / "a.yaml").read_text(encoding="utf-8"))
    broken = {**body, "spec": {**body["spec"], "encryptedData": {"k": body["spec"]["encryptedData"]["k"][:-8] + "AAAAAAA="}}}
    cluster.kubectl("apply", "--filename", "-", input=json.dumps(broken))

    def condition():
        status = json.loads(cluster.kubectl("get", "sealedsecret", "a", "--namespace", namespace, "--output", "json")).get("status", {})
        return [each["status"] for each in status.get("conditions", [])]

    wait_until(lambda: condition() == ["False"])
    assert "was not opened after 1 s" in play([task(**good, wait=True, wait_timeout=1)], fails=True)
    cluster.kubectl("apply", "--filename", str(play.folder / "a.yaml"))
    assert "changed=0" in play([task(**good, wait=True)])
    assert live(cluster, namespace, "a") == {"k": "one"}

    # The same value for the key of another cluster: condition and live Secret are those of the blob before.
    (play.folder / "other.pem").write_bytes(key("other").certificate.pem)
    (play.folder / "a.yaml").unlink()
    foreign = {**good, "certificate": "other.pem", "allow_other_certificate": True}
    play([task(**foreign)])
    cluster.kubectl("apply", "--filename", str(play.folder / "a.yaml"))
    assert "was not opened after 2 s" in play([task(**foreign, wait=True, wait_timeout=2)], fails=True)
    wait_until(lambda: condition() == ["False"])
    assert live(cluster, namespace, "a") == {"k": "one"}


def test_every_example_of_the_module_runs(cluster, sealing, play, namespace, tmp_path):
    text = EXAMPLES.replace("namespace: shop", f"namespace: {namespace}").replace("/etc/ssl/shop", str(tmp_path))
    tasks = yaml.safe_load(text)
    (tmp_path / "fullchain.pem").write_text("certificate", encoding="ascii")
    (tmp_path / "key.pem").write_text("key", encoding="ascii")
    for folder in ("manifests", "vault"):
        (play.folder / folder).mkdir()
    (play.folder / "manifests" / "sealing.pem").write_text(sealing.ready("kube-system"), encoding="ascii")
    vault = [str(Path(sys.executable).parent / "ansible-vault"), "encrypt", "--vault-password-file", str(play.password)]
    (play.folder / "vault" / "shop-secrets.yaml").write_text(yaml.safe_dump_all([
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": {"a": name}} for name in ("one", "two")]),
        encoding="utf-8")
    (play.folder / "vault" / "sealing-keys.yaml").write_text(keys_of(cluster), encoding="utf-8")
    for name in ("shop-secrets.yaml", "sealing-keys.yaml"):
        subprocess.run([*vault, str(play.folder / "vault" / name)], check=True, capture_output=True)
    variables = {"vault_db_password": "a-long-password", "vault_api_token": "a-long-token", "vault_fingerprint_key": "0123456789abcdef"}
    output = play(tasks, "--diff", variables=variables)
    assert "ok=6" in output and "changed=4" in output, output
    cluster.kubectl("apply", "--recursive", "--filename", str(play.folder / "manifests" / "shop"))
    wait_until(lambda: (live(cluster, namespace, "api") or {}).get("config.ini") == "[api]\ntoken = a-long-token\n")
    wait_until(lambda: live(cluster, namespace, "two") == {"a": "two"} and live(cluster, namespace, "web-tls") == {"tls.crt": "certificate", "tls.key": "key"})
    assert "changed=0" in play(tasks, variables=variables)


def test_the_filters_seal_and_open_one_value(cluster, sealing, play, namespace, tmp_path):
    (play.folder / "sealing.pem").write_text(sealing.ready("kube-system"), encoding="ascii")
    (play.folder / "keys.yaml").write_text(keys_of(cluster), encoding="utf-8")
    keys = f"lookup('ansible.builtin.unvault', '{play.folder / 'keys.yaml'}')"
    bound = "namespace='shop', name='db'"
    there = ("{{ 'pässword' | nordic.gitops.seal('sealing.pem', %s) | nordic.gitops.unseal(%s, %s) }}" % (bound, keys, bound))
    sealed = "'x' | nordic.gitops.seal(lookup('file', playbook_dir ~ '/checkout/sealing.pem'), scope='cluster-wide')"
    wide = "{{ %s | nordic.gitops.unseal(%s, scope='cluster-wide', base64=true) }}" % (sealed, keys)
    play([{"name": "Round", "ansible.builtin.assert": {"that": ["one == 'pässword'", "two == 'eA=='"]}, "vars": {"one": there, "two": wide}}])

    # What `kubeseal --raw` prints we open, and the controller opens what the filter gives.
    pem = play.folder / "sealing.pem"
    for scope, options, ours in (("strict", ["--namespace", "shop", "--name", "db"], bound), ("namespace-wide", ["--namespace", "shop"], "namespace='shop'"),
                                 ("cluster-wide", [], "")):
        (play.folder / "raw").write_text("a raw ☃ value\n", encoding="utf-8")
        raw = sealing.seal(pem, "--raw", "--scope", scope, *options, "--from-file", str(play.folder / "raw"))
        opened = "{{ '%s' | nordic.gitops.unseal(%s, scope='%s'%s) }}" % (raw, keys, scope, f", {ours}" if ours else "")
        play([{"name": "Raw", "ansible.builtin.assert": {"that": ["opened == 'a raw ☃ value\n'"]}, "vars": {"opened": opened}}])
    body = {"apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "raw", "namespace": namespace},
            "spec": {"encryptedData": {"k": "{{ 'pässword' | nordic.gitops.seal('sealing.pem', namespace='%s', name='raw') }}" % namespace}}}
    play([{"name": "Write", "ansible.builtin.copy": {"dest": str(play.folder / "raw.json"), "content": "{{ body | to_json }}", "mode": "0600"},
           "vars": {"body": body}}])
    cluster.kubectl("apply", "--filename", str(play.folder / "raw.json"))
    wait_until(lambda: live(cluster, namespace, "raw") == {"k": "pässword"})
    for expression, words in (("'x' | nordic.gitops.seal('sealing.pem')", "needs a namespace"), ("'x' | nordic.gitops.seal('sealing.pem', namespace='a')",
                                                                                                 "needs a name"),
                              ("5 | nordic.gitops.seal('sealing.pem', scope='cluster-wide')", "of the type int"),
                              ("'x' | nordic.gitops.seal('none.pem', scope='cluster-wide')", "No such file"),
                              ("'x' | nordic.gitops.seal('sealing.pem', scope='wide')", "has to be one of strict"),
                              ("'AA==' | nordic.gitops.unseal(%s, %s)" % (keys, bound), "too short")):
        assert words in play([{"name": "Bad", "ansible.builtin.debug": {"msg": "{{ %s }}" % expression}}], fails=True)


def test_no_value_is_in_any_output_file_cache_or_process_list(cluster, sealing, play, namespace, tmp_path):
    """Random values are looked for wherever a run leaves something."""
    canary = Canary("data", "loop", "fingerprint", "vault", "file", "bad", "password", "filter", "manifest", "broken", "base64",
                    more=[PRIVATE_KEY])  # the controller's keys
    (tmp_path / "sealing.pem").write_text(sealing.ready("kube-system"), encoding="ascii")
    (play.folder / "value").write_text(canary["file"], encoding="ascii")
    encrypted = subprocess.run([str(Path(sys.executable).parent / "ansible-vault"), "encrypt_string", "--vault-password-file", str(play.password),
                                canary["vault"]],
                               check=True, capture_output=True, text=True).stdout
    manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: d}\n%s\n"
    broken = canary["broken"]
    sources = {"good": f"stringData: {{k: {canary['manifest']}}}", "no-yaml": f"stringData: {{k: {broken}: x}}", "no-base64": f"data: {{k: {broken}}}",
               "no-text": f"stringData: {{k: [{broken}]}}", "twice": f"stringData: {{k: {broken}, k: {broken}}}", "no-mapping": f"stringData: {broken}",
               "tag": f"stringData: {{k: !{broken}}}", "alias": f"stringData: {{k: *{broken}}}"}
    for name, text in sources.items():
        (tmp_path / name).write_text(manifest % text, encoding="utf-8")
        subprocess.run([str(Path(sys.executable).parent / "ansible-vault"), "encrypt", "--vault-password-file", str(play.password), str(tmp_path / name)],
                       check=True, capture_output=True)
    variables = {"given": canary["data"], "fingerprint": canary["fingerprint"], "bad": canary["bad"], "password": canary["password"],
                 "filtered": canary["filter"], "coded": base64.b64encode(canary["base64"].encode()).decode(),
                 "listed": [{"name": "one", "value": canary["loop"]}]}
    (tmp_path / "vars.yml").write_text(f"encrypted: {encrypted}\n" + yaml.safe_dump(variables), encoding="utf-8")
    common = {"namespace": namespace, "fingerprint_key": "{{ fingerprint }}"}
    tasks = [
        task(path="a.yaml", name="a", data={"k": "{{ given }}", "v": "{{ encrypted }}"}, data_files={"f": "value"}, **common),
        {**task(path="b.yaml", name="{{ item.name }}", data={"k": "{{ item.value }}"}, **common), "loop": "{{ listed }}"},
        {**task(path="c.yaml", name="c", data={"k": "{{ bad }}"}, labels={"l": "{{ bad }}"}, **common), "ignore_errors": True},
        {**task(path="c.yaml", name="c", data="{{ bad }}", **common), "ignore_errors": True},
        {**task(path="c.yaml", name="c", immutable="{{ bad }}", data={"k": "{{ bad }}"}, **common), "ignore_errors": True},
        task(path="e.yaml", name="e", data_base64={"k": "{{ coded }}"}, **common),
        {**task(path="c.yaml", name="c", data_base64={"k": "{{ bad }}"}, **common), "ignore_errors": True},
        *({**task(path="d.yaml", src=str(tmp_path / name), **common), "ignore_errors": name != "good"} for name in sources),
        {"nordic.gitops.sealed_secrets_key": {"state": "backed_up", "backup": str(tmp_path / "one.yaml")}},
        *(task(path=".", state=state, backup=str(tmp_path / "one.yaml")) for state in ("validated", "resealed")),
        {"nordic.gitops.sealed_secrets_key": {"state": "backed_up", "backup": str(tmp_path / "two.yaml"), "vault_password": "{{ password }}"}},
        {"nordic.gitops.sealed_secrets_key": {"state": "verified", "backup": str(tmp_path / "one.yaml"), "vault_password": "{{ password }}"},
         "ignore_errors": True},
        {"nordic.gitops.sealed_secrets_key": {"state": "{{ bad }}", "vault_password": "{{ bad }}"}, "ignore_errors": True},
        {"ansible.builtin.assert": {"that": ["filtered | nordic.gitops.seal(pem, scope='cluster-wide') | nordic.gitops.unseal(keys, scope='cluster-wide')"
                                             " == filtered"]},
         "vars": {"pem": str(tmp_path / "sealing.pem"), "keys": "{{ lookup('ansible.builtin.unvault', '%s') }}" % (tmp_path / "one.yaml")}},
        {"ansible.builtin.debug": {"msg": "{{ bad | nordic.gitops.seal('none.pem', scope='cluster-wide') }}"}, "ignore_errors": True},
        {"ansible.builtin.debug": {"msg": "{{ bad | nordic.gitops.unseal(bad, scope='cluster-wide') }}"}, "ignore_errors": True},
        {"ansible.builtin.ping": {}},  # a module that tells the system's log of itself
    ]
    with canary.watched():
        output = play(tasks, "-vvvv", "--diff", "--extra-vars", f"@{tmp_path / 'vars.yml'}", environment={
            "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log"), "ANSIBLE_KEEP_REMOTE_FILES": "1"})
    assert f"ignored={8 + len(sources) - 1}" in output and "changed=6" in output, output
    assert sorted(path.name for path in play.folder.iterdir()) == ["a.yaml", "b.yaml", "d.yaml", "e.yaml", "value"]
    assert "ping" in canary.logged and any(b"ansible-playbook" in line for line in canary.command_lines)
    canary.check("the output", output)
    assert canary.check_files(tmp_path, Path.home() / ".ansible", but=[tmp_path / "vars.yml", play.folder / "value"]) > 5
    for command in (["init", "--quiet"], ["add", "--", *(f"{name}.yaml" for name in "abde")]):
        subprocess.run(["git", *command], cwd=play.folder, check=True)
    assert canary.check_objects(play.folder) == 4


# The certificate's source


def test_a_certificate_of_another_cluster_is_refused_with_both_fingerprints(certificate, play, namespace, tmp_path):
    (play.folder / "other.pem").write_bytes(key("other").certificate.pem)
    options = {"path": "a.yaml", "name": "a", "namespace": namespace, "certificate": "other.pem", "data": {"k": "v"}}
    output = play([task(**options)], fails=True)
    assert key("other").fingerprint in output and certificate.fingerprint in output and not (play.folder / "a.yaml").exists()
    play([task(**options, allow_other_certificate=True)])


def test_the_cache_serves_while_the_cluster_cannot_be_reached_and_is_renewed_when_it_answers(cluster, certificate, play, namespace, tmp_path, fault_proxy):
    kubeconfig = fault_proxy.kubeconfig_with({"token": cluster.admin_token})
    options = {"path": "a.yaml", "name": "a", "namespace": namespace, "data": {"k": "v"}, "kubeconfig": kubeconfig, "timeout": 2}
    play([task(**options)])
    cache = tmp_path / "home" / ".cache" / "nordic.gitops" / "certificates"
    (kept,) = cache.iterdir()
    assert Certificate.parse(kept.read_bytes(), "cache").fingerprint == certificate.fingerprint
    kept.write_bytes(key("old").certificate.pem)  # before a renewal
    play([task(**options)])
    assert Certificate.parse(kept.read_bytes(), "cache").fingerprint == certificate.fingerprint
    fault_proxy.down()
    assert f"The certificate of an earlier run is used, {certificate.fingerprint}" in " ".join(play([task(**options)]).split())
    kept.write_bytes(key("late", begin=-60, days=30).certificate.pem)
    play([task(**options)], fails=True)
    kept.write_bytes(certificate.pem)
    os.chmod(cache, 0o777)  # whoever may write there decides for whom is sealed
    play([task(**options)], fails=True)


def test_the_controllers_own_url_serves_the_certificate_as_inside_of_the_cluster(cluster, certificate, play, namespace):
    endpoints = json.loads(cluster.kubectl("get", "endpoints", "sealed-secrets-controller", "--namespace", "kube-system", "--output", "json"))["subsets"][0]
    url = f"http://{endpoints['addresses'][0]['ip']}:{endpoints['ports'][0]['port']}/v1/cert.pem"
    play([{**task(path="a.yaml", name="a", namespace=namespace, data={"k": "v"}, certificate=url), "register": "done"},
          {"name": "Its source", "ansible.builtin.assert": {"that": [f"done.certificate.source == '{url}'",
                                                                     f"done.certificate.fingerprint == '{certificate.fingerprint}'"]}}],
         environment={"K8S_AUTH_KUBECONFIG": None})  # no cluster to ask
    cluster.kubectl("apply", "--filename", str(play.folder / "a.yaml"))
    wait_until(lambda: live(cluster, namespace, "a") == {"k": "v"})


def test_a_service_of_another_name_is_found_named_and_a_port_without_a_name_or_with_another_works(cluster, certificate, play, namespace):
    options = {"path": "a.yaml", "name": "a", "namespace": namespace, "data": {"k": "v"}}
    began = time.monotonic()
    output = " ".join(play([task(**options, controller_name="sealed-secrets", timeout=2)], fails=True).split())
    assert "there is no such Service" in output and "kube-system/sealed-secrets-controller" in output and "as a file or URL" in output
    assert time.monotonic() - began < 60
    service = json.loads(cluster.kubectl("get", "service", "sealed-secrets-controller", "--namespace", "kube-system", "--output", "json"))
    for port in ({}, {"name": "web-1"}):
        other = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": "kube-system"},
                 "spec": {"selector": service["spec"]["selector"], "ports": [{"port": 8080, "targetPort": "http", **port}]}}
        cluster.kubectl("apply", "--filename", "-", input=json.dumps(other))
        try:
            path = f"/api/v1/namespaces/kube-system/services/http:other:{port.get('name', '')}/proxy/v1/cert.pem"
            wait_until(lambda path=path: cluster.api.send("GET", path)[0] == 200)
            assert certificate.fingerprint in play([{**task(**options, controller_name="other"), "register": "done"},
                                                    {"ansible.builtin.debug": {"var": "done.certificate"}}])
        finally:
            cluster.kubectl("delete", "service", "other", "--namespace", "kube-system")


def test_a_controller_that_is_cut_off_fails_within_the_time_limit_and_other_ways_are_named(cluster, play, namespace):
    """A Service whose only address answers nobody."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cut-off", "namespace": namespace}, "spec": {"ports": [{"port": 8080}]}}
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "cut-off", "namespace": namespace},
                 "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 8080}]}]}
    for body in (service, endpoints):
        cluster.kubectl("apply", "--filename", "-", input=json.dumps(body))
    options = {"path": "a.yaml", "name": "a", "namespace": namespace, "data": {"k": "v"}, "controller_name": "cut-off", "controller_namespace": namespace}
    began = time.monotonic()
    output = " ".join(play([task(**options, timeout=2)], fails=True).split())
    assert time.monotonic() - began < 60 and not (play.folder / "a.yaml").exists()
    assert f"Service {namespace}/cut-off" in output and "kube-system/sealed-secrets-controller" in output and "as a file or URL" in output, output


def test_a_kubeconfig_given_as_a_dictionary_is_shown_nowhere(cluster, play, namespace):
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text(encoding="utf-8"))
    secret = [value for user in config["users"] for value in user["user"].values()]
    options = {"path": "a.yaml", "name": "a", "namespace": namespace, "data": {"k": "v"}, "kubeconfig": "{{ config }}"}
    tasks = [task(**options), {**task(**{**options, "controller_name": "none", "timeout": 1}), "ignore_errors": True},
             {**task(**options), "loop": [1]}, {"name": "Keys", "nordic.gitops.sealed_secrets_key": {"kubeconfig": "{{ config }}"}},
             {"name": "Reconcile", "nordic.gitops.reconcile": {"kubeconfig": "{{ config }}", "name": "none", "repository": "file:///nowhere"},
              "ignore_errors": True}]
    output = play(tasks, "-vvvv", "--diff", variables={"config": config})
    assert secret and "ignored=2" in output and not [value for value in secret if value in output]


def test_who_may_use_the_proxy_alone_can_seal(cluster, certificate, play, namespace):
    rules = [{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get", "create"]}]
    kubeconfig = cluster.service_account("sealer", rules, namespace)
    play([task(path="a.yaml", name="a", namespace=namespace, data={"k": "v"}, kubeconfig=kubeconfig)])
    assert "changed=1" in play([task(path="a.yaml", name="a", namespace=namespace, data={"k": "w"}, kubeconfig=kubeconfig)])


def test_the_controllers_own_word_names_what_does_not_open(cluster, play, namespace):
    play([task(path="tree/a.yaml", name="a", namespace=namespace, data={"k": "v"}), task(path="tree/b.yaml", name="b", namespace=namespace, data={"k": "v"}),
          task(path="tree", state="validated")])
    first = yaml.safe_load((play.folder / "tree" / "a.yaml").read_text(encoding="utf-8"))
    renamed = {**first, "metadata": {**first["metadata"], "name": "renamed"}}
    (play.folder / "tree" / "list.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [first, renamed]}), encoding="utf-8")
    output = " ".join(play([task(path="tree", state="validated")], fails=True).split())
    assert f"SealedSecret {namespace}/renamed: the controller cannot open it" in output and "1 do not open: list.yaml:" in output
    (play.folder / "tree" / "list.yaml").unlink()
    file = play.folder / "tree" / "b.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("name: b", "name: c", 1), encoding="utf-8")
    output = play([task(path="tree", state="validated")], fails=True)
    assert "b.yaml:2: SealedSecret" in output and "1 do not open" in output
