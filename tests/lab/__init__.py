# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real parts of tests, demo and benchmarks: an embedded Kubernetes, Git servers, a proxy that makes faults, hosts with a real systemd, an OpenStack.

    python tests/lab build [COMPONENT …]      into a cache that all checkouts share; KUBEBUILDER_ASSETS comes first
    python tests/lab lock [MODULE …]          go.mod and go.sum anew, after a change in components.py
    python tests/lab cluster start | status | stop
    python tests/lab hosts start --names server1,agent1 | status | ssh NAME | kill NAME | boot NAME | fault NAME | stop
    python tests/lab cloud start | status | stop
    python tests/lab microservices FOLDER --services 50

In a test the fixtures of tests/conftest.py hand the parts out. Elsewhere:

    from lab.cluster import Cluster

    with Cluster.start(say=print) as cluster:           # ends with the block, or with this process
        cluster.kubectl("get", "nodes")
        begin = cluster.moment()
        …
        writes = [one for one in cluster.audit(begin) if one["verb"] in ("create", "patch", "delete")]

Nodes and pods are kwok's: scheduled, started, ready, deleted, but without a process. A pod with the annotation
lab/pod fails as it says: pending, image-pull-backoff, crash-loop, failed (stages/).
NORDIC_CLUSTER=<state folder> lets pytest use a cluster that `cluster start` left, so that one test is run again quickly.

Hosts (lab.hosts) are systemd-nspawn machines that Ansible reaches by ssh as root; the lab's k3s runs on them with real pods. They need
root and Linux, and leave nothing on the machine when they end, however they end. A molecule scenario gets its own: platforms in its
molecule.yml, and extensions/molecule/shared/create.yml and destroy.yml as its playbooks.

The cloud (lab.openstack) is Keystone, Nova, Neutron, Glance, Cinder and Placement on MariaDB and RabbitMQ, listening on the loopback only. Its
Nova runs no guests. NORDIC_CLOUD=<state folder> lets pytest use one that `cloud start` left.
"""
