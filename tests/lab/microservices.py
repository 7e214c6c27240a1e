# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the repository of a company with N microservices, the same bytes each time.

One Namespace and eight objects for each service, so 50 services are 401 objects and 625 are 5,001. The manifests
are written as people write them: by hand, one file an object, in a folder for each service.

    python -m lab.microservices FOLDER --services 50 --namespace shop
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List

OBJECTS_PER_SERVICE = 8

NAMES = (
    "cart", "catalog", "checkout", "payment", "shipping", "orders", "customers", "accounts", "search", "reviews",
    "inventory", "pricing", "promotions", "recommendations", "notifications", "mailer", "invoices", "refunds", "tax",
    "currency", "wishlist", "sessions", "identity", "permissions", "profiles", "addresses", "warehouse", "suppliers",
    "returns", "loyalty", "vouchers", "gifts", "images", "media", "storefront", "backoffice", "reports", "analytics",
    "exports", "imports", "webhooks", "scheduler", "audit", "fraud", "ledger", "settlement", "support", "chat", "feeds", "geo",
)


def names(count: int) -> List[str]:
    """Service names; beyond the list each comes again with a number."""
    return [NAMES[i % len(NAMES)] + (f"-{i // len(NAMES) + 1}" if i >= len(NAMES) else "") for i in range(count)]


def tree(services: int, namespace: str = "shop") -> Dict[str, str]:
    """Relative file name -> content."""
    files = {"namespace.yaml": _namespace(namespace)}
    for number, name in enumerate(names(services)):
        for file, content in service(number, name, namespace).items():
            files[f"services/{name}/{file}"] = content
    return files


def write(folder: Path, services: int, namespace: str = "shop") -> int:
    """Write the tree; returns the number of objects."""
    for file, content in tree(services, namespace).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return 1 + OBJECTS_PER_SERVICE * services


def _namespace(namespace: str) -> str:
    return f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels:
    team: {namespace}
    pod-security.kubernetes.io/enforce: restricted
"""


def service(number: int, name: str, namespace: str) -> Dict[str, str]:
    """The eight manifests of one service."""
    tier = ("frontend", "backend", "worker")[number % 3]
    port = 8080 + number % 10
    version = f"1.{number % 7}.{number % 11}"
    cpu, memory = ("100m", "250m", "50m")[number % 3], ("128Mi", "256Mi", "192Mi")[number % 3]
    head = f"""\
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    app.kubernetes.io/name: {name}
    app.kubernetes.io/part-of: {namespace}
    app.kubernetes.io/component: {tier}
"""
    return {
        "serviceaccount.yaml": f"""\
apiVersion: v1
kind: ServiceAccount
{head}automountServiceAccountToken: false
""",
        "configmap.yaml": f"""\
apiVersion: v1
kind: ConfigMap
{head}data:
  LOG_LEVEL: {("info", "warn", "debug")[number % 3]}
  LISTEN: ":{port}"
  application.yaml: |
    service: {name}
    database:
      host: {name}-db.{namespace}.svc
      pool: {5 + number % 20}
    features:
      tracing: {"true" if number % 2 else "false"}
""",
        "service.yaml": f"""\
apiVersion: v1
kind: Service
{head}spec:
  type: ClusterIP
  selector:
    app.kubernetes.io/name: {name}
  ports:
    - name: http
      port: 80
      targetPort: http
      protocol: TCP
""",
        # No replicas: the HorizontalPodAutoscaler owns that field, and a second owner would fight it.
        "deployment.yaml": f"""\
apiVersion: apps/v1
kind: Deployment
{head}spec:
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: {name}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {name}
        app.kubernetes.io/part-of: {namespace}
        app.kubernetes.io/component: {tier}
    spec:
      serviceAccountName: {name}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {name}
          image: registry.example.com/{namespace}/{name}:{version}
          imagePullPolicy: IfNotPresent
          ports:
            - name: http
              containerPort: {port}
              protocol: TCP
          envFrom:
            - configMapRef:
                name: {name}
          env:
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
          readinessProbe:
            httpGet:
              path: /ready
              port: http
            periodSeconds: 5
          livenessProbe:
            httpGet:
              path: /live
              port: http
            initialDelaySeconds: 10
          resources:
            requests:
              cpu: {cpu}
              memory: {memory}
            limits:
              memory: {memory}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop:
                - ALL
""",
        "horizontalpodautoscaler.yaml": f"""\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{head}spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {name}
  minReplicas: 2
  maxReplicas: {4 + number % 5}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: 70
""",
        "poddisruptionbudget.yaml": f"""\
apiVersion: policy/v1
kind: PodDisruptionBudget
{head}spec:
  minAvailable: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: {name}
""",
        "networkpolicy.yaml": f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{head}spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: {name}
  policyTypes:
    - Ingress
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/part-of: {namespace}
      ports:
        - protocol: TCP
          port: {port}
""",
        "ingress.yaml": f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
{head}spec:
  ingressClassName: nginx
  rules:
    - host: {name}.{namespace}.example.com
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {name}
                port:
                  name: http
""",
    }


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--services", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--namespace", default="shop", help="the namespace of all of them (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    print(f"{write(options.folder, options.services, options.namespace)} objects in {options.folder}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
