# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab is made of. Another real part is another row, and `lab lock` for its go.mod and go.sum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, Optional, Tuple

from lab import overlay, places
from lab.errors import LabError
from lab.overlay import Change, Edit, File

COMPONENTS_FOLDER = places.HERE / "components"
LINK_FLAGS = ("-s", "-w")


@dataclass(frozen=True)
class Module:
    """One Go module by version, with its own go.mod because the requirements of two such trees conflict.

    go: the language version its go.mod asks for, which is also the oldest toolchain that builds it.
    packages: binary -> its main package.
    stamps: Go variables set at link time, as the project's own release does.
    staging: the module replaces dependencies by folders of its own tree, released apart under this version.
    requires: further modules, or later versions than the module asks for.
    sources: the program is ours, its Go files are in the component's folder.
    tags, cgo: as for `go build`. toolchain: this Go and no later one.
    forks: the module builds only with the replacements and the checksums of its own tree, which this takes over; each
        pair is a pattern for the right side of a replacement and what becomes of it (nothing: the line is left out).
    replaces: replacements of our own.
    like: another version of the same module, whose versions and replacements of everything else this one takes, in the
        place of forks and replaces: what both have is then compiled once.
    overlay: files of dependencies, other than they are.
    """

    name: str
    path: str
    version: str
    go: str
    packages: Tuple[Tuple[str, str], ...]
    stamps: Tuple[Tuple[str, str], ...] = ()
    staging: str = ""
    requires: Tuple[Tuple[str, str], ...] = ()
    sources: bool = False
    tags: str = ""
    cgo: bool = False
    toolchain: str = ""
    forks: Tuple[Tuple[str, str], ...] = ()
    replaces: Tuple[Tuple[str, str], ...] = ()
    like: Optional["Module"] = None
    overlay: Tuple[Change, ...] = ()
    root: Path = COMPONENTS_FOLDER

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def flags(self) -> Tuple[str, ...]:
        """The flags of `go build`; equal flags are what lets Go's build cache be used by all binaries."""
        stamps = [f"-X {variable}={value}" for variable, value in self.stamps]
        tags = ("-tags", self.tags) if self.tags else ()
        return ("-trimpath", "-mod=readonly", *tags, "-ldflags", " ".join([*LINK_FLAGS, *stamps]))

    @property
    def key(self) -> str:
        """Names the folder of the binaries: anything that changes a binary changes the key."""
        parts = [self.path, self.version, json.dumps(self.packages), json.dumps(self.flags)]
        for file in ("go.mod", "go.sum"):
            try:
                parts.append((self.folder / file).read_text())
            except FileNotFoundError:
                raise LabError(f"{self.folder / file} is missing; `python -m lab lock {self.name}` writes it") from None
        if self.cgo:
            parts.append("cgo")
        if self.toolchain:
            parts.append(self.toolchain)
        if self.sources:
            parts += [f"{file.relative_to(self.folder)}\n{file.read_text()}" for file in sorted(self.folder.rglob("*.go"))]
        if self.overlay:
            parts.append(overlay.signature(self))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _kubernetes(version: str, go: str) -> Module:
    major, minor, _patch = version[1:].split(".")
    package = "k8s.io/component-base/version"
    return Module(
        "kubernetes", "k8s.io/kubernetes", version, go,
        tuple((name, f"k8s.io/kubernetes/cmd/{name}")
              for name in ("kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler")),
        stamps=((f"{package}.gitVersion", version), (f"{package}.gitMajor", major), (f"{package}.gitMinor", minor),
                (f"{package}.gitTreeState", "clean")),
        staging="v0." + version.split(".", 1)[1])


def _sealed_secrets(version: str, go: str) -> Module:
    path = "github.com/bitnami-labs/sealed-secrets"
    return Module("sealed-secrets", path, version, go,
                  (("kubeseal", f"{path}/cmd/kubeseal"), ("sealed-secrets-controller", f"{path}/cmd/controller")),
                  stamps=(("main.VERSION", version[1:]),))


# What clusters and their tests are made of, in the order in which it is built: what a cluster needs first comes first.
CLUSTER_MODULES: Tuple[Module, ...] = (
    Module("etcd", "go.etcd.io/etcd/server/v3", "v3.6.16", "1.26.0", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    _kubernetes("v1.37.2", "1.26.0"),
    Module("kwok", "sigs.k8s.io/kwok", "v0.8.0", "1.26.0", (("kwok", "sigs.k8s.io/kwok/cmd/kwok"),)),
    Module("helm", "helm.sh/helm/v4", "v4.3.1", "1.26.0", (("helm", "helm.sh/helm/v4/cmd/helm"),)),
    _sealed_secrets("v0.36.0", "1.26.0"),
)

BINARIES: Dict[str, Module] = {binary: module for module in CLUSTER_MODULES for binary, _package in module.packages}
CLUSTER_BINARIES = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kwok")

# k3s is built on a fork of Kubernetes that no module proxy has. These are the places where it needs more than upstream exports.
K3S_PATH = "github.com/k3s-io/k3s"
K3S_GO = "1.22.8"
K3S_TAGS = "ctrd apparmor seccomp netcgo osusergo providerless urfave_cli_no_docs"
K3S_EMBED = (f"{K3S_PATH}/pkg/daemons/executor", "embed.go")
K3S_CONTROL = (f"{K3S_PATH}/pkg/daemons/control", "server.go")
K3S_OVERLAY: Tuple[Change, ...] = (
    File(f"{K3S_PATH}/pkg/daemons/executor", "nordic_apiserver.go", "k3s-overlay/apiserver.go"),
    Edit(*K3S_EMBED, 'apiapp "k8s.io/kubernetes/cmd/kube-apiserver/app"', ""),
    Edit(*K3S_EMBED, "apiapp.NewAPIServerCommand(ctx.Done())", "newAPIServerCommand()"),
    Edit(*K3S_EMBED, "<-apiapp.StartupConfig", "<-servedAPIs"),
    Edit(*K3S_EMBED, "kubelet.NewKubeletCommand(context.Background())", "kubelet.NewKubeletCommand()"),
    # Lets the API server reach nodes whose name resolves to the loopback: upstream has no such switch, the lab no such node.
    Edit(*K3S_CONTROL, '"k8s.io/kubernetes/pkg/registry/core/node"', ""),
    Edit(*K3S_CONTROL, "node.DisableProxyHostnameCheck = true", ""),
    File("k8s.io/apiserver/pkg/server", "signal.go", "k3s-overlay/signal.go"),
)


def _k3s(version: str, module: str, kubernetes: str, containerd: str, *replaces: Tuple[str, str]) -> Module:
    """k3s' server; kubernetes is upstream's version that takes the place of the fork's."""
    staged = "v0." + kubernetes.split(".", 1)[1]
    stamps = [(f"{K3S_PATH}/pkg/version.Version", version), (f"{K3S_PATH}/pkg/version.GitCommit", module.split("-")[-1][:8]),
              # It does not start when this is another one than it was built with.
              (f"{K3S_PATH}/pkg/version.UpstreamGolang", f"go{K3S_GO}"),
              ("github.com/containerd/containerd/version.Version", containerd),
              ("github.com/containerd/containerd/version.Package", "github.com/k3s-io/containerd"),
              ("github.com/kubernetes-sigs/cri-tools/pkg/version.Version", "v1.29.0-k3s1")]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        stamps += [(f"{package}.gitVersion", version), (f"{package}.gitMajor", version[1:].split(".")[0]),
                   (f"{package}.gitMinor", version.split(".")[1]), (f"{package}.gitTreeState", "clean")]
    return Module(
        f"k3s-{version[1:].replace('+', '-')}", K3S_PATH, module, K3S_GO,
        (("k3s-server", f"{K3S_PATH}/cmd/server"), ("k3s", f"{K3S_PATH}/cmd/k3s"), ("runc", "github.com/opencontainers/runc"),
         ("containerd-shim-runc-v2", "github.com/containerd/containerd/cmd/containerd-shim-runc-v2")),
        stamps=tuple(stamps), tags=K3S_TAGS, cgo=True, toolchain=K3S_GO, overlay=K3S_OVERLAY,
        forks=((r"github\.com/k3s-io/kubernetes/staging/src/k8s\.io/(node-api|sample-\S+) .*", ""),
               (r"github\.com/k3s-io/kubernetes/staging/src/(\S+) .*", rf"\1 {staged}"),
               (r"github\.com/k3s-io/kubernetes .*", f"k8s.io/kubernetes {kubernetes}")),
        # The old name's server is gone.
        replaces=(("inet.af/tcpproxy", "github.com/inetaf/tcpproxy v0.0.0-20200125044825-b6bb9b5b8252"), *replaces))


# Of Kubernetes 1.30.5 some staging modules are not served. A release takes the shim from containerd's own tree, with this go-runc.
K3S_NEW = _k3s("v1.30.5+k3s1", "v1.30.6-0.20240917214020-9b586704a211", "v1.30.4", "v1.7.21-k3s2",
               ("github.com/containerd/go-runc", "github.com/containerd/go-runc v1.0.0"))
# An upgrade is of k3s' own code: with the libraries of its release (Kubernetes 1.30.3) this one would take as long to compile as the first.
K3S_OLD = replace(_k3s("v1.30.3+k3s1", "v1.30.4-0.20240729235957-f646604010af", "v1.30.4", "v1.7.21-k3s2"), like=K3S_NEW)

PLUGINS = "github.com/containernetworking/plugins"
CNI = Module("cni", PLUGINS, "v1.5.1", "1.22.8", (
    *((name, f"{PLUGINS}/plugins/main/{name}") for name in ("bridge", "loopback")),
    ("host-local", f"{PLUGINS}/plugins/ipam/host-local"),
    *((name, f"{PLUGINS}/plugins/meta/{name}") for name in ("portmap", "firewall", "bandwidth"))), toolchain=K3S_GO)
# The last version that has it; with a later library it speaks CNI 1.0.0, which k3s' own configuration asks for.
FLANNEL = Module("flannel", PLUGINS, "v0.9.1", "1.22.8", (("flannel", f"{PLUGINS}/plugins/meta/flannel"),),
                 requires=(("github.com/containernetworking/cni", "v1.1.2"),), toolchain=K3S_GO)

# What runs in the pods of the lab, and what its nodes talk to.
PODS = Module("pods", "nordic.gitops/lab/pods", "v1.0.0", "1.21.0",
              tuple((name, f"nordic.gitops/lab/pods/{name}") for name in ("pause", "web")), sources=True)
# With the client libraries that kubectl has compiled already.
COREDNS = Module("coredns", "nordic.gitops/lab/coredns", "v1.15.0", "1.26.0", (("coredns", "nordic.gitops/lab/coredns"),), sources=True,
                 requires=(("github.com/coredns/coredns", "v1.15.0"),
                           *((f"k8s.io/{name}", "v0.37.2") for name in ("api", "apimachinery", "client-go"))))
VERSITYGW = Module("versitygw", "github.com/versity/versitygw", "v1.8.0", "1.26.0",
                   (("versitygw", "github.com/versity/versitygw/cmd/versitygw"),))

# What a pipeline pushes its image to, and what pushes it.
REGISTRY = Module("registry", "nordic.gitops/lab/registry", "v3.1.2", "1.26.0",
                  tuple((name, f"nordic.gitops/lab/registry/{name}") for name in ("registry", "crane")), sources=True,
                  requires=(("github.com/distribution/distribution/v3", "v3.1.2"), ("github.com/google/go-containerregistry", "v0.22.1")))
# Checks the workflows of .github and docs/ci.
ACTIONLINT = Module("actionlint", "github.com/rhysd/actionlint", "v1.7.12", "1.26.0", (("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),))
# The benchmark's peer of image_update.
YQ = Module("yq", "github.com/mikefarah/yq/v4", "v4.54.3", "1.26.0", (("yq", "github.com/mikefarah/yq/v4"),))

# One program; ARGOCD_BINARY_NAME says which of Argo CD's it is.
ARGOCD_PATH = "github.com/argoproj/argo-cd/v3"
ARGOCD = Module("argocd", ARGOCD_PATH, "v3.6.1", "1.27.1", (("argocd", f"{ARGOCD_PATH}/cmd"),),
                stamps=((f"{ARGOCD_PATH}/common.version", "3.6.1"),), toolchain="1.27.1",
                # The library of its own tree, which is released under the same version.
                forks=((r"\./gitops-engine", ""),), requires=(("github.com/argoproj/argo-cd/gitops-engine/v3", "v3.6.1"),))
# What its repository server runs beside helm. kubectl has the same, without the `edit` that Argo CD needs.
KUSTOMIZE = Module("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1", "1.26.0", (("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),))

# The benchmark's peers of the whole way from a Git server to a cluster that is in sync.
# A replacement in a module's own go.mod does not count where it is a requirement: these are Flux's.
FLUX = tuple(Module(name, f"github.com/fluxcd/{name}", version, "1.26.0", ((name, f"github.com/fluxcd/{name}"),), replaces=(
    ("github.com/opencontainers/go-digest", "github.com/opencontainers/go-digest v1.0.1-0.20220411205349-bde1400a84be"),
    *((f"sigs.k8s.io/kustomize/{part}", f"sigs.k8s.io/kustomize/{part} v0.21.1") for part in ("api", "kyaml"))))
    for name, version in (("source-controller", "v1.9.3"), ("kustomize-controller", "v1.9.3")))
KAPP = Module("kapp", "carvel.dev/kapp", "v0.66.0", "1.26.0", (("kapp", "carvel.dev/kapp/cmd/kapp"),),
              stamps=(("carvel.dev/kapp/pkg/kapp/version.Version", "0.66.0"),))
KLUCTL = Module("kluctl", "github.com/kluctl/kluctl/v2", "v2.22.1", "1.26.0", (("kluctl", "github.com/kluctl/kluctl/v2/cmd"),))

MODULES: Tuple[Module, ...] = (*CLUSTER_MODULES, K3S_NEW, K3S_OLD, CNI, FLANNEL, PODS, COREDNS, VERSITYGW, REGISTRY, ACTIONLINT, YQ, ARGOCD, KUSTOMIZE,
                               *FLUX, KAPP, KLUCTL)


def versions() -> Dict[str, str]:
    """Binary -> version, for reports."""
    return {binary: module.version for binary, module in BINARIES.items()}
