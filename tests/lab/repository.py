# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Git repository with a work tree, for tests to write in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Optional, Union


def git_env() -> Dict[str, str]:
    """Git as a machine without configuration has it; a developer's own settings must not decide a test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C",
        "GIT_AUTHOR_NAME": "Astrid", "GIT_AUTHOR_EMAIL": "astrid@example.com",
        "GIT_COMMITTER_NAME": "Astrid", "GIT_COMMITTER_EMAIL": "astrid@example.com",
    }


class Repository:
    """path, url (file://), and the verbs of a day's work."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        if not (path / ".git").exists():
            self.git("init", "--quiet", "--initial-branch=main")
            # A push to the branch that is checked out shall work, as it does with a server's bare repository.
            self.git("config", "receive.denyCurrentBranch", "updateInstead")
            # Any commit may be fetched by its id, as the big hosting services allow.
            self.git("config", "uploadpack.allowAnySHA1InWant", "true")
            self.git("config", "uploadpack.allowFilter", "true")

    @property
    def url(self) -> str:
        return self.path.absolute().as_uri()

    def git(self, *arguments: str, input: Optional[str] = None, env: Optional[Dict[str, str]] = None) -> str:
        """Git's output, stripped."""
        answer = subprocess.run(["git", *arguments], cwd=self.path, input=input, capture_output=True, text=True,
                                env={**git_env(), **(env or {})}, check=False)
        if answer.returncode:
            raise RuntimeError(f"git {' '.join(arguments)}: {answer.stderr.strip() or answer.stdout.strip()}")
        return answer.stdout.strip()

    def write(self, name: str, content: Union[str, bytes]) -> Path:
        """Write one file; text goes in as it is, without any change of line ends."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def remove(self, name: str) -> None:
        """Remove a file or a folder."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def commit(self, message: str = "change", *options: str) -> str:
        """Commit all there is; the new commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message, *options)
        return self.head()

    def head(self, revision: str = "HEAD") -> str:
        return self.git("rev-parse", f"{revision}^{{commit}}")

    def branch(self, name: str, start: str = "HEAD") -> None:
        """Make a branch and check it out."""
        self.git("checkout", "--quiet", "-B", name, start)

    def checkout(self, name: str) -> None:
        self.git("checkout", "--quiet", name)

    def tag(self, name: str, message: str = "", revision: str = "HEAD") -> None:
        """A lightweight tag, or an annotated one when it has a message."""
        self.git("tag", *(["--annotate", "--message", message] if message else []), name, revision)
