# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On PYTHONPATH where openstack.cloud runs: it asks for openstack.version, which openstacksdk 4.22 no longer imports by itself."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys


class _Version(importlib.abc.MetaPathFinder):
    """Import it with the package, only in a process that imports the package."""

    def find_spec(self, name, path=None, target=None):
        if name != "openstack":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            importlib.import_module("openstack.version")

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Version())
