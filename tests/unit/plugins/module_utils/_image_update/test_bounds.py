# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No YAML file of a repository makes image_update or secrets_check take more than its share, whatever it holds."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MEMORY = 400 << 20
SECONDS = 30  # of processor time

# A Python expression of the text, and whether nothing is wrong with it.
CASES = {
    "values": ('"- a\\n" * 1_000_000', False),
    "values behind a byte order mark": ('"\\ufeff" + "- a\\n" * 1_000_000', False),
    "YAML that is deep": ('"a: " + "[" * 100_000', False),
    "a wide list in a deep one": ('"password: " + "{a: " * 190 + "[" + "b, " * 150_000 + "]" + "}" * 190', True),
    "a long key above many": ('"? " + "k" * 1_000_000 + "\\n: {" + ", ".join(f"password{n}: b" for n in range(60_000)) + "}\\n"', True),
    "images that are aliases": ('"a: &a web:1\\nspec:\\n  containers:\\n" + "  - image: *a\\n" * 40_000', False),
    "images with an anchor": ('"spec:\\n  containers:\\n" + "".join(f"  - image: &a{n} web:1\\n" for n in range(20_000))', True),
    "images with different tags": ('"spec:\\n  containers:\\n" + "".join(f"  - image: web:{n}\\n" for n in range(30_000))', True),
    "many other images": ('"spec:\\n  containers:\\n" + "".join(f"  - image: other{n}:1\\n" for n in range(20_000))', True),
    "merges of merges": ('"a0: &a0 {password: x}\\n" + "".join(f"a{n}: &a{n} {{<<: [%s]}}\\n" % ", ".join([f"*a{n - 1}"] * 200) for n in range(1, 6))', False),
    "a Secret whose data are many times the same": (
        '"a: &a {" + ", ".join(f"k{n}: b" for n in range(20_000)) + "}\\nkind: Secret\\n" + "stringData: *a\\n" * 20_000', True),
    "an anchor again and again": ('"".join("- &password a\\n" for n in range(20_000)) + "- {password: *password}\\n" * 10_000', True),
    "one long scalar": ('"password: " + "x" * (5 << 20)', True),
}

RUN = """
import json, resource, sys
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.places import Image, Value, image_places, images_in, one_answer, value_place
from ansible_collections.nordic.gitops.plugins.module_utils._image_update.reference import Reference
from ansible_collections.nordic.gitops.plugins.module_utils._secrets_check.commits import check_text
from ansible_collections.nordic.gitops.plugins.module_utils._yaml_edit import apply
resource.setrlimit(resource.RLIMIT_CPU, (%d, %d))
text = eval(sys.argv[1])
image = Image(Reference.of("web:2"), ("a.yaml",))

def image_update():
    images_in(text, "a.yaml")
    found = image_places(image, "a.yaml", text)
    if found:
        apply(text, [edit for place in found for edit in place.edits], "a.yaml")
    one_answer(image, found)

def value():
    value_place(Value("a.yaml", ("image", "tag"), "2"), text)

said = []
for work in (image_update, value, lambda: said.extend(map(str, check_text(text, "a.yaml")))):
    try:
        work()
    except Failure as failure:
        said.append(str(failure))
with open("/proc/self/status") as status:
    print(json.dumps([next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")), said]))
""" % (SECONDS, SECONDS)


@pytest.mark.parametrize("case", CASES)
def test_no_file_takes_more_than_its_share_of_memory_or_time(case):
    text, readable = CASES[case]
    done = subprocess.run([sys.executable, "-c", RUN, text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    peak, said = json.loads(done.stdout)
    assert peak < MEMORY, f"{peak >> 20} MiB"
    assert sum(map(len, said)) < 200_000, said[0][:1000]
    assert readable or any("holds more than" in one or "nested more than" in one or "unfolds" in one or "alias" in one for one in said), said
