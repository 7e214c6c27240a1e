# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health is a pure function: one table of objects as a server returns them, and a property over arbitrary ones."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._reconcile.health import HEALTH, STATUSES, Health, health, pods_reason

CASES = """
# what it is | expected status | words of the message
- case: Deployment nobody has looked at
  is: InProgress
  says: has not seen this version
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 3}}
- case: Deployment whose status speaks of an older generation
  is: InProgress
  says: has not seen this version
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 5}, spec: {replicas: 1},
       status: {observedGeneration: 4, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1,
                conditions: [{type: Available, status: "True"}]}}
- case: Deployment half way through a roll-out
  is: InProgress
  says: 1 of 3 replicas updated
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 3},
       status: {observedGeneration: 2, replicas: 4, updatedReplicas: 1, readyReplicas: 3, availableReplicas: 3}}
- case: Deployment with an old replica left
  is: InProgress
  says: 1 old replica still to end
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 3},
       status: {observedGeneration: 2, replicas: 4, updatedReplicas: 3, readyReplicas: 4, availableReplicas: 4}}
- case: Deployment with one replica missing
  is: InProgress
  says: 2 of 3 replicas ready
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2}, spec: {replicas: 3},
       status: {observedGeneration: 2, replicas: 3, updatedReplicas: 3, readyReplicas: 2, availableReplicas: 2}}
- case: Deployment ready but not for minReadySeconds yet
  is: InProgress
  says: 0 of 1 replicas available
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 1, minReadySeconds: 30},
       status: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, readyReplicas: 1}}
- case: Deployment complete
  is: Current
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 2},
       status: {observedGeneration: 1, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2,
                conditions: [{type: Available, status: "True", reason: MinimumReplicasAvailable},
                             {type: Progressing, status: "True", reason: NewReplicaSetAvailable}]}}
- case: Deployment scaled to nothing
  is: Current
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 0},
       status: {observedGeneration: 1, conditions: [{type: Available, status: "True"}]}}
- case: Deployment past its progress deadline
  is: Failed
  says: 0 of 1 replicas ready when its progress deadline passed
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 1},
       status: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, unavailableReplicas: 1,
                conditions: [{type: Available, status: "False"}, {type: Progressing, status: "False", reason: ProgressDeadlineExceeded}]}}
- case: Deployment whose Pods a quota refuses
  is: InProgress
  says: "0 of 1 replicas updated (FailedCreate: exceeded quota: small)"
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 1},
       status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: "exceeded quota: small"}]}}
- case: Deployment that Git paused
  is: Current
  says: paused by its own spec, 0 of 2 replicas ready
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, spec: {replicas: 2, paused: true}, status: {observedGeneration: 1}}
- case: Deployment being deleted in the foreground
  is: Terminating
  says: held by the finalizer foregroundDeletion
  of: {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 2, deletionTimestamp: "2026-01-01T00:00:00Z", finalizers: [foregroundDeletion]}}

- case: StatefulSet starting
  is: InProgress
  says: 1 of 3 replicas ready
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 1}, spec: {replicas: 3},
       status: {observedGeneration: 1, replicas: 2, readyReplicas: 1, currentRevision: a, updateRevision: a}}
- case: StatefulSet rolling
  is: InProgress
  says: 1 of 3 replicas updated
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, spec: {replicas: 3},
       status: {observedGeneration: 2, replicas: 3, readyReplicas: 3, updatedReplicas: 1, currentReplicas: 2, currentRevision: a, updateRevision: b}}
- case: StatefulSet rolled out
  is: Current
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, spec: {replicas: 3},
       status: {observedGeneration: 2, replicas: 3, readyReplicas: 3, availableReplicas: 3, updatedReplicas: 3, currentReplicas: 3, currentRevision: b, updateRevision: b}}
- case: StatefulSet with a partition that holds two
  is: Current
  says: 2 replicas kept at the old revision
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, spec: {replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}},
       status: {observedGeneration: 2, replicas: 3, readyReplicas: 3, updatedReplicas: 1, currentReplicas: 2, currentRevision: a, updateRevision: b}}
- case: StatefulSet with a partition not reached yet
  is: InProgress
  says: 0 of 1 replicas updated
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, spec: {replicas: 3, updateStrategy: {rollingUpdate: {partition: 2}}},
       status: {observedGeneration: 2, replicas: 3, readyReplicas: 3, currentReplicas: 3, currentRevision: a, updateRevision: b}}
- case: StatefulSet updated by hand only
  is: Current
  says: until somebody deletes them
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, spec: {replicas: 1, updateStrategy: {type: OnDelete}},
       status: {observedGeneration: 2, replicas: 1, readyReplicas: 1, currentRevision: a, updateRevision: b}}
- case: StatefulSet scaled down, one Pod still ends
  is: InProgress
  says: 1 replica still to end
  of: {apiVersion: apps/v1, kind: StatefulSet, metadata: {generation: 2}, spec: {replicas: 1},
       status: {observedGeneration: 2, replicas: 2, readyReplicas: 2, currentRevision: a, updateRevision: a}}

- case: DaemonSet nobody has looked at
  is: InProgress
  says: has not seen this version
  of: {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {currentNumberScheduled: 0, desiredNumberScheduled: 0, numberReady: 0}}
- case: DaemonSet on two of three nodes
  is: InProgress
  says: ready on 2 of 3 nodes
  of: {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1},
       status: {observedGeneration: 1, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 3, numberReady: 2, numberAvailable: 2}}
- case: DaemonSet rolling
  is: InProgress
  says: updated on 1 of 3 nodes
  of: {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 2},
       status: {observedGeneration: 2, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 1, numberReady: 3, numberAvailable: 3}}
- case: DaemonSet everywhere
  is: Current
  of: {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1},
       status: {observedGeneration: 1, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 3, numberReady: 3, numberAvailable: 3}}
- case: DaemonSet no node matches
  is: Current
  says: no node matches it
  of: {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 0}}

- case: ReplicaSet refused by a quota
  is: Failed
  says: "0 of 2 replicas could be created (FailedCreate: forbidden)"
  of: {apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}, spec: {replicas: 2},
       status: {observedGeneration: 1, replicas: 0, conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: forbidden}]}}
- case: ReplicaSet complete
  is: Current
  of: {apiVersion: apps/v1, kind: ReplicaSet, metadata: {generation: 1}, spec: {replicas: 2},
       status: {observedGeneration: 1, replicas: 2, readyReplicas: 2, availableReplicas: 2, fullyLabeledReplicas: 2}}

- case: Pod the scheduler has no place for
  is: InProgress
  says: "Unschedulable: 0/3 nodes are available"
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Pending,
       conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/3 nodes are available: 3 node(s) did not match."}]}}
- case: Pod whose image cannot be pulled
  is: Failed
  says: "container web: ImagePullBackOff: Back-off pulling image"
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Pending, conditions: [{type: PodScheduled, status: "True"}],
       containerStatuses: [{name: web, ready: false, state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image "nginx:9.99"'}}}]}}
- case: Pod that crashes
  is: Failed
  says: "container web: CrashLoopBackOff: last exit code 137 (OOMKilled)"
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Running, conditions: [{type: Ready, status: "False"}],
       containerStatuses: [{name: web, ready: false, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff, message: back-off 1m20s}},
                            lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}
- case: Pod whose init container crashes
  is: Failed
  says: "container migrate: CrashLoopBackOff: last exit code 1"
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Pending,
       initContainerStatuses: [{name: migrate, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: Error}}}],
       containerStatuses: [{name: web, state: {waiting: {reason: PodInitializing}}}]}}
- case: Pod that misses a Secret
  is: Failed
  says: 'CreateContainerConfigError: secret "db" not found'
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Pending,
       containerStatuses: [{name: web, state: {waiting: {reason: CreateContainerConfigError, message: 'secret "db" not found'}}}]}}
- case: Pod being set up
  is: InProgress
  says: not started yet
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Pending, containerStatuses: [{name: web, state: {waiting: {reason: ContainerCreating}}}]}}
- case: Pod running, probe not passed
  is: InProgress
  says: readiness probe has not passed
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Running, conditions: [{type: Ready, status: "False", reason: ContainersNotReady}],
       containerStatuses: [{name: web, ready: false, state: {running: {}}}]}}
- case: Pod ready
  is: Current
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Running, conditions: [{type: Ready, status: "True"}]}}
- case: Pod that ran to its end
  is: Current
  says: ran to its end
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Succeeded}}
- case: Pod that failed
  is: Failed
  says: "container web: last exit code 3"
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Failed, containerStatuses: [{name: web, state: {terminated: {exitCode: 3, reason: Error}}}]}}
- case: Pod evicted
  is: Failed
  says: "Evicted: The node was low on resource: memory."
  of: {apiVersion: v1, kind: Pod, metadata: {name: web}, status: {phase: Failed, reason: Evicted, message: "The node was low on resource: memory."}}

- case: Job at work is not done
  is: InProgress
  says: 1 of 3 completions, 1 Pod at work, 2 Pods failed
  of: {apiVersion: batch/v1, kind: Job, metadata: {generation: 1}, spec: {completions: 3}, status: {startTime: x, active: 1, succeeded: 1, failed: 2}}
- case: Job not started
  is: InProgress
  says: not started yet
  of: {apiVersion: batch/v1, kind: Job, metadata: {generation: 1}, spec: {completions: 1}, status: {}}
- case: Job about to be complete
  is: InProgress
  says: 1 of 1 completion
  of: {apiVersion: batch/v1, kind: Job, metadata: {generation: 1}, spec: {completions: 1},
       status: {startTime: x, succeeded: 1, conditions: [{type: SuccessCriteriaMet, status: "True"}]}}
- case: Job complete
  is: Current
  of: {apiVersion: batch/v1, kind: Job, metadata: {generation: 1}, spec: {completions: 1},
       status: {startTime: x, succeeded: 1, conditions: [{type: SuccessCriteriaMet, status: "True"}, {type: Complete, status: "True"}]}}
- case: Job failed
  is: Failed
  says: "BackoffLimitExceeded: Job has reached the specified backoff limit"
  of: {apiVersion: batch/v1, kind: Job, metadata: {generation: 1}, spec: {completions: 1},
       status: {startTime: x, failed: 7, conditions: [{type: Failed, status: "True", reason: BackoffLimitExceeded, message: Job has reached the specified backoff limit}]}}
- case: Job that Git suspends
  is: Current
  says: suspended by its own spec
  of: {apiVersion: batch/v1, kind: Job, metadata: {generation: 1}, spec: {completions: 1, suspend: true}, status: {conditions: [{type: Suspended, status: "True"}]}}
- case: CronJob
  is: Current
  of: {apiVersion: batch/v1, kind: CronJob, metadata: {generation: 1}, spec: {schedule: "* * * * *"}, status: {}}

- case: PersistentVolumeClaim without a volume
  is: InProgress
  says: no volume bound yet
  of: {apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Pending}}
- case: PersistentVolumeClaim bound
  is: Current
  of: {apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Bound}}
- case: PersistentVolumeClaim lost
  is: Failed
  says: Lost
  of: {apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Lost}}
- case: PersistentVolume whose reclaim failed
  is: Failed
  says: "Failed: error deleting"
  of: {apiVersion: v1, kind: PersistentVolume, status: {phase: Failed, message: error deleting}}
- case: PersistentVolume without a claim
  is: Current
  says: Available
  of: {apiVersion: v1, kind: PersistentVolume, status: {phase: Available}}

- case: Service inside the cluster
  is: Current
  of: {apiVersion: v1, kind: Service, spec: {type: ClusterIP, clusterIP: 10.0.0.1}, status: {loadBalancer: {}}}
- case: Service without an external address
  is: InProgress
  says: no external address yet
  of: {apiVersion: v1, kind: Service, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}, status: {loadBalancer: {}}}
- case: Service with an external address
  is: Current
  of: {apiVersion: v1, kind: Service, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}
- case: Ingress without an address
  is: Current
  says: no address yet
  of: {apiVersion: networking.k8s.io/v1, kind: Ingress, status: {loadBalancer: {}}}

- case: PodDisruptionBudget nobody has looked at
  is: InProgress
  says: has not seen this version
  of: {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {generation: 1}, status: {currentHealthy: 0, desiredHealthy: 0}}
- case: PodDisruptionBudget with too few Pods
  is: InProgress
  says: 1 of 2 Pods that it protects are healthy
  of: {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {generation: 1}, status: {observedGeneration: 1, currentHealthy: 1, desiredHealthy: 2}}
- case: PodDisruptionBudget kept
  is: Current
  of: {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {generation: 1}, status: {observedGeneration: 1, currentHealthy: 2, desiredHealthy: 1}}
- case: PodDisruptionBudget that cannot be counted
  is: InProgress
  says: "SyncFailed: found no controller"
  of: {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {generation: 1},
       status: {observedGeneration: 1, conditions: [{type: DisruptionAllowed, status: "False", reason: SyncFailed, message: found no controller}]}}

- case: HorizontalPodAutoscaler nobody has looked at
  is: Current
  of: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {currentMetrics: null, desiredReplicas: 0}}
- case: HorizontalPodAutoscaler without a metrics server
  is: Current
  says: "not scaling: FailedGetResourceMetric: the HPA was unable to compute the replica count"
  of: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: "True", reason: SucceededGetScale},
       {type: ScalingActive, status: "False", reason: FailedGetResourceMetric, message: the HPA was unable to compute the replica count}]}}
- case: HorizontalPodAutoscaler whose target is missing
  is: InProgress
  says: 'FailedGetScale: deployments.apps "web" not found'
  of: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: "False", reason: FailedGetScale,
       message: 'deployments.apps "web" not found'}]}}
- case: HorizontalPodAutoscaler with a metric that does not exist
  is: Failed
  says: InvalidMetricSourceType
  of: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: "True"},
       {type: ScalingActive, status: "False", reason: InvalidMetricSourceType, message: unknown}]}}
- case: HorizontalPodAutoscaler switched off by zero replicas
  is: Current
  of: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingActive, status: "False", reason: ScalingDisabled}]}}

- case: CustomResourceDefinition being installed
  is: InProgress
  says: Installing
  of: {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: "True"}, {type: Established, status: "False", reason: Installing}]}}
- case: CustomResourceDefinition established
  is: Current
  of: {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: "True"}, {type: Established, status: "True"}]}}
- case: CustomResourceDefinition whose names are taken
  is: Failed
  says: '"widgets" is already in use'
  of: {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: "False", reason: PluralConflict, message: '"widgets" is already in use'}]}}
- case: APIService whose Service has no endpoints
  is: InProgress
  says: MissingEndpoints
  of: {apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: "False", reason: MissingEndpoints}]}}
- case: APIService available
  is: Current
  of: {apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: "True"}]}}
- case: Namespace
  is: Current
  of: {apiVersion: v1, kind: Namespace, status: {phase: Active}}
- case: Namespace that cannot end
  is: Terminating
  says: "SomeResourcesRemain: configmaps. has 1 resource instances"
  of: {apiVersion: v1, kind: Namespace, metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {finalizers: [kubernetes]},
       status: {phase: Terminating, conditions: [{type: NamespaceContentRemaining, status: "True", reason: SomeResourcesRemain, message: configmaps. has 1 resource instances},
                                                 {type: NamespaceDeletionContentFailure, status: "False"}]}}
- case: Node
  is: Current
  of: {apiVersion: v1, kind: Node, status: {conditions: [{type: Ready, status: "True"}]}}
- case: Node that stopped reporting
  is: InProgress
  says: "NodeStatusUnknown: Kubelet stopped posting node status."
  of: {apiVersion: v1, kind: Node, status: {conditions: [{type: Ready, status: Unknown, reason: NodeStatusUnknown, message: Kubelet stopped posting node status.}]}}
- case: ConfigMap
  is: Current
  of: {apiVersion: v1, kind: ConfigMap, data: {a: b}}

- case: custom resource without a status
  is: Current
  of: {apiVersion: example.com/v1, kind: Widget, metadata: {generation: 1}}
- case: custom resource that is not Ready
  is: InProgress
  says: "Provisioning: the disk is being made"
  of: {apiVersion: example.com/v1, kind: Widget, metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "False", reason: Provisioning, message: the disk is being made}]}}
- case: custom resource Ready
  is: Current
  of: {apiVersion: example.com/v1, kind: Widget, metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Ready, status: "True", observedGeneration: 1}]}}
- case: custom resource whose Ready speaks of an older generation
  is: InProgress
  says: has not seen this version
  of: {apiVersion: example.com/v1, kind: Widget, metadata: {generation: 2}, status: {conditions: [{type: Ready, status: "True", observedGeneration: 1}]}}
- case: custom resource its controller works on
  is: InProgress
  says: building
  of: {apiVersion: example.com/v1, kind: Widget, metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "True"}, {type: Reconciling, status: "True", message: building}]}}
- case: custom resource its controller gave up
  is: Failed
  says: "BadSource: no such branch"
  of: {apiVersion: example.com/v1, kind: Widget, metadata: {generation: 1}, status: {conditions: [{type: Stalled, status: "True", reason: BadSource, message: no such branch}]}}
- case: Certificate nobody has looked at
  is: InProgress
  says: has not seen this version
  of: {apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {generation: 1}}

- case: Argo CD Application in order
  is: Current
  of: {apiVersion: argoproj.io/v1alpha1, kind: Application, spec: {source: {repoURL: a, path: b}},
       status: {health: {status: Healthy}, sync: {status: Synced, comparedTo: {source: {repoURL: a, path: b}}}}}
- case: Argo CD Application compared with its former source
  is: InProgress
  says: has not seen this version
  of: {apiVersion: argoproj.io/v1alpha1, kind: Application, spec: {source: {repoURL: a, path: b, targetRevision: v2}},
       status: {health: {status: Healthy}, sync: {status: Synced, comparedTo: {source: {repoURL: a, path: b, targetRevision: v1}}}}}
- case: Argo CD Application out of sync
  is: InProgress
  says: OutOfSync, Missing
  of: {apiVersion: argoproj.io/v1alpha1, kind: Application, status: {health: {status: Missing}, sync: {status: OutOfSync}}}
- case: Argo CD Application degraded
  is: Failed
  says: Synced, Degraded
  of: {apiVersion: argoproj.io/v1alpha1, kind: Application, status: {health: {status: Degraded}, sync: {status: Synced}}}
- case: Argo CD Application whose sync failed
  is: Failed
  says: "sync Failed: one or more objects failed to apply"
  of: {apiVersion: argoproj.io/v1alpha1, kind: Application, status: {health: {status: Missing}, sync: {status: OutOfSync},
       operationState: {phase: Failed, message: one or more objects failed to apply}}}
- case: Argo CD ApplicationSet with an error
  is: Failed
  says: ApplicationGenerationFromParamsError
  of: {apiVersion: argoproj.io/v1alpha1, kind: ApplicationSet, status: {conditions: [{type: ErrorOccurred, status: "True", reason: ApplicationGenerationFromParamsError}]}}
- case: Argo Rollout in progress
  is: InProgress
  says: "Progressing: more replicas need to be updated"
  of: {apiVersion: argoproj.io/v1alpha1, kind: Rollout, status: {phase: Progressing, message: more replicas need to be updated}}
- case: SealedSecret opened
  is: Current
  of: {apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Synced, status: "True"}]}}
- case: SealedSecret that no key opens
  is: Failed
  says: no key could decrypt secret
  of: {apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {generation: 1},
       status: {observedGeneration: 1, conditions: [{type: Synced, status: "False", message: no key could decrypt secret (password)}]}}
- case: SealedSecret nobody has looked at
  is: InProgress
  says: has not seen this version
  of: {apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {generation: 1}}
"""

TABLE = yaml.safe_load(CASES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["case"])
def test_health_says_what_is_missing(row: dict) -> None:
    found = health(row["of"])
    assert found.status == row["is"]
    if "says" in row:
        assert row["says"] in found.message
    else:
        assert found.message == "", "a row without `says` promises that there is nothing to say"


def test_every_row_of_the_health_table_has_a_case() -> None:
    tried = {(row["of"]["apiVersion"].rpartition("/")[0], row["of"]["kind"]) for row in TABLE}
    # These share a rule, made by _by_condition or _by_phase, with a kind that has a case.
    same_rule = {
        ("", "ReplicationController"),
        ("argoproj.io", "Workflow"),
        ("cert-manager.io", "Issuer"),
        ("cert-manager.io", "ClusterIssuer"),
        ("kustomize.toolkit.fluxcd.io", "Kustomization"),
        ("helm.toolkit.fluxcd.io", "HelmRelease"),
        ("source.toolkit.fluxcd.io", "GitRepository"),
        ("source.toolkit.fluxcd.io", "HelmRepository"),
        ("source.toolkit.fluxcd.io", "OCIRepository"),
        ("external-secrets.io", "ExternalSecret"),
        ("gateway.networking.k8s.io", "Gateway"),
    }
    assert set(HEALTH) - tried == same_rule


def test_an_object_that_is_not_there_is_not_found() -> None:
    assert health(None) == Health("NotFound", "not in the cluster")


def _pod(name: str, reason: str, message: str = "", **more: object) -> dict:
    waiting = {"reason": reason, "message": message}
    return {"kind": "Pod", "metadata": {"name": name, **more}, "status": {"phase": "Pending", "containerStatuses": [{"name": "app", "state": {"waiting": waiting}}]}}


def test_pods_with_the_same_reason_are_told_once_and_the_commonest_first() -> None:
    pods = [_pod("a", "ErrImagePull", "denied"), _pod("b", "ImagePullBackOff", "back-off"), _pod("c", "ImagePullBackOff", "back-off")]
    assert pods_reason(pods) == "Pod b and 1 more: container app: ImagePullBackOff: back-off; Pod a: container app: ErrImagePull: denied"


def test_a_pod_on_its_way_out_says_nothing_about_the_new_ones() -> None:
    assert pods_reason([_pod("old", "CrashLoopBackOff", deletionTimestamp="2026-01-01T00:00:00Z")]) == ""


def test_a_pod_that_is_fine_gives_no_reason() -> None:
    assert pods_reason([{"kind": "Pod", "metadata": {"name": "a"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}]) == ""


# Any JSON, and JSON whose keys and words are those that the rules look for, so that they are reached.

WORDS = some.sampled_from(
    "True False Unknown Ready Available Progressing Established NamesAccepted Complete Failed Synced Reconciling Stalled AbleToScale ScalingActive "
    "PodScheduled ProgressDeadlineExceeded Running Pending Bound Lost Active OnDelete LoadBalancer CrashLoopBackOff ErrImagePull Healthy Degraded".split()
)
KEYS = some.sampled_from(
    "metadata spec status conditions type reason message generation observedGeneration deletionTimestamp finalizers replicas updatedReplicas readyReplicas "
    "availableReplicas paused suspend completions phase containerStatuses initContainerStatuses state lastState waiting terminated exitCode name health sync source "
    "comparedTo operationState loadBalancer ingress updateStrategy rollingUpdate partition startTime ttlSecondsAfterFinished desiredNumberScheduled".split()
)
SCALARS = some.none() | some.booleans() | some.integers(-3, 5) | some.floats(allow_nan=True) | some.text(max_size=4) | WORDS
JSON = some.recursive(SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(KEYS | some.text(max_size=3), inner, max_size=5), max_leaves=25)
KINDS = some.sampled_from([*HEALTH, ("example.com", "Widget"), ("", "ConfigMap")])
CONDITIONS = some.lists(some.fixed_dictionaries({"type": WORDS | JSON, "status": WORDS | JSON}, optional={"reason": JSON, "message": JSON, "observedGeneration": JSON}), max_size=4)


@some.composite
def objects(draw: some.DrawFn) -> dict:
    group, kind = draw(KINDS)
    status = draw(some.dictionaries(KEYS, JSON, max_size=8) | JSON)
    if isinstance(status, dict) and draw(some.booleans()):
        status["conditions"] = draw(CONDITIONS)
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": draw(JSON), "spec": draw(some.dictionaries(KEYS, JSON, max_size=5) | JSON), "status": status}


@given(JSON | objects())
def test_health_answers_whatever_the_server_sends(value: object) -> None:
    found = health(value)
    assert found.status in STATUSES
    assert isinstance(found.message, str) and "\n" not in found.message


@given(some.lists(JSON | objects(), max_size=3))
def test_a_reason_is_one_line_whatever_the_pods_hold(pods: list) -> None:
    assert "\n" not in pods_reason(pods)
