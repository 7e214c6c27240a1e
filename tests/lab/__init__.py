# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real parts of tests, demo and benchmarks: an embedded Kubernetes, Git servers, a proxy that makes faults.

    python tests/lab build | lock | bin | cluster start | cluster stop | microservices DIR

In tests `from lab.cluster import Cluster` and so on; the fixtures in tests/conftest.py hand them out ready.
"""
