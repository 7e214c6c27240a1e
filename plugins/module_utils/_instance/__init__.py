# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""KVM instances: what they must be (wanted.py), what to do about it (plan.py), doing it (execute.py), and on what (provider.py, openstack.py)."""

from __future__ import annotations
