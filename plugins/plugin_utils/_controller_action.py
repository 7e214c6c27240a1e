# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that run in the controller's own process: what they are given is never copied to a host, nor into a file."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure

SHORTEST = 4  # characters of a value that are looked for inside of other text


class ControllerAction(ActionBase):
    """SPEC and RULES as of a module, SECRET the options whose values no output may show, act() the work."""

    SPEC: ClassVar[Mapping[str, Any]] = {}
    RULES: ClassVar[Mapping[str, Any]] = {}
    SECRET: ClassVar[Tuple[str, ...]] = ()
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def act(self, params: Dict[str, Any], notes: List[str]) -> Dict[str, Any]:
        """The result; notes are shown as warnings."""
        raise NotImplementedError

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result: Dict[str, Any] = super().run(tmp, task_vars)
        given = plain(self._task.args)
        secrets = [text for option in self.SECRET for text in leaves(given.get(option))]
        notes: List[str] = []
        try:
            validation = ArgumentSpecValidator(self.SPEC, **self.RULES).validate(given)
            if validation.error_messages:
                raise Failure("; ".join(validation.error_messages))
            result.update(self.act(plain(validation.validated_parameters), notes))
        except Failure as failure:
            result.update(failed=True, msg=masked(str(failure), secrets), **failure.details)
        if notes:
            result["warnings"] = [masked(note, secrets) for note in notes]
        if self._loops_over_secrets(task_vars or {}, secrets):
            result["_ansible_no_log"] = True  # the label of each item would show it
        return result

    @property
    def check_mode(self) -> bool:
        return bool(self._task.check_mode)

    @property
    def diff_mode(self) -> bool:
        return bool(self._task.diff)

    def _loops_over_secrets(self, task_vars: Mapping[str, Any], secrets: List[str]) -> bool:
        if not self._task.loop_control and not self._task.loop and "item" not in task_vars:
            return False
        name = (self._task.loop_control.loop_var if self._task.loop_control else None) or "item"
        shown = list(leaves(plain(task_vars.get(name))))
        return any(secret in shown or len(secret) >= SHORTEST and any(secret in text for text in shown) for secret in secrets if secret)


def plain(value: Any) -> Any:
    """Without the subclasses by which Ansible marks where a value came from; values encrypted in a play's variables are decrypted."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if type(value).__name__ in ("AnsibleVaultEncryptedUnicode", "EncryptedString"):
        return str(value)
    if type(value).__module__.startswith("ansible."):
        if isinstance(value, str):
            return str.__str__(value)
        kinds: Tuple[type, ...] = (bytes, bool, int, float)
        for kind in kinds:
            if isinstance(value, kind):
                return kind(value)
    return value


def leaves(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def masked(text: str, secrets: List[str]) -> str:
    """The text without any of these values."""
    for secret in sorted((each for each in secrets if len(each) >= SHORTEST), key=len, reverse=True):
        text = text.replace(secret, "********")
    return text
