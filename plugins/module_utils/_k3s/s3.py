# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The six requests of S3 that copies of snapshots need, with the standard library alone. No key of the store is ever on a node.

The controller signs one URL for each request (plugin_utils/_k3s/s3_signer.py), and the node sends it: the controller needs no way to the store, which may
let in nothing but the nodes' region. What is asked often follows from an answer, so a module that lacks a URL ends before it has changed anything and says
what it has to ask (Unsigned); it is run again with that URL.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused

S3_SPEC = dict(
    endpoint=dict(type="str", required=True),
    bucket=dict(type="str", required=True),
    region=dict(type="str", required=True),
    allowed_regions=dict(type="list", elements="str"),
    folder=dict(type="str", default=""),
    access_key=dict(type="str", required=True, no_log=True),
    secret_key=dict(type="str", required=True, no_log=True),
    session_token=dict(type="str", no_log=True),
    signed=dict(type="dict", no_log=True),
    ca_path=dict(type="path"),
    allow_http=dict(type="bool", default=False),
    virtual_host=dict(type="bool", default=False),
    timeout=dict(type="int", default=60),
)

KEYS = ("access_key", "secret_key", "session_token")  # what stays on the controller
ATTEMPTS = 5
PAUSE = 0.5  # seconds before the second attempt, doubled each time
MAX_ANSWER = 8 * 1024 * 1024
MAX_PAGES = 1000  # of a list, 1,000 objects each
PATIENCE, PACE = 60.0, 16 * 1024  # after so many seconds an answer must come with at least so many bytes a second
MAX_OBJECT = 5 * 1024 ** 3  # what one PUT may carry; etcd itself advises at most 8 GiB


class Unsigned(Exception):
    """What the store has to be asked and the controller has not signed yet."""

    def __init__(self, requests: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("requests without a signed URL")
        self.requests = [dict(request) for request in requests]


def request(method: str, name: str = "", after: str = "", metadata: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
    """Of one object by its name below the folder. Without a name HEAD asks for the bucket, and GET for a list of what comes after that name."""
    return {"method": method, "name": name, "after": after, "metadata": dict(metadata or {})}


def label(asked: Mapping[str, Any]) -> str:
    """What a request is known by in the option `signed`."""
    return json.dumps(asked, sort_keys=True)


def requests_of_put(name: str, metadata: Mapping[str, str]) -> List[Dict[str, Any]]:
    """All that it takes to send a file that is not there yet, and to learn why the store does not take it."""
    return [request("HEAD", name), request("HEAD"), request("PUT", name, metadata=metadata), request("GET")]


@dataclass(frozen=True)
class Item:
    """One object of the store, by its name below the folder."""

    name: str
    size: int


@dataclass(frozen=True)
class Store:
    """One folder of one bucket in one region."""

    endpoint: str
    bucket: str
    region: str
    folder: str
    sign: Callable[[Mapping[str, Any]], str] = field(repr=False, compare=False)  # the URL of a request; empty where it is not signed
    ca_path: Optional[str] = None
    timeout: int = 60
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Store:
        """From the module's option, refused where the rules about place and transport say no."""
        in_an_allowed_region(params["region"], params["allowed_regions"])
        url = urllib.parse.urlsplit(params["endpoint"])
        if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query or url.username:
            raise Failure("the endpoint is not a URL of the form https://HOST[:PORT]", "O(s3).endpoint", "Bucket and keys have options of their own.")
        if url.scheme == "http" and not params["allow_http"]:
            raise Refused("the endpoint would carry snapshots in clear text", "O(s3).endpoint",
                          "Use https://, or say `allow_http: true` where the network is yours alone.")
        signed = params.get("signed") or {}
        return cls(f"{url.scheme}://{url.netloc}", params["bucket"], params["region"], params["folder"].strip("/"),
                   lambda asked: str(signed.get(label(asked), "")), params["ca_path"], params["timeout"])

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.bucket}/{self.folder}".rstrip("/")

    def prepare(self, requests: Sequence[Mapping[str, Any]]) -> None:
        """Raises Unsigned unless each of these can be sent: before the first of them is, and in one go."""
        missing = [each for each in requests if not self.sign(each)]
        if missing:
            raise Unsigned(missing)

    def place(self) -> None:
        """Refuse a bucket that lies elsewhere than was said. (A wrong region is refused by AWS' check of the signature, too.)"""
        # HEAD needs no permission of its own: the header comes with a 403 as well.
        _body, headers, status = self._ask(request("HEAD"), accept=(200, 301, 400, 403, 404))
        real = headers.get("x-amz-bucket-region", "")
        if real and real != self.region:
            raise Refused(f"the bucket lies in region {real}, not in {self.region}", str(self), "Nothing was sent.")
        if status == 404:
            raise Failure("there is no such bucket", str(self), "Create it in the region you chose.")

    def put(self, name: str, path: str, metadata: Mapping[str, str]) -> None:
        """Send a file whole; the store checks its MD5, which guards against accidents. (The signature of a URL can hold no digest of what is sent.)"""
        size = os.path.getsize(path)
        if size > MAX_OBJECT:
            raise Failure(f"{size} bytes are more than one PUT carries", path, "Compact and defragment etcd, or keep this snapshot elsewhere.")
        with open(path, "rb") as file:
            digest = hashlib.md5(usedforsecurity=False)
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
            headers = {f"x-amz-meta-{key}": value for key, value in metadata.items()}
            headers.update({"content-length": str(size), "content-type": "application/octet-stream", "content-md5": base64.b64encode(digest.digest()).decode()})
            self._ask(request("PUT", name, metadata=metadata), headers=headers, body=file)
        item = self.head(name)
        if item is None or item[0].size != size:
            raise Failure(f"the store says it has {item[0].size if item else 'nothing'} of {size} bytes", f"{self}/{name}", "Run again.")

    def get(self, name: str, path: str) -> None:
        """Fetch an object into a new file of mode 0600."""
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            _body, _headers, status = self._ask(request("GET", name), into=file, accept=(200, 404))
        if status == 404:
            raise Failure("there is no such object", f"{self}/{name}", "The module etcd_snapshot_info lists them.")

    def head(self, name: str) -> Optional[Tuple[Item, Dict[str, str]]]:
        """The object and its metadata, None when there is none."""
        _body, headers, status = self._ask(request("HEAD", name), accept=(200, 404))
        if status == 404:
            return None
        metadata = {key[len("x-amz-meta-"):]: value for key, value in headers.items() if key.startswith("x-amz-meta-")}
        return Item(name, self._number(headers.get("content-length"))), metadata

    def list(self) -> List[Item]:
        """Every object directly in the folder, by name."""
        prefix = f"{self.folder}/" if self.folder else ""
        found: List[Item] = []
        # A page by the name that it begins after: the store's own tokens differ with each answer, and the list may be asked for anew (Unsigned).
        after = ""
        for _page in range(MAX_PAGES):
            body, _headers, _status = self._ask(request("GET", after=after))
            answer = _parsed(body)
            if answer is None:
                raise Failure("the answer to a list is not XML", str(self), "Is the endpoint an S3 server?")
            last = after
            for entry in answer.iterfind("{*}Contents"):
                key, size = entry.findtext("{*}Key") or "", self._number(entry.findtext("{*}Size"))
                last = max(last, key)
                if key.startswith(prefix) and len(key) > len(prefix):
                    found.append(Item(key[len(prefix):], size))
            last = max([last, *(entry.findtext("{*}Prefix") or "" for entry in answer.iterfind("{*}CommonPrefixes"))])
            if (answer.findtext("{*}IsTruncated") or "").lower() != "true":
                return sorted(found, key=lambda item: item.name)
            if last == after:
                break
            after = last
        raise Failure(f"the list of objects has no end: more than {MAX_PAGES} answers, or one again", str(self), "Is the endpoint an S3 server?")

    def delete(self, name: str) -> None:
        self._ask(request("DELETE", name), accept=(200, 204, 404))

    def _number(self, text: Optional[str]) -> int:
        if not text:
            return 0
        if len(text) > 18 or not (text.isascii() and text.isdigit()):
            raise Failure(f"the store says {text[:40]!r} where a size should be", str(self), "Is the endpoint an S3 server?")
        return int(text)

    def _ask(self, asked: Mapping[str, Any], headers: Optional[Dict[str, str]] = None, body: Any = None, into: Any = None,
             accept: Sequence[int] = (200,)) -> Tuple[bytes, Dict[str, str], int]:
        self.prepare([asked])
        method, url = asked["method"], self.sign(asked)
        where = url.partition("?")[0]
        trouble, again, broke = "", True, False
        for attempt in range(1, ATTEMPTS + 1):
            if body is not None:
                body.seek(0)
            if into is not None:
                into.seek(0)
                into.truncate()
            sent = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
            try:
                with self._opener().open(sent, timeout=self.timeout) as answer:
                    return self._read(answer, into), {key.lower(): value for key, value in answer.headers.items()}, answer.status
            except urllib.error.HTTPError as error:
                text = self._whole(error)
                if error.code in accept:
                    return text, {key.lower(): value for key, value in error.headers.items()}, error.code
                trouble, again, broke = _words(text) or f"HTTP {error.code} {error.reason}", error.code in (429, 500, 502, 503, 504), False
            except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
                reason = getattr(error, "reason", error)
                trouble, again, broke = str(reason), not isinstance(reason, ssl.SSLCertVerificationError), True
            if not again or attempt == ATTEMPTS:
                if broke and body is not None:
                    trouble = self._refusal() or trouble
                raise Failure(f"{method} failed: {trouble}", where, _hint(trouble))
            self.sleep(PAUSE * 2 ** (attempt - 1))
        raise AssertionError  # the loop returns or raises

    def _refusal(self) -> str:
        """What the server has against us, asked without a body: one that refuses a PUT before it has read all of it may end the connection,
        and its words are lost."""
        try:
            self._ask(request("GET"))
        except Unsigned:
            return ""
        except Failure as failure:
            trouble = failure.what.partition("failed: ")[2]
            # That we may not list says nothing of a PUT.
            return "" if "AccessDenied" in trouble else trouble
        return ""

    def _read(self, answer: Any, into: Any) -> bytes:
        if into is None:
            return self._whole(answer)
        got = 0
        for chunk in self._chunks(answer, MAX_OBJECT):
            into.write(chunk)
            got += len(chunk)
        wanted = answer.headers.get("content-length")
        if wanted is not None and got != self._number(wanted):
            raise OSError(f"the connection ended after {got} of {wanted} bytes")
        return b""

    def _whole(self, answer: Any) -> bytes:
        try:
            return b"".join(self._chunks(answer, MAX_ANSWER))
        except (OSError, http.client.HTTPException):
            if isinstance(answer, urllib.error.HTTPError):
                return b""  # its status says enough
            raise

    def _chunks(self, answer: Any, limit: int) -> Iterator[bytes]:
        """What comes, unless it is too much, or comes so slowly that it need never end."""
        begin, got = time.monotonic(), 0
        while True:
            chunk = answer.read1(1 << 20) if hasattr(answer, "read1") else answer.read(1 << 16)
            got += len(chunk)
            if got > limit:
                raise Failure(f"the store sends more than {limit >> 20} MiB", str(self), "Is the endpoint an S3 server?")
            late = time.monotonic() - begin - PATIENCE
            if chunk and late > 0 and got < late * PACE:
                raise Failure(f"the store answers too slowly: {got} bytes in {late + PATIENCE:.0f} s", str(self), "Run again.")
            if not chunk:
                return
            yield chunk

    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context(cafile=self.ca_path)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects())


def in_an_allowed_region(region: str, allowed: Optional[Sequence[str]]) -> None:
    if allowed is not None and region not in allowed:
        raise Refused(f"region {region} is not one of those allowed: {', '.join(allowed) or 'none'}", "O(s3).region",
                      "Snapshots hold every secret of the cluster. Nothing was sent.")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would lead into another region, with a signature that is for this one."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def _parsed(text: bytes) -> Optional[xml.etree.ElementTree.Element]:
    """The document, None where it is none. S3 declares no type, and entities could make gigabytes of a few of them."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:  # \0: UTF-16, in which these words look different
        return None
    try:
        return xml.etree.ElementTree.fromstring(text)
    except (xml.etree.ElementTree.ParseError, ValueError, LookupError, RecursionError):  # LookupError: an encoding that Python does not know
        return None


def _words(text: bytes) -> str:
    """Code and message of an error of S3, without what it echoes of the request."""
    answer = _parsed(text)
    if answer is None:
        return ""
    parts = [answer.findtext(name) or answer.findtext("{*}" + name) or "" for name in ("Code", "Message")]
    return ": ".join(part for part in parts if part)


def _hint(trouble: str) -> str:
    for word, hint in (("expired", "Set the clock of the controller, which signs, or run again."),
                       ("AccessDenied", "The key needs s3:PutObject, GetObject, ListBucket and DeleteObject here."),
                       ("SignatureDoesNotMatch", "Is the secret key right?"),
                       ("InvalidAccessKeyId", "The access key is not known there."),
                       ("RequestTimeTooSkewed", "Set the clock of the controller, which signs."),
                       ("NoSuchBucket", "Create the bucket in the region you chose."),
                       ("certificate verify failed", "Give the CA's file by O(s3).ca_path."),
                       ("region", "Is O(s3).region the bucket's own?")):
        if word in trouble:
            return hint
    return "Can this node reach the endpoint?"
