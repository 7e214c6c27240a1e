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
  libvirt:
    description:
      - A host with libvirt and QEMU instead of a cloud. O(region) is what this host counts as.
      - Names of networks are those of its networks and bridges, volume types are its pools, its only availability zone is its host name.
        A bridge has its own DHCP, so no fixed addresses are possible in it.
        A flavor is a size, such as V(4 vCPU, 16384 MB, 160 GB). It has no key pairs, security groups, server groups or floating addresses.
    type: dict
    suboptions:
      uri:
        description: The URI of the connection, such as V(qemu:///system) or V(qemu+ssh://root@kvm1.example.no/system).
        type: str
        required: true
      pool:
        description: The storage pool of root disks, and of volumes without a type. Its type has to be C(dir), C(fs) or C(netfs).
        type: str
        default: default
      images:
        description: Images that are uploaded to the pool when it does not have them. A volume that the pool has can be named as an image without this.
        type: list
        elements: dict
        suboptions:
          name:
            description: The name by which instances ask for it.
            type: str
            required: true
          path:
            description: The file, qcow2 or raw, where the module runs.
            type: path
            required: true
          checksum:
            description: Its checksum, as V(sha256:…). Another checksum is another image.
            type: str
            required: true
      emulation:
        description: Whether guests may be emulated where KVM cannot run them. They are many times slower then.
        type: bool
        default: false
      firmware:
        description: The firmware of new instances.
        type: str
        choices: [bios, uefi]
        default: bios
      autostart:
        description: Whether new instances start with their host.
        type: bool
        default: true
      cache:
        description: How the host caches what guests write. With V(none) a write is on the disk when the guest is told so.
        type: str
        choices: [none, writeback, writethrough, directsync]
        default: none
      io:
        description: How QEMU reads and writes disks. V(native) is for fast ones, such as NVMe, and needs O(libvirt.cache=none) or V(directsync).
        type: str
        choices: [native, threads, io_uring]
        default: native
"""
