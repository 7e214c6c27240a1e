# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workplace around a checkout: everything that Ansible and its checkers want and that does not belong into the tree.

Standard library only, and no syntax newer than Python 3.8: this runs before any package is there, on whatever `python3` the machine has.
"""
