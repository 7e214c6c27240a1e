# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the services of an OpenStack, by way of openstacksdk's configuration and session."""

from __future__ import annotations

import datetime
import email.utils
import functools
import json
import os
import random
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Type, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from .._errors import Failure, MissingLibrary
from .._masked_text import one_line, register
from .provider import Place

# service -> (its names in catalogs, what its URL ends with, the version of the API that is asked for)
SERVICES = {
    "compute": (("compute",), "", "compute 2.72"),  # Stein: server groups in an instance
    "network": (("network",), "/v2.0", ""),
    "image": (("image",), "/v2", ""),
    "volume": (("block-storage", "volumev3", "block-store", "volume"), "", "volume 3.50"),
}
ATTEMPTS = 6
TRANSIENT = (429, 500, 502, 503, 504)
# The server says by these that it did not begin.
NOT_BEGUN = (429, 503)
PAGE, PAGES = 1000, 200
MAX_ANSWER = 64 * 1024 * 1024  # decoded bytes
PATIENCE, PACE = 60.0, 16 * 1024  # after so many seconds an answer must come with at least so many bytes a second
# Of the credentials in clouds.yaml, which Ansible does not know.
SECRETS = ("password", "application_credential_secret", "token", "client_secret", "access_token", "passcode")

Body = Optional[Mapping[str, Any]]
T = TypeVar("T")


class Answer(Failure):
    """An answer that is an error; caught where it means something, else a person reads it."""

    def __init__(self, method: str, url: str, code: int, message: str, after: Optional[float] = None) -> None:
        hint = {403: "The user lacks a role, or a quota is reached.", 409: "Something else changed it meanwhile, or a quota is reached."}.get(code, "")
        super().__init__(f"{message} (HTTP {code})", f"{method} {_plain(url)}", hint)
        self.url, self.code, self.message, self.after = url, code, message, after


class Rest:
    """One user of one project in one region. All threads of a run share it."""

    def __init__(self, access: Mapping[str, Any]) -> None:
        try:
            import openstack.config
            from keystoneauth1 import exceptions
        except ImportError as error:
            raise MissingLibrary("openstacksdk", error) from error
        self._errors = exceptions
        self.region = str(access["region"])
        self.requests = 0
        self.waited = 0.0
        self._count = threading.Lock()
        self._urls: Dict[str, str] = {}
        self._config = _config(openstack.config, access, self.region)
        auth = self._config.config.get("auth") or {}
        register(*(str(auth[name]) for name in SECRETS if auth.get(name)))
        self._session = self._config.get_session()
        self._timeout = float(access.get("timeout") or 60)
        self._interface = self._config.get_interface() or "public"

    # Where

    def place(self) -> Place:
        found = self._access()
        catalog = found.service_catalog.catalog
        endpoints, regions = {}, {}
        for service, (names, _suffix, _version) in SERVICES.items():
            entries = [
                endpoint
                for entry in catalog
                if entry.get("type") in names
                for endpoint in entry.get("endpoints", [])
                if endpoint.get("interface", "").replace("URL", "") in (self._interface, self._interface + "URL")
            ]
            regions[service] = tuple(sorted({endpoint.get("region_id") or endpoint.get("region") or "" for endpoint in entries}))
            here = [endpoint["url"] for endpoint in entries if (endpoint.get("region_id") or endpoint.get("region")) == self.region]
            if here:
                endpoints[service] = here[0].rstrip("/")
        if "compute" not in endpoints:
            known = ", ".join(sorted({region for some in regions.values() for region in some})) or "none"
            raise Failure(f"the catalog has no compute service in the region {self.region}", hint=f"Its regions are: {known}.")
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return Place("openstack", self.region, found.project_id or "", endpoints, regions, now)

    def _access(self) -> Any:
        try:
            return self._session.auth.get_access(self._session)
        except (self._errors.http.Unauthorized, self._errors.http.NotFound) as error:  # the second for a token that was revoked
            raise Failure(
                f"the cloud refused the credentials: {error.message}",
                self._where(),
                "Check user, password and project, or whether the token or application credential has expired.",
            ) from None
        except self._errors.ClientException as error:
            raise Failure(f"no token: {error}", self._where()) from None

    def _where(self) -> str:
        return str(self._config.config.get("auth", {}).get("auth_url") or "clouds.yaml")

    def url(self, service: str) -> str:
        if service not in self._urls:
            endpoint = self.place().endpoints.get(service)
            if endpoint is None:
                raise Failure(f"the catalog has no {service} service in the region {self.region}")
            suffix = SERVICES[service][1]
            self._urls[service] = endpoint if not suffix or endpoint.endswith(suffix) else endpoint + suffix
        return self._urls[service]

    @property
    def project_id(self) -> str:
        return str(self._access().project_id or "")

    # Requests

    def get(self, service: str, path: str, **query: Any) -> Any:
        return self.send("GET", service, path, query=query)

    def find(self, service: str, path: str) -> Optional[Any]:
        """What is there, or None."""
        try:
            return self.send("GET", service, path)
        except Answer as answer:
            if answer.code == 404:
                return None
            raise

    def delete(self, service: str, path: str, headers: Optional[Mapping[str, str]] = None) -> bool:
        """Whether there was anything to delete."""
        try:
            self.send("DELETE", service, path, headers=headers)
        except Answer as answer:
            if answer.code == 404:
                return False
            raise
        return True

    def every(self, service: str, path: str, key: str, **query: Any) -> Iterator[Dict[str, Any]]:
        """All pages of a list."""
        marker: Dict[str, Any] = {"limit": PAGE}
        pages = 0
        while True:
            answer = self.get(service, path, **{**query, **marker})
            page = answer.get(key, [])
            yield from page
            if not page or not (answer.get("next") or any(link.get("rel") == "next" for link in answer.get(f"{key}_links", []))):
                return
            pages += 1
            last = page[-1].get("id") or page[-1]["keypair"]["name"]
            if pages > PAGES or last == marker.get("marker"):
                raise Failure(f"the list of {key} has no end: more than {PAGES} pages, or one again", _plain(self.url(service) + path))
            marker["marker"] = last

    def send(
        self,
        method: str,
        service: str,
        path: str,
        body: Body = None,
        query: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        made: Optional[Callable[[], Optional[Any]]] = None,
    ) -> Any:
        """The decoded answer.

        made: for a request that must not happen twice, what it made, looked for when no answer came.
        """
        url = self.url(service) + path
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query, doseq=True)
        version = SERVICES[service][2]
        sent = {"Accept": "application/json", **({"OpenStack-API-Version": version} if version else {}), **(headers or {})}
        again = method in ("GET", "DELETE", "PUT")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(method, url, body, sent)
            except Answer as answer:
                if answer.code not in TRANSIENT or attempt == ATTEMPTS:
                    raise
                pause, late = answer.after, False
                begun = answer.code not in NOT_BEGUN
            except self._errors.ConnectionError as error:
                # A certificate that is not trusted today is not trusted in a second either.
                if attempt == ATTEMPTS or isinstance(error, self._errors.SSLError):
                    raise Failure(f"no answer: {error}", _plain(url), "Is the endpoint reachable from here?") from None
                pause, begun, late = None, True, isinstance(error, self._errors.ConnectTimeout)
            if begun and not again:
                found = self._made(made, time.monotonic() + (self._timeout if late else 0.0)) if made else None
                if found is not None:
                    return found
                if not made:
                    raise Failure(f"{method} got no proper answer and may not be sent twice", _plain(url), "The next run looks at what came of it.")
            self._pause(attempt, pause)
        raise AssertionError("unreachable")

    def _made(self, made: Callable[[], Optional[Any]], end: float) -> Optional[Any]:
        """A server that was too slow to answer may still be at it, so it is given as long again."""
        while True:
            found = made()
            if found is not None or time.monotonic() > end:
                return found
            time.sleep(2)

    def _pause(self, attempt: int, asked: Optional[float]) -> None:
        seconds = min(asked, 60.0) if asked is not None else min(0.2 * 2**attempt, 8.0) * random.uniform(0.5, 1.0)
        time.sleep(seconds)

    def _once(self, method: str, url: str, body: Body, headers: Mapping[str, str]) -> Any:
        begin = time.monotonic()
        more: Dict[str, Any] = {"json": body} if body is not None else {}
        try:
            answer = self._session.request(url, method, headers=dict(headers), raise_exc=False, timeout=self._timeout, redirect=False, stream=True,
                                           **more)
            content = self._whole(answer, f"{method} {_plain(url)}")
        except self._errors.http.Unauthorized as error:
            raise Failure(f"the cloud refused the credentials: {error.message}", self._where()) from None
        finally:
            with self._count:
                self.requests += 1
                self.waited += time.monotonic() - begin
        if answer.status_code < 300:
            if not content:
                return {}
            try:
                found = json.loads(content)
            except (ValueError, RecursionError):
                # Cut off in the middle; the same as no answer.
                raise self._errors.ConnectFailure(f"{method} {_plain(url)} answered what is not JSON") from None
            if not isinstance(found, dict):
                raise Failure(f"{method} answered a {type(found).__name__}, not an object", _plain(url), "Is this the endpoint of an OpenStack service?")
            return found
        said = _message(content) or str(answer.reason or "") or "no message"
        if answer.status_code == 401:
            raise Failure(f"the cloud refused the token: {said}", _plain(url))
        raise Answer(method, url, answer.status_code, said, _retry_after(answer.headers.get("Retry-After")))

    def _whole(self, answer: Any, what: str) -> bytes:
        """What comes, unless it is too much, or comes so slowly that it need never end."""
        begin, parts, got = time.monotonic(), [], 0
        try:
            for chunk in answer.iter_content(256):  # as one that comes byte by byte is seen only when such a piece of it is there
                parts.append(chunk)
                got += len(chunk)
                late = time.monotonic() - begin - PATIENCE
                if got > MAX_ANSWER or late > 0 and got < late * PACE:
                    raise Failure(f"{what}: the answer {'is too long' if got > MAX_ANSWER else 'comes too slowly'}: {got} bytes in {late + PATIENCE:.0f} s")
        except OSError as error:  # that of requests among them
            raise self._errors.ConnectFailure(f"{what}: the answer was cut off: {error}") from None
        finally:
            answer.close()
        return b"".join(parts)


def in_words(answer: Answer, what: str) -> Failure:
    """The same, said of what was to be done."""
    return Failure(f"{what}: {answer.what}", _plain(answer.url), answer.hint)


def answers_checked(provider: Type[T]) -> Type[T]:
    """A provider whose methods tell an answer of another shape than the API's in a sentence, whichever field of it is missing or another thing."""

    def checked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return method(*arguments, **options)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
                raise Failure(f"the cloud's answer is not what its API says ({name}: {type(error).__name__} {one_line(str(error), 100)})",
                              hint="Is this the endpoint of an OpenStack service, in a version that is supported?") from error
        return call

    for name, method in list(vars(provider).items()):
        if not name.startswith("_") and callable(method):
            setattr(provider, name, checked(name, method))
    return provider


def _message(content: bytes) -> str:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return one_line(content[:2000].decode("utf-8", "replace"), 300)
    inner = next((value for value in found.values() if isinstance(value, dict)), found) if isinstance(found, dict) else {}
    return one_line(str(inner.get("message") or found), 500)


def _retry_after(value: Optional[str]) -> Optional[float]:
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (TypeError, ValueError):
            return None


def _plain(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _config(module: Any, access: Mapping[str, Any], region: str) -> Any:
    """The cloud as clouds.yaml, OS_… variables or the options describe it."""
    given: Dict[str, Any] = {"region_name": region}
    for option, name in (("auth", "auth"), ("auth_type", "auth_type"), ("interface", "interface"), ("ca_cert", "cacert"), ("validate_certs", "verify")):
        if access.get(option) is not None:
            given[name] = access[option]
    files = access.get("clouds_file")
    if files and not os.path.isfile(files):
        raise Failure("there is no such file", str(files), "clouds_file names a clouds.yaml.")
    from openstack import exceptions

    try:
        loaded = module.OpenStackConfig(
            config_files=[files] if files else None, load_envvars=not access.get("auth"), load_yaml_config=not access.get("auth")
        )
        chosen = access.get("cloud")
        clouds = [] if access.get("auth") else sorted(one for one in loaded.get_cloud_names() if one not in ("defaults", "envvars"))
        if chosen is None and not access.get("auth") and "envvars" not in loaded.get_cloud_names():
            if len(clouds) != 1:
                where = str(files or loaded.config_filename or "clouds.yaml")
                raise Failure(
                    "no cloud is named, and there is none" if not clouds else f"no cloud is named, and there are several: {', '.join(clouds)}",
                    where,
                    "Set cloud.",
                )
            chosen = clouds[0]
        if chosen is not None and chosen not in loaded.get_cloud_names():
            raise Failure(
                f"there is no cloud {chosen}",
                str(files or loaded.config_filename or "clouds.yaml"),
                f"There are: {', '.join(clouds) or 'none; the file is missing'}.",
            )
        return loaded.get_one(cloud=chosen, argparse=None, **given)
    except exceptions.ConfigException as error:
        raise Failure(str(error), str(files or "clouds.yaml")) from None


def chunks(values: Sequence[str], size: int = 40) -> Iterator[List[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])


def word(value: str) -> str:
    """A part of a URL's path."""
    return quote(value, safe="")


__all__ = ["Answer", "Rest", "answers_checked", "chunks", "in_words", "word"]
