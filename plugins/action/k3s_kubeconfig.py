# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a server's kubeconfig and merges it on the controller, in one step: the credentials are in no result and no variable."""

from __future__ import annotations

import base64
import os
import re
import shlex
from typing import Any, Dict, List, Optional, Tuple

from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.plugin_utils._kubeconfig import copy_name, merge_into, merged

SPEC: Dict[str, Any] = {
    "path": {"type": "path"},
    "user": {"type": "str"},
    "context": {"type": "str", "required": True},
    "server": {"type": "str"},
    "current": {"type": "bool", "default": False},
    "replace": {"type": "bool", "default": False},
    "src": {"type": "path", "default": "/etc/rancher/k3s/k3s.yaml"},
}
# As the user himself: where a link in his home leads, he could have written anyway.
READ = 'f=~%s/.kube/config; if [ -e "$f" ]; then cat "$f"; fi'
WRITE = ('set -e; umask 077; d=~%s/.kube; mkdir -p "$d"; f=$d/config; [ ! -L "$f" ] || f=$(readlink -f "$f"); t=$(mktemp "$d/.config-XXXXXX"); '
         'trap \'rm -f "$t"\' EXIT; cat > "$t"; if [ -e "$f" ]; then chmod --reference="$f" "$t"; %s fi; mv -T "$t" "$f"')


class ActionModule(ActionBase):
    """One read on the host; with a user of the host, the file is read there too, merged here, and written there."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(SPEC, mutually_exclusive=[("path", "user")], required_one_of=[("path", "user")],
                                                          required_by={"path": ["server"]})
        there = self._execute_module(module_name="ansible.legacy.slurp", module_args={"src": options["src"]}, task_vars=task_vars)
        told = options["path"] or f"~{options['user']}/.kube/config"
        if there.get("failed"):
            if self._task.check_mode:  # k3s would have written it by then
                return {**result, "changed": True, "path": told, "context": options["context"]}
            return {**result, "failed": True, "msg": f"{options['src']}: {there.get('msg')}. Is this a k3s server that has started?"}
        path = os.path.realpath(os.path.expanduser(options["path"])) if options["path"] else told
        try:
            fetched = base64.b64decode(there["content"]).decode()
            changed, warnings = self._of_user(options, fetched) if options["user"] else merge_into(
                path, fetched, options["context"], options["server"], options["current"], options["replace"], self._task.check_mode)
        except Failure as failure:
            return {**result, "failed": True, "msg": str(failure)}
        except (OSError, UnicodeDecodeError) as error:
            return {**result, "failed": True, "msg": f"{path}: cannot be read or written: {getattr(error, 'strerror', None) or error}"}
        return {**result, "changed": changed, "path": path, "context": options["context"], "warnings": warnings}

    def _of_user(self, options: Dict[str, Any], fetched: str) -> Tuple[bool, List[str]]:
        """On a server k3s' own address, the loopback, is the right one."""
        user = options["user"]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", user):
            raise Failure(f"{user!r} is not the name of a user", "user")
        existing = self._as_user(user, READ % user)
        done = merged(existing, fetched, options["context"], options["server"] or "", options["current"], options["replace"])
        changed = done.text != existing
        if changed and not self._task.check_mode:
            kept = f'cp -p "$f" "$d/{copy_name("config")}";' if done.replaces else ""
            self._as_user(user, WRITE % (user, kept), done.text)
        return changed, []

    def _as_user(self, user: str, script: str, text: str = "") -> str:
        done = self._low_level_execute_command(f"runuser -u {shlex.quote(user)} -- sh -c {shlex.quote(script)}", in_data=text.encode() or None)
        if done["rc"]:
            raise Failure((done.get("stderr") or done.get("stdout") or "").strip()[-300:], f"~{user}/.kube/config", "Does this user exist, with a home?")
        return str(done.get("stdout") or "")
