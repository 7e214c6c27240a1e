# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module reconcile out of its files when they are where it runs, instead of out of an archive made for each run.

Ansible reads every file that a module imports to find what that one imports, packs all of them, and the module's Python then
compiles them out of the archive: a fifth of a first sync of 400 objects. On the controller itself, as the same user and with the same
Python, the files can be imported where they lie, with the bytecode that Python keeps beside them. Everything else about the run is
Ansible's as ever: a process of its own, its environment, its arguments and its answer. Wherever one of that is not so, Ansible packs.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, Optional, Tuple

import ansible
from ansible import constants as C
from ansible.plugins.action.normal import ActionModule as Normal

try:
    from ansible.executor.module_common import _BuiltModule
    from ansible.module_utils._internal._ansiballz import _loader  # noqa: F401  pylint: disable=unused-import
    from ansible.module_utils.common.json import Direction, get_module_encoder
    KNOWN = True
except ImportError:  # ansible-core before 2.19, or one that runs modules in another way
    KNOWN = False

NAME = "ansible_collections.nordic.gitops.plugins.modules.reconcile"
PROFILE = "legacy"
# The folder of ansible_collections that this file was loaded from.
HOME = os.path.abspath(__file__).rpartition(os.sep + "ansible_collections" + os.sep)[0]
# Python puts the folder it was started in, or that of the script, first: a file there must not stand for a library.
SCRIPT = """#!{python}
import os, sys
own = os.path.dirname(os.path.abspath(__file__)) if "__file__" in globals() else ""
sys.path[:] = [place for place in sys.path if place not in ("", ".", own)]
sys.path += [place for place in {places!r} if place not in sys.path]
from ansible.module_utils._internal._ansiballz import _loader
_loader.run_module(json_params={arguments!r}, profile={profile!r}, module_fqn={name!r}, modlib_path={home!r}, extensions={{}})
"""


class ActionModule(Normal):
    """As for any module, but for what is executed and, since that is small, that it comes by standard input and not as a file."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        self._in_place = KNOWN and bool(HOME) and self._same_place(task_vars or {})
        return super().run(tmp, task_vars)

    def _same_place(self, task_vars: Dict[str, Any]) -> bool:
        """On the controller, as this user, with this Python."""
        if self._connection.transport != "local" or self._connection.become:
            return False
        host = task_vars.get("ansible_delegated_vars", {}).get(self._task.delegate_to, {}) if self._task.delegate_to else task_vars
        named = C.config.get_config_value("INTERPRETER_PYTHON", variables=host)
        limit = C.config.get_config_value("PYTHON_MODULE_RLIMIT_NOFILE", variables=host)
        return not limit and self._templar.template(named) == sys.executable

    def _is_pipelining_enabled(self, module_style: str, wrap_async: bool = False) -> bool:
        kept = wrap_async or C.DEFAULT_KEEP_REMOTE_FILES
        return super()._is_pipelining_enabled(module_style, wrap_async) or (self._in_place and module_style == "new" and not kept)

    def _configure_module(self, module_name: str, module_args: Dict[str, Any], task_vars: Dict[str, Any]) -> Tuple[Any, ...]:
        if not self._in_place or module_name != self._task.action:  # the wrapper of an asynchronous task is a module, too
            return super()._configure_module(module_name, module_args, task_vars)
        arguments = json.dumps({"ANSIBLE_MODULE_ARGS": module_args}, cls=get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE))
        places = [os.path.dirname(os.path.dirname(ansible.__file__)), HOME]
        script = SCRIPT.format(python=sys.executable, places=places, arguments=arguments.encode(), profile=PROFILE, name=NAME, home=HOME)
        built = _BuiltModule(b_module_data=script.encode(), module_style="new", shebang="#!" + sys.executable, serialization_profile=PROFILE)
        return built, os.path.join(HOME, *NAME.split(".")) + ".py"
