# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the reconcile where it is quickest, and tells what a long one waits for.

Where the module would run on the controller, as the same user and with the same Python, its engine is called here, in the process that Ansible
has made for this task. Measured gain (an unchanged cluster, the whole ansible-playbook call, processor seconds, three runs each): 0.9 to 1.0 s
instead of 2.1 to 2.3 s, as nothing is packed, no Python started and nothing compiled. Everywhere else the module is packed and run by Ansible
as any other. Without this plugin nothing else changes.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any, Callable, Dict, List, Mapping, Optional

from ansible import constants as C
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

EVERY = 5.0  # seconds between two lines of progress
HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


class ActionModule(ActionBase):
    """As the module of the same name, for whoever writes a task."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        if self._runs_here(variables):
            from ansible_collections.nordic.gitops.plugins.module_utils import _kept_bytecode

            _kept_bytecode.begin_installed()
            from ansible_collections.nordic.gitops.plugins.modules import reconcile

            options = _valid(self._task.args, reconcile.ARGUMENTS, reconcile.TOGETHER)
            if options is not None:
                with _Progress(self._teller(str(variables.get("inventory_hostname", "localhost")))) as progress:
                    outcome = reconcile.run(options, self._task.check_mode, self._task.diff, progress)
                _kept_bytecode.keep()
                secrets = set(_no_log(options, reconcile.ARGUMENTS))
                outcome["invocation"] = {"module_args": _shown(options, reconcile.ARGUMENTS)}
                return {**result, **remove_values(outcome, secrets)}
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        return merge_hash(result, self._execute_module(task_vars=task_vars, wrap_async=wrap_async))

    def _runs_here(self, task_vars: Mapping[str, Any]) -> bool:
        """On the controller, as this user, with this Python, and with nothing that is made for a process of its own."""
        if self._connection.transport != "local" or self._connection.become or self._task.async_val or C.DEFAULT_KEEP_REMOTE_FILES:
            return False
        if any(self._task.environment or ()):
            return False
        host = task_vars.get("ansible_delegated_vars", {}).get(self._task.delegate_to, {}) if self._task.delegate_to else task_vars
        named = C.config.get_config_value("INTERPRETER_PYTHON", variables=host)
        limit = C.config.get_config_value("PYTHON_MODULE_RLIMIT_NOFILE", variables=host)
        return not limit and self._templar.template(named) == sys.executable

    def _teller(self, host: str) -> Callable[[str], None]:
        if self._task.no_log:
            return lambda text: None
        return lambda text: self._display.display(f"{host}: {text}")


class _Progress:
    """Says what the run is at, at any verbosity: its latest words, where they have changed, every few seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._latest = self._told = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> _Progress:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()

    def __call__(self, text: str) -> None:
        self._latest = text

    def _tell(self) -> None:
        while not self._over.wait(EVERY):
            text = self._latest
            if text != self._told:
                self._say(text)
                self._told = text


def _valid(arguments: Mapping[str, Any], spec: Mapping[str, Any], together: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The options as a module would get them; None where they are wrong, which the module then says in Ansible's own words."""
    try:
        plain = json.loads(json.dumps(arguments))  # as they come to a module: without the controller's own types
    except (TypeError, ValueError):
        return None
    result = ArgumentSpecValidator(spec, **together).validate(plain)
    return None if result.error_messages else result.validated_parameters


def _no_log(options: Mapping[str, Any], spec: Mapping[str, Any]) -> List[str]:
    found: List[str] = []
    for name, option in spec.items():
        value = options.get(name)
        if option.get("no_log") and value:
            found.append(str(value))
        elif option.get("options") and isinstance(value, Mapping):
            found += _no_log(value, option["options"])
    return found


def _shown(options: Mapping[str, Any], spec: Mapping[str, Any]) -> Dict[str, Any]:
    shown: Dict[str, Any] = {}
    for name, option in spec.items():
        value = options.get(name)
        if option.get("no_log") and value:
            value = HIDDEN
        elif option.get("options") and isinstance(value, Mapping):
            value = _shown(value, option["options"])
        elif isinstance(value, str):
            value = str(value)  # of a class of ours, it would have to be imported by whoever reads the result
        shown[name] = value
    return shown
