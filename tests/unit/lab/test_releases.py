# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An official binary is run only when it is what was pinned; whatever else a server does, the binary is built and a line says why."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import build, components, places, releases
from lab.errors import LabError

PROGRAM = b"#!/bin/sh\necho official\n" + b"#" * 100_000
FILE = "releases.example/v1.0.0/pause-linux-{arch}"
ARCHIVE = "releases.example/v1.0.0/pause-linux-{arch}.tar.gz"
ARCH = releases.ARCHITECTURES.get(platform.machine(), "amd64")
VERSION = components.PODS.version


@dataclass
class Mirror:
    """A server of the releases' layout: path -> what it answers with, and what it was asked for."""

    url: str = ""
    files: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def holds(self, address, content):
        self.files["/" + address.format(arch=ARCH, version=VERSION, number=VERSION[1:])] = content


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The lab as it would be if `pause` had a release, with a cache of its own."""
    one = Mirror()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            one.asked.append(self.path)
            content = one.files.get(self.path)
            if callable(content):
                content(self)
            elif content is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_arguments):
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        one.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("NORDIC_RELEASES", one.url)
        monkeypatch.setenv("NORDIC_CACHE", str(tmp_path / "cache"))
        for name in ("NORDIC_LAB", "http_proxy", "HTTP_PROXY", "KUBEBUILDER_ASSETS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setitem(components.BINARIES, "pause", components.PODS)
        monkeypatch.setitem(releases.RELEASES, "pause", releases.Release(FILE, "releases.example/sums"))
        monkeypatch.setattr(releases, "PINS", tmp_path / "releases.json")
        pinned(PROGRAM)
        yield one
        server.shutdown()


def pinned(content, version=VERSION):
    releases.PINS.write_text(json.dumps({"pause": {"version": version, "sha256": {ARCH: hashlib.sha256(content).hexdigest()}}}))


def official(said=None):
    return releases.official(components.PODS, "pause", (said if said is not None else []).append)


def packed(content, name="linux/pause"):
    """A tar.gz with this one file."""
    packed_bytes = io.BytesIO()
    with tarfile.open(fileobj=packed_bytes, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed_bytes.getvalue()


def leftovers():
    return [path for path in (places.cache() / "kubernetes").rglob("*") if path.is_file() and not path.name.endswith(".lock")]


class TestTaken:
    def test_what_was_pinned_is_taken_once_and_can_be_run(self, mirror):
        mirror.holds(FILE, PROGRAM)
        said = []
        path = official(said)
        assert subprocess.run([path], capture_output=True, text=True, check=True).stdout == "official\n"
        assert "official binary from " + mirror.url in said[-1] and "verified" in said[-1]
        assert official() == path and len(mirror.asked) == 1
        assert build.cached(components.PODS, "pause", said.append) == path

    def test_the_binary_is_taken_out_of_an_archive(self, mirror, monkeypatch):
        archive = packed(PROGRAM)
        monkeypatch.setitem(releases.RELEASES, "pause", releases.Release(ARCHIVE, "releases.example/sums", "linux/pause"))
        mirror.holds(ARCHIVE, archive)
        pinned(archive)
        assert official().read_bytes() == PROGRAM
        assert len(leftovers()) == 1

    def test_two_processes_at_once_load_it_once(self, mirror, tmp_path):
        def slowly(request):
            time.sleep(0.5)  # the other one comes meanwhile
            request.send_response(200)
            request.send_header("Content-Length", str(len(PROGRAM)))
            request.end_headers()
            request.wfile.write(PROGRAM)
        mirror.holds(FILE, slowly)
        script = ("import sys; from pathlib import Path; from lab import components, releases\n"
                  "release = releases.Release(sys.argv[1], '')\n"
                  "print(releases.fetched(release, components.PODS, 'pause', releases.pins(Path(sys.argv[2])), lambda line: None))")
        both = [subprocess.Popen([sys.executable, "-c", script, FILE, str(releases.PINS)], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "PYTHONPATH": str(places.HERE.parent)}) for _one in range(2)]
        paths = {one.communicate(timeout=60)[0].strip() for one in both}
        assert len(paths) == 1 and Path(paths.pop()).read_bytes() == PROGRAM
        assert len(mirror.asked) == 1

    def test_what_a_killed_load_left_is_removed(self, mirror):
        mirror.holds(FILE, PROGRAM)
        path = official()
        path.rename(path.with_name(".pause-half"))
        assert official() == path
        assert leftovers() == [path]

    def test_a_redirect_to_where_the_project_keeps_its_files_is_followed_only_by_https(self):
        handler = releases._Redirects(("files.example",))
        request = releases.urllib.request.Request("https://releases.example/a")
        assert handler.redirect_request(request, None, 302, "Found", {}, "https://files.example/a").full_url == "https://files.example/a"
        assert handler.redirect_request(request, None, 302, "Found", {}, "https://releases.example/b").full_url == "https://releases.example/b"
        for url in ("http://files.example/a", "https://files.example.other/a", "https://other.example/files.example"):
            with pytest.raises(Exception, match="leads to another host"):
                handler.redirect_request(request, None, 302, "Found", {}, url)


class TestNotTaken:
    def refused(self, *words):
        said = []
        assert official(said) is None
        assert len(said) == 1 and said[0].endswith(", so it is built from Go modules")
        for word in words:
            assert word in said[0]
        assert leftovers() == []

    def test_a_digest_that_differs_is_shown_with_the_pinned_one_and_the_file_is_gone(self, mirror):
        other = PROGRAM + b"x"
        mirror.holds(FILE, other)
        self.refused("is not what was pinned and was removed", hashlib.sha256(other).hexdigest(), hashlib.sha256(PROGRAM).hexdigest())

    def test_then_it_is_built(self, mirror):
        mirror.holds(FILE, PROGRAM + b"x")
        said = []
        built = build.cached(components.PODS, "pause", said.append)
        assert built.read_bytes()[:4] == b"\x7fELF" and any("is not what was pinned" in line for line in said)

    def test_a_page_instead_of_the_file(self, mirror):
        def page(request):
            request.send_response(200)
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.end_headers()
            request.wfile.write(b"<html>Please log in</html>")
        mirror.holds(FILE, page)
        self.refused("answered with a web page instead of the file")

    def test_a_file_cut_short(self, mirror):
        def short(request):
            request.send_response(200)
            request.send_header("Content-Length", str(len(PROGRAM)))
            request.end_headers()
            request.wfile.write(PROGRAM[:5000])
            request.close_connection = True
        mirror.holds(FILE, short)
        self.refused(f"cut short: 5,000 of {len(PROGRAM):,} bytes")

    def test_a_redirect_to_another_host(self, mirror):
        def away(request):
            request.send_response(302)
            request.send_header("Location", "http://localhost:1/pause")
            request.end_headers()
        mirror.holds(FILE, away)
        self.refused("leads to another host, localhost")

    def test_a_server_that_does_not_answer_in_time(self, mirror, monkeypatch):
        monkeypatch.setattr(releases, "ANSWER_WITHIN", 0.2)
        free = threading.Event()
        mirror.holds(FILE, lambda _request: free.wait(60))
        try:
            self.refused("did not answer within")
        finally:
            free.set()

    def test_nobody_listens(self, mirror, monkeypatch):
        monkeypatch.setenv("NORDIC_RELEASES", f"http://127.0.0.1:{places.free_port()}")
        self.refused("can not be reached", "refused")

    def test_the_release_is_not_there(self, mirror):
        self.refused("the answer was 404 Not Found")

    def test_a_proxy_that_asks_for_a_password(self, mirror, monkeypatch):
        monkeypatch.setenv("NORDIC_RELEASES", "http://mirror.example")
        monkeypatch.setenv("http_proxy", mirror.url)

        def asks(request):
            request.send_response(407)
            request.send_header("Proxy-Authenticate", "Basic")
            request.end_headers()
        mirror.files["http://mirror.example/" + FILE.format(arch=ARCH)] = asks
        self.refused("the proxy asks for a password")
        assert mirror.asked, "the proxy was asked"

    def test_an_architecture_without_a_release(self, mirror, monkeypatch):
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")  # fake: the machine
        self.refused("there is no release for riscv64")
        assert mirror.asked == []

    def test_no_digest_is_pinned_or_that_of_another_version(self, mirror):
        pinned(PROGRAM, "v0.9.0")
        self.refused("no digest of its release", "make digests")
        releases.PINS.write_text("{}")
        self.refused("no digest of its release")
        assert mirror.asked == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
    def test_no_room_on_the_disk_ends_the_run_with_the_path(self, mirror, tmp_path, monkeypatch):
        small = tmp_path / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
        try:
            monkeypatch.setenv("NORDIC_CACHE", str(small))
            mirror.holds(FILE, PROGRAM)
            with pytest.raises(LabError, match="can't be written: No space left on device"):
                official()
            assert leftovers() == []
        finally:
            subprocess.run(["umount", str(small)], check=True)


class TestForced:
    def test_download_is_an_error_where_it_cannot_be_had_and_comes_before_what_was_built(self, mirror, monkeypatch):
        built = build.folder_of(components.PODS) / "pause"
        built.parent.mkdir(parents=True)
        built.write_text("built")
        assert build.cached(components.PODS, "pause", build.silent) == built
        monkeypatch.setenv("NORDIC_LAB", "download")
        with pytest.raises(LabError, match="404 Not Found .NORDIC_LAB=download."):
            build.cached(components.PODS, "pause", build.silent)
        mirror.holds(FILE, PROGRAM)
        assert build.cached(components.PODS, "pause", build.silent).read_bytes() == PROGRAM

    def test_build_asks_nobody(self, mirror, monkeypatch):
        monkeypatch.setenv("NORDIC_LAB", "build")
        mirror.holds(FILE, PROGRAM)
        assert official() is None and mirror.asked == []

    def test_another_word_is_an_error(self, mirror, monkeypatch):
        monkeypatch.setenv("NORDIC_LAB", "donwload")
        with pytest.raises(LabError, match="'donwload'; it can be build or download"):
            official()


class TestPins:
    def test_each_pin_is_of_the_version_that_the_lab_uses(self):
        for binary, pin in releases.pins().items():
            assert pin["version"] == components.BINARIES[binary].version
            assert set(pin["sha256"]) == set(releases.ARCHITECTURES.values()) and pin["published"]

    def test_each_row_is_of_a_binary_of_the_lab(self):
        assert set(releases.RELEASES) <= set(components.BINARIES)

    @pytest.mark.parametrize("form", ["alone", "lines", "github"])
    def test_one_command_pins_what_the_projects_publish_and_says_where(self, mirror, monkeypatch, form):
        digest = {arch: hashlib.sha256(arch.encode()).hexdigest() for arch in releases.ARCHITECTURES.values()}
        for name in list(releases.RELEASES):
            monkeypatch.delitem(releases.RELEASES, name)
        address = "releases.example/sums-{arch}" if form == "alone" else "releases.example/sums"
        monkeypatch.setitem(releases.RELEASES, "pause", releases.Release(FILE, address))
        names = {arch: f"pause-linux-{arch}" for arch in digest}
        if form == "alone":
            for arch in digest:
                mirror.files[f"/releases.example/sums-{arch}"] = digest[arch].encode()
        elif form == "lines":
            mirror.files["/releases.example/sums"] = "".join(f"{digest[arch]} *{names[arch]}\n{'0' * 64}  {names[arch]}.sbom\n" for arch in digest).encode()
        else:
            assets = [{"name": names[arch], "digest": f"sha256:{digest[arch]}"} for arch in digest]
            mirror.files["/releases.example/sums"] = json.dumps({"assets": assets}).encode()
        said = []
        releases.pin(said.append)
        pin = releases.pins()["pause"]
        assert pin["version"] == VERSION and pin["sha256"] == digest
        assert all(url.startswith("https://releases.example/sums") for url in pin["published"])
        for arch in digest:
            assert any(digest[arch] in line and f"published in {mirror.url}/releases.example/sums" in line for line in said)

    @pytest.mark.parametrize("text", ["", "<html>", f"{'0' * 64}  other", f"{'0' * 63}  pause-linux-amd64", '{"assets": [{"name": "other"}]}', '{half'])
    def test_a_file_that_the_project_says_nothing_about_is_not_pinned(self, text):
        with pytest.raises(LabError, match="has no SHA-256 of pause-linux-amd64"):
            releases._digest_of("pause-linux-amd64", text, "https://releases.example/sums")
