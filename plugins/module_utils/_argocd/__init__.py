# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argo CD, by way of the Kubernetes API or of its own: its kinds as code, and what it knows of each Application.

options   what a task may say of each kind, and what of it goes into the object
kinds     the table: one row for each kind
answers   what a server may answer of them
manage    the one implementation of present and absent
api       the other way in: Argo CD's own API with a token
trust     what is trusted of repositories: certificates, known hosts, GPG keys, read by trust_format
guard     the rules that refuse, each one named
removal   how an object goes: refused, cascaded, orphaned
choice    which Applications a task means
operation what an Application says of its operations and commits
sync      Applications synced at exactly one commit, or waited for
evidence  what their objects say when that fails
admin     the administrator's password, by bcrypt_hash
info      what is known of each Application
ending    how a module ends: its result or a failure, masked
follow    Applications as they change, and the refresh that proves a status to be new
"""

from __future__ import annotations
