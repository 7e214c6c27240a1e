# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sealed Secrets in Python, byte-compatible with kubeseal and the controller.

    blob.py         one value: seal and open, scopes and labels
    certificate.py  the certificate to seal with: from the cluster, a file or a URL, cached
    keys.py         the private keys: in the cluster and in backups
    vault.py        backups in the format of Ansible Vault
    documents.py    SealedSecrets in the files of a repository
    rewrite.py      a file brought to other contents, with every other byte kept
    wanted.py       what a task asks to be sealed
    template.py     Go templates of spec.template.data, checked
    seal.py         file + wanted -> the file's new text, with the blobs kept whose value did not change
    proof.py        how that is known: a private key, a keyed fingerprint, the live Secret
    verify.py       which key opens which blob; reseal
    controller.py   the controller in a cluster: its answers, its Deployment

Values go in as bytes and come out as bytes. No message, result or exception of this package contains one.
"""

from __future__ import annotations
