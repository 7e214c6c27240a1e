# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of each kind. What Argo CD has a key for has Argo CD's name, so that a manifest can be copied into a task."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import HiddenType, UrlType, full_value

Spec = Dict[str, Dict[str, Any]]

NAMESPACE = "argocd"


def _texts(**more: Any) -> Dict[str, Any]:
    return dict(type="list", elements="str", **more)


def _items(options: Spec, **more: Any) -> Dict[str, Any]:
    return dict(type="list", elements="dict", options=options, **more)


SOURCE: Spec = dict(
    repoURL=dict(type="str"),
    targetRevision=dict(type="str"),
    path=dict(type="str"),
    chart=dict(type="str"),
    ref=dict(type="str"),
    name=dict(type="str"),
    tagPrefix=dict(type="str"),
    helm=dict(type="dict"),
    kustomize=dict(type="dict"),
    directory=dict(type="dict"),
    plugin=dict(type="dict"),
)
DESTINATION: Spec = dict(server=dict(type="str"), name=dict(type="str"), namespace=dict(type="str"))
BACKOFF: Spec = dict(duration=dict(type="str"), factor=dict(type="int"), maxDuration=dict(type="str"))
RETRY: Spec = dict(limit=dict(type="int"), refresh=dict(type="bool"), backoff=dict(type="dict", options=BACKOFF))
SYNC_POLICY: Spec = dict(
    automated=dict(type="dict", options=dict(prune=dict(type="bool"), selfHeal=dict(type="bool"), allowEmpty=dict(type="bool"),
                                             enabled=dict(type="bool"))),
    syncOptions=_texts(),
    retry=dict(type="dict", options=RETRY),
    managedNamespaceMetadata=dict(type="dict", options=dict(labels=dict(type="dict"), annotations=dict(type="dict"))),
)

# What every kind has.
COMMON: Spec = dict(
    name=dict(type="str"),
    namespace=dict(type="str", default=NAMESPACE),
    labels=dict(type="dict"),
    annotations=dict(type="dict"),
)

APPLICATION: Spec = dict(
    project=dict(type="str"),
    source=dict(type="dict", options=SOURCE),
    sources=_items(SOURCE),
    destination=dict(type="dict", options=DESTINATION),
    syncPolicy=dict(type="dict", options=SYNC_POLICY),
    ignoreDifferences=_items(dict(
        group=dict(type="str"), kind=dict(type="str", required=True), name=dict(type="str"), namespace=dict(type="str"), jsonPointers=_texts(),
        jqPathExpressions=_texts(), managedFieldsManagers=_texts())),
    info=_items(dict(name=dict(type="str", required=True), value=dict(type="str", required=True))),
    revisionHistoryLimit=dict(type="int"),
)

APPLICATIONSET: Spec = dict(
    generators=dict(type="list", elements="dict"),
    template=dict(type="dict"),
    templatePatch=dict(type="str"),
    goTemplate=dict(type="bool"),
    goTemplateOptions=_texts(),
    strategy=dict(type="dict"),
    syncPolicy=dict(type="dict", options=dict(
        preserveResourcesOnDeletion=dict(type="bool"),
        applicationsSync=dict(type="str", choices=["create-only", "create-update", "create-delete", "sync"]))),
    preservedFields=dict(type="dict", options=dict(annotations=_texts(), labels=_texts())),
    ignoreApplicationDifferences=_items(dict(name=dict(type="str"), jsonPointers=_texts(), jqPathExpressions=_texts())),
)

GROUP_KIND: Spec = dict(group=dict(type="str", required=True), kind=dict(type="str", required=True))
PROJECT: Spec = dict(
    description=dict(type="str"),
    sourceRepos=_texts(),
    sourceNamespaces=_texts(),
    destinations=_items(DESTINATION),
    clusterResourceWhitelist=_items(dict(GROUP_KIND, name=dict(type="str"))),
    clusterResourceBlacklist=_items(dict(GROUP_KIND, name=dict(type="str"))),
    namespaceResourceWhitelist=_items(GROUP_KIND),
    namespaceResourceBlacklist=_items(GROUP_KIND),
    roles=_items(dict(name=dict(type="str", required=True), description=dict(type="str"), policies=_texts(), groups=_texts())),
    syncWindows=_items(dict(
        kind=dict(type="str", choices=["allow", "deny"], required=True), schedule=dict(type="str", required=True),
        duration=dict(type="str", required=True), applications=_texts(), namespaces=_texts(), clusters=_texts(),
        manualSync=dict(type="bool"), timeZone=dict(type="str"), andOperator=dict(type="bool"), description=dict(type="str"))),
    orphanedResources=dict(type="dict", options=dict(
        warn=dict(type="bool"), ignore=_items(dict(group=dict(type="str"), kind=dict(type="str"), name=dict(type="str"))))),
    permitOnlyProjectScopedClusters=dict(type="bool"),
    destinationServiceAccounts=_items(dict(server=dict(type="str", required=True), namespace=dict(type="str"),
                                           defaultServiceAccount=dict(type="str", required=True))),
)

# How Argo CD gets at a repository, in its own words. Together in one option, as some of them have names of the connection's.
ACCESS_TEXTS = ("username", "tlsClientCertData", "githubAppEnterpriseBaseUrl", "proxy", "noProxy")
ACCESS_SECRETS = ("password", "bearerToken", "sshPrivateKey", "tlsClientCertKey", "githubAppPrivateKey", "gcpServiceAccountKey")
ACCESS_NUMBERS = ("githubAppID", "githubAppInstallationID", "depth")
ACCESS_SWITCHES = ("insecure", "insecureIgnoreHostKey", "enableLfs", "enableOCI", "forceHttpBasicAuth", "useAzureWorkloadIdentity")
# What may be in such a Secret, or a cluster's, and is known to be no secret.
ACCESS_PUBLIC = (*ACCESS_TEXTS, *ACCESS_NUMBERS, *ACCESS_SWITCHES, "url", "type", "name", "project", "server", "namespaces", "clusterResources", "shard")
REPOSITORY: Spec = dict(
    url=dict(type=UrlType("str")),
    type=dict(type="str", choices=["git", "helm", "oci"], default="git"),
    template=dict(type="bool", default=False),
    project=dict(type="str"),
    access=dict(type="dict", options=dict(
        **{name: dict(type="str") for name in ACCESS_TEXTS},
        **{name: dict(type="str", no_log=True) for name in ACCESS_SECRETS},
        **{name: dict(type="int") for name in ACCESS_NUMBERS},
        **{name: dict(type="bool") for name in ACCESS_SWITCHES},
    )),
)

# What Argo CD trusts of repositories: each a list of its own, of one task of argocd_repository.
TRUST: Spec = dict(
    certificates=_items(dict(serverName=dict(type="str", required=True), certData=dict(type="str"))),
    known_hosts=_texts(),
    gpg_keys=_texts(no_log=False),
)

CLUSTER: Spec = dict(
    server=dict(type="str"),
    namespaces=_texts(),
    clusterResources=dict(type="bool"),
    project=dict(type="str"),
    shard=dict(type="int"),
    config=dict(type="dict", options=dict(
        username=dict(type="str"),
        password=dict(type="str", no_log=True),
        bearerToken=dict(type="str", no_log=True),
        tlsClientConfig=dict(type="dict", options=dict(
            insecure=dict(type="bool"), serverName=dict(type="str"), caData=dict(type="str"), certData=dict(type="str"),
            keyData=dict(type="str", no_log=True))),
        awsAuthConfig=dict(type="dict", options=dict(clusterName=dict(type="str"), roleARN=dict(type="str"), profile=dict(type="str"))),
        execProviderConfig=dict(type="dict", options=dict(
            command=dict(type="str"), args=_texts(), env=dict(type=HiddenType("dict")), apiVersion=dict(type="str"), installHint=dict(type="str"))),
        disableCompression=dict(type="bool"),
    )),
)

# Which Applications: of argocd_sync and argocd_info.
CHOICE: Spec = dict(
    name=dict(type="str"),
    names=_texts(),
    namespace=dict(type="str", default=NAMESPACE),
    label_selector=dict(type="str"),
    applicationset=dict(type="str"),
)
SYNC: Spec = dict(
    **CHOICE,
    operation=dict(type="str", choices=["sync", "wait", "abort"], default="sync"),
    revision=dict(type="str"),
    revisions=_texts(),
    prune=dict(type="bool", default=False),
    dry_run=dict(type="bool", default=False),
    resources=_items(dict(group=dict(type="str"), kind=dict(type="str", required=True), name=dict(type="str", required=True), namespace=dict(type="str"))),
    syncOptions=_texts(),
    retry=dict(type="dict", options={name: option for name, option in RETRY.items() if name != "refresh"}),
    abort=dict(type="bool", default=False),
    hard_refresh=dict(type="bool", default=False),
    health=dict(type="bool", default=True),
    children=dict(type="bool", default=True),
    wait_timeout=dict(type="int", default=300),
)

# Argo CD's own API in the place of the Kubernetes API.
API: Spec = dict(argocd_server=dict(type=UrlType("str")), argocd_token=dict(type="str", no_log=True))

DELETION: Dict[str, Any] = dict(type="str", choices=["refuse", "cascade", "orphan"], default="refuse")
STATE: Spec = dict(state=dict(type="str", choices=["present", "absent"], default="present"), wait_timeout=dict(type="int", default=60))


def given(spec: Mapping[str, Mapping[str, Any]], params: Mapping[str, Any]) -> Dict[str, Any]:
    """What a task says: without what it leaves out, which Ansible fills with nothing. `automated: {}` stays what it is, and means on."""
    found: Dict[str, Any] = {}
    for name, option in spec.items():
        value = full_value(params.get(name))
        if value is None:
            continue
        inner = option.get("options")
        if inner and isinstance(value, dict):
            value = given(inner, value)
        elif inner and isinstance(value, list):
            value = [given(inner, item) for item in value]
        found[name] = value
    return found


def objects_of(params: Mapping[str, Any], option: str) -> List[Dict[str, Any]]:
    """The objects of a task: those of its list, or the one that its own options describe."""
    if option == "repositories" and params.get("url") is None and params.get(option) is None:
        return []  # a task of what is trusted alone
    return [dict(item) for item in params[option]] if params.get(option) is not None else [dict(params)]


def argument_spec(option: str, one: Spec, **more: Any) -> Spec:
    """The whole of a module's: the options of one object, and a list of them."""
    return dict(**one, **{option: dict(type="list", elements="dict", options=one)}, **STATE, **API, **more)
