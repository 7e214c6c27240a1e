# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Git over every transport: git daemon, ssh by a real sshd, smart HTTP and HTTPS with credentials.

Each is a context manager on one repository's folder and has a .url. What is committed there is served at once.
"""

from __future__ import annotations

import base64
import getpass
import gzip
import hmac
import http.server
import os
import secrets
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from lab import places, processes
from lab.certificates import Authority
from lab.errors import LabError
from lab.repository import git_env


class _Server:
    """A process that listens on a loopback port of our choice, and a folder for its files."""

    def __init__(self, repository: Path) -> None:
        self.repository = Path(repository).absolute()
        self.port = 0
        self.url = ""
        self.folder = Path()
        self._process: Optional[subprocess.Popen[bytes]] = None

    def _listen(self, command: Callable[[int], List[str]]) -> None:
        """Start it, on another port if somebody was quicker."""
        for _attempt in range(5):
            self.port = places.free_port()
            log = self.folder / "server.log"
            self._process = processes.spawn(command(self.port), log, env=git_env())
            if _answers(self.port, self._process):
                return
            words = processes.last_lines(log)
            self._kill()
            if "in use" not in words:
                raise LabError(f"{command(self.port)[0]} did not start; its last lines:\n{words}")
        raise LabError(f"{command(0)[0]}: five times in a row the port was taken by somebody else")

    def _kill(self) -> None:
        if self._process:
            processes.end(self._process)
            self._process = None

    def __enter__(self) -> Any:
        self.folder = Path(tempfile.mkdtemp(prefix="nordic-git-"))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server and set url; each kind of server has its own way."""
        raise AssertionError("a kind of server says how it starts")


def _answers(port: int, process: "subprocess.Popen[bytes]", within: float = 10.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as found:
                if found.getsockname() == found.getpeername():
                    continue  # nobody listens yet: the kernel chose this very port for our end, and TCP connects a socket to itself
            # If another server owns the port, ours is about to find that out.
            time.sleep(0.05)
            return process.poll() is None
        except OSError:
            time.sleep(0.02)
    return False


class GitDaemon(_Server):
    """git://: no credentials, no encryption."""

    def start(self) -> None:
        # The program itself and not `git daemon`, whose parent process would survive the death of ours.
        core = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
        self._listen(lambda port: [
            f"{core}/git-daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all",
            "--enable=receive-pack", f"--base-path={self.repository.parent}", str(self.repository)])
        self.url = f"git://127.0.0.1:{self.port}/{urllib.parse.quote(self.repository.name)}"


class GitSsh(_Server):
    """ssh://: key is the private key that is let in, known_hosts the file that knows this server.

    other_key is a key that it does not know, other_known_hosts a file that knows another server by this name.
    """

    def start(self) -> None:
        program = _sshd()
        for name in ("host", "other_host", "user", "other_user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)],
                           check=True, stdin=subprocess.DEVNULL)
        self.key, self.other_key = self.folder / "user", self.folder / "other_user"
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        user = getpass.getuser()

        def command(port: int) -> List[str]:
            config = self.folder / "sshd_config"
            config.write_text("\n".join([
                f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder / 'host'}", "PidFile none",
                f"AuthorizedKeysFile {self.folder / 'authorized_keys'}", "PasswordAuthentication no",
                "KbdInteractiveAuthentication no", "UsePAM no", f"AllowUsers {user}",
                # The folder is below /tmp, which is open to all; its own mode 0700 is what protects the keys.
                "StrictModes no",
                "PermitUserEnvironment no", "PermitUserRC no", "X11Forwarding no", "AllowTcpForwarding no",
                f"SetEnv PATH={os.environ['PATH']} GIT_CONFIG_GLOBAL={os.devnull} GIT_CONFIG_SYSTEM={os.devnull}",
                "PermitRootLogin prohibit-password", ""]))
            return [program, "-D", "-e", "-f", str(config)]

        self._listen(command)
        for name, file in (("host", "known_hosts"), ("other_host", "other_known_hosts")):
            public = (self.folder / f"{name}.pub").read_text().split()
            (self.folder / file).write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        self.known_hosts, self.other_known_hosts = self.folder / "known_hosts", self.folder / "other_known_hosts"
        self.url = f"ssh://{user}@127.0.0.1:{self.port}{urllib.parse.quote(str(self.repository))}"


def _sshd() -> str:
    folders = os.environ.get("PATH", "").split(os.pathsep) + ["/usr/sbin", "/usr/local/sbin", "/sbin"]
    program = shutil.which("sshd", path=os.pathsep.join(folders))
    if not program:
        raise LabError("there is no sshd on this machine; install the package openssh-server (`bindep test` lists what tests need)")
    if os.getuid() == 0:
        # An sshd that root starts wants this folder; the boot scripts of a machine make it, a container has none.
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    # An absolute path, as sshd executes itself again for each connection.
    return os.path.abspath(program)


FORMER = "/former"


class GitHttp(_Server):
    """http:// or https:// with basic credentials: username and password, and ca_file with tls.

    requests lists (method, path, status) of what was asked. former_url is a name that the server redirects to url.
    """

    def __init__(self, repository: Path, tls: bool = False, username: str = "astrid", password: str = "") -> None:
        super().__init__(repository)
        self.tls = tls
        self.username = username
        # With signs that have to be quoted in a URL and in a shell: a client that forgets to is found out.
        self.password = password or f"p@ss:w/rd%20 {secrets.token_hex(8)}"
        self.ca_file: Optional[Path] = None
        self.requests: List[Tuple[str, str, int]] = []

    def start(self) -> None:
        self._server = _HttpServer(("127.0.0.1", 0), _GitHandler)
        self._server.git = self
        if self.tls:
            authority = Authority(self.folder / "pki")
            certificate, key = authority.server("git")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
            self.ca_file = authority.certificate
        self.port = self._server.server_address[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/{urllib.parse.quote(self.repository.name)}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def former_url(self) -> str:
        return self.url.replace(f":{self.port}/", f":{self.port}{FORMER}/")

    @property
    def url_with_credentials(self) -> str:
        """As careless people write it; no message may repeat it."""
        scheme, rest = self.url.split("://", 1)
        return f"{scheme}://{self.username}:{urllib.parse.quote(self.password, safe='')}@{rest}"

    def lets_in(self, authorization: str) -> bool:
        expected = "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return hmac.compare_digest(authorization.encode(), expected.encode())

    def __exit__(self, *exception: Any) -> None:
        if hasattr(self, "_server"):
            self._server.shutdown()
            self._server.server_close()
        super().__exit__(*exception)


class _HttpServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    git: GitHttp

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle, or does not trust our certificate, is no error of the server."""


class _GitHandler(http.server.BaseHTTPRequestHandler):
    """RFC 3875 for one program, git http-backend."""

    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        git = self.server.git
        body = self._body()
        if self.path.startswith(f"{FORMER}/"):
            self._answer(301, [("Location", self.path[len(FORMER):])], b"")
            return
        if not git.lets_in(self.headers.get("Authorization", "")):
            self._answer(401, [("WWW-Authenticate", 'Basic realm="lab"')], b"who are you?\n")
            return
        path, _ignored, query = self.path.partition("?")
        env: Dict[str, str] = {
            **git_env(), "GIT_PROJECT_ROOT": str(git.repository.parent), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": urllib.parse.unquote(path), "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": git.username, "REMOTE_ADDR": "127.0.0.1", "GATEWAY_INTERFACE": "CGI/1.1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "SERVER_PROTOCOL": self.protocol_version,
        }
        answer = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=env, check=False)
        head, _ignored, content = answer.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode().splitlines():
            name, _ignored, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self._answer(status, headers, content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
                if not size:
                    break
            body = b"".join(chunks)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, status: int, headers: List[Tuple[str, str]], content: bytes) -> None:
        self.server.git.requests.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
