# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every plugin that talks to a cloud; CLOUD_SPEC of module_utils/_instance/options.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  cloud:
    description:
      - The entry of C(clouds.yaml). It may be left out where there is only one, or where the C(OS_…) variables say which cloud is meant.
    type: str
  clouds_file:
    description: The C(clouds.yaml). The usual places are searched when left out.
    type: path
  auth:
    description: Credentials instead of a C(clouds.yaml), as C(auth) has them there. Neither the file nor C(OS_…) variables are read then.
    type: dict
  auth_type:
    description: How these credentials work, for example V(v3applicationcredential).
    type: str
  region:
    description:
      - The region. It is required, and what the catalog says about it is compared before anything is made.
    type: str
    required: true
  project_id:
    description: The ID of the project that the credentials must be of. With any other, nothing is looked for and nothing is changed.
    type: str
  interface:
    description: Which endpoints of the catalog are used.
    type: str
    choices: [public, internal, admin]
  ca_cert:
    description: A file with the certificates of the authorities to trust.
    type: path
  validate_certs:
    description: Whether TLS certificates are verified.
    type: bool
  timeout:
    description: How long one request may take, in seconds.
    type: int
    default: 60
"""
