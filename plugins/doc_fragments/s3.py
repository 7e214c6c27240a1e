# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What S3_SPEC of module_utils/_k3s/s3.py takes.
    DOCUMENTATION = r"""
options:
  s3:
    description:
      - S3-compatible storage for copies. Paths are addressed as C(ENDPOINT/BUCKET/FOLDER/FILE), unless O(s3.virtual_host) is set.
      - The controller signs a URL for each request that a node sends. The keys are never on a node, and the controller needs no way to the store.
    type: dict
    suboptions:
      endpoint:
        description: Its URL, such as V(https://s3.no-osl-1.example.no).
        type: str
        required: true
      region:
        description: The region of the bucket. It is part of every signature, and a bucket that says it lies elsewhere is refused.
        type: str
        required: true
      allowed_regions:
        description: The regions where snapshots may lie. Any other is refused before a byte is sent. Any region when left out.
        type: list
        elements: str
      bucket:
        description: The bucket. It must exist.
        type: str
        required: true
      folder:
        description: The folder in the bucket.
        type: str
        default: ""
      access_key:
        description: The access key.
        type: str
        required: true
      secret_key:
        description: The secret key.
        type: str
        required: true
      session_token:
        description: The session token that goes with temporary keys.
        type: str
      signed:
        description: The URLs that the controller has signed. The collection sets it; what is given here is not used.
        type: dict
      ca_path:
        description: A file on the node with the certificates of the authorities to trust. Those of the system when left out.
        type: path
      allow_http:
        description: Whether the endpoint may be plain HTTP.
        type: bool
        default: false
      virtual_host:
        description: Whether the bucket is a host of its own, addressed as C(BUCKET.ENDPOINT/FOLDER/FILE), as Amazon S3 asks of new buckets.
        type: bool
        default: false
      timeout:
        description: How long one request may stand still, in seconds.
        type: int
        default: 60
"""
