# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strategies for what people keep in Git: every common kind, defaults spelt out or left out, values in several notations.

Names are filled in by place(): each example gets an object of its own. Nothing here starts a Pod, so that the controllers
of the cluster have little to do: what is tested is the API server's own bookkeeping.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, List

from hypothesis import strategies as some

Body = Dict[str, Any]
Maybe = some.SearchStrategy[Any]

NAME, NAMESPACE = "NAME", "NAMESPACE"  # put in by place()

# Text that looks like something else: whoever compares values loosely falls for it.
TEXTS = some.sampled_from(["web", "1", "1000m", "0.5", "1e3", "1k", "1Gi", "true", "null", "", "a b", "æøå", "{}", "1.0", "01"])
LABELS = some.dictionaries(some.sampled_from(["app", "tier", "example.com/team", "limits"]),
                           some.sampled_from(["web", "1", "1000m", "1k", "true", "", "1.0"]), max_size=3)
ANNOTATIONS = some.dictionaries(some.sampled_from(["note", "example.com/owner", "limits"]), TEXTS, max_size=3)
SMALL = some.sampled_from(["0", 0, "1", 1, "100m", "0.1", 0.1, "0.5", 0.5, "500m", "1000m", "1e0", "0.0001", "250u"])
LARGE = some.sampled_from(["1", 1, "1000m", "1.5", "2", "2000m", "1e3", "1E3", "1k", "1000", 1000, "1024Mi", "1Gi",
                           "1073741824", 1073741824, "1.5Gi", "1536Mi", "1Ki", "1024", "2M", "2000k", "1T", "12e2", "+5", "1.50"])


def optional(required: Dict[str, Maybe], **fields: Maybe) -> Maybe:
    return some.fixed_dictionaries(required, optional=fields)


def named(item: Maybe, size: int = 3, key: str = "name", least: int = 0) -> Maybe:
    """A list-map: no two items with one key."""
    return some.lists(item, min_size=least, max_size=size, unique_by=lambda one: one[key])


def always(**fields: Any) -> Dict[str, Maybe]:
    return {key: value if isinstance(value, some.SearchStrategy) else some.just(value) for key, value in fields.items()}


def default(*values: Any) -> Maybe:
    """A field whose first value is the server's default."""
    return some.sampled_from(values)


METADATA = optional(always(name=NAME, namespace=NAMESPACE), labels=LABELS, annotations=ANNOTATIONS)
WIDE_METADATA = optional(always(name=NAME), labels=LABELS, annotations=ANNOTATIONS)


def kind(api_version: str, name: str, metadata: Maybe = METADATA, **fields: Maybe) -> Maybe:
    """spec, roleRef and value are required fields of whatever kind has them; the others are optional."""
    required = {key: fields.pop(key) for key in ("spec", "roleRef", "value") if key in fields}
    return optional(always(apiVersion=api_version, kind=name, metadata=metadata, **required), **fields)


# ---- Pods, as templates


KEY_REF = optional(always(name="cfg", key="k"), optional=some.booleans())
ENV = some.one_of(
    optional(always(name=some.sampled_from("ABC")), value=TEXTS),
    optional(always(name=some.sampled_from("ABC"), valueFrom=some.one_of(
        some.fixed_dictionaries({"configMapKeyRef": KEY_REF}),
        some.fixed_dictionaries({"secretKeyRef": KEY_REF}),
        some.fixed_dictionaries({"fieldRef": optional(always(fieldPath="metadata.name"), apiVersion=default("v1"))}),
        some.fixed_dictionaries({"resourceFieldRef": optional(
            always(resource=some.sampled_from(["limits.cpu", "requests.cpu"]), containerName="a"),
            divisor=some.sampled_from(["0", "1", "1m", "1000m"]))}),
    ))),
)
PORT = optional(always(containerPort=some.sampled_from([80, 8080, 53])), protocol=default("TCP", "UDP"))
HTTP_GET = optional(always(port=some.sampled_from([80, "http"])), path=default("/", "/up"), scheme=default("HTTP", "HTTPS"),
                    httpHeaders=some.lists(some.fixed_dictionaries(always(name="X", value=TEXTS)), max_size=2))
PROBE = some.one_of(
    optional({"httpGet": HTTP_GET}, periodSeconds=default(10, 5), timeoutSeconds=default(1, 2), failureThreshold=default(3, 1)),
    optional({"exec": optional(always(command=some.lists(TEXTS, max_size=2, min_size=1)))}, initialDelaySeconds=default(0, 5)),
    optional({"tcpSocket": some.fixed_dictionaries(always(port=80))}, successThreshold=default(1)),
)
RESOURCES = optional({}, requests=some.dictionaries(some.sampled_from(["cpu", "memory"]), SMALL, max_size=2),
                     limits=some.dictionaries(some.sampled_from(["cpu", "memory"]), LARGE, max_size=2))
CONTAINER = optional(
    always(name=some.sampled_from("abc"), image=some.sampled_from(["example.com/app:1", "example.com/app", "app:2"])),
    command=some.lists(TEXTS, max_size=2), args=some.lists(TEXTS, max_size=2),
    env=named(ENV), ports=some.lists(PORT, max_size=3, unique_by=lambda one: one["containerPort"]),
    envFrom=some.lists(some.sampled_from([{"configMapRef": {"name": "cfg"}}, {"secretRef": {"name": "s"}, "prefix": "P_"}]), max_size=2),
    resources=RESOURCES, livenessProbe=PROBE, imagePullPolicy=default("IfNotPresent", "Always"),
    terminationMessagePath=default("/dev/termination-log"), stdin=some.booleans(), tty=some.booleans(),
    volumeMounts=some.lists(optional(always(name="m", mountPath=some.sampled_from(["/m", "/n"])), readOnly=some.booleans(), subPath=default("", "s")),
                            max_size=2, unique_by=lambda one: one["mountPath"]), workingDir=TEXTS.filter(bool),
    securityContext=optional({}, runAsNonRoot=some.booleans(), capabilities=optional(
        {}, drop=some.lists(some.sampled_from(["ALL", "NET_RAW"]), max_size=2, unique=True))),
)
VOLUME = some.one_of(
    optional(always(name=some.sampled_from("vwx"), emptyDir=optional({}, sizeLimit=LARGE, medium=default("", "Memory")))),
    optional(always(name=some.sampled_from("vwx"), configMap=optional(
        always(name="cfg"), defaultMode=default(420, 256), optional=some.booleans(),
        items=some.lists(some.fixed_dictionaries(always(key="k", path="p")), max_size=1)))),
    optional(always(name=some.sampled_from("vwx"), secret=optional(always(secretName="s"), defaultMode=default(420)))),
    optional(always(name=some.sampled_from("vwx"), projected=optional(always(sources=some.lists(some.one_of(
        some.fixed_dictionaries({"serviceAccountToken": optional(always(path="token"), expirationSeconds=default(3600, 7200))}),
        some.fixed_dictionaries({"downwardAPI": some.fixed_dictionaries({"items": some.lists(some.fixed_dictionaries(always(
            path="name", fieldRef=optional(always(fieldPath="metadata.name"), apiVersion=default("v1")))), max_size=1)})}),
    ), max_size=2)))))
)
SELECTOR_TERM = some.fixed_dictionaries(always(matchExpressions=some.just([{"key": "disk", "operator": "In", "values": ["ssd"]}])))
POD_FIELDS: Dict[str, Maybe] = {
    "initContainers": named(CONTAINER.map(lambda one: {**{key: value for key, value in one.items() if key != "livenessProbe"},
                                                       "name": "init-" + one["name"]}), 2),
    "terminationGracePeriodSeconds": default(30, 0),
    "dnsPolicy": default("ClusterFirst", "Default"),
    "securityContext": optional({}, fsGroup=some.just(1000), supplementalGroups=some.lists(some.integers(1, 3), max_size=2, unique=True)),
    "tolerations": some.lists(some.sampled_from([{"key": "a", "operator": "Exists"}, {"key": "b", "value": "1", "effect": "NoSchedule"}]),
                              max_size=2),
    "hostNetwork": some.just(False), "hostPID": some.booleans(), "shareProcessNamespace": some.just(False),
    "enableServiceLinks": default(True, False), "automountServiceAccountToken": some.booleans(),
    "serviceAccountName": some.just("runner"),
    "imagePullSecrets": some.lists(some.sampled_from([{"name": "one"}, {"name": "two"}]), max_size=2, unique_by=lambda one: one["name"]),
    "hostAliases": some.lists(some.fixed_dictionaries(always(ip=some.sampled_from(["10.0.0.1", "10.0.0.2"]), hostnames=some.just(["a", "b"]))),
                              max_size=2, unique_by=lambda one: one["ip"]),
    "affinity": some.one_of(some.just({}), some.fixed_dictionaries({"nodeAffinity": some.fixed_dictionaries(
        {"requiredDuringSchedulingIgnoredDuringExecution": some.fixed_dictionaries(
            {"nodeSelectorTerms": some.lists(SELECTOR_TERM, min_size=1, max_size=2)})})})),
    "topologySpreadConstraints": some.lists(optional(always(
        maxSkew=1, topologyKey=some.sampled_from(["zone", "host"]), whenUnsatisfiable="DoNotSchedule"),
        labelSelector=some.fixed_dictionaries({"matchLabels": LABELS})), max_size=2, unique_by=lambda one: one["topologyKey"]),
}


def pod(**required: Any) -> Maybe:
    return optional(always(containers=named(CONTAINER, 2, least=1),
                           volumes=named(VOLUME, 2).map(lambda items: items + [{"name": "m", "emptyDir": {}}]),
                           nodeSelector={"nowhere": "x"}, **required), **POD_FIELDS)


def template(spec: Maybe) -> Maybe:
    return some.fixed_dictionaries({"metadata": optional(
        always(labels={"app": NAME}), annotations=ANNOTATIONS), "spec": spec})


SELECTOR = some.just({"matchLabels": {"app": NAME}})
RUNNING = pod()
JOB_SPEC = dict(backoffLimit=default(6, 1), completions=default(1, 2), parallelism=default(1, 2), completionMode=default("NonIndexed"),
                ttlSecondsAfterFinished=some.just(600))
CLAIM_SPEC = optional(always(
    accessModes=some.sampled_from([["ReadWriteOnce"], ["ReadWriteOnce", "ReadOnlyMany"]]),
    resources=some.fixed_dictionaries({"requests": some.fixed_dictionaries({"storage": LARGE})}), storageClassName="none"),
    volumeMode=default("Filesystem"))

BUILT_IN: Dict[str, Maybe] = {
    "ConfigMap": kind("v1", "ConfigMap", optional(always(name=NAME, namespace=NAMESPACE), labels=LABELS, annotations=ANNOTATIONS,
                                                  finalizers=some.lists(some.sampled_from(["example.com/a", "example.com/b", "example.com/c"]),
                                                                        unique=True, max_size=3)),
                      data=some.dictionaries(some.sampled_from(["k", "limits", "requests"]), TEXTS, max_size=3),
                      binaryData=some.dictionaries(some.just("bin"), some.sampled_from(["AAE=", "AAEC"]), max_size=1),
                      immutable=some.just(False)),
    "Secret": kind("v1", "Secret", type=default("Opaque", "example.com/own"),
                   data=some.dictionaries(some.sampled_from("kl"), some.sampled_from(["AAE=", "AAEC", ""]), max_size=2),
                   stringData=some.dictionaries(some.sampled_from("lm"), TEXTS, max_size=2)),
    "Service": kind("v1", "Service", spec=optional(
        always(ports=some.lists(optional(always(port=some.sampled_from([80, 443, 53]), name=some.sampled_from("abc")),
                                         protocol=default("TCP", "UDP"), targetPort=some.sampled_from([80, 8080, "http"])),
                                min_size=1, max_size=3, unique_by=(lambda one: one["port"], lambda one: one["name"]))),
        selector=LABELS, type=default("ClusterIP", "NodePort"), sessionAffinity=default("None", "ClientIP"),
        internalTrafficPolicy=default("Cluster", "Local"), externalIPs=some.lists(some.just("192.0.2.1"), max_size=1),
        ipFamilyPolicy=default("SingleStack"), publishNotReadyAddresses=some.booleans())),
    "Deployment": kind("apps/v1", "Deployment", spec=optional(
        always(selector=SELECTOR, template=template(RUNNING), paused=True),
        replicas=default(1, 0, 3), minReadySeconds=default(0, 5), revisionHistoryLimit=default(10, 2), progressDeadlineSeconds=default(600, 60),
        strategy=some.sampled_from([{}, {"type": "RollingUpdate"}, {"type": "Recreate"},
                                    {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                                    {"rollingUpdate": {"maxSurge": 1}}, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "1%"}}]))),
    "StatefulSet": kind("apps/v1", "StatefulSet", spec=optional(
        always(selector=SELECTOR, template=template(RUNNING), serviceName="s", replicas=0),
        volumeClaimTemplates=named(optional(always(metadata={"name": "data"}, spec=CLAIM_SPEC),
                                            apiVersion=some.just("v1"), kind=some.just("PersistentVolumeClaim")).map(
                                                lambda one: {"name": "data", **one}), 1).map(
                                                    lambda items: [{k: v for k, v in one.items() if k != "name"} for one in items]),
        podManagementPolicy=default("OrderedReady", "Parallel"), minReadySeconds=default(0, 5),
        updateStrategy=some.sampled_from([{}, {"type": "RollingUpdate"}, {"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}]),
        persistentVolumeClaimRetentionPolicy=some.sampled_from([{}, {"whenDeleted": "Delete"}, {"whenDeleted": "Retain", "whenScaled": "Retain"}]))),
    "DaemonSet": kind("apps/v1", "DaemonSet", spec=optional(
        always(selector=SELECTOR, template=template(RUNNING)),
        updateStrategy=some.sampled_from([{}, {"type": "RollingUpdate"}, {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
                                          {"type": "OnDelete"}]))),
    "Job": kind("batch/v1", "Job", spec=optional(always(
        suspend=True, template=some.fixed_dictionaries({"spec": pod(restartPolicy=some.sampled_from(["Never", "OnFailure"]))})), **JOB_SPEC)),
    "CronJob": kind("batch/v1", "CronJob", spec=optional(always(
        schedule=some.sampled_from(["0 0 1 1 *", "@yearly"]), suspend=True,
        jobTemplate=some.fixed_dictionaries({"spec": optional(always(template=some.fixed_dictionaries(
            {"spec": pod(restartPolicy="Never")})), **JOB_SPEC)})),
        concurrencyPolicy=default("Allow", "Forbid"), successfulJobsHistoryLimit=default(3, 1), timeZone=some.just("Etc/UTC"))),
    "Ingress": kind("networking.k8s.io/v1", "Ingress", spec=optional(
        always(rules=some.lists(optional(always(http=some.fixed_dictionaries({"paths": some.lists(some.fixed_dictionaries(always(
            path=some.sampled_from(["/", "/a"]), pathType="Prefix",
            backend={"service": {"name": "s", "port": {"number": 80}}})), min_size=1, max_size=2)})),
            host=some.sampled_from(["a.example.com", "b.example.com"])), min_size=1, max_size=2)),
        tls=some.lists(some.just({"hosts": ["a.example.com"], "secretName": "t"}), max_size=1),
        ingressClassName=some.just("nginx"),
        defaultBackend=some.just({"service": {"name": "s", "port": {"name": "http"}}}))),
    "NetworkPolicy": kind("networking.k8s.io/v1", "NetworkPolicy", spec=optional(
        always(podSelector=some.one_of(some.just({}), some.fixed_dictionaries({"matchLabels": LABELS}))),
        policyTypes=some.sampled_from([["Ingress"], ["Ingress", "Egress"], ["Egress"]]),
        ingress=some.lists(optional({}, ports=some.lists(optional(always(port=some.sampled_from([80, "http"])), protocol=default("TCP", "UDP")),
                                                         max_size=2),
                                    **{"from": some.lists(some.just({"podSelector": {}}), max_size=1)}), max_size=2))),
    "HorizontalPodAutoscaler": kind("autoscaling/v2", "HorizontalPodAutoscaler", spec=optional(
        always(scaleTargetRef={"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"}, maxReplicas=5),
        minReplicas=default(1, 2),
        metrics=some.lists(some.one_of(
            some.just({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}),
            some.fixed_dictionaries(always(type="Pods", pods=some.fixed_dictionaries(always(
                metric={"name": "rps"}, target=some.fixed_dictionaries(always(type="AverageValue", averageValue=LARGE))))))), max_size=2),
        behavior=some.sampled_from([{}, {"scaleDown": {"stabilizationWindowSeconds": 60}},
                                    {"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}]))),
    "PodDisruptionBudget": kind("policy/v1", "PodDisruptionBudget", spec=some.one_of(
        optional(always(selector=SELECTOR, minAvailable=some.sampled_from([1, "50%"])), unhealthyPodEvictionPolicy=some.just("AlwaysAllow")),
        optional(always(selector=SELECTOR, maxUnavailable=some.sampled_from([0, 1, "1%"]))))),
    "Role": kind("rbac.authorization.k8s.io/v1", "Role", rules=some.lists(optional(always(
        apiGroups=some.sampled_from([[""], ["", "apps"]]), resources=some.just(["pods"]), verbs=some.sampled_from([["get"], ["get", "list"], ["*"]])),
        resourceNames=some.lists(some.just("x"), max_size=1)), max_size=2)),
    "RoleBinding": kind("rbac.authorization.k8s.io/v1", "RoleBinding",
                        roleRef=optional(always(kind="Role", name="r"), apiGroup=default("rbac.authorization.k8s.io")),
                        subjects=some.lists(some.sampled_from([
                            {"kind": "ServiceAccount", "name": "a", "namespace": "default"},
                            {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "Group", "name": "g"}]), max_size=2)),
    "ClusterRole": kind("rbac.authorization.k8s.io/v1", "ClusterRole", WIDE_METADATA, rules=some.lists(some.sampled_from([
        {"nonResourceURLs": ["/x"], "verbs": ["get"]}, {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]), max_size=2)),
    "ServiceAccount": kind("v1", "ServiceAccount", automountServiceAccountToken=some.booleans(),
                           imagePullSecrets=some.lists(some.sampled_from([{"name": "one"}, {"name": "two"}]), max_size=2,
                                                       unique_by=lambda one: one["name"])),
    "ResourceQuota": kind("v1", "ResourceQuota", spec=optional(
        {}, hard=some.dictionaries(some.sampled_from(["requests.cpu", "limits.memory", "limits.cpu"]), LARGE, max_size=3),
        scopes=some.lists(some.just("BestEffort"), max_size=0))),
    "LimitRange": kind("v1", "LimitRange", spec=some.fixed_dictionaries({"limits": some.lists(optional(
        always(type="Container"), max=some.fixed_dictionaries({"memory": LARGE}), defaultRequest=some.fixed_dictionaries({"cpu": SMALL})),
        max_size=2, min_size=1, unique_by=lambda one: one["type"])})),
    "PersistentVolumeClaim": kind("v1", "PersistentVolumeClaim", spec=CLAIM_SPEC),
    "ValidatingWebhookConfiguration": kind(
        "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", WIDE_METADATA,
        webhooks=named(optional(
            always(name=some.sampled_from(["a.example.com", "b.example.com"]), sideEffects="None", admissionReviewVersions=["v1"],
                   clientConfig={"url": "https://127.0.0.1:1/x"},
                   rules=some.lists(optional(always(apiGroups=["nothing.example.com"], apiVersions=["v1"], operations=["CREATE"],
                                                    resources=["things"]), scope=default("*", "Namespaced")), min_size=1, max_size=2)),
            failurePolicy=default("Fail", "Ignore"), timeoutSeconds=default(10, 5), matchPolicy=default("Equivalent", "Exact"),
            objectSelector=some.sampled_from([{}, {"matchLabels": {"a": "b"}}])), 2)),
    "PriorityClass": kind("scheduling.k8s.io/v1", "PriorityClass", WIDE_METADATA, value=some.just(7), description=TEXTS,
                          preemptionPolicy=default("PreemptLowerPriority")),
}


# ---- custom resources: the same schema in a group of a company and in one that looks like the server's own

JSON = some.recursive(some.one_of(some.booleans(), some.integers(-2, 2), some.sampled_from([0.5, 1.5, 1e3, 1e21]), TEXTS),
                      lambda child: some.one_of(some.lists(child, max_size=2), some.dictionaries(some.sampled_from("xyz"), child, max_size=2)),
                      max_leaves=4)
NULLABLE_JSON = some.one_of(JSON, some.none())
WIDGET_SPEC = optional(
    {},
    parts=named(optional(always(name=some.sampled_from("abc")), size=LARGE, limits=some.dictionaries(some.just("cpu"), LARGE, max_size=1),
                         note=some.one_of(TEXTS, some.none())), 3),
    # a list of our own that is atomic, with names for which a built-in kind has defaults or quantities
    ports=some.lists(optional(always(port=some.integers(1, 3)), protocol=default("TCP", "UDP")), max_size=2),
    limits=some.lists(optional({}, cpu=LARGE), max_size=2),
    tags=some.lists(some.sampled_from(["a", "b", "1"]), unique=True, max_size=3),
    args=some.lists(TEXTS, max_size=2),
    whole=some.dictionaries(some.sampled_from(["a", "limits"]), TEXTS, max_size=2),
    amount=LARGE,
    ratio=some.sampled_from([1, 1.0, 0.5, 1e3, 1000]),
    maybe=some.one_of(some.none(), TEXTS),
    maybes=some.one_of(some.none(), some.lists(TEXTS, max_size=2)),
    given=optional({}, level=default(5, 6), inner=optional({}, mode=default("fast", "slow"))),
    defaulted=named(optional(always(name=some.sampled_from("dx"))), 2),
    free=some.dictionaries(some.sampled_from("xyz"), NULLABLE_JSON, max_size=2),
)
CUSTOM: Dict[str, Maybe] = {
    "Widget": kind("proof.example.com/v1", "Widget", spec=WIDGET_SPEC),
    "Widget.k8s.io": kind("proof.k8s.io/v1", "Widget", spec=WIDGET_SPEC),
    "Widget v1beta1": kind("proof.example.com/v1beta1", "Widget", spec=WIDGET_SPEC),
    "Blob": kind("proof.example.com/v1", "Blob", spec=some.dictionaries(some.sampled_from(["limits", "x", "ports"]), NULLABLE_JSON, max_size=3)),
}
INTENTS = {**BUILT_IN, **CUSTOM}

_WIDGET_SCHEMA = {"type": "object", "properties": {"spec": {"type": "object", "properties": {
    "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
        "type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "size": {"x-kubernetes-int-or-string": True}, "note": {"type": "string", "nullable": True},
            "limits": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": True}}}}},
    "ports": {"type": "array", "items": {"type": "object", "properties": {"port": {"type": "integer"}, "protocol": {"type": "string"}}}},
    "limits": {"type": "array", "items": {"type": "object", "properties": {"cpu": {"x-kubernetes-int-or-string": True}}}},
    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    "args": {"type": "array", "items": {"type": "string"}},
    "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
    "amount": {"x-kubernetes-int-or-string": True},
    "ratio": {"type": "number"},
    "maybe": {"type": "string", "nullable": True},
    "maybes": {"type": "array", "nullable": True, "items": {"type": "string"}},
    "given": {"type": "object", "default": {}, "properties": {
        "level": {"type": "integer", "default": 5},
        "inner": {"type": "object", "properties": {"mode": {"type": "string", "default": "fast"}}}}},
    "defaulted": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "default": [{"name": "d"}],
                  "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}}}}
_BLOB_SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _crd(group: str, name: str, schema: Body, versions: List[str]) -> Body:
    plural = name.lower() + "s"
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": name, "plural": plural},
                     "versions": [{"name": version, "served": True, "storage": version == "v1", "schema": {"openAPIV3Schema": schema}}
                                  for version in versions]}}


DEFINITIONS = [_crd("proof.example.com", "Widget", _WIDGET_SCHEMA, ["v1", "v1beta1"]), _crd("proof.k8s.io", "Widget", _WIDGET_SCHEMA, ["v1"]),
               _crd("proof.example.com", "Blob", _BLOB_SCHEMA, ["v1"])]


def place(body: Body, name: str, namespace: str) -> Body:
    """The body with its own name wherever the strategies left room for one."""

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(child) for key, child in value.items()}
        if isinstance(value, list):
            return [put(child) for child in value]
        return name if value == NAME else namespace if value == NAMESPACE else value

    return put(copy.deepcopy(body))
