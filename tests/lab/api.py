# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few direct requests the lab itself makes; a test may use it to be another client of the API server."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from lab.errors import LabError


class Api:
    """JSON over HTTPS with a bearer token, one connection for each request."""

    def __init__(self, url: str, ca_file: Path, token: str, user_agent: str = "lab") -> None:
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 443
        self.context = ssl.create_default_context(cafile=str(ca_file))
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": user_agent}

    def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json",
             timeout: float = 10.0, headers: Optional[Mapping[str, str]] = None) -> Tuple[int, Any]:
        """Status and body; JSON is parsed, anything else is text."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)
        try:
            sent = {**self.headers, **(headers or {})}
            data = None
            if body is not None:
                data = json.dumps(body).encode()
                sent["Content-Type"] = content_type
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(text) if is_json and text else text
        finally:
            connection.close()

    def do(self, method: str, path: str, body: Any = None, content_type: str = "application/json",
           timeout: float = 10.0) -> Any:
        """The body of a request that has to succeed."""
        status, answer = self.send(method, path, body, content_type, timeout)
        if status >= 300:
            message = answer.get("message") if isinstance(answer, dict) else answer
            raise LabError(f"{method} {path}: {status} {message}")
        return answer
