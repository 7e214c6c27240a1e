# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work that everybody is measured on: the lab's company with N microservices, as a folder and as one file."""

from __future__ import annotations

from pathlib import Path

from lab import microservices

NAMESPACE = "bench"


def services_in(objects: int) -> int:
    """How many services make a case of so many objects; a case that cannot be made is refused rather than rounded."""
    services, rest = divmod(objects - 1, microservices.OBJECTS_PER_SERVICE)
    if rest or services < 2:
        raise ValueError("a case is 1 + %d × N objects with N of at least 2 (17, 401, 5001, …), not %d" % (microservices.OBJECTS_PER_SERVICE, objects))
    return services


def write(folder: Path, objects: int) -> None:
    written = microservices.write(folder, services_in(objects), NAMESPACE)
    assert written == objects, "the lab wrote %d objects instead of %d" % (written, objects)


def write_as_one_file(folder: Path, target: Path) -> None:
    """The same documents as one file, which is what one kubernetes.core.k8s task takes. The Namespace comes first: it goes by the order."""
    paths = sorted((path for path in folder.rglob("*.yaml")), key=lambda path: (len(path.relative_to(folder).parts), path))
    with open(target, "w", encoding="utf-8") as out:
        for path in paths:
            out.write("---\n" + path.read_text(encoding="utf-8"))
