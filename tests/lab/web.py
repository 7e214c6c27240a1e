# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server on one address of this machine, for hosts that fetch files themselves."""

from __future__ import annotations

import contextlib
import functools
import http.server
import ssl
import threading
from pathlib import Path
from typing import Any, Iterator, Optional


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        """A request is no news."""


@contextlib.contextmanager
def serving(folder: Path, address: str, context: Optional[ssl.SSLContext] = None) -> Iterator[str]:
    """The URL by which the folder's files are to be had; by HTTPS with a context."""
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer((address, 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{'https' if context else 'http'}://{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
