# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pip for the environments that ansible-test makes: put where ansible-test looks before it downloads an installer from its own site.

The installer is this file itself, copied beside pip's wheel; the wheel comes from the package index, checked by its hash.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# The version that ansible-core 2.19 pins for its environments (get_venv_packages in ansible_test); look again when ansible-core moves.
VERSION = "24.2"
SHA256 = "2cd581cf58ab7fcfca4ce8efa6dcacd0de5bf8d0a3eb9ec927e07405f4d9e2a2"


def provide(python, home):
    """Make `home`/.ansible/test/cache hold the installer and the wheel that it installs."""
    cache = os.path.join(str(home), ".ansible", "test", "cache")
    installer = os.path.join(cache, "get_pip_%s.py" % VERSION.replace(".", "_"))
    wheel = os.path.join(cache, "pip-%s-py3-none-any.whl" % VERSION)
    os.makedirs(cache, exist_ok=True)
    if not os.path.exists(wheel):
        requirement = os.path.join(cache, "pip.txt")
        with open(requirement, "w", encoding="ascii") as handle:
            handle.write("pip==%s --hash=sha256:%s\n" % (VERSION, SHA256))
        subprocess.run(
            [str(python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes",
             "--dest=" + cache, "--requirement=" + requirement],
            stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True,
        )
    shutil.copyfile(os.path.abspath(__file__), installer)


def install(arguments):
    """Install pip, out of the wheel beside this file, into the Python that runs this."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.join(here, "pip-%s-py3-none-any.whl" % VERSION))
    from pip._internal.cli.main import main

    # The installer that ansible-test expects understands these two; pip itself does not.
    return main(["install", "--no-index", "--find-links", here] + [argument for argument in arguments if argument not in ("--no-setuptools", "--no-wheel")])


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
