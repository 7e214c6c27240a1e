# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubernetes package's own configuration loader and connection pool, without its 1,500 model classes.

Measured gain (kubernetes 37.0.2, processor seconds, three runs each): 0.04 s instead of 0.21 s, in each run of a module,
of which a reconcile that finds nothing to do takes 0.6 s in all. The package's and its client's __init__ import a class
for every type of the Kubernetes API; what is needed here is in a few small modules. They are imported below a bare
`kubernetes` package: one with the real __path__, whose __init__ never runs.
The bare packages are taken out of sys.modules again at once, so that a later `import kubernetes` in this process
(another collection's plugin, an action plugin on the controller) gets the real thing.

Whatever goes wrong on this short way, because of another layout in another version, leads to the plain import.
To do without the short way, have loader() call plain_way() alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import types
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import MissingLibrary


class Loader(NamedTuple):
    """What the rest of _cluster uses of the kubernetes package."""

    Configuration: Any
    RESTClientObject: Any
    ConfigException: Any
    load_kube_config: Callable[..., None]
    load_kube_config_from_dict: Callable[..., None]
    load_incluster_config: Callable[..., None]
    default_kubeconfig: str
    short: bool  # False when the plain import was needed


# Packages whose __init__ pulls the models in; their submodules are wanted, they themselves are not.
BARE = ("kubernetes", "kubernetes.client", "kubernetes.config", "kubernetes.utils")

# Only an expired OIDC or GCP token needs these (and, in old versions, no_proxy); each costs 10 to 40 ms.
LATER = (
    "adal",
    "google",
    "google.auth",
    "google.auth.transport",
    "google.auth.transport.requests",
    "oauthlib",
    "oauthlib.oauth2",
    "requests",
    "requests.utils",
    "requests_oauthlib",
)

_lock = threading.Lock()
_loaded: List[Loader] = []


def loader() -> Loader:
    """The loader, by the short way where that works; imported once in a process."""
    with _lock:
        if not _loaded:
            try:
                _loaded.append(short_way())
            except Exception:  # whatever another version does differently, the plain import does right
                _loaded.append(plain_way())
    return _loaded[0]


def short_way() -> Loader:
    if "kubernetes" in sys.modules:
        return plain_way()  # somebody paid for it already
    with _stand_ins():
        client = sys.modules["kubernetes.client"]
        client.Configuration = _module("client.configuration").Configuration  # type: ignore[attr-defined]
        client.ApiClient = _deferred("kubernetes.client", "ApiClient")  # type: ignore[attr-defined]
        kube_config = _module("config.kube_config")
        kube_config.yaml = _QuickYaml()
        return Loader(
            client.Configuration,
            _module("client.rest").RESTClientObject,
            _module("config.config_exception").ConfigException,
            kube_config.load_kube_config,
            kube_config.load_kube_config_from_dict,
            _module("config.incluster_config").load_incluster_config,
            kube_config.KUBE_CONFIG_DEFAULT_LOCATION,
            True,
        )


def plain_way() -> Loader:
    try:
        from kubernetes import client, config
        from kubernetes.client import rest
        from kubernetes.config import kube_config
    except ImportError as error:
        raise MissingLibrary("kubernetes>=28.1", error) from error
    return Loader(
        client.Configuration,
        rest.RESTClientObject,
        config.ConfigException,
        config.load_kube_config,
        config.load_kube_config_from_dict,
        config.load_incluster_config,
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION,
        False,
    )


def _module(name: str) -> Any:
    return importlib.import_module(f"kubernetes.{name}")


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Bare packages and later modules, in sys.modules for as long as the block runs."""
    found = importlib.util.find_spec("kubernetes")
    if found is None or not found.submodule_search_locations:
        raise ImportError("No module named 'kubernetes'")
    folder = list(found.submodule_search_locations)[0]
    added: Dict[str, types.ModuleType] = {}
    for name in BARE:
        package = types.ModuleType(name)
        package.__path__ = [os.path.join(folder, *name.split(".")[1:])]
        added[name] = package
    for name in LATER:
        # A package that isn't installed stays missing: some versions of the loader try and do without.
        if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is not None:
            added[name] = _Later(name)
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name in added or name.startswith("kubernetes.")]:
            del sys.modules[name]
        for module in added.values():
            if isinstance(module, _Later):
                module.__dict__["_importing"] = False


class _QuickYaml:
    """PyYAML for the loader, reading with libyaml: a kubeconfig with its certificates inside takes 0.3 ms, not 5."""

    def __getattr__(self, name: str) -> Any:
        import yaml

        return getattr(yaml, name)

    def safe_load(self, stream: Any) -> Any:
        import yaml

        return yaml.load(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


class _Later(types.ModuleType):
    """A module imported when something of it is used, not when `import` names it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: List[str] = []  # "import a.b" looks b up in a package only
        self._importing = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._importing:  # "from a import b"
            return _deferred(self.__name__, name)
        for known in LATER:
            if known.startswith(self.__name__ + "."):  # "a.b.c" of "import a.b" needs a.b imported
                importlib.import_module(known)
        return getattr(importlib.import_module(self.__name__), name)


def _deferred(module: str, name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    call.__name__ = name
    return call
