# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind's status means, as data: words by their meaning, types of conditions by theirs, and one row for each kind.

A row says only where a kind differs from the generic rules below. docs/health.md is generated from this file.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, NamedTuple, Tuple

HEALTHY, WORKING, FAILED, STILL = "healthy", "working", "failed", "still"

# Words of a phase, a state or a reason, by what they mean. Compared without case, spaces, dashes and underscores.
WORDS: Mapping[str, str] = {
    HEALTHY: """
        accepted active allocated applied assigned attached available bound built complete completed compliant connected created deployed
        done enabled established exists finished fixed green healthy ingesting initialized insync installed issued listening monitoring noerror noerrors
        normal ok online operating operational passed polling programmed
        provisioned published ready reconciled reconciliationsucceeded registered released replicating resolved running serving stable streaming
        succeeded success successful synced up uptodate valid validated verified watching
    """,
    WORKING: """
        accessing applyingchanges authenticating bootstrapping building checking cloning configuring connecting creating
        defining deploying downloading draining executing expanding finalising finalizing incomplete init initializing inprogress
        installing issuing joining launching loading migrating migratingdata modifying new notready notstarted
        outofdate pending pendingcreation pendingdeletion pendinginstall pendingrollback pendingupgrade planning
        preparing processing progressing promoting provisioning pulling queued rebooting reconciling recovering
        requested resizing restarting restoring retrying rolling rollingback rollingout scaling scalingdown
        scalingup scheduled scheduling setup starting started stopping submitted submitting switching syncing terminating testing unknown
        unavailable awaitingapproval uninstalling updating upgrading uploading validating verifying waiting yellow
    """,
    FAILED: """
        aborted actionrequired authenticationfailed backoff blocked broken cancelled canceled conflict conflicted corrupt crashed crashing crashloop
        crashloopbackoff critical dead degraded denied disconnected down error errored erroring evicted expired failed failing failure
        fatal flapping forbidden hung imagepullbackoff inconsistent invalid invalidspec killed lost manualinterventionrequired misconfigured missing
        needsattention noncompliant nonhealthy noquorum notaccepted notfound offline oomkilled orphaned outofsync quarantined red rejected
        rollbackcomplete rolledback splitbrain stalled stuck terminated timedout timeout unauthorized unhealthy unrecoverable unreachable unschedulable
        updaterollbackcomplete upgradefailed warning
    """,
    STILL: """
        disabled halted hibernated hibernating idle inactive off paused poweredoff reconcilepaused reconciliationpaused scaledtozero shutdown skipped
        sleeping standby stopped suspended
    """,
}

# Types of conditions, by what True means. SUMMARY comes first: one of these speaks for all other conditions of its object.
SUMMARY = ("Ready", "Succeeded", "Complete", "Completed", "Healthy", "Available")
# What is False beside a SUMMARY that is True: a Crossplane composite is of a group of its owner's, so no row can name it.
BESIDE = ("Synced", "Reconciled", "Healthy", "Available")
READY_TYPES = """
    Accepted Active Applied Compliant Deployed Enforced Established Initialized Installed Issued Online Programmed Provisioned
    Reconciled ReconcileSuccess ReconcileSuccessful ReconciliationSucceeded RemoteSynced ResolvedRefs Running Successful Synced Valid Validated
""".split()
FAILED_TYPES = """
    Conflict Conflicted Crashed Degraded Error ErrorOccurred Errored Failed Failing Failure HasError HasErrors Invalid InvalidSpec Irreconcilable Misconfigured
    NotHealthy NotReady ReconcileError ReconcileFailed ReconciliationFailed Stalled Unavailable Unhealthy Unreachable
""".split()
WORKING_TYPES = """
    Bootstrapping Creating Deploying InProgress Initializing Installing Issuing Migrating Pending Progressing Provisioning
    Reconciling RollingOut Scaling Starting Updating Upgrading Waiting
""".split()
STILL_TYPES = "Disabled Hibernated Paused Stopped Suspended".split()
FAILED_ENDINGS = ("Failed", "Error", "Failure", "Degraded", "Unavailable", "Unhealthy")  # of a type: StorageDegraded
WORKING_ENDINGS = ("InProgress",)
RECONCILES = "Running reconciliation"  # the message of an Ansible operator's condition Running at work: Running is True between its turns too

# Where kinds without a row say in words how they are, and where they ask to stand still.
STATES = (
    "status.phase status.state status.status status.health status.currentState status.currentPhase status.overallStatus "
    "status.healthStatus status.health.status status.updateStatus status.compliant status.stageStatus status.stage status.state.phase "
    "status.provisioningState status.lifecycleState status.clusterStatus status.clusterState status.deploymentStatus status.jobStatus "
    "status.syncStatus status.sync.status status.result status.status.status status.reconcileStatus status.reconciliationStatus "
    "status.lastReconcileStatus"
)
HOLDS = (
    "spec.paused spec.suspend spec.suspended spec.running=false spec.hibernate spec.hibernated spec.disabled spec.enabled=false spec.stopped "
    "@crossplane.io/paused=true"
)
ERRORS = "status.error status.errors status.errorMessage status.failureMessage status.failureReason status.errMsg status.lastError status.problems"
# Fields of a status that are true or false. Those of DOUBTS count only where no SUMMARY is True.
TRUE_MEANS: Mapping[str, str] = {FAILED: "failed degraded stalled errored expired unhealthy", STILL: "paused suspended stopped hibernated"}
FALSE_MEANS: Mapping[str, str] = {
    FAILED: "valid accepted",
    WORKING: "ready healthy available isReady isHealthy synced initialized provisioned deployed connected installed readyToUse complete completed "
             "succeeded success",
}
DOUBTS = "synced initialized provisioned deployed connected installed readyToUse complete completed succeeded success"
# (what is wanted, what should reach it), where no SUMMARY is True.
COUNTED = (
    ("spec.replicas", "readyReplicas availableReplicas updatedReplicas"), ("spec.size", "readyReplicas availableReplicas"),
    ("spec.instances", "readyInstances readyReplicas"), ("status.replicas", "readyReplicas availableReplicas"),
)
MISSING = "unavailableReplicas failedReplicas members.unready"  # more than none of these: in progress, where no SUMMARY is True

# A kind whose work ends is not done while it runs.
ENDS = (
    "Run", "Job", "Task", "Backup", "Restore", "Workflow", "Analysis", "Experiment", "Migration", "Snapshot", "Build", "Import", "Export",
    "Evaluation", "Operation", "Test", "Scan", "Promotion", "Order", "Challenge", "BackupSession", "RestoreSession", "Action",
)
BEGUN = "running active accepted initialized assigned"  # words that mean for such a kind that it is at work
STARTED = "startTime startedAt startTimestamp"  # and fields of its status
ENDED = "completionTime completedAt completionTimestamp finishedAt finishTime endTime endedAt"


class Rule(NamedTuple):
    """How one kind (or several) says how it is. What is left empty is not read, or is as the generic rules have it."""

    kinds: str  # "GROUP: KIND KIND; GROUP: KIND"; a group may begin with "*.", a kind may be "*"
    about: str = ""  # where the project describes its status
    ready: str = ""  # types of conditions that must all be True; "TYPE?" may be missing, of "TYPE!" only a failure counts
    false: str = ""  # what a `ready` that is False means where its reason does not say; WORKING when empty
    failed: str = ""  # types of conditions whose True is a failure
    working: str = ""  # types of conditions whose True means that work goes on
    still: str = ""  # types of conditions whose True means that it stands still on purpose
    state: str = ""  # paths of words, each of which must be healthy; status.nodes[].state for each item of a list or a map
    words: Mapping[str, str] = {}  # words (also reasons of `ready`) that mean something else here than in WORDS
    other: str = WORKING  # what any other word means
    # pairs of paths, "HAVE/WANT" (numbers, lists, or a digit as WANT; "HAVE?" may be missing; "A+B/WANT"), or one path of a text such as "2/3"
    counts: str = ""
    holds: str = ""  # what asks to stand still: paths that are true, PATH=VALUE, or @ANNOTATION=VALUE
    equal: str = ""  # pairs of paths that have one value once the work is done, "WANT==HAVE"; "WANT?==HAVE" where WANT may be missing
    off: str = ""  # what asks it to be off, written like `holds`: it need not be ready, yet a word of `state` may say that it is on its way
    runs: str = ""  # what asks it to run, written like `holds`: a word of standing still is then WORKING, except one that says paused
    errors: str = ""  # paths that hold a text, true, a number above 0 or a list of something only when something is wrong
    parts: str = ""  # paths of what has the conditions (a route's parents); "PATH?" may be missing, in "PATH!" each must be of this generation
    seen: str = ""  # the path that repeats metadata.generation, where it is not status.observedGeneration
    silent: bool = False  # its controller may never write a status
    note: str = ""  # what a reader should know


def kinds_of(rule: Rule) -> Iterator[Tuple[str, str]]:
    """(group, kind) of each kind that the row is about."""
    for part in rule.kinds.split(";"):
        group, _colon, kinds = part.partition(":")
        for kind in kinds.split():
            yield group.strip(), kind


def table(rules: List[Rule]) -> Dict[Tuple[str, str], Rule]:
    """The rows by kind."""
    return {key: rule for rule in rules for key in kinds_of(rule)}


CLUSTER_API = "https://cluster-api.sigs.k8s.io/developer/core/controllers/overview"
CROSSPLANE = "https://docs.crossplane.io/latest/managed-resources/managed-resources/#conditions"
GATEWAY = "https://gateway-api.sigs.k8s.io/concepts/conformance/"
ECK = "https://www.elastic.co/docs/deploy-manage/deploy/cloud-on-k8s"
PROMOTER = "https://gitops-promoter.readthedocs.io/"
ROLLOUTS = "https://argo-rollouts.readthedocs.io/"
WORKFLOWS = "https://argo-workflows.readthedocs.io/"
STRIMZI = "https://strimzi.io/docs/operators/latest/configuring"
KEDA = "https://keda.sh/docs/latest/reference/scaledobject-spec/"
FLUX = "https://fluxcd.io/flux/components/"
ESO = "https://external-secrets.io/latest/api/spec/"
CONFLUENT = "https://docs.confluent.io/operator/current/co-api.html"

ROLLING = "RollingOut ScalingUp ScalingDown Remediating"

RULES: List[Rule] = [
    # Argo
    Rule("argoproj.io: Rollout", ROLLOUTS, state="status.phase", words={"Paused": STILL, "Progressing": WORKING, "Degraded": FAILED},
         equal="metadata.annotations.'rollout.argoproj.io/workload-generation'?==status.workloadObservedGeneration",
         failed="InvalidSpec", holds="spec.paused", note="a status before Argo Rollouts 1.0 has no phase: its Pods are counted"),
    Rule("argoproj.io: AnalysisRun Experiment", ROLLOUTS, state="status.phase", words={"Running": WORKING, "Inconclusive": FAILED}),
    Rule("argoproj.io: Workflow", WORKFLOWS, state="status.phase", words={"Running": WORKING}, holds="spec.suspend"),
    Rule("argoproj.io: CronWorkflow", WORKFLOWS, failed="SpecError SubmissionError", silent=True),
    Rule("argoproj.io: WorkflowTemplate ClusterWorkflowTemplate", WORKFLOWS, silent=True),
    Rule("argoproj.io: EventBus", "https://argoproj.github.io/argo-events/eventbus/eventbus/", ready="Deployed Configured?", false=FAILED),
    Rule("argoproj.io: EventSource Sensor", "https://argoproj.github.io/argo-events/",
         ready="Deployed SourcesProvided? TriggersProvided? DependenciesProvided?", false=FAILED),
    Rule("argoproj.io: ApplicationSet", "https://argo-cd.readthedocs.io/en/stable/operator-manual/applicationset/", ready="ResourcesUpToDate",
         false=FAILED, failed="ErrorOccurred", working="RolloutProgressing"),
    Rule("argoproj.io: AppProject", silent=True),
    Rule("promoter.argoproj.io: ClusterScmProvider CommitStatus GitRepository PullRequest ScmProvider", PROMOTER, ready="Ready", false=FAILED),
    Rule("promoter.argoproj.io: GitCommitStatus TimedCommitStatus WebRequestCommitStatus", PROMOTER, ready="Ready", false=FAILED,
         state="status.environments[].phase"),
    Rule("promoter.argoproj.io: ArgoCDCommitStatus", PROMOTER, ready="Ready", false=FAILED, counts="status.applicationsSelected/1"),
    Rule("promoter.argoproj.io: ChangeTransferPolicy", PROMOTER, ready="Ready", false=FAILED, equal="status.proposed.dry.sha==status.active.dry.sha"),
    Rule("promoter.argoproj.io: PromotionStrategy", PROMOTER, ready="Ready", false=FAILED, counts="status.environments/1",
         equal="status.environments[].proposed.dry.sha==status.environments[].active.dry.sha"),
    # Flux
    Rule("kustomize.toolkit.fluxcd.io: Kustomization; helm.toolkit.fluxcd.io: HelmRelease", FLUX, ready="Ready", holds="spec.suspend", false=FAILED),
    Rule("source.toolkit.fluxcd.io: GitRepository Bucket HelmChart OCIRepository ExternalArtifact", FLUX, ready="Ready", false=FAILED,
         holds="spec.suspend", failed="FetchFailed StorageOperationFailed", working="ArtifactOutdated"),
    Rule("source.toolkit.fluxcd.io: HelmRepository", FLUX, ready="Ready?", false=FAILED, holds="spec.suspend", failed="FetchFailed", silent=True,
         note="one of type oci has no status at all"),
    Rule("image.toolkit.fluxcd.io: ImagePolicy ImageRepository ImageUpdateAutomation", FLUX, ready="Ready", false=FAILED, holds="spec.suspend"),
    Rule("notification.toolkit.fluxcd.io: Receiver", FLUX, ready="Ready", false=FAILED, holds="spec.suspend"),
    Rule("notification.toolkit.fluxcd.io: Alert Provider", FLUX, ready="Ready?", false=FAILED, holds="spec.suspend", silent=True),
    Rule("flagger.app: Canary", "https://docs.flagger.app/usage/how-it-works#canary-status", state="status.phase", holds="spec.suspend",
         words={"Terminated": STILL, "WaitingPromotion": WORKING}),
    # Gateway API
    Rule("gateway.networking.k8s.io: Gateway", GATEWAY, ready="Accepted? Programmed ResolvedRefs?", false=FAILED, parts="status.listeners",
         failed="Conflicted",
         words={"Pending": WORKING, "AddressNotAssigned": WORKING, "NoResources": WORKING}),
    Rule("gateway.networking.k8s.io: GatewayClass", GATEWAY, ready="Accepted", false=FAILED, words={"Pending": WORKING, "Waiting": WORKING}),
    Rule("gateway.networking.k8s.io: HTTPRoute GRPCRoute TLSRoute TCPRoute UDPRoute", GATEWAY, ready="Accepted ResolvedRefs? Programmed?", false=FAILED,
         failed="PartiallyInvalid", parts="status.parents", counts="status.parents/spec.parentRefs", words={"Pending": WORKING}),
    Rule("gateway.networking.k8s.io: BackendTLSPolicy BackendLBPolicy XBackendTrafficPolicy", GATEWAY, ready="Accepted ResolvedRefs?", false=FAILED,
         parts="status.ancestors!"),
    Rule("gateway.networking.k8s.io: ReferenceGrant", GATEWAY, silent=True),
    # Storage of Kubernetes
    Rule("snapshot.storage.k8s.io: VolumeSnapshot VolumeSnapshotContent", "https://kubernetes.io/docs/concepts/storage/volume-snapshots/",
         state="status.readyToUse", errors="status.error.message"),
    Rule("snapshot.storage.k8s.io: VolumeSnapshotClass", silent=True),
    Rule("storage.k8s.io: VolumeAttachment", state="status.attached", errors="status.attachError.message status.detachError.message"),
    Rule("storagemigration.k8s.io: StorageVersionMigration", "https://kubernetes.io/docs/tasks/manage-kubernetes-objects/storage-version-migration/",
         ready="Succeeded?", failed="Failed", working="Running"),
    Rule("flowcontrol.apiserver.k8s.io: FlowSchema", "https://kubernetes.io/docs/concepts/cluster-administration/flow-control/", working="Dangling",
         silent=True),
    # Certificates and secrets
    Rule("cert-manager.io: Certificate", "https://cert-manager.io/docs/usage/certificate/", ready="Ready Issuing!", working="Issuing", false=FAILED,
         words={"DoesNotExist": WORKING, "Issuing": WORKING, "InProgress": WORKING}),
    Rule("cert-manager.io: Issuer ClusterIssuer; certmanager.k8s.io: Issuer ClusterIssuer Certificate", "https://cert-manager.io/docs/configuration/",
         ready="Ready", false=FAILED),
    Rule("cert-manager.io: CertificateRequest", "https://cert-manager.io/docs/usage/certificaterequest/", ready="Ready", failed="Denied InvalidRequest",
         words={"Denied": FAILED, "Failed": FAILED, "Pending": WORKING}),
    Rule("acme.cert-manager.io: Order Challenge", "https://cert-manager.io/docs/concepts/acme-orders-challenges/", state="status.state",
         words={"valid": HEALTHY, "ready": WORKING, "pending": WORKING, "processing": WORKING, "invalid": FAILED, "expired": FAILED, "errored": FAILED}),
    Rule("bitnami.com: SealedSecret", "https://github.com/bitnami-labs/sealed-secrets", ready="Synced", false=FAILED),
    Rule("external-secrets.io: ExternalSecret SecretStore ClusterSecretStore PushSecret", ESO, ready="Ready", false=FAILED),
    Rule("external-secrets.io: ClusterExternalSecret", ESO, ready="Ready?", errors="status.failedNamespaces", false=FAILED),
    Rule("kubernetes-client.io: ExternalSecret", "https://github.com/external-secrets/kubernetes-external-secrets", state="status.status",
         words={"SUCCESS": HEALTHY}),
    Rule("onepassword.com: OnePasswordItem", "https://github.com/1Password/onepassword-operator", ready="Ready", false=FAILED),
    Rule("secrets.hashicorp.com: VaultStaticSecret VaultDynamicSecret VaultPKISecret HCPVaultSecretsApp",
         "https://developer.hashicorp.com/vault/docs/platform/k8s/vso", ready="Ready? SecretSynced? Healthy?", false=FAILED, silent=True),
    Rule("secrets.hashicorp.com: VaultAuth VaultConnection VaultAuthGlobal", "https://developer.hashicorp.com/vault/docs/platform/k8s/vso",
         state="status.valid", errors="status.error", false=FAILED),
    # k3s
    Rule("helm.cattle.io: HelmChart", "https://docs.k3s.io/add-ons/helm", failed="Failed", ready="JobCreated?", counts="status.jobName?/1",
         note="how the Job ends that it names is not in the HelmChart"),
    Rule("helm.cattle.io: HelmChartConfig; k3s.cattle.io: Addon", "https://docs.k3s.io/add-ons/helm", silent=True),
    Rule("k3s.cattle.io: ETCDSnapshotFile", "https://docs.k3s.io/cli/etcd-snapshot", state="status.readyToUse", errors="status.error.message"),
    Rule("upgrade.cattle.io: Plan", "https://docs.k3s.io/upgrades/automated", ready="LatestResolved Validated? Complete?"),
    # Crossplane
    Rule("pkg.crossplane.io: Provider Configuration Function", CROSSPLANE, ready="Installed Healthy", false=FAILED,
         words={"UnpackingPackage": WORKING, "ActivePackageRevision": WORKING}, holds="@crossplane.io/paused=true"),
    Rule("pkg.crossplane.io: ProviderRevision ConfigurationRevision FunctionRevision", CROSSPLANE, ready="Healthy? RevisionHealthy?", false=FAILED),
    Rule("pkg.crossplane.io: DeploymentRuntimeConfig ControllerConfig Lock ImageConfig; apiextensions.crossplane.io: Composition EnvironmentConfig; "
         "*.crossplane.io: ProviderConfig ProviderConfigUsage ClusterProviderConfig; *.upbound.io: ProviderConfig ProviderConfigUsage ClusterProviderConfig",
         CROSSPLANE, silent=True),
    Rule("apiextensions.crossplane.io: CompositeResourceDefinition", CROSSPLANE, ready="Established Offered?", words={"WatchingCompositeResource": HEALTHY}),
    Rule("apiextensions.crossplane.io: CompositionRevision", CROSSPLANE, ready="ValidPipeline?", false=FAILED, silent=True),
    Rule("*.crossplane.io: *; *.upbound.io: *; crossplane.io: *; upbound.io: *", CROSSPLANE, ready="Synced? Ready LastAsyncOperation?",
         holds="@crossplane.io/paused=true",
         words={"ReconcilePaused": STILL, "ReconcileError": FAILED, "AsyncUpdateFailure": FAILED, "Unavailable": WORKING},
         note="Ready without Synced speaks of the external resource as it was before the last change"),
    # Cloud controllers
    Rule("*.cnrm.cloud.google.com: ConfigConnector ConfigConnectorContext", "https://cloud.google.com/config-connector/docs", state="status.healthy",
         false=FAILED),
    Rule("*.cnrm.cloud.google.com: *; cnrm.cloud.google.com: *", "https://cloud.google.com/config-connector/docs/troubleshooting", ready="Ready",
         words={"DependencyNotFound": FAILED, "DependencyNotReady": WORKING, "DependencyInvalid": FAILED, "UpdateFailed": FAILED}),
    Rule("*.services.k8s.aws: *", "https://aws-controllers-k8s.github.io/docs/", ready="Ready? ACK.ResourceSynced?", failed="ACK.Terminal",
         working="ACK.Recoverable"),
    Rule("networking.gke.io: ManagedCertificate", "https://cloud.google.com/kubernetes-engine/docs/how-to/managed-certs",
         state="status.certificateStatus status.domainStatus[].status",
         words={"FailedNotVisible": FAILED, "ProvisioningFailed": FAILED, "ProvisioningFailedPermanently": FAILED}),
    Rule("karpenter.sh: NodePool; karpenter.k8s.aws: EC2NodeClass", "https://karpenter.sh/docs/concepts/nodepools/", ready="Ready", false=FAILED),
    Rule("karpenter.sh: NodeClaim", "https://karpenter.sh/docs/concepts/nodeclaims/", ready="Ready", still="Disrupting"),
    Rule("iammanager.keikoproj.io: Iamrole", "https://github.com/keikoproj/iam-manager", state="status.state",
         words={"RolesMaxLimitReached": FAILED, "PolicyNotAllowed": FAILED, "RoleNameNotAvailable": FAILED}),
    Rule("spot.io: SpotDeployment", state="status.phase"),
    Rule("stacks.crossplane.io: ClusterStackInstall", CROSSPLANE, ready="Ready", parts="status.conditionedStatus"),
    Rule("pulumi.com: Stack", "https://www.pulumi.com/docs/iac/operations/continuous-delivery/pulumi-kubernetes-operator/", ready="Ready?",
         failed="Stalled", state="status.lastUpdate.state", words={"succeeded": HEALTHY, "failed": FAILED}),
    # Cluster API
    Rule("cluster.x-k8s.io: Cluster", CLUSTER_API, ready="Ready? Available?", state="status.phase", holds="spec.paused @cluster.x-k8s.io/paused",
         working=ROLLING, errors="status.failureMessage", false=FAILED, words={"Provisioned": HEALTHY}),
    Rule("cluster.x-k8s.io: MachineDeployment MachineSet", CLUSTER_API, ready="Ready? Available?", state="status.phase", working=ROLLING,
         counts="status.updatedReplicas?/spec.replicas status.upToDateReplicas?/spec.replicas status.readyReplicas?/spec.replicas",
         holds="spec.paused @cluster.x-k8s.io/paused", errors="status.failureMessage", words={"Running": HEALTHY}),
    Rule("cluster.x-k8s.io: Machine", CLUSTER_API, ready="Ready?", state="status.phase", holds="@cluster.x-k8s.io/paused", errors="status.failureMessage",
         words={"Running": HEALTHY, "Provisioned": WORKING}),
    Rule("cluster.x-k8s.io: MachinePool", CLUSTER_API, state="status.phase", holds="@cluster.x-k8s.io/paused", errors="status.failureMessage",
         words={"Scaling": HEALTHY, "ScalingUp": WORKING, "ScalingDown": WORKING, "Running": HEALTHY, "Unknown": FAILED}),
    Rule("cluster.x-k8s.io: MachineHealthCheck", CLUSTER_API, counts="status.currentHealthy/status.expectedMachines", holds="@cluster.x-k8s.io/paused"),
    Rule("cluster.x-k8s.io: ClusterClass", CLUSTER_API, ready="VariablesReconciled? VariablesReady? RefVersionsUpToDate?", false=FAILED, silent=True),
    Rule("addons.cluster.x-k8s.io: ClusterResourceSet", CLUSTER_API, ready="ResourcesApplied", false=FAILED, holds="@cluster.x-k8s.io/paused"),
    Rule("controlplane.cluster.x-k8s.io: AWSManagedControlPlane", CLUSTER_API, ready="Ready", working="EKSControlPlaneUpdating", errors="status.failureMessage",
         holds="@cluster.x-k8s.io/paused"),
    Rule("controlplane.cluster.x-k8s.io: *; bootstrap.cluster.x-k8s.io: *; infrastructure.cluster.x-k8s.io: *", CLUSTER_API,
         ready="Ready? Available?", errors="status.failureMessage", holds="@cluster.x-k8s.io/paused", silent=True, working=ROLLING, state="status.ready",
         counts="status.updatedReplicas?/spec.replicas status.upToDateReplicas?/spec.replicas status.readyReplicas?/spec.replicas"),
    Rule("core.gardener.cloud: Shoot", "https://gardener.cloud/docs/gardener/shoot/shoot_status/", state="metadata.labels.'shoot.gardener.cloud/status'"),
    Rule("cluster.open-cluster-management.io: ManagedCluster", "https://open-cluster-management.io/docs/concepts/cluster-inventory/managedcluster/",
         ready="HubAcceptedManagedCluster? ManagedClusterJoined? ManagedClusterConditionAvailable"),
    Rule("cluster.open-cluster-management.io: Placement", "https://open-cluster-management.io/docs/concepts/content-placement/placement/",
         ready="PlacementSatisfied", failed="PlacementMisconfigured"),
    Rule("work.open-cluster-management.io: ManifestWork", "https://open-cluster-management.io/docs/concepts/work-distribution/manifestwork/",
         ready="Applied Available?"),
    Rule("config.projectsveltos.io: ClusterSummary", "https://projectsveltos.github.io/sveltos/", state="status.featureSummaries[].status",
         words={"FailedNonRetriable": FAILED}),
    Rule("fleet.cattle.io: GitRepo Bundle BundleDeployment", "https://fleet.rancher.io/", ready="Ready? Accepted?", failed="Stalled",
         errors="status.summary.errApplied", holds="spec.paused"),
    Rule("catalog.cattle.io: ClusterRepo", "https://ranchermanager.docs.rancher.com/", ready="Downloaded? OCIDownloaded?", false=FAILED),
    Rule("metal3.io: BareMetalHost", "https://book.metal3.io/bmo/introduction", state="status.operationalStatus status.provisioning.state",
         errors="status.errorMessage", holds="@baremetalhost.metal3.io/paused",
         words={"externally provisioned": HEALTHY, "available": HEALTHY, "ready": HEALTHY, "unmanaged": STILL, "detached": STILL, "discovered": WORKING,
                "delayed": WORKING, "match profile": WORKING}),
    Rule("kamaji.clastix.io: TenantControlPlane", "https://kamaji.clastix.io/", state="status.kubernetesResources.version.status",
         words={"Sleeping": STILL, "WriteLimited": HEALTHY, "CertificateAuthorityRotating": WORKING}),
    Rule("hnc.x-k8s.io: HierarchyConfiguration", "https://github.com/kubernetes-retired/hierarchical-namespaces", failed="ActivitiesHalted BadConfiguration",
         silent=True),
    # Virtual machines
    Rule("kubevirt.io: VirtualMachine", "https://kubevirt.io/user-guide/", ready="Ready", still="Paused",
         off="spec.running=false spec.runStrategy=Halted", runs="spec.running=true spec.runStrategy=Always", failed="Failure", state="status.printableStatus",
         words={"Stopped": STILL, "VMINotExists": STILL, "Running": HEALTHY, "Paused": STILL, "ErrorUnschedulable": FAILED,
                "CrashLoopBackOff": FAILED, "DataVolumeError": FAILED, "ErrorPvcNotFound": FAILED}),
    Rule("kubevirt.io: VirtualMachineInstance", "https://kubevirt.io/user-guide/", ready="Ready", still="Paused", state="status.phase",
         words={"Succeeded": STILL, "Failed": FAILED, "Running": HEALTHY}),
    Rule("kubevirt.io: KubeVirt; cdi.kubevirt.io: CDI", "https://kubevirt.io/user-guide/", ready="Available", working="Progressing", failed="Degraded",
         state="status.phase", words={"Deployed": HEALTHY, "Deploying": WORKING}),
    Rule("cdi.kubevirt.io: DataVolume", "https://github.com/kubevirt/containerized-data-importer", state="status.phase",
         words={"Paused": STILL, "Unknown": FAILED, "WaitForFirstConsumer": STILL, "PendingPopulation": STILL}, ready="Running!"),
    # Elastic
    Rule("elasticsearch.k8s.elastic.co: Elasticsearch", ECK, state="status.phase status.health", counts="status.availableNodes/spec.nodeSets[].count",
         holds="@common.k8s.elastic.co/pause=true"),
    Rule("beat.k8s.elastic.co: Beat; logstash.k8s.elastic.co: Logstash; kibana.k8s.elastic.co: Kibana; apm.k8s.elastic.co: ApmServer; "
         "agent.k8s.elastic.co: Agent; enterprisesearch.k8s.elastic.co: EnterpriseSearch; maps.k8s.elastic.co: ElasticMapsServer", ECK,
         counts="status.availableNodes/status.expectedNodes status.availableNodes?/spec.count",
         state="status.health status.associationStatus status.elasticsearchAssociationStatus status.kibanaAssociationStatus "
               "status.elasticsearchAssociationsStatus[] status.monitoringAssociationStatus[]", words={"Established": HEALTHY}),
    # Messages
    Rule("kafka.strimzi.io: Kafka", STRIMZI, ready="Ready", failed="NotReady", words={"Creating": WORKING}, holds="@strimzi.io/pause-reconciliation=true",
         still="ReconciliationPaused"),
    Rule("kafka.strimzi.io: KafkaBridge KafkaConnect KafkaConnector KafkaMirrorMaker2 KafkaRebalance KafkaTopic KafkaUser", STRIMZI,
         ready="Ready?", failed="NotReady", still="ReconciliationPaused ProposalReady Stopped", holds="@strimzi.io/pause-reconciliation=true",
         state="status.connectorStatus.connector.state status.connectorStatus.tasks[].state", note="a proposal of a rebalance waits for a person"),
    Rule("kafka.strimzi.io: KafkaNodePool", STRIMZI, failed="NotReady", counts="status.replicas/spec.replicas", note="it has no condition Ready"),
    Rule("core.strimzi.io: StrimziPodSet", STRIMZI, counts="status.readyPods/status.pods status.currentPods/status.pods"),
    Rule("kafka.banzaicloud.io: KafkaCluster", state="status.state status.cruiseControlTopicStatus status.brokersState[].configurationState",
         words={"ClusterRunning": HEALTHY, "CruiseControlTopicReady": HEALTHY, "ConfigInSync": HEALTHY, "ConfigOutOfSync": FAILED}),
    Rule("platform.confluent.io: Connector", CONFLUENT, state="status.state status.connectorState", errors="status.failedTasksCount",
         words={"CREATED": HEALTHY}),
    Rule("platform.confluent.io: *", CONFLUENT, state="status.phase status.state", words={"CREATED": HEALTHY}),
    Rule("rabbitmq.com: RabbitmqCluster", "https://www.rabbitmq.com/kubernetes/operator/using-operator",
         ready="AllReplicasReady ClusterAvailable? ReconcileSuccess?", words={"Error": FAILED}, still="",
         note="NoWarnings is not read: a warning does not stop the cluster"),
    Rule("rabbitmq.com: Binding Exchange Federation OperatorPolicy Permission Policy Queue SchemaReplication Shovel SuperStream TopicPermission User Vhost",
         "https://www.rabbitmq.com/kubernetes/operator/using-topology-operator", ready="Ready", false=FAILED),
    Rule("nats.io: NatsCluster; jetstream.nats.io: Stream Consumer KeyValue ObjectStore Account", "https://github.com/nats-io/nack", ready="Ready",
         false=FAILED),
    # Databases
    Rule("postgresql.cnpg.io: Cluster", "https://cloudnative-pg.io/documentation/current/cloudnative-pg.v1/", state="status.phase",
         holds="@cnpg.io/reconciliationLoop=disabled @cnpg.io/hibernation=on", still="cnpg.io/hibernation", ready="Ready? ContinuousArchiving?",
         counts="status.readyInstances?/spec.instances", words={
             "ContinuousArchivingFailing": FAILED,
             "Cluster in healthy state": HEALTHY, "Waiting for user action": FAILED, "Cluster is unrecoverable and needs manual intervention": FAILED,
             "Unable to create required cluster objects": FAILED, "Cluster has incomplete or invalid image catalog": FAILED,
             "Cluster cannot proceed to reconciliation due to an unknown plugin being required": FAILED,
             "Cluster cannot execute instance online upgrade due to missing architecture binary": FAILED, "Failing over": WORKING}),
    Rule("postgresql.cnpg.io: Backup", "https://cloudnative-pg.io/documentation/current/backup/", state="status.phase",
         words={"running": WORKING, "walArchivingFailing": FAILED}, errors="status.error"),
    Rule("postgresql.cnpg.io: Database Publication Subscription", "https://cloudnative-pg.io/documentation/current/declarative_database_management/",
         state="status.applied", false=FAILED, errors="status.message"),
    Rule("postgresql.cnpg.io: ScheduledBackup ImageCatalog ClusterImageCatalog", silent=True),
    Rule("postgresql.cnpg.io: Pooler", counts="status.instances/spec.instances"),
    Rule("acid.zalan.do: postgresql", "https://postgres-operator.readthedocs.io/", state="status.PostgresClusterStatus"),
    Rule("k8s.mariadb.com: MariaDB MaxScale Backup Database Grant User Connection PhysicalBackup Restore; mariadb.mmontes.io: MariaDB",
         "https://mariadb.com/docs/tools/mariadb-enterprise-operator", ready="Ready? Complete?", false=WORKING),
    Rule("k8s.mariadb.com: SqlJob", ready="Complete", failed="Failed", words={"JobFailed": FAILED, "JobComplete": HEALTHY}),
    Rule("pxc.percona.com: PerconaXtraDBCluster; psmdb.percona.com: PerconaServerMongoDB; pgv2.percona.com: PerconaPGCluster; ps.percona.com: "
         "PerconaServerMySQL", "https://docs.percona.com/percona-operators/", state="status.state", words={"unknown": WORKING, "paused": STILL}),
    Rule("mysql.oracle.com: InnoDBCluster", "https://dev.mysql.com/doc/mysql-operator/en/", state="status.cluster.status",
         counts="status.cluster.onlineInstances?/spec.instances", words={"ONLINE_PARTIAL": WORKING, "ONLINE_UNCERTAIN": WORKING,
                                                                         "OFFLINE_UNCERTAIN": FAILED, "NO_QUORUM_UNCERTAIN": FAILED,
                                                                         "SPLIT_BRAIN_UNCERTAIN": FAILED, "FINALIZING": WORKING}),
    Rule("postgres-operator.crunchydata.com: PostgresCluster", "https://access.crunchydata.com/documentation/postgres-operator/latest",
         ready="ProxyAvailable? PGBackRestReplicaRepoReady? PGBackRestRepoHostReady?", holds="spec.paused", off="spec.shutdown",
         counts="status.instances[].readyReplicas/status.instances[].replicas status.instances[].updatedReplicas/status.instances[].replicas"),
    Rule("infinispan.org: Infinispan", "https://infinispan.org/docs/infinispan-operator/main/operator.html", ready="WellFormed PreliminaryChecksPassed?",
         still="GracefulShutdown"),
    Rule("mongodbcommunity.mongodb.com: MongoDBCommunity; mongodb.com: MongoDB MongoDBUser OpsManager",
         "https://www.mongodb.com/docs/kubernetes-operator/", state="status.phase"),
    Rule("clickhouse.altinity.com: ClickHouseInstallation; clickhouse-keeper.altinity.com: ClickHouseKeeperInstallation",
         "https://docs.altinity.com/", state="status.status", other=FAILED, words={"Terminating": WORKING}),
    Rule("cassandra.rook.io: Cluster", counts="status.racks[].readyMembers/status.racks[].members"),
    Rule("cassandra.datastax.com: CassandraDatacenter; k8ssandra.io: K8ssandraCluster", "https://docs.k8ssandra.io/", ready="Ready?", still="Stopped",
         state="status.cassandraOperatorProgress", words={"Ready": HEALTHY}),
    Rule("scylla.scylladb.com: ScyllaCluster", "https://operator.docs.scylladb.com/", ready="Available", working="Progressing", failed="Degraded"),
    Rule("redis.redis.opstreelabs.in: RedisCluster RedisReplication; databases.spotahome.com: RedisFailover", state="status.state", silent=True),
    Rule("db.atlasgo.io: AtlasMigration AtlasSchema", "https://atlasgo.io/integrations/kubernetes", ready="Ready", false=FAILED,
         words={"Reconciling": WORKING, "GettingDevDB": WORKING, "Migrating": FAILED}),
    Rule("solr.apache.org: SolrCloud", "https://apache.github.io/solr-operator/",
         counts="status.readyReplicas/spec.replicas status.upToDateNodes/spec.replicas"),
    Rule("zookeeper.pravega.io: ZookeeperCluster", ready="PodsReady?", failed="Error", counts="status.readyReplicas/status.replicas"),
    # Storage
    Rule("ceph.rook.io: CephCluster", "https://rook.io/docs/rook/latest/CRDs/Cluster/ceph-cluster-crd/", state="status.ceph.health status.state status.phase",
         words={"HEALTH_OK": HEALTHY, "HEALTH_WARN": FAILED, "HEALTH_ERR": FAILED}),
    Rule("ceph.rook.io: CephBlockPool CephFilesystem CephObjectStore CephObjectStoreUser CephNFS CephClient",
         "https://rook.io/docs/rook/latest/CRDs/", state="status.phase"),
    Rule("objectbucket.io: ObjectBucket ObjectBucketClaim", state="status.phase"),
    Rule("longhorn.io: Volume", "https://longhorn.io/docs/", state="status.state status.robustness", ready="Scheduled?", false=FAILED,
         words={"attached": HEALTHY, "detached": STILL, "unknown": WORKING, "degraded": FAILED, "faulted": FAILED}),
    Rule("longhorn.io: BackupTarget", "https://longhorn.io/docs/", state="status.available", false=FAILED, failed="Unavailable",
         holds="spec.backupTargetURL=", note="without a URL there is no target to reach"),
    Rule("minio.min.io: Tenant", "https://min.io/docs/minio/kubernetes/upstream/", state="status.currentState status.healthStatus", words={
        "Initialized": HEALTHY, "Statefulset not controlled by operator": FAILED, "Another MinIO Tenant already exists in the namespace": FAILED,
        "Tenant credentials are not set properly": FAILED, "Different versions across MinIO Pools": FAILED, "Pool Decommissioning Not Allowed": FAILED,
        "Restarting MinIO": WORKING, "yellow": WORKING}),
    Rule("trident.netapp.io: TridentBackendConfig", state="status.lastOperationStatus status.phase", words={"Success": HEALTHY}),
    Rule("trident.netapp.io: TridentOrchestrator", state="status.status"),
    Rule("astra.netapp.io: Backup Snapshot ResourceBackup ResticVolumeBackup ExecHooksRun", state="status.state", words={"Running": WORKING}, other=FAILED),
    Rule("astra.netapp.io: AppVault", state="status.state"),
    Rule("astra.netapp.io: Application", ready="Ready", false=FAILED),
    Rule("astra.netapp.io: ExecHook", holds="spec.enabled=false", silent=True),
    Rule("astra.netapp.io: Schedule", silent=True),
    Rule("ocs.openshift.io: StorageCluster", failed="Degraded", working="Progressing", ready="Available"),
    Rule("velero.io: Backup", "https://velero.io/docs/main/api-types/backup/", state="status.phase",
         words={"PartiallyFailed": FAILED, "FailedValidation": FAILED, "Completed": HEALTHY}),
    Rule("velero.io: Restore PodVolumeBackup PodVolumeRestore DataUpload DataDownload", "https://velero.io/docs/main/api-types/restore/",
         state="status.phase", words={"PartiallyFailed": FAILED, "FailedValidation": FAILED, "Accepted": WORKING, "Prepared": WORKING}),
    Rule("velero.io: Schedule", "https://velero.io/docs/main/api-types/schedule/", state="status.phase", holds="spec.paused",
         words={"FailedValidation": FAILED, "New": WORKING}),
    Rule("velero.io: BackupStorageLocation BackupRepository", "https://velero.io/docs/main/api-types/backupstoragelocation/", state="status.phase",
         words={"Unavailable": FAILED, "NotReady": WORKING}),
    Rule("k8up.io: Backup Restore Check Prune Archive", "https://docs.k8up.io/", ready="Completed", failed="PreBackupFailed", words={"Failed": FAILED}),
    Rule("volsync.backube: ReplicationSource ReplicationDestination", "https://volsync.readthedocs.io/", state="status.latestMoverStatus.result",
         ready="Synchronizing!", holds="spec.paused", silent=True),
    Rule("config.kio.kasten.io: Profile Policy", "https://docs.kasten.io/", state="status.validation"),
    # Observability
    Rule("monitoring.coreos.com: Prometheus PrometheusAgent Alertmanager ThanosRuler",
         "https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.Condition", ready="Reconciled? Available", false=FAILED,
         words={"SomePodsNotReady": WORKING, "NoPodReady": FAILED}, holds="spec.paused", counts="status.updatedReplicas?/status.replicas"),
    Rule("monitoring.coreos.com: ServiceMonitor PodMonitor Probe ScrapeConfig PrometheusRule AlertmanagerConfig",
         "https://prometheus-operator.dev/docs/", ready="Accepted", parts="status.bindings", false=FAILED, silent=True),
    Rule("operator.victoriametrics.com: *", "https://docs.victoriametrics.com/operator/", state="status.updateStatus", words={"paused": STILL}, silent=True),
    Rule("grafana.integreatly.org: Grafana", "https://grafana.github.io/grafana-operator/docs/api/", state="status.stageStatus status.stage",
         words={"success": HEALTHY, "failed": FAILED, "complete": HEALTHY}),
    Rule("grafana.integreatly.org: GrafanaContactPoint GrafanaAlertRuleGroup GrafanaNotificationPolicy GrafanaLibraryPanel",
         "https://grafana.github.io/grafana-operator/docs/api/", failed="NoMatchingInstance InvalidSpec",
         ready="ContactPointSynchronized? AlertGroupSynchronized? NotificationPolicySynchronized? LibraryPanelSynchronized?", false=FAILED,
         silent=True),
    Rule("grafana.integreatly.org: GrafanaDatasource", "https://grafana.github.io/grafana-operator/docs/api/",
         failed="NoMatchingInstance InvalidSpec", ready="DatasourceSynchronized?", false=FAILED, errors="status.NoMatchingInstances",
         counts="status.uid/1"),
    Rule("grafana.integreatly.org: GrafanaDashboard GrafanaFolder", "https://grafana.github.io/grafana-operator/docs/api/",
         ready="DashboardSynchronized? FolderSynchronized?", false=FAILED, failed="NoMatchingInstance InvalidSpec"),
    Rule("grafana-org-operator.kubitus-project.gitlab.io: *", ready="Ready", false=FAILED),
    Rule("jaegertracing.io: Jaeger", "https://www.jaegertracing.io/", state="status.phase", words={"Running": HEALTHY}),
    Rule("opentelemetry.io: OpenTelemetryCollector", "https://opentelemetry.io/docs/platforms/kubernetes/operator/",
         counts="status.scale.statusReplicas", silent=True),
    Rule("opentelemetry.io: Instrumentation OpAMPBridge", silent=True),
    Rule("loki.grafana.com: LokiStack", "https://loki-operator.dev/", ready="Ready", failed="Degraded Failed", working="Pending", false=WORKING),
    Rule("datadoghq.com: DatadogMetric", failed="Error", ready="Valid? Active?", false=FAILED, silent=True),
    Rule("coralogix.com: *", ready="RemoteSynced", false=FAILED),
    Rule("core.humio.com: *", "https://library.humio.com/", state="status.state",
         words={"Exists": HEALTHY, "NotFound": FAILED, "ConfigError": FAILED, "Unknown": WORKING}),
    Rule("kiali.io: Kiali", ready="Successful?", failed="Failure", working="Running", words={"Successful": HEALTHY}),
    Rule("metrics.keptn.sh: KeptnMetric", errors="status.errMsg", state="status.value", other=HEALTHY),
    Rule("metrics.keptn.sh: Analysis", state="status.pass status.state", false=FAILED),
    Rule("lifecycle.keptn.sh: KeptnAppVersion KeptnTask KeptnWorkloadInstance KeptnWorkloadVersion", state="status.status"),
    Rule("lifecycle.keptn.sh: KeptnEvaluation", state="status.overallStatus"),
    # Autoscaling and events
    Rule("keda.sh: ScaledObject", KEDA, ready="Ready", failed="Fallback", still="Paused", false=FAILED,
         holds="@autoscaling.keda.sh/paused=true @autoscaling.keda.sh/paused-replicas"),
    Rule("keda.sh: ScaledJob", KEDA, ready="Ready", failed="Fallback", still="Paused", false=FAILED, holds="@autoscaling.keda.sh/paused=true"),
    Rule("keda.sh: TriggerAuthentication ClusterTriggerAuthentication", KEDA, silent=True),
    Rule("autoscaling.k8s.io: VerticalPodAutoscaler", "https://github.com/kubernetes/autoscaler/tree/master/vertical-pod-autoscaler",
         failed="ConfigUnsupported ConfigDeprecated", silent=True),
    # Meshes and ingress
    Rule("install.istio.io: IstioOperator", "https://istio.io/latest/docs/", state="status.status",
         words={"0": WORKING, "1": WORKING, "2": WORKING, "3": HEALTHY, "4": FAILED, "NONE": WORKING}),
    Rule("sailoperator.io: Istio IstioCNI IstioRevision ZTunnel", "https://github.com/istio-ecosystem/sail-operator", ready="Ready Reconciled?",
         false=WORKING, words={"ReconcileError": FAILED}),
    Rule("networking.istio.io: *; security.istio.io: *; telemetry.istio.io: *; extensions.istio.io: *",
         "https://istio.io/latest/docs/reference/config/istio.meta.v1alpha1/", ready="Reconciled? WaypointAccepted?", false=FAILED,
         failed="Error", state="status.validationMessages[].level", words={"ERROR": FAILED, "3": FAILED, "WARNING": HEALTHY}, other=HEALTHY, silent=True),
    Rule("k8s.nginx.org: VirtualServer VirtualServerRoute TransportServer Policy", "https://docs.nginx.com/nginx-ingress-controller/",
         state="status.state"),
    Rule("apisix.apache.org: *", "https://apisix.apache.org/docs/ingress-controller/", ready="ResourcesAvailable? Accepted?", false=FAILED, silent=True),
    Rule("projectcontour.io: HTTPProxy ExtensionService", "https://projectcontour.io/docs/main/config/api/", ready="Valid?", false=FAILED,
         state="status.currentStatus"),
    Rule("gateway.solo.io: *; gloo.solo.io: *", "https://docs.solo.io/gloo-edge/", state="status.state status.statuses[].state",
         words={"0": WORKING, "1": HEALTHY, "2": FAILED, "3": FAILED, "Warning": FAILED}),
    Rule("microgateway.airlock.com: AccessControlPolicy ContentSecurityPolicy CustomResponsePolicy EnvoyExtensionPolicy ICAPPolicy RateLimitPolicy",
         "https://docs.airlock.com/microgateway/latest/", ready="Accepted ResolvedRefs?", false=FAILED, parts="status.ancestors!"),
    Rule("microgateway.airlock.com: *", "https://docs.airlock.com/microgateway/latest/", silent=True),
    Rule("route.openshift.io: Route", "https://docs.openshift.com/", ready="Admitted", false=FAILED, parts="status.ingress"),
    Rule("traefik.io: *; traefik.containo.us: *", "https://doc.traefik.io/traefik/", silent=True),
    Rule("metallb.io: IPAddressPool L2Advertisement BGPAdvertisement BGPPeer", "https://metallb.io/", silent=True),
    Rule("cilium.io: CiliumNetworkPolicy CiliumClusterwideNetworkPolicy", "https://docs.cilium.io/", ready="Valid?", false=FAILED, silent=True),
    Rule("cilium.io: CiliumLoadBalancerIPPool CiliumBGPClusterConfig CiliumBGPPeerConfig CiliumBGPNodeConfigOverride", "https://docs.cilium.io/",
         failed="cilium.io/PoolConflict cilium.io/NoMatchingNode cilium.io/MissingPeerConfigs cilium.io/MissingAuthSecret", silent=True),
    Rule("externaldns.k8s.io: DNSEndpoint", silent=True),
    Rule("nmstate.io: NodeNetworkConfigurationPolicy", "https://nmstate.io/kubernetes-nmstate/", ready="Available", failed="Degraded",
         working="Progressing", still="Ignored"),
    Rule("proclaim.dogmatiq.io: DNSSDServiceInstance", ready="Adopted? Advertised? Discoverable", words={"AdvertiseError": FAILED, "UnadvertiseError": FAILED}),
    # Serverless and machine learning
    Rule("serving.knative.dev: Service Route Configuration Revision", "https://knative.dev/docs/serving/", ready="Ready", false=FAILED),
    Rule("eventing.knative.dev: Broker Trigger; messaging.knative.dev: Channel Subscription; sources.knative.dev: *",
         "https://knative.dev/docs/eventing/", ready="Ready"),
    Rule("operator.knative.dev: KnativeServing KnativeEventing", "https://knative.dev/docs/install/operator/",
         ready="Ready InstallSucceeded DependenciesInstalled? DeploymentsAvailable?"),
    Rule("serving.kserve.io: InferenceService", "https://kserve.github.io/website/",
         ready="Ready PredictorReady? IngressReady? TransformerReady? ExplainerReady? RoutesReady? LatestDeploymentReady? PredictorRouteReady? "
               "PredictorConfigurationReady?", still="Stopped",
         state="status.modelStatus.transitionStatus status.modelStatus.states.targetModelState",
         words={"Loaded": HEALTHY, "Standby": HEALTHY, "UpToDate": HEALTHY,
                "InProgress": WORKING, "BlockedByFailedLoad": FAILED, "InvalidSpec": FAILED, "PredictorFailed": FAILED,
                "Stopped": STILL}, holds="@serving.kserve.io/stop=true"),
    Rule("openfaas.com: Function", ready="Ready", false=FAILED),
    Rule("camel.apache.org: Integration", "https://camel.apache.org/camel-k/next/", ready="Ready", false=FAILED, state="status.phase",
         words={"Running": HEALTHY}),
    Rule("camel.apache.org: IntegrationPlatform IntegrationKit Build", "https://camel.apache.org/camel-k/next/", state="status.phase"),
    Rule("core.spinkube.dev: SpinApp", ready="Available Progressing?", words={"ProgressDeadlineExceeded": FAILED, "NewReplicaSetAvailable": HEALTHY},
         working="Progressing", false=FAILED, counts="status.readyReplicas/spec.replicas"),
    Rule("flink.apache.org: FlinkDeployment", "https://nightlies.apache.org/flink/flink-kubernetes-operator-docs-main/",
         off="spec.job.state=suspended", state="status.reconciliationStatus.state status.jobManagerDeploymentStatus status.jobStatus.state",
         errors="status.error",
         words={"READY": HEALTHY, "DEPLOYED_NOT_READY": WORKING, "MISSING": WORKING, "ERROR": FAILED, "DEPLOYED": HEALTHY, "RUNNING": HEALTHY,
                "FINISHED": HEALTHY, "STABLE": HEALTHY}),
    Rule("flink.apache.org: FlinkSessionJob", "https://nightlies.apache.org/flink/flink-kubernetes-operator-docs-main/",
         off="spec.job.state=suspended", state="status.reconciliationStatus.state status.jobStatus.state", errors="status.error"),
    Rule("sparkoperator.k8s.io: SparkApplication", "https://www.kubeflow.org/docs/components/spark-operator/", state="status.applicationState.state",
         words={"RUNNING": HEALTHY, "SUBMISSION_FAILED": FAILED, "SUCCEEDING": WORKING}),
    Rule("sparkoperator.k8s.io: ScheduledSparkApplication", state="status.scheduleState", holds="spec.suspend",
         words={"FailedValidation": FAILED, "Scheduled": HEALTHY}),
    Rule("kubeflow.org: TFJob PyTorchJob MPIJob XGBoostJob PaddleJob", "https://www.kubeflow.org/docs/components/trainer/", ready="Succeeded?",
         failed="Failed", working="Running Restarting", still="Suspended", words={}),
    Rule("kubeflow.org: Experiment Trial", "https://www.kubeflow.org/docs/components/katib/", ready="Succeeded", failed="Failed"),
    Rule("kubeflow.org: Notebook", "https://www.kubeflow.org/docs/components/notebooks/", counts="status.readyReplicas/1",
         state="status.containerState.waiting.reason", holds="@kubeflow-resource-stopped",
         words={"ContainerCreating": WORKING, "PodInitializing": WORKING}),
    Rule("trainer.kubeflow.org: TrainJob", "https://www.kubeflow.org/docs/components/trainer/", ready="Complete", failed="Failed", still="Suspended",
         holds="spec.suspend"),
    Rule("batch.volcano.sh: Job", "https://volcano.sh/en/docs/vcjob/", state="status.state.phase",
         words={"Running": WORKING, "Terminated": FAILED, "Completing": WORKING}),
    Rule("k6.io: TestRun K6", "https://grafana.com/docs/k6/latest/set-up/set-up-distributed-k6/", state="status.stage",
         words={"initialized": WORKING, "created": WORKING, "stopped": HEALTHY}),
    Rule("ray.io: RayJob", "https://docs.ray.io/", state="status.jobStatus status.jobDeploymentStatus", holds="spec.suspend",
         words={"Running": WORKING, "RUNNING": WORKING, "Complete": HEALTHY, "SUCCEEDED": HEALTHY, "Suspended": STILL, "STOPPED": FAILED}),
    Rule("ray.io: RayCluster RayService", "https://docs.ray.io/", state="status.state status.serviceStatus",
         words={"ready": HEALTHY, "Running": HEALTHY, "suspended": STILL, "unhealthy": FAILED, "failed": FAILED}, holds="spec.suspend"),
    Rule("numaflow.numaproj.io: InterStepBufferService MonoVertex Pipeline Vertex", "https://numaflow.numaproj.io/",
         state="status.phase metadata.labels.'numaplane.numaproj.io/progressive-result-state'",
         ready="Configured? Deployed? ChildrenResourcesHealthy? DaemonHealthy? DaemonServiceHealthy? PodsHealthy? SideInputsManagersHealthy? "
               "VerticesHealthy?", words={"Running": HEALTHY, "Paused": STILL, "Pausing": WORKING, "Deleting": WORKING, "Progressing": WORKING},
         false=FAILED),
    Rule("numaplane.numaproj.io: ISBServiceRollout MonoVertexRollout NumaflowControllerRollout PipelineRollout", "https://numaplane.readthedocs.io/",
         state="status.phase", ready="ChildResourcesHealthy? ChildResourceDeployed? ProgressiveUpgradeSucceeded?",
         still="PipelinePausingOrPaused MonoVertexPausingOrPaused", false=FAILED, words={"Progressing": WORKING, "Deployed": HEALTHY}),
    # Kruise
    Rule("apps.kruise.io: AdvancedCronJob", "https://openkruise.io/docs/user-manuals/advancedcronjob", holds="spec.paused", silent=True),
    Rule("apps.kruise.io: BroadcastJob", "https://openkruise.io/docs/user-manuals/broadcastjob", state="status.phase", holds="spec.paused",
         words={"running": WORKING, "paused": STILL}),
    Rule("apps.kruise.io: CloneSet", "https://openkruise.io/docs/user-manuals/cloneset",
         counts="status.readyReplicas?/spec.replicas status.availableReplicas?/spec.replicas "
                "status.updatedAvailableReplicas?/status.expectedUpdatedReplicas status.updatedReplicas?/status.expectedUpdatedReplicas "
                "status.updatedAvailableReplicas+spec.updateStrategy.partition/status.replicas", holds="spec.updateStrategy.paused"),
    Rule("apps.kruise.io: SidecarSet", "https://openkruise.io/docs/user-manuals/sidecarset",
         counts="status.updatedPods/status.matchedPods status.readyPods/status.matchedPods", holds="spec.updateStrategy.paused"),
    Rule("apps.kruise.io: DaemonSet", "https://openkruise.io/docs/user-manuals/advanceddaemonset",
         counts="status.numberReady/status.desiredNumberScheduled status.numberAvailable/status.desiredNumberScheduled",
         holds="spec.updateStrategy.rollingUpdate.paused"),
    Rule("apps.kruise.io: StatefulSet", "https://openkruise.io/docs/user-manuals/advancedstatefulset",
         counts="status.readyReplicas?/spec.replicas status.updatedAvailableReplicas+spec.updateStrategy.rollingUpdate.partition/status.replicas",
         holds="spec.updateStrategy.rollingUpdate.paused"),
    Rule("rollouts.kruise.io: Rollout", "https://openkruise.io/rollouts/introduction", state="status.phase status.canaryStatus.currentStepState",
         holds="spec.strategy.paused", words={"Disabled": FAILED, "StepPaused": STILL}, off="spec.disabled"),
    Rule("game.kruise.io: GameServer", "https://openkruise.io/kruisegame/introduction", ready="KruisePodReady?", false=FAILED, parts="status.podStatus?",
         equal="status.desiredState==status.currentState"),
    Rule("game.kruise.io: GameServerSet", "https://openkruise.io/kruisegame/introduction",
         counts="status.readyReplicas/spec.replicas status.updatedReadyReplicas/status.replicas", holds="spec.updateStrategy.rollingUpdate.paused"),
    # OpenShift, OLM, policies, others
    Rule("apps.openshift.io: DeploymentConfig", "https://docs.openshift.com/", ready="Available Progressing?", working="Progressing",
         words={"NewReplicationControllerAvailable": HEALTHY},
         counts="status.updatedReplicas?/spec.replicas status.readyReplicas/spec.replicas status.availableReplicas/spec.replicas",
         holds="spec.paused"),
    Rule("operator.openshift.io: IngressController", ready="Available DeploymentReplicasAllAvailable?", failed="Degraded", working="Progressing"),
    Rule("config.openshift.io: ClusterOperator ClusterVersion", ready="Available", failed="Degraded Failing", working="Progressing", false=FAILED),
    Rule("operators.coreos.com: Subscription", "https://olm.operatorframework.io/docs/", state="status.state",
         failed="CatalogSourcesUnhealthy InstallPlanFailed ResolutionFailed InstallPlanMissing", still="InstallPlanPending",
         counts="status.installedCSV/1",
         words={"AtLatestKnown": HEALTHY, "UpgradeAvailable": WORKING, "UpgradePending": WORKING, "UpgradeFailed": FAILED, "RequiresApproval": STILL,
                "Installing": WORKING, "ReferencedInstallPlanNotFound": HEALTHY},
         note="an upgrade that waits for a person's approval beside an installed version is no trouble"),
    Rule("operators.coreos.com: ClusterServiceVersion", "https://olm.operatorframework.io/docs/", state="status.phase",
         words={"InstallReady": WORKING, "Replacing": WORKING}),
    Rule("operators.coreos.com: InstallPlan", "https://olm.operatorframework.io/docs/", state="status.phase", words={"RequiresApproval": STILL}),
    Rule("operators.coreos.com: CatalogSource", "https://olm.operatorframework.io/docs/", state="status.connectionState.lastObservedState",
         words={"READY": HEALTHY, "IDLE": HEALTHY, "TRANSIENT_FAILURE": WORKING}, silent=True),
    Rule("operators.coreos.com: OperatorGroup OperatorCondition Operator", silent=True),
    Rule("policy.open-cluster-management.io: Policy", "https://open-cluster-management.io/docs/", state="status.compliant", holds="spec.disabled",
         counts="status.placement?/1"),
    Rule("policy.open-cluster-management.io: CertificatePolicy ConfigurationPolicy", "https://open-cluster-management.io/docs/",
         state="status.compliant", holds="spec.disabled", seen="status.lastEvaluatedGeneration"),
    Rule("policy.open-cluster-management.io: OperatorPolicy", "https://open-cluster-management.io/docs/", ready="Compliant", false=FAILED,
         holds="spec.disabled"),
    Rule("kyverno.io: Policy ClusterPolicy", "https://kyverno.io/docs/", ready="Ready", state="status.ready", false=FAILED),
    Rule("policies.kyverno.io: *", "https://kyverno.io/docs/", state="status.conditionStatus.ready", silent=True),
    Rule("kyverno.io: CleanupPolicy ClusterCleanupPolicy PolicyException", silent=True),
    Rule("templates.gatekeeper.sh: ConstraintTemplate", "https://open-policy-agent.github.io/gatekeeper/", state="status.created",
         errors="status.byPod[].errors"),
    Rule("constraints.gatekeeper.sh: *", "https://open-policy-agent.github.io/gatekeeper/", errors="status.byPod[].errors", silent=True,
         note="what it finds in other objects is not a failure of its own"),
    Rule("mutations.gatekeeper.sh: *; expansion.gatekeeper.sh: *", "https://open-policy-agent.github.io/gatekeeper/", errors="status.byPod[].errors",
         silent=True),
    Rule("kro.run: ResourceGraphDefinition", "https://kro.run/docs/overview", state="status.state", words={"Inactive": FAILED}, ready="Ready?"),
    Rule("core.oam.dev: Application", "https://kubevela.io/docs/end-user/workflow/overview", state="status.status",
         words={"runningWorkflow": WORKING, "runningPolicies": WORKING, "workflowSuspending": STILL, "workflowTerminated": FAILED, "unhealthy": WORKING}),
    Rule("app.terraform.io: Workspace Module", "https://developer.hashicorp.com/terraform/cloud-docs/integrations/kubernetes",
         state="status.runStatus.status status.run.status",
         words={"applied": HEALTHY, "planned_and_finished": HEALTHY, "planned": STILL, "cost_estimated": STILL, "policy_checked": STILL,
                "policy_soft_failed": FAILED, "discarded": FAILED}, silent=True, note="a plan that waits for a person's approval stands still"),
    Rule("shipwright.io: Build", "https://shipwright.io/docs/build/build/", state="status.registered",
         words={"True": HEALTHY, "False": FAILED, "Unknown": WORKING}),
    Rule("work.karmada.io: ResourceBinding ClusterResourceBinding", "https://karmada.io/docs/", ready="Scheduled? FullyApplied", false=FAILED,
         state="status.aggregatedStatus[].health status.aggregatedStatus[].applied", words={"Unknown": HEALTHY}),
    Rule("apps.3scale.net: APIManager", ready="Available", false=FAILED),
    Rule("capabilities.3scale.net: Backend Product", ready="Synced", failed="Invalid Orphan Failed"),
    Rule("capabilities.3scale.net: *", ready="Ready", failed="Invalid Orphan Failed", still="Waiting", working="In-progress", false=FAILED,
         state="status.state status.developerUserState", words={"live": HEALTHY}, other=HEALTHY),
    Rule("k8s.keycloak.org: Keycloak KeycloakRealmImport", "https://www.keycloak.org/operator/", ready="Ready? Done?", failed="HasErrors", still=""),
    Rule("services.cloud.sap.com: ServiceBinding ServiceInstance", "https://github.com/SAP/sap-btp-service-operator", ready="Ready Succeeded?",
         failed="Failed"),
    Rule("tower.ansible.com: AnsibleJob; awx.ansible.com: AWX AWXBackup AWXRestore", failed="Failure Failed", ready="Successful? Running?",
         state="status.ansibleJobResult.status", words={"running": WORKING}),
    Rule("tekton.dev: PipelineRun TaskRun CustomRun", "https://tekton.dev/docs/pipelines/pipelineruns/#monitoring-execution-status",
         ready="Succeeded", false=FAILED, words={"Running": WORKING, "Started": WORKING, "Cancelled": FAILED},
         holds="spec.status=PipelineRunPending"),
    Rule("tekton.dev: Pipeline Task ClusterTask", silent=True),
    Rule("operator.tekton.dev: *", "https://tekton.dev/docs/operator/", ready="Ready"),
    Rule("resource.k8s.io: ResourceClaim", silent=True),
    Rule("certificates.k8s.io: CertificateSigningRequest", "https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/",
         failed="Denied Failed", counts="status.certificate/1", silent=True),
    Rule("longhorn.io: Node", "https://longhorn.io/docs/", ready="Ready Schedulable?", false=FAILED),
    Rule("kueue.x-k8s.io: ClusterQueue LocalQueue AdmissionCheck", "https://kueue.sigs.k8s.io/", ready="Active", false=FAILED),
    Rule("kueue.x-k8s.io: Workload", "https://kueue.sigs.k8s.io/", ready="Finished", failed="DeactivationTarget"),
    Rule("jobset.x-k8s.io: JobSet", "https://jobset.sigs.k8s.io/", ready="Completed", failed="Failed", still="Suspended", holds="spec.suspend"),
]
