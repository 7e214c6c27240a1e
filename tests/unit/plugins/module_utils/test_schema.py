# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fields merge, read from OpenAPI documents and kept on disk."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure
from ansible_collections.nordic.gitops.plugins.module_utils._schema import INDEX, Schemas

DOCUMENT = {"components": {"schemas": {"example.Widget": {
    "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Widget"}], "type": "object", "properties": {"spec": {
        "type": "object", "properties": {
            "args": {"type": "array", "items": {"type": "string"}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {"$ref": "#/x/example.Part"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "port": {"x-kubernetes-int-or-string": True}}}}},
    "example.Part": {"type": "object", "properties": {"name": {"type": "string"}, "more": {"allOf": [{"$ref": "#/x/example.Part"}]}}}}}}


class Server:
    """The documents that a server publishes, and how often each was asked for."""

    def __init__(self, stamp: str = "1", document: Any = None) -> None:
        self.stamp, self.document = stamp, DOCUMENT if document is None else document
        self.asked: List[str] = []

    def ask(self, path: str, _query: Dict[str, str]) -> Any:
        self.asked.append(path)
        if path == INDEX:
            return {"paths": {"apis/example.com/v1": {"serverRelativeURL": f"{INDEX}/apis/example.com/v1?hash={self.stamp}"}}}
        return self.document


def test_each_kind_of_place_is_told_apart(tmp_path: Path) -> None:
    widget = Schemas(Server().ask, str(tmp_path)).kind("example.com/v1", "Widget")
    told = {name: widget.at(("f:spec", f"f:{name}")) for name in ("args", "tags", "parts", "whole", "free", "port", "other")}
    assert {name: kind.how for name, kind in told.items()} == {
        "args": "atomic", "tags": "set", "parts": "map", "whole": "atomic", "free": "free", "port": "scalar", "other": ""}
    assert told["parts"].keys == ("name",) and told["parts"].item().struct and not told["whole"].struct
    assert widget.at(("f:spec", "f:parts", 'k:{"name":"a"}', "f:more", "f:more", "f:name")).how == "scalar"
    assert told["free"].field("x").of([1]) == "atomic" and told["free"].field("x").of({}) == "granular"


def test_a_document_is_asked_for_once_until_the_server_has_another_one(tmp_path: Path) -> None:
    for stamp, asked in (("1", [INDEX, f"{INDEX}/apis/example.com/v1"]), ("1", [INDEX]), ("2", [INDEX, f"{INDEX}/apis/example.com/v1"])):
        server = Server(stamp)
        schemas = Schemas(server.ask, str(tmp_path / "openapi"))
        for _time in range(2):
            assert schemas.kind("example.com/v1", "Widget").how == "granular"
        assert server.asked == asked
    assert [oct(path.stat().st_mode)[-3:] for path in (tmp_path / "openapi").iterdir()] == ["600", "600"]


def test_a_broken_or_foreign_file_on_disk_is_read_anew(tmp_path: Path) -> None:
    Schemas(Server().ask, str(tmp_path)).kind("example.com/v1", "Widget")
    (file,) = tmp_path.iterdir()
    for spoil in (lambda: file.write_text("{"), lambda: file.write_text("[]"), lambda: file.chmod(0o666)):
        spoil()
        server = Server()
        assert Schemas(server.ask, str(tmp_path)).kind("example.com/v1", "Widget").how == "granular" and len(server.asked) == 2


def test_a_folder_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Schemas(Server().ask, str(tmp_path / "file" / "openapi")).kind("example.com/v1", "Widget").how == "granular"


def test_a_server_that_does_not_say_proves_nothing(tmp_path: Path) -> None:
    def refuse(_path: str, _query: Dict[str, str]) -> Any:
        raise Failure("forbidden")

    assert Schemas(refuse, str(tmp_path)).kind("example.com/v1", "Widget").how == ""
    assert Schemas(Server().ask, str(tmp_path)).kind("other.example.com/v1", "Widget").how == ""
    assert Schemas(Server().ask, str(tmp_path)).kind("example.com/v1", "Gadget").how == ""


JSON = some.recursive(some.one_of(some.none(), some.booleans(), some.integers(), some.sampled_from(["array", "object", "map", "#/x/a", "a"])),
                      lambda child: some.one_of(some.lists(child, max_size=3), some.dictionaries(some.sampled_from(
                          ["type", "properties", "items", "$ref", "allOf", "additionalProperties", "x-kubernetes-list-type",
                           "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "a"]), child, max_size=4)), max_leaves=12)


@given(JSON)
def test_whatever_a_document_looks_like_it_proves_something_or_nothing(schema: Any) -> None:
    document = {"components": {"schemas": {"a": schema, "b": {"x-kubernetes-group-version-kind": [{"kind": "Widget"}], "properties": {"x": schema}}}}}
    kind = Schemas(Server("", document).ask, "/nowhere").kind("example.com/v1", "Widget")
    for path in (("f:x",), ("f:x", "f:a", 'k:{"a":1}')):
        assert isinstance(kind.at(path).how, str)


class Gated(Server):
    """Answers for one document only once its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.reached = threading.Event(), threading.Event()

    def ask(self, path: str, query: Dict[str, str]) -> Any:
        self.asked.append(path)
        if path == INDEX:
            return {"paths": {f"apis/{name}/v1": {"serverRelativeURL": f"{INDEX}/apis/{name}/v1?hash=1"} for name in ("slow.com", "example.com")}}
        if "slow.com" in path:
            self.reached.set()
            assert self.gate.wait(60)
        return self.document


def test_threads_ask_for_a_document_once_and_wait_for_no_other_one(tmp_path: Path) -> None:
    server = Gated()
    schemas = Schemas(server.ask, str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(schemas.kind, "slow.com/v1", "Widget") for _thread in range(3)]
        assert server.reached.wait(60)
        assert schemas.kind("example.com/v1", "Widget").how == "granular" and not any(each.done() for each in slow)
        server.gate.set()
        assert [each.result().how for each in slow] == ["granular"] * 3
    assert sorted(server.asked) == sorted([INDEX, f"{INDEX}/apis/slow.com/v1", f"{INDEX}/apis/example.com/v1"])


def test_what_is_loaded_before_is_not_asked_for_again_and_nobody_is_told_of_a_refusal(tmp_path: Path) -> None:
    server = Server()
    schemas = Schemas(server.ask, str(tmp_path))
    schemas.load(["example.com/v1", "other.com/v1"])
    assert server.asked == [INDEX, f"{INDEX}/apis/example.com/v1"]
    assert schemas.kind("example.com/v1", "Widget").how == "granular" and len(server.asked) == 2

    def refuse(path: str, query: Dict[str, str]) -> Any:
        raise Failure("forbidden")

    refused = Schemas(refuse, str(tmp_path / "other"))
    refused.load(["v1"])
    assert refused.kind("v1", "Pod").how == ""


def test_a_server_that_does_not_answer_for_the_index_is_asked_once(tmp_path: Path) -> None:
    asked: List[str] = []

    def silent(path: str, _query: Dict[str, str]) -> Any:
        asked.append(path)
        raise Failure("did not answer in time")

    schemas = Schemas(silent, str(tmp_path))
    schemas.load(["v1", "apps/v1"])
    schemas.load(["v1", "batch/v1"])
    assert schemas.kind("v1", "Pod").how == schemas.kind("policy/v1", "PodDisruptionBudget").how == "" and asked == [INDEX]
    schemas.forget()
    schemas.load([])
    assert asked == [INDEX, INDEX]


@pytest.mark.parametrize("paths", ["text", [1], [["a", "b", "c"]], {"apis/example.com/v1": "text"}, {"apis/example.com/v1": {"serverRelativeURL": 5}},
                                   {"apis/example.com/v1": {"serverRelativeURL": f"{INDEX}/apis/example.com/v1?hash=\ud800"}}])
def test_whatever_the_index_looks_like_it_proves_something_or_nothing(paths: Any, tmp_path: Path) -> None:
    assert Schemas(lambda path, _query: {"paths": paths}, str(tmp_path)).kind("example.com/v1", "Widget").how == ""


def test_a_document_that_comes_after_the_definitions_changed_is_asked_for_again(tmp_path: Path) -> None:
    server = Gated()
    schemas = Schemas(server.ask, str(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(schemas.kind, "slow.com/v1", "Widget")
        assert server.reached.wait(60)
        schemas.forget()
        server.document = {}
        server.gate.set()
        old.result()
    server.asked.clear()
    schemas.kind("slow.com/v1", "Widget")
    assert server.asked[0] == INDEX
