# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends the module k3s what its host has not: the binary and the image archives, by their checksums, and only then."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._k3s import HOME
from ansible_collections.nordic.gitops.plugins.module_utils._k3s.binary import STAGED, checksum_of, sha256_of
from ansible_collections.nordic.gitops.plugins.plugin_utils._progress import waited_out
from ansible_collections.nordic.gitops.plugins.plugin_utils._option_names import with_names

MODULE = "nordic.gitops.k3s"
SENDING_STATES = ("present", "staged", "upgraded")
WAITING_STATES = ("present", "upgraded", "restarted", "rejoined")  # which can be begun again where they wait


class ActionModule(ActionBase):
    """One execution of the module on the host when it has everything; else what is missing is sent between two."""

    TRANSFERS_FILES = False  # or three more commands would make and remove a folder that a run with nothing to send does not need
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            sent = self._verified(arguments, task_vars or {}) if self._sends(arguments) else {}
        except Failure as failure:
            return with_names({**result, "failed": True, "msg": str(failure), **failure.details}, MODULE, task_vars)
        result.update(self._waited_out(arguments, task_vars))
        missing = result.get("missing") or []
        if missing and not self._task.check_mode and not result.get("failed"):
            self._send({checksum: sent[checksum] for checksum in missing})
            result.clear()
            result.update(self._waited_out(arguments, task_vars))
        elif missing and arguments.get("state") == "staged" and not result.get("failed"):
            result.update(self._asked_aside(arguments, sent, missing, task_vars))
        result.pop("missing", None)
        return with_names(result, MODULE, task_vars)

    def _waited_out(self, arguments: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        def execute(given: Dict[str, Any]) -> Dict[str, Any]:
            done: Dict[str, Any] = self._execute_module(module_name=MODULE, module_args=given, task_vars=task_vars)
            return done

        if arguments.get("state", "present") not in WAITING_STATES:
            return execute(arguments)
        host = (task_vars or {}).get("inventory_hostname", "")
        return waited_out(execute, arguments, lambda text: self._display.display(f"{host}: {text}"))

    def _asked_aside(self, arguments: Dict[str, Any], sent: Dict[str, str], missing: List[str], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """In check mode: the program tells its version from a folder that is gone afterwards."""
        if not all(checksum in sent for checksum in missing):
            return {}  # the host would get it by itself
        self._make_tmp_path()
        shell = self._connection._shell
        with self._uncompressed():
            path = self._transfer_file(sent[missing[0]], shell.join_path(shell.tmpdir, "k3s"))
        self._fixup_perms2((shell.tmpdir, path))
        try:
            return self._execute_module(module_name=MODULE, module_args={**arguments, "binary": path, "remote_src": True}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(shell.tmpdir)
            shell.tmpdir = None

    def _sends(self, arguments: Dict[str, Any]) -> bool:
        remote = str(arguments.get("remote_src", False)).lower() in ("true", "yes", "1", "on")
        return not remote and arguments.get("state", "present") in SENDING_STATES

    def _verified(self, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, str]:
        """The files on the controller by their checksums, which go into the module's arguments."""
        found: Dict[str, str] = {}
        if arguments.get("binary"):
            path, arguments["checksum"] = self._on_controller(arguments["binary"], arguments.get("checksum"), task_vars)
            found[arguments["checksum"]] = path
        elif arguments.get("binary_url"):
            arguments["checksum"] = self._checksum_text(arguments.get("checksum"), task_vars)
        images = arguments.get("images") or []
        if isinstance(images, list) and all(isinstance(image, dict) and image.get("path") for image in images):
            arguments["images"] = [dict(image) for image in images]
            for image in arguments["images"]:
                path, image["checksum"] = self._on_controller(image["path"], image.get("checksum"), task_vars)
                found[image["checksum"]] = path
        return found  # anything else is the module's to complain about

    def _on_controller(self, name: str, given: Optional[str], task_vars: Dict[str, Any]) -> Tuple[str, str]:
        path = self._found(str(name), task_vars)
        total = sha256_of(path)
        wanted = checksum_of(self._checksum_text(given, task_vars) or "", os.path.basename(path)) if given else total
        if wanted != total:
            raise Failure(f"has SHA-256 {total}, not {wanted}", path, "The file or the checksum is a wrong one; nothing was changed.")
        return path, total

    def _checksum_text(self, given: Optional[str], task_vars: Dict[str, Any]) -> Optional[str]:
        """The sum, or the text of k3s' own file of them, which may be given by its path."""
        if not given or re.search(r"\s", str(given).strip()) or re.fullmatch(r"[0-9a-fA-F]{64}", str(given).strip()):
            return given
        try:
            with open(self._found(str(given).strip(), task_vars), encoding="utf-8") as stream:
                return stream.read()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"cannot be read: {error}", str(given), "Give a SHA-256, or k3s' own sha256sum file.") from error

    def _found(self, name: str, task_vars: Dict[str, Any]) -> str:
        """Where Ansible looks for files of a play or role, beside the inventory, or in the current folder. A playbook of this collection
        has no folder of the user's."""
        beside = [folder for folder in (task_vars.get("inventory_dir"), os.environ.get("PWD") or os.getcwd()) if folder]
        try:
            return str(self._find_needle("files", name))
        except AnsibleError as error:
            places = [os.path.normpath(os.path.join(str(folder), os.path.expanduser(name))) for folder in beside]
            for path in places:
                if os.path.isfile(path):
                    return path
            ansibles = [line.strip() for line in str(error).splitlines()[1:] if line.strip().startswith("/")]
            looked = list(dict.fromkeys([*ansibles, *places]))
            raise Failure(f"there is no such file on the controller; it was looked for at {', '.join(looked)}", name,
                          "Set O(remote_src) when it is on the host.") from error

    def _send(self, files: Dict[str, str]) -> None:
        """Into a folder that only root reads, each under its checksum, which the module proves again before it uses the file.

        All of them in one go: on a host far away, and on a controller with few cores, a round trip costs more than a file.
        """
        self._make_tmp_path()
        shell = self._connection._shell
        with self._uncompressed():
            arrived = [self._transfer_file(path, shell.join_path(shell.tmpdir, checksum)) for checksum, path in files.items()]
        self._fixup_perms2((shell.tmpdir, *arrived))
        # Copied, not moved: whoever logs in could still write to what is his.
        commands = (["install", "-d", "-m", "0700", HOME, STAGED], ["install", "-m", "0600", *arrived, STAGED])
        done = self._low_level_execute_command(" && ".join(" ".join(map(shlex.quote, command)) for command in commands))
        if done["rc"]:
            told = (done.get("stderr") or done.get("stdout") or "").strip()
            raise AnsibleError(f"{', '.join(map(os.path.basename, files.values()))} cannot be put on the host: {told[-400:]}")
        self._remove_tmp_path(shell.tmpdir)
        shell.tmpdir = None

    @contextlib.contextmanager
    def _uncompressed(self) -> Iterator[None]:
        """Without the -C that Ansible gives ssh unless told otherwise: the program is compressed already, and to compress it again
        takes longer than to send it. It needs a connection of its own, as the one that is open compresses."""
        connection = self._connection
        given = connection.get_option("ssh_args") if connection.transport == "ssh" else None
        plain = re.sub(r"(^|\s)-C(?=\s|$)", "", given or "")
        if plain == (given or ""):
            yield
            return
        before = {"ssh_args": given, "control_path": connection.get_option("control_path")}
        connection.set_option("ssh_args", plain)
        if connection.control_path:
            connection.set_option("control_path", connection.control_path + "p")
        try:
            yield
        finally:
            for name, value in before.items():
                connection.set_option(name, value)
