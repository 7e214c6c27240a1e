# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options, named as kubernetes.core names them, and the client configuration they lead to."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible.module_utils.basic import env_fallback

from ansible_collections.nordic.gitops.plugins.module_utils._cluster._loader import Loader, loader
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.exec_plugin import Credential, Plugin, plugin_of
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, yaml_problem
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import (
    CONTROL,
    SHORTEST_VALUE,
    UrlType,
    bare_url,
    full_url,
    register,
    register_login,
    url,
)

POOL_SIZE = 32  # connections kept open; more threads than this would open and close one for each request


class InlineKubeconfig(str):
    """A kubeconfig given as a dictionary, that prints as a word.

    no_log would be the wrong shield: it hides every value of the dictionary wherever it appears, and the value
    "default" of a context's name is also a namespace in every result. As text this value carries no secret, so neither
    the log, nor the returned invocation, nor a message can show one.
    """

    config: Dict[str, Any]


class _KubeconfigType(str):
    """Documented as what it is to a person, "raw"; Ansible calls a type that is callable, before anything is logged."""

    def __call__(self, value: Any) -> Any:
        return kubeconfig_value(value)


def kubeconfig_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        inline = InlineKubeconfig("(given as a dictionary)")
        inline.config = dict(value)
        return inline
    if isinstance(value, str):
        return value
    raise TypeError("kubeconfig must be a path, several paths separated by ':', or a dictionary")


def _option(kind: str, *variables: str, **more: Any) -> Dict[str, Any]:
    return dict(type=kind, fallback=(env_fallback, [f"K8S_AUTH_{name}" for name in variables]), **more)


CONNECTION_SPEC: Dict[str, Dict[str, Any]] = {
    "kubeconfig": dict(_option("raw", "KUBECONFIG"), type=_KubeconfigType("raw")),
    "context": _option("str", "CONTEXT"),
    "host": dict(_option("str", "HOST"), type=UrlType("str")),
    "api_key": _option("str", "API_KEY", no_log=True),
    "username": _option("str", "USERNAME"),
    "password": _option("str", "PASSWORD", no_log=True),
    "client_cert": _option("path", "CLIENT_CERT", "CERT_FILE", aliases=["cert_file"]),
    "client_key": _option("path", "CLIENT_KEY", "KEY_FILE", aliases=["key_file"], no_log=False),
    "ca_cert": _option("path", "CA_CERT", "SSL_CA_CERT", aliases=["ssl_ca_cert"]),
    "validate_certs": _option("bool", "VALIDATE_CERTS", "VERIFY_SSL", aliases=["verify_ssl"]),
    "proxy": dict(_option("str", "PROXY"), type=UrlType("str")),
    "no_proxy": _option("str", "NO_PROXY"),
    "proxy_headers": {
        "type": "dict",
        "apply_defaults": True,  # so that the variables count when the dictionary isn't given at all
        "options": {
            "proxy_basic_auth": _option("str", "PROXY_HEADERS_PROXY_BASIC_AUTH", no_log=True),
            "basic_auth": _option("str", "PROXY_HEADERS_BASIC_AUTH", no_log=True),
            "user_agent": _option("str", "PROXY_HEADERS_USER_AGENT"),
        },
    },
    "persist_config": _option("bool", "PERSIST_CONFIG"),
    "impersonate_user": _option("str", "IMPERSONATE_USER"),
    "impersonate_groups": _option("list", "IMPERSONATE_GROUPS", elements="str"),
}

# option: attribute of the client's Configuration that it overrides
OVERRIDES = {
    "host": "host",
    "username": "username",
    "password": "password",
    "client_cert": "cert_file",
    "client_key": "key_file",
    "ca_cert": "ssl_ca_cert",
    "validate_certs": "verify_ssl",
    "proxy": "proxy",
    "no_proxy": "no_proxy",
}


def configuration(params: Mapping[str, Any]) -> Any:
    """The kubernetes package's Configuration for these options, loaded in kubernetes.core's order."""
    package = loader()
    config = package.Configuration()
    given = {name: params.get(name) for name in CONNECTION_SPEC if params.get(name) not in (None, "", [], {})}
    _register(given)
    _check_files(given)
    if not _enough_without_a_file(given):
        _load(package, config, given)
    for option, attribute in OVERRIDES.items():
        if option in given:
            value = given[option]
            setattr(config, attribute, full_url(value) if isinstance(value, str) else value)
    if "api_key" in given or ("username" in given and "password" in given):
        config.refresh_api_key_hook = None  # or the kubeconfig's token would come back
        if "api_key" in given:
            config.api_key = {"authorization": f"Bearer {given['api_key']}"}
        else:
            config.api_key = {"authorization": config.get_basic_auth_token()}
    # What the kubeconfig, a credential plugin or a token file holds is a secret like the options, wherever it turns up again.
    url(config.host)
    url(config.proxy)
    register_login(config.username, config.password)
    for value in config.api_key.values():
        register(value, str(value).rpartition(" ")[2])
    config.host = config.host.rstrip("/")
    if not re.match(r"https?://[^/]", config.host):
        raise Failure("host must be a URL that begins with https:// or http://", bare_url(config.host))
    headers = {name: value for name, value in (given.get("proxy_headers") or {}).items() if value}
    if headers:
        from urllib3.util import make_headers

        config.proxy_headers = make_headers(**headers)
    config.connection_pool_maxsize = POOL_SIZE
    return config


def impersonation(params: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """The headers that make the API server act as somebody else."""
    headers = []
    if params.get("impersonate_user"):
        headers.append(("Impersonate-User", params["impersonate_user"]))
    groups = params.get("impersonate_groups") or []
    if groups and not headers:
        raise Failure("impersonate_groups needs impersonate_user: the API server refuses groups without a user")
    return headers + [("Impersonate-Group", group) for group in groups]


def _register(given: Mapping[str, Any]) -> None:
    """The options' secrets, for no message to show; one with a line break in it fits in no header, and would be shown by whoever refuses it."""
    headers = given.get("proxy_headers") or {}
    register(given.get("api_key"), headers.get("proxy_basic_auth"), headers.get("basic_auth"))
    register_login(given.get("username"), given.get("password"))
    for name in ("proxy_basic_auth", "basic_auth"):
        register_login(*str(headers.get(name) or "").partition(":")[::2])
    for name in ("host", "proxy"):
        url(given.get(name))
    texts: Dict[str, Any] = {**given, **headers, "impersonate_groups": "".join(map(str, given.get("impersonate_groups") or []))}
    for name, text in texts.items():
        if isinstance(text, str) and name != "kubeconfig" and CONTROL.search(full_url(text)):
            raise Failure(f"{name} has a line break or another control character in it", name, "Was it read from a file with its last line end?")
    kubeconfig = given.get("kubeconfig")
    if isinstance(kubeconfig, (InlineKubeconfig, dict)):
        _register_users(kubeconfig.config if isinstance(kubeconfig, InlineKubeconfig) else kubeconfig)


def _register_users(kubeconfig: Any) -> None:
    """All that the users of a kubeconfig have: a credential plugin may print the variables that it is given."""
    users = kubeconfig.get("users") if isinstance(kubeconfig, dict) else None
    for user in users if isinstance(users, list) else ():
        todo = [user.get("user") if isinstance(user, dict) else None]
        while todo:
            value = todo.pop()
            if isinstance(value, dict):
                exec_variable = {"name", "value"} == set(value)
                todo += [item for name, item in value.items()
                         if not (name in _NO_SECRETS or exec_variable and name == "name")]
            elif isinstance(value, list):
                todo += value
            elif isinstance(value, str) and len(value) >= SHORTEST_VALUE:
                register(value)


# Of a user in a kubeconfig: what is a name, a path or a word.
_NO_SECRETS = ("name", "apiVersion", "command", "installHint", "interactiveMode", "provideClusterInfo", "client-certificate", "client-key",
               "tokenFile", "username", "as", "as-groups", "idp-issuer-url", "idp-certificate-authority", "client-certificate-data")


def _enough_without_a_file(given: Mapping[str, Any]) -> bool:
    sufficient = (("username", "password"), ("api_key",), ("client_cert", "client_key"))
    return "host" in given and any(all(name in given for name in names) for names in sufficient)


def _check_files(given: Mapping[str, Any]) -> None:
    for option in ("ca_cert", "client_cert", "client_key"):
        if option in given and not os.path.isfile(os.path.expanduser(given[option])):
            raise Failure(f"{option} names a file that does not exist", given[option])
    if "client_cert" in given and "client_key" not in given:
        # A PEM file may hold both; the ssl module reads the key from the certificate's file then.
        with open(given["client_cert"], encoding="utf-8", errors="replace") as file:
            if "PRIVATE KEY" not in file.read():
                raise Failure("client_cert needs client_key: the file holds no private key", given["client_cert"])


def _load(package: Loader, config: Any, given: Mapping[str, Any]) -> None:
    kubeconfig, context = given.get("kubeconfig"), given.get("context")
    if kubeconfig is None and context is None:
        try:
            package.load_incluster_config(client_configuration=config)
            return
        except package.ConfigException as error:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and not _existing(package.default_kubeconfig):
                raise Failure(
                    f"the service account of this pod cannot be used: {error}",
                    hint="Set automountServiceAccountToken, or give kubeconfig, or host and api_key.",
                ) from error
    where = _where(package, kubeconfig)
    content = kubeconfig.config if isinstance(kubeconfig, InlineKubeconfig) else kubeconfig if isinstance(kubeconfig, dict) else None
    paths = kubeconfig if isinstance(kubeconfig, str) else package.default_kubeconfig
    if content is None and not _existing(paths):
        if "host" in given and kubeconfig is None and context is None:
            return  # anonymous: a proxy such as `kubectl proxy` needs no credentials
        raise Failure(
            "no kubeconfig file is there",
            where,
            "Give kubeconfig (or K8S_AUTH_KUBECONFIG, KUBECONFIG), or host and api_key.",
        )
    plugin = plugin_of(content, paths, context)
    if plugin is not None:
        _load_with(plugin, package, config, given, where)
    elif content is not None:
        _calling(package, where, package.load_kube_config_from_dict, config, given, config_dict=content)
    else:
        _calling(package, where, package.load_kube_config, config, given, config_file=paths)


def _load_with(plugin: Plugin, package: Loader, config: Any, given: Mapping[str, Any], where: str) -> None:
    """Load a kubeconfig whose user has a credential plugin, which is asked now and whenever its credential has lapsed."""
    _register_users(plugin.kubeconfig)  # it may print the variables that it is given
    answered: List[Credential] = []

    def load(configuration: Any) -> None:
        try:
            answered[:] = [plugin.ask()]
        except Failure as error:
            error.where = where
            raise
        content = plugin.with_credential(answered[0])
        _calling(package, where, package.load_kube_config_from_dict, configuration, given, config_dict=content)
        configuration.refresh_api_key_hook = again

    def again(configuration: Any) -> None:
        if answered[0].lapsed:
            load(configuration)

    load(config)


def _calling(
    package: Loader, where: str, load: Any, config: Any, given: Mapping[str, Any], **source: Any
) -> None:
    import yaml

    try:
        load(
            client_configuration=config,
            context=given.get("context"),
            persist_config=bool(given.get("persist_config")),
            **source,
        )
    except package.ConfigException as error:
        raise Failure(_readable(str(error), given), where) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise Failure(f"is no valid YAML{line}: {yaml_problem(error)}", where) from None
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror or error}", error.filename or where) from error
    except Failure:
        raise
    except Exception as error:  # the loader trusts the file's shape: a list where it expects a map is a TypeError
        raise Failure(f"is no kubeconfig that can be used ({type(error).__name__})", where,
                      "A kubeconfig is a mapping with clusters, users and contexts: `kubectl config view` shows yours.") from error


def _readable(message: str, given: Mapping[str, Any]) -> str:
    found = re.search(r"Expected object with name (.*) in (?:.*/)?(contexts|clusters|users) list", message)
    if found:
        kind = {"contexts": "context", "clusters": "cluster", "users": "user"}[found.group(2)]
        return f'has no {kind} named "{found.group(1)}"'
    if "Expected key current-context" in message and not given.get("context"):
        return "has no current-context: give the option context"
    return message


def _where(package: Loader, kubeconfig: Any) -> str:
    if kubeconfig is None:
        return f"kubeconfig {package.default_kubeconfig}"
    return f"kubeconfig {kubeconfig if isinstance(kubeconfig, str) else '(given as a dictionary)'}"


def _existing(paths: str) -> Optional[str]:
    for path in paths.split(os.pathsep):
        if path and os.path.isfile(os.path.expanduser(path)):
            return path
    return None
