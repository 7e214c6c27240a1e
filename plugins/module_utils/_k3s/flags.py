# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which configuration keys a k3s binary takes, as it says itself."""

from __future__ import annotations

import difflib
import re
import subprocess
from typing import Any, FrozenSet, List, Mapping

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

HELP_SECONDS = 30
# What the module writes itself; a value of its own would contradict an option.
RESERVED = {
    "config": "The module writes k3s' configuration file.",
    "token": "Use O(token): it goes into a file of mode 0600.",
    "token-file": "Use O(token), which writes this file and names it.",
    "agent-token": "Use O(agent_token): it goes into a file of mode 0600.",
    "agent-token-file": "Use O(agent_token), which writes this file and names it.",
    "cluster-reset": "This ends k3s after each start; restoring is a playbook of its own.",
    "cluster-reset-restore-path": "This ends k3s after each start; restoring is a playbook of its own.",
}


MODES = ("write-kubeconfig-mode",)


def known(binary: str, role: str) -> FrozenSet[str]:
    """The keys that `k3s server --help` or `k3s agent --help` lists."""
    found = set()
    for line in _help(binary, role).stdout.splitlines():
        option = re.match(r"\s+(--?[a-z0-9][^\s(]*(?:[, ]+(?:value|FILE|-[^\s]+))*)", line)
        if option:
            found.update(re.findall(r"--([a-z0-9][a-z0-9-]*)", option.group(1)))
    if "data-dir" not in found:
        raise Failure(f"`k3s {role} --help` lists no options", binary, "Is this a k3s binary for this machine?")
    return frozenset(found - {"help"})


def refuse_unknown(binary: str, role: str, configuration: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises for a key that this binary does not take. configuration: by the option that it is from, and a drop-in's name."""
    names = known(binary, role)
    doubtful = {key.rstrip("+") for values in configuration.values() for key in values} - names
    # k3s does not list all that it takes (disable-agent is one), so the binary is asked about what is left.
    wrong = {key for key in doubtful if not _takes(binary, role, key)}
    if not wrong:
        return
    told = []
    for place, values in configuration.items():
        for key in (key.rstrip("+") for key in values):
            if key in wrong:
                told.append(f"{place}: {_unknown(binary, role, key, names)}")
    raise Failure("; ".join(told), hint=f"`k3s {role} --help` lists what this binary takes.", unknown_keys=sorted(wrong))


def _unknown(binary: str, role: str, key: str, names: FrozenSet[str]) -> str:
    text = f"k3s {role} has no option {key}"
    underscored = key.replace("_", "-")
    if underscored in names:
        return f"{text}, did you mean {underscored}?"
    close = difflib.get_close_matches(key, sorted(names), 3, 0.75)
    if close:
        return f"{text}, did you mean {' or '.join(close)}?"
    if role == "agent" and key in known(binary, "server"):
        return f"{text}, it is one of servers"
    return text


def refuse_reserved(configuration: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises for keys that belong to an option of the module, and for values that no configuration file of k3s can hold."""
    for place, values in configuration.items():
        for key, value in values.items():
            if key.rstrip("+") in RESERVED:
                raise Failure(f"{place}: {key.rstrip('+')} is not to be set here", hint=RESERVED[key.rstrip("+")])
            if key in MODES:
                _refuse_mode(place, key, value)
            items: List[Any] = value if isinstance(value, list) else [value]
            if any(isinstance(item, (dict, list)) or item is None for item in items):
                raise Failure(f"{place}: {key} is {type(value).__name__} with values that k3s does not read",
                              hint="A value is text, a number, true or false, or a list of these.")


def _refuse_mode(place: str, key: str, value: Any) -> None:
    """YAML reads 0640 as the number 416, which k3s would take for the mode 0416: everybody may read and write."""
    if not isinstance(value, str):
        shown = f"{value:04o}" if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 0o777 else "0640"
        raise Failure(f"{place}: {key} is {'the number ' if isinstance(value, (int, float)) else ''}{value!r}, not text",
                      hint=f'Write the mode in quotes, such as "{shown}".')
    mode = int(value, 8) if re.match(r"0?[0-7]{3}\Z", value) else -1
    if mode < 0:
        raise Failure(f"{place}: {key} is {value!r}, which is not a file mode", hint='Write three octal digits in quotes, such as "0640".')
    if mode & 0o600 != 0o600 or mode & 0o002:
        raise Failure(f"{place}: with {key} {value} " + ("everybody could write the administrator's credentials" if mode & 0o002
                                                         else "their owner could not read and write the administrator's credentials"),
                      hint='Such as "0640", with the quotes. Was a number made from it on the way?')


def _takes(binary: str, role: str, key: str) -> bool:
    """Whether the parser knows the option; the value is of no importance, as a wrong one is another complaint."""
    if not re.match(r"[a-z0-9][a-z0-9-]*\Z", key):
        return False
    done = _help(binary, role, f"--{key}=x")
    return "flag provided but not defined" not in done.stdout + done.stderr


def _help(binary: str, role: str, *options: str) -> subprocess.CompletedProcess[str]:
    # Without its own configuration file: what is there now must not decide about what shall be there.
    try:
        return subprocess.run([binary, role, "--config", "/dev/null", *options, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=HELP_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failure(f"cannot be run: {error}", binary, "Is this a k3s binary for this machine?") from error
