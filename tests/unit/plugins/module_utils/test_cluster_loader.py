# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short way to the kubernetes package's loader: the same result, no models, nothing left behind.

Each case is a process of its own, because what is tested is what an import leaves in a process.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

KUBECONFIG = {
    "current-context": "here",
    "clusters": [
        {"name": "c", "cluster": {"server": "https://10.1.2.3:6443/", "insecure-skip-tls-verify": True,
                                  "tls-server-name": "kubernetes", "proxy-url": "http://proxy.example:3128"}}
    ],
    "users": [{"name": "u", "user": {"token": "sesame"}}],
    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
}

START = """
import json, sys
from ansible_collections.nordic.gitops.plugins.module_utils._cluster import _loader
"""

LOAD = """
def loaded(package):
    config = package.Configuration()
    package.load_kube_config(config_file=sys.argv[1], client_configuration=config)
    values = {name: value for name, value in vars(config).items() if isinstance(value, (str, int, bool, type(None)))}
    return dict(values, host=config.host, proxy=config.proxy, auth=config.auth_settings())
"""


def run(script, *arguments):
    paths = [path for path in sys.path if path]
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{START}{LOAD}{script}", *arguments],
        capture_output=True,
        text=True,
        timeout=60, check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(KUBECONFIG))
    return str(path)


def test_the_short_way_and_the_plain_import_give_the_same_configuration(kubeconfig):
    answer = run(
        """
short = _loader.short_way()
first = loaded(short)
plain = _loader.plain_way()
print(json.dumps([short.short, plain.short, first, loaded(plain), short.default_kubeconfig == plain.default_kubeconfig]))
""",
        kubeconfig,
    )
    short, plain, first, second, same_default = answer
    assert (short, plain, same_default) == (True, False, True)
    assert first == second
    assert first["host"] == "https://10.1.2.3:6443" and first["tls_server_name"] == "kubernetes"


def test_the_short_way_loads_no_models_and_leaves_no_package_behind():
    names = run("_loader.short_way(); print(json.dumps(sorted(sys.modules)))")
    heavy = ("kubernetes", "requests", "requests_oauthlib", "oauthlib", "google", "pydantic")
    assert [name for name in names if name.split(".")[0] in heavy] == []


def test_the_whole_package_can_be_imported_afterwards():
    assert run(
        """
_loader.short_way()
import kubernetes.client, kubernetes.config, kubernetes.dynamic
pod = kubernetes.client.V1Pod(metadata=kubernetes.client.V1ObjectMeta(name="x"))
print(json.dumps([pod.metadata.name, kubernetes.client.ApiClient.__name__, callable(kubernetes.config.load_kube_config)]))
"""
    ) == ["x", "ApiClient", True]


def test_a_package_that_is_loaded_already_is_used_as_it_is():
    assert run(
        """
import kubernetes
package = _loader.loader()
print(json.dumps([package.short, package.Configuration is kubernetes.client.Configuration]))
"""
    ) == [False, True]


def test_a_package_laid_out_otherwise_is_imported_plainly(kubeconfig):
    """As a future version may be: the modules that the short way asks for have moved."""
    answer = run(
        """
_loader._module = lambda name: __import__("kubernetes.nowhere." + name)
package = _loader.loader()
print(json.dumps([package.short, loaded(package)["host"]]))
""",
        kubeconfig,
    )
    assert answer == [False, "https://10.1.2.3:6443"]


def test_a_missing_package_is_a_failure_in_words():
    words = run(
        """
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "kubernetes":
            raise ModuleNotFoundError("No module named 'kubernetes'")
sys.meta_path.insert(0, Missing())
try:
    _loader.loader()
except Failure as failure:
    print(json.dumps(str(failure)))
"""
    )
    assert "kubernetes" in words and "pip install" in words and sys.executable in words


def test_what_is_seldom_needed_is_there_when_it_is():
    """An expired OIDC token needs oauthlib and ApiClient; the loader's own names must lead to the real ones."""
    assert run(
        """
_loader.short_way()
import gc, types
[loader] = [each for each in gc.get_objects() if isinstance(each, dict) and each.get("__name__") == "kubernetes.config.kube_config"]
session = loader["OAuth2Session"](client_id="me")
error = loader["oauthlib"].oauth2.rfc6749.errors.InvalidClientIdError
client = loader["ApiClient"](loader["Configuration"]())
print(json.dumps([session.client_id, issubclass(error, Exception), type(client).__name__]))
"""
    ) == ["me", True, "ApiClient"]
