# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to the API server: credentials, time-outs, retries. Knows HTTP and Status objects, no kinds."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from http.client import HTTPException
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, TypeVar
from urllib.parse import urlencode, urlsplit

from ansible_collections.nordic.gitops.plugins.module_utils._cluster import answers, errors
from ansible_collections.nordic.gitops.plugins.module_utils._cluster._loader import loader
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.credentials import lapsed
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.errors import ApiError
from ansible_collections.nordic.gitops.plugins.module_utils._cluster.options import (
    configuration,
    impersonation,
)
from ansible_collections.nordic.gitops.plugins.module_utils._masked_text import CONTROL, bare_url, one_line, register

USER_AGENT = "nordic.gitops"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts: doubled each time, with jitter
UNREACHED = 3.0  # seconds to go on trying a server that never answered: a wrong address should fail soon
PROXIED_BYTES = 1 << 20  # of an answer from behind the API server's proxy
CREDENTIALS_KEPT = 10.0  # seconds until the loader is asked again; it renews a token 60 s or more before it must


class Answer(NamedTuple):
    status: int
    body: Dict[str, Any]  # the parsed JSON: every answer of the API is an object


class _Request(NamedTuple):
    """One request, as often as it is sent."""

    verb: str
    method: str
    target: str
    where: str
    payload: Optional[bytes]
    content_type: str
    accept: str
    read_timeout: float
    watching: bool = False  # its answer has no end


T = TypeVar("T")


def _json(body: Any) -> Optional[bytes]:
    return None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


class Transport:
    """The pool of connections to one API server. Threads may share it."""

    def __init__(
        self,
        params: Mapping[str, Any],
        patience: float = 60.0,
        read_timeout: float = 60.0,
        connect_timeout: float = 10.0,
        bounds: answers.Bounds = answers.Bounds(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """patience: seconds in which one request is tried again before its error is final."""
        self._params = params
        self.bounds = bounds
        self._patience = patience
        self._timeouts = (connect_timeout, read_timeout)
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._lock = threading.Lock()
        self._impersonation = impersonation(params)
        self._reached = False  # a server that answered once is worth more patience
        self._generation = 0
        self.requests: Counter[str] = Counter()  # attempts by verb
        self.retried: Counter[str] = Counter()  # of these, the second and later ones, by what went wrong
        self._connect()

    def _connect(self) -> None:
        self._config = config = configuration(self._params)
        # The loader's refresh hook writes the kubeconfig's own values over the options': read host and proxy now.
        self.url, self._proxy = config.host, bare_url(config.proxy or "")
        manager = _pool(config)
        manager.pool_classes_by_scheme = answers.paced_pools(manager.pool_classes_by_scheme, self.bounds)
        if manager.proxy is not None and not self.url.startswith("https://"):
            self._request, self._prefix = manager.request, self.url  # a proxy wants the whole URL of plain HTTP
        else:
            # The one pool straight away: PoolManager would parse the URL again for each request, and `request` copy the headers.
            self._request = manager.connection_from_url(self.url).request_encode_url
            self._prefix = urlsplit(self.url).path.rstrip("/")
        self._credentials: List[Tuple[str, str]] = []
        self._credentials_until = float("-inf")
        # The server packs answers of 128 KiB and more. That saves it and us as much TLS as it costs in packing, even on
        # loopback, and on a slow line 9 of 10 bytes.
        self._common = [("User-Agent", USER_AGENT), ("Accept-Encoding", "gzip")] + self._impersonation

    def send(
        self,
        verb: str,
        method: str,
        path: str,
        where: str,
        query: Optional[Dict[str, str]] = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        repeatable: bool = True,
        budget: Optional[answers.Budget] = None,
    ) -> Answer:
        """Send until answered. A request that is not repeatable is sent again only when it certainly had no effect.

        budget: what this and other answers to the same question may hold together.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        request = _Request(verb, method, target, where, _json(body), content_type, accept, self._timeouts[1])

        def parsed(response: Any) -> Answer:
            shared = budget or answers.Budget(self.bounds)
            return Answer(response.status, self._parsed(response, where, shared))

        return self._until_answered(request, parsed, repeatable)

    def raw(self, verb: str, method: str, path: str, where: str, body: Any = None, repeatable: bool = True) -> bytes:
        """Send until answered, for what is behind the API server's proxy: its answer is no JSON of Kubernetes."""
        request = _Request(verb, method, path, where, _json(body), "application/json", "*/*", self._timeouts[1])
        return self._until_answered(request, lambda response: bytes(answers.read(response, PROXIED_BYTES)), repeatable)

    def stream(self, verb: str, path: str, where: str, query: Dict[str, str], read_timeout: float) -> Any:
        """An open response to read events from; the caller closes it."""
        request = _Request(verb, "GET", f"{path}?{urlencode(query)}", where, None, "", "application/json", read_timeout, watching=True)
        return self._until_answered(request, lambda response: response, repeatable=True)

    def _until_answered(self, request: _Request, read: Callable[[Any], T], repeatable: bool) -> T:
        """What read() makes of the answer. What may pass is asked again after a pause, lapsed credentials are renewed, once."""
        from urllib3.exceptions import HTTPError

        began = self._clock()
        attempts, lost, renewed = 0, False, False
        while True:
            attempts += 1
            generation = self._generation
            try:
                response = self._open(request)
                if not 200 <= response.status < 300:
                    raise self._refusal(response, request.where, request.verb)
                self._reached = True
                try:
                    return read(response)
                except (HTTPError, OSError) as error:
                    raise self._no_answer(error, request.where) from None
            except ApiError as error:
                if error.status == 401 and not renewed:
                    # An exec plugin's token or a rotated token file: load the configuration anew, once.
                    renewed = True
                    self._renew(generation)
                    self._count(request.verb, "credentials")
                    continue
                pause = self._pause(error, attempts, began, repeatable)
                if pause is None:
                    error.lost = lost
                    raise
                lost = lost or error.status == 0 or error.status >= 500
                self._count(request.verb, f"{error.status} {error.reason}".strip() if error.status else error.reason)
                self._sleep(pause)

    def _parsed(self, response: Any, where: str, budget: answers.Budget) -> Dict[str, Any]:
        try:
            parsed = answers.parse(answers.read(response, budget.bytes), budget)
            return answers.mapping(parsed, "the answer")
        except (errors.Malformed, errors.TooMuch) as error:
            error.where = where or bare_url(self.url)
            raise
        except ValueError:
            kind = response.headers.get("Content-Type", "")
            if "json" in kind:
                raise ApiError(
                    "the answer was cut short", where or self.url, reason="truncated", retryable=True
                ) from None
            raise ApiError(
                f"answered with {kind or 'something'} instead of JSON",
                bare_url(self.url),
                "This is no Kubernetes API server: check host, and proxy.",
                status=response.status,
            ) from None

    def _open(self, request: _Request) -> Any:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        headers = self._headers(request.accept, request.content_type if request.payload is not None else "")
        with self._lock:
            self.requests[request.verb] += 1
        answers.watching.active = request.watching
        try:
            return self._request(
                request.method,
                self._prefix + request.target,
                body=request.payload,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=Timeout(connect=self._timeouts[0], read=request.read_timeout),
            )
        except (HTTPError, OSError) as error:
            raise self._no_answer(error, request.where) from None
        except (ValueError, HTTPException) as error:  # of a header or a status line; its words may quote what nobody should see
            raise ApiError(f"the request or its answer is not valid HTTP: {one_line(str(error))}", bare_url(self.url), reason="http") from None
        finally:
            answers.watching.active = False

    def _headers(self, accept: str, content_type: str) -> Any:
        pairs = self._common + self._authorization() + [("Accept", accept)]
        if content_type:
            pairs.append(("Content-Type", content_type))
        if len(self._impersonation) < 3:
            return dict(pairs)
        from urllib3 import HTTPHeaderDict  # several Impersonate-Group headers

        headers = HTTPHeaderDict()
        for name, value in pairs:
            headers.add(name, value)
        return headers

    def _authorization(self) -> List[Tuple[str, str]]:
        with self._lock:  # an expiring token's refresh hook runs the plugin: once, not once in each thread
            if self._clock() >= self._credentials_until:
                settings = self._config.auth_settings().values()
                self._credentials = [
                    (setting["key"], setting["value"])
                    for setting in settings
                    if setting.get("in") == "header" and setting.get("value")
                ]
                for _name, value in self._credentials:
                    register(value, value.rpartition(" ")[2])
                    if CONTROL.search(value):
                        # No header can hold it, and the library that says so shows it.
                        raise ApiError(
                            "the token has a line break or another control character in it",
                            bare_url(self.url),
                            "Correct the kubeconfig, the token's file, or what its credential plugin prints.",
                        )
                self._credentials_until = self._clock() + CREDENTIALS_KEPT
            return self._credentials

    def _refusal(self, response: Any, where: str, verb: str) -> ApiError:
        self._reached = True
        from urllib3.exceptions import HTTPError

        try:
            body = answers.read(response, self.bounds.refusal_bytes, cut=True)
        except (HTTPError, OSError, ValueError, ApiError):
            body = b""  # its status is what counts
        if 300 <= response.status < 400:
            return ApiError(
                f"answered with a redirect to {bare_url(response.headers.get('Location', 'nowhere'))}",
                bare_url(self.url),
                "This is no Kubernetes API server: check host, and proxy.",
                status=response.status,
            )
        error = errors.from_response(response.status, response.headers, body, where, verb, bare_url(self.url))
        if error.status == 401:
            why = lapsed(self._config)
            if why:
                error.what += f": {why}"
        return error

    def _no_answer(self, error: BaseException, where: str) -> ApiError:
        what, hint, reason, retryable = _diagnosis(error, self._proxy)
        return ApiError(
            f"{what} (while asking for {where})" if where and self._reached else what,
            bare_url(self.url),
            hint,
            reason=reason,
            retryable=retryable,
        )

    def _renew(self, generation: int) -> None:
        with self._lock:
            if generation == self._generation:  # else another thread has just done it
                self._connect()
                self._generation += 1

    def _pause(self, error: ApiError, attempts: int, began: float, repeatable: bool) -> Optional[float]:
        """Seconds to wait before the next attempt; None when the error is final."""
        if not error.retryable or not (repeatable or error.status == 429) or attempts == error.tries:
            return None
        patience = self._patience if self._reached else min(self._patience, UNREACHED)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempts - 1)) * (0.5 + self._jitter() / 2)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        return pause if self._clock() - began + pause <= patience else None

    def _count(self, verb: str, why: str) -> None:
        with self._lock:
            self.retried[f"{verb}: {why}"] += 1


def _pool(config: Any) -> Any:
    """The package's own pool (proxies, SNI, sizes), with one TLS context for all its connections.

    urllib3 would make a context for each connection and read the CA file each time: 1 ms with a cluster's own CA,
    20 ms with the system's store.
    """
    manager = loader().RESTClientObject(config).pool_manager
    if config.host.startswith("https://"):
        settings = manager.connection_pool_kw
        settings["ssl_context"] = _tls(config)
        for name in ("ca_certs", "cert_file", "key_file", "ca_cert_data"):
            settings.pop(name, None)
        if not config.verify_ssl:
            # validate_certs=false is the person's own decision; a warning for each request helps nobody
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return manager


def _tls(config: Any) -> Any:
    import ssl

    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if config.verify_ssl else ssl.CERT_NONE)
    try:
        if config.ssl_ca_cert or getattr(config, "ca_cert_data", None):
            context.load_verify_locations(config.ssl_ca_cert, cadata=getattr(config, "ca_cert_data", None))
        elif config.verify_ssl:
            context.load_default_certs()
    except OSError as error:  # ssl.SSLError is one
        raise ApiError(f"the CA certificate cannot be used: {error.strerror or error}", config.ssl_ca_cert) from None
    if config.cert_file:
        try:
            context.load_cert_chain(config.cert_file, config.key_file)
        except OSError as error:
            raise ApiError(
                f"the client certificate cannot be used: {_ssl_words(error)}",
                config.cert_file,
                "The certificate and its key must be PEM files that belong together.",
            ) from None
    return context


def _diagnosis(error: BaseException, proxy: str) -> Tuple[str, str, str, bool]:
    """(what, hint, reason, retryable) for an attempt that got no answer."""
    import ssl

    from urllib3 import exceptions

    causes = _chain(error)
    text = " ".join(str(cause) for cause in causes)
    if isinstance(error, exceptions.ProxyError):
        return (
            f"the proxy {proxy} does not lead there: {_words(causes[-1])}",
            "Check proxy, no_proxy and proxy_headers (or the variables HTTPS_PROXY and NO_PROXY).",
            "proxy",
            False,
        )
    if any(isinstance(cause, answers.TooSlow) for cause in causes):
        return (f"the answer comes too slowly: {_words(causes[-1])}", "The server or the way to it is overloaded, or holds us up on purpose.", "slow", False)
    certificate = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    if certificate:
        return (
            f"the API server's certificate is not trusted: {certificate[0].verify_message}",
            "Give the cluster's own CA as ca_cert (or in the kubeconfig); an expired certificate must be renewed.",
            "certificate",
            False,
        )
    if re.search(r"alert (certificate expired|bad certificate|unknown ca|certificate required)", text, re.IGNORECASE):
        return (
            f"the API server refused the client certificate: {_ssl_words(error)}",
            "It has expired or another CA signed it: renew the certificate of this user.",
            "certificate",
            False,
        )
    if re.search(r"WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|HTTP_REQUEST", text):
        return ("does not speak TLS on this port", "Check the URL's scheme and port.", "tls", False)
    if isinstance(error, exceptions.NewConnectionError):
        return (f"cannot be reached: {_words(causes[-1])}", _UNREACHABLE, "unreachable", True)
    if isinstance(error, exceptions.ConnectTimeoutError):
        return ("does not answer: connecting timed out", _UNREACHABLE, "connect timeout", True)
    if isinstance(error, exceptions.ReadTimeoutError) or any(isinstance(cause, TimeoutError) for cause in causes):
        return ("did not answer in time", "The server or the way to it is overloaded.", "read timeout", True)
    return (f"the connection broke: {_words(causes[-1])}", "", "connection broken", True)


_UNREACHABLE = "Check that the cluster runs, and host, kubeconfig and context, and that no firewall is between."


def _chain(error: BaseException) -> List[BaseException]:
    """The error and what it was made from; urllib3 wraps by attribute, by argument and by cause."""
    found: List[BaseException] = []
    todo: List[Any] = [error]
    while todo:
        each = todo.pop(0)
        if not isinstance(each, BaseException) or each in found:
            continue
        found.append(each)
        todo += [getattr(each, "reason", None), getattr(each, "original_error", None), *each.args]
        todo += [each.__cause__, each.__context__]
    return found


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r"<[^>]* object at 0x[0-9a-f]+>:?\s*", "", str(error)) or type(error).__name__


def _ssl_words(error: BaseException) -> str:
    """The readable middle of '[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)'."""
    text = " ".join(str(cause) for cause in _chain(error))
    found = re.search(r"\[SSL(?::[^\]]*)?\]\s*([^(\[]+)", text)
    return found.group(1).strip() if found else _words(_chain(error)[-1])
