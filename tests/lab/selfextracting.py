# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""k3s as it is released: one file, which unpacks the server and its helpers on its first run and checks what it unpacked.

Unlike a release it carries no iptables, conntrack and the like; the nodes have those of their distribution.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from pathlib import Path
from typing import Dict, List, Mapping, Tuple

from lab import build
from lab.build import Say
from lab.components import K3S_PATH
from lab.errors import LabError
from lab.overlay import Change, File

# A release generates this package with the archive in it. An overlay adds no embedded file, so ours looks for it at the end of
# the outer program.
READER: Tuple[Change, ...] = (File(f"{K3S_PATH}/pkg/data", "nordic_data.go", "k3s-overlay/data.go"),)

# Names under which the server is called; it looks at its own name to know what to be.
LINKS = ("k3s-agent", "k3s-server", "k3s-token", "k3s-etcd-snapshot", "k3s-secrets-encrypt", "k3s-certificate", "k3s-completion",
         "kubectl", "containerd", "crictl", "ctr")
# A long window finds what the Go programs have in common; a higher level costs minutes for the last tenth.
COMPRESS = ("zstd", "--quiet", "--force", "-T0", "-9", "--long=25")


def signature() -> str:
    """What decides about the package apart from its programs: all of this file."""
    return Path(__file__).read_text()


def make(launcher: Path, programs: Mapping[str, Path], folder: Path, say: Say) -> Path:
    """The one file, in this folder. launcher is the outer program; programs: name -> path, `k3s` is the server."""
    begin = time.monotonic()
    archive, compressed, target = folder / "data.tar", folder / "data.tar.zst", folder / "k3s"
    _archive(programs, archive)
    code, words = build.run([*COMPRESS, str(archive), "-o", str(compressed)], folder, {"PATH": "/usr/bin:/bin"}, "k3s, packing", say)
    if code:
        raise LabError(f"{' '.join(COMPRESS)} ended with {code}:\n" + "\n".join(words[-5:]))
    archive.unlink()
    data = compressed.read_bytes()
    with target.open("wb") as file:
        file.write(launcher.read_bytes())
        file.write(data)
        file.write(f"{_sha256(data)} {len(data):015}\n".encode())
    target.chmod(0o755)
    say(f"  k3s: packed in {time.monotonic() - begin:.0f} s")
    return target


def _archive(programs: Mapping[str, Path], archive: Path) -> None:
    """bin/ with the programs, the links to the server, and the two lists by which k3s verifies what it unpacked."""
    links = dict.fromkeys(LINKS, "k3s")
    sums = [f"{_sha256(path.read_bytes())}  {name}" for name, path in sorted(programs.items())]
    texts: Dict[str, List[str]] = {".sha256sums": sums, ".links": [f"{name} {target}" for name, target in sorted(links.items())]}
    with tarfile.open(archive, "w") as tar:
        _entry(tar, "bin", tarfile.DIRTYPE)
        for name, path in sorted(programs.items()):
            _entry(tar, f"bin/{name}", tarfile.REGTYPE, path.read_bytes())
        for name, target in sorted(links.items()):
            _entry(tar, f"bin/{name}", tarfile.SYMTYPE, target=target)
        for name, lines in texts.items():
            _entry(tar, f"bin/{name}", tarfile.REGTYPE, "".join(f"{line}\n" for line in lines).encode(), mode=0o644)


def _entry(tar: tarfile.TarFile, name: str, kind: bytes, content: bytes = b"", target: str = "", mode: int = 0o755) -> None:
    """Without owner and time: equal programs shall give an equal archive, since its checksum is its name."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode, entry.linkname = kind, len(content), mode, target
    tar.addfile(entry, io.BytesIO(content))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
