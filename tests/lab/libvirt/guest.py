# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk image of a small Debian with cloud-init, as a cloud's image is: made once into the cache from Debian's packages.

It boots by UEFI from one file (kernel, initrd and command line together), so nothing has to be mounted to make it. Guests of the lab
are emulated where the machine has no KVM, so all that only takes time is left out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Optional

from lab import build, places, processes
from lab.errors import LabError

SUITE = "bookworm"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "udev", "openssh-server", "python3", "cloud-init", "cloud-guest-utils", "iproute2", "netbase", "sudo",
    "linux-image-cloud-amd64", "initramfs-tools", "zstd", "qemu-guest-agent",
    # A virtual package that another one depends on, which debootstrap does not look up.
    "python3-cffi-backend",
)
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "ext4", "crc32c_generic")
# Without what costs an emulated processor time: page tables of five levels, protection keys, the wide registers that each switch saves.
COMMAND_LINE = ("root=LABEL=root rw console=ttyS0 mitigations=off random.trust_cpu=1 systemd.show_status=false no5lvl nopku noxsave nokaslr audit=0 "
                "apparmor=0 systemd.default_timeout_start_sec=1h systemd.service_watchdogs=0")  # slow is not broken
# Of the kernel's modules, those that a guest loads once its root is mounted: its seed is an ISO image. udev would load a hundred others.
KEPT_MODULES = ("fs/isofs", "fs/nls", "drivers/cdrom", "drivers/char/hw_random", "drivers/virtio")
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "systemd-timesyncd", "man-db.timer",
          "dpkg-db-backup.timer", "cloud-init-hotplugd.socket", "getty@tty1", "console-getty", "systemd-binfmt", "proc-sys-fs-binfmt_misc.automount",
          "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "dev-hugepages.mount", "dev-mqueue.mount", "modprobe@configfs", "modprobe@dm_mod",
          "modprobe@drm", "modprobe@efi_pstore", "modprobe@fuse", "modprobe@loop", "systemd-pstore", "systemd-sysusers", "systemd-update-utmp",
          "systemd-update-utmp-runlevel", "systemd-tmpfiles-clean.timer", "systemd-journal-flush")
REMOVED = ("etc/hostname", "etc/ssh/ssh_host_*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "usr/share/doc/*",
           "usr/share/locale/*", "usr/share/man/*", "boot/initrd*")
# The stages are cloud-init's own; the modules are those that the tests ask something of.
CLOUD_CFG = """\
datasource_list: [NoCloud]
disable_root: false
users: [default]
system_info:
  distro: debian
  default_user: {name: debian, lock_passwd: true, sudo: ["ALL=(ALL) NOPASSWD:ALL"], shell: /bin/bash}
  network: {renderers: [networkd]}
  paths: {cloud_dir: /var/lib/cloud, templates_dir: /etc/cloud/templates}
cloud_init_modules: [bootcmd, write-files, growpart, resizefs, set_hostname, users-groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, final-message]
"""
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
SECTOR, MIB = 512, 1024 * 1024
ESP_MIB, ROOT_MIB = 64, 900


def folder() -> Path:
    """Where it is, or will be: whatever changes its content changes the name."""
    recipe = json.dumps([4, SUITE, PACKAGES, MODULES, KEPT_MODULES, COMMAND_LINE, MASKED, REMOVED, CLOUD_CFG, ESP_MIB, ROOT_MIB])
    return places.cache() / "guests" / f"debian-{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def disk() -> Path:
    return folder() / "disk.qcow2"


def make(say: build.Say = build.silent) -> Path:
    """The finished image, made when it is not there."""
    target = disk()
    if target.exists():
        return target
    with build.locked(folder().with_name(f".{folder().name}.lock"), "the guests' image", say):
        if target.exists():
            return target
        for left in folder().parent.glob(f".{folder().name}-*"):
            shutil.rmtree(left, ignore_errors=True)  # by a build that was killed
        begin = time.monotonic()
        say(f"  the guests' image: Debian {SUITE}, by debootstrap")
        with tempfile.TemporaryDirectory(prefix=f".{folder().name}-", dir=folder().parent) as scratch:
            root, made = Path(scratch) / "root", Path(scratch) / "made"
            made.mkdir()
            _debootstrap(root)
            _configure(root)
            _assemble(root, Path(scratch), made / target.name)
            made.rename(folder())
        say(f"  the guests' image: made in {time.monotonic() - begin:.0f} s")
    return target


def _debootstrap(root: Path) -> None:
    packages = places.cache() / "hosts" / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    # In namespaces of its own: what it mounts and starts ends with it, even when it is killed.
    _run("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "debootstrap", "--variant=minbase",
         f"--include={','.join(PACKAGES)}", f"--cache-dir={packages}", SUITE, str(root))


def _configure(root: Path) -> None:
    (root / "etc/initramfs-tools/modules").write_text("\n".join(MODULES) + "\n")
    (root / "etc/initramfs-tools/conf.d").mkdir(exist_ok=True)
    (root / "etc/initramfs-tools/conf.d/lab").write_text("MODULES=list\nCOMPRESS=zstd\nBUSYBOX=n\n")
    _in(root, "update-initramfs -c -k all")
    (root / "initrd").unlink(missing_ok=True)
    shutil.copy(next((root / "boot").glob("initrd*")), root.parent / "initrd")
    shutil.copy(next((root / "boot").glob("vmlinuz*")), root.parent / "kernel")
    (root / "etc/cloud/cloud.cfg").write_text(CLOUD_CFG)
    for left in (root / "etc/cloud/cloud.cfg.d").glob("*.cfg"):
        if left.name != "05_logging.cfg":  # without it every step is told on the console
            left.unlink()
    (root / "etc/fstab").write_text("LABEL=root / ext4 rw,noatime 0 1\n")
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text("UseDNS no\nPermitRootLogin prohibit-password\n")
    _in(root, "systemctl enable systemd-networkd ssh serial-getty@ttyS0")
    _in(root, f"systemctl mask {' '.join(MASKED)}")
    for modules in (root / "lib/modules").iterdir():
        kept = [modules / "kernel" / name for name in KEPT_MODULES]
        for file in modules.glob("kernel/**/*.ko*"):
            if not any(one in file.parents for one in kept):
                file.unlink()
        _in(root, f"depmod {modules.name}")
    # There is one datasource, so that none has to be looked for.
    (root / "etc/cloud/ds-identify.cfg").write_text("policy: enabled\n")
    for pattern in REMOVED:
        for left in root.glob(pattern):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    (root / "etc/machine-id").write_text("")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)


def _assemble(root: Path, scratch: Path, image: Path) -> None:
    loader = scratch / "loader.efi"
    (scratch / "cmdline").write_text(COMMAND_LINE)
    sections = {".osrel": (root / "usr/lib/os-release", 0x20000), ".cmdline": (scratch / "cmdline", 0x30000), ".linux": (scratch / "kernel", 0x2000000),
                ".initrd": (scratch / "initrd", 0x4000000)}
    words = [word for name, (file, at) in sections.items() for word in ("--add-section", f"{name}={file}", "--change-section-vma", f"{name}={at:#x}")]
    _run("objcopy", *words, str(STUB), str(loader))
    esp, system, raw = scratch / "esp", scratch / "system", scratch / "raw"
    with esp.open("wb") as file:
        file.truncate(ESP_MIB * MIB)
    _run("mkfs.vfat", "-F", "32", str(esp))
    _run("mmd", "-i", str(esp), "::EFI", "::EFI/BOOT")
    _run("mcopy", "-i", str(esp), str(loader), "::EFI/BOOT/BOOTX64.EFI")
    _run("mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(system), f"{ROOT_MIB}M")
    with raw.open("wb") as file:
        file.truncate((1 + ESP_MIB + ROOT_MIB + 1) * MIB)
    table = f"label: gpt\nstart=1MiB, size={ESP_MIB}MiB, type=uefi\nstart={1 + ESP_MIB}MiB, size={ROOT_MIB}MiB, type=linux\n"
    _run("sfdisk", "--quiet", str(raw), given=table)
    for part, at in ((esp, 1), (system, 1 + ESP_MIB)):
        _run("dd", f"if={part}", f"of={raw}", "bs=1M", f"seek={at}", "conv=notrunc,sparse", "status=none")
    _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(image))


def _in(root: Path, command: str) -> None:
    _run("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c",
         f"mount -t proc proc {root}/proc && exec chroot {root} env PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c '{command}'")


def _run(*command: str, given: Optional[str] = None) -> None:
    done = subprocess.run(list(command), input=given, stdin=None if given is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False, preexec_fn=processes.dying_with_us())
    if done.returncode:
        raise LabError(f"{' '.join(command[:8])} ended with {done.returncode}; the end of what it said:\n{done.stdout[-2000:]}")
