# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What knows one object: compare it with its intent, prove who owns what, apply and patch it, explain a refusal."""

from __future__ import annotations
