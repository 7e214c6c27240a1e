# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All hosts of a k3s cluster together, judged and planned on the controller. Pure: values in, values out.

    plan.py           a new cluster, or changes of one that exists
    restore_plan.py   a cluster that is brought back to a snapshot
"""

from __future__ import annotations
