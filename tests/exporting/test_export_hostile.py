"""Hostile files are refused with one line; nothing in them is executed, and nothing is written."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from scansearch.cli import main
from scansearch.errors import InputError
from scansearch.exporting.read_program import check_graph, load_program
from scansearch.files.archives import check_archive


class Touch:
    """Unpickled, it creates the file MARK in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch MARK",))


def zipped(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def pickle_with_code(path: Path) -> None:
    torch.save({"state_dict": Touch()}, path)


def bare_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Touch(), protocol=2))


def zip_bomb(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    zipped(path, entries, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000


def name_leading_out(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    zipped(path, entries | {"archive/../../MARK": b"out"})


def tar_leading_out(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("../MARK", "sys_info", "storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"out"))


def header_too_long(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def header_with_wrong_offsets(path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)


def pickle_called_safetensors(path: Path) -> None:
    path.write_bytes(pickle.dumps(Touch()))


def weight_file(genotype: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(save({"weight": torch.zeros(2)}, metadata={"genotype": genotype}))

    return write


BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
CHECKPOINTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "pickle with code": ("w.pth", pickle_with_code, "could run code"),
    "bare pickle with code": ("w.pth", bare_pickle_with_code, "only tensors and plain values are read"),
    "zip bomb": ("w.pth", zip_bomb, "is compressed"),
    "../ in a name": ("w.pth", name_leading_out, "leads out of it"),
    "../ in a tar": ("w.pth", tar_leading_out, "w.pth"),
    "header too long": ("w.safetensors", header_too_long, "safetensors file"),
    "header with wrong offsets": ("w.safetensors", header_with_wrong_offsets, "safetensors file"),
    "pickle called safetensors": ("w.safetensors", pickle_called_safetensors, "safetensors file"),
    "python tag in the header": (
        "w.safetensors",
        weight_file("family: !!python/object/apply:os.system ['touch MARK']\n"),
        "genotype in the header",
    ),
    "alias bomb in the header": ("w.safetensors", weight_file(BOMB), "aliases"),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_hostile_weights_are_refused(
    case: str, genotypes: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name, write, message = CHECKPOINTS[case]
    folder = tmp_path / "inside"
    folder.mkdir()
    write(folder / name)
    monkeypatch.chdir(folder)
    out = folder / "out.yaml"
    with pytest.raises(SystemExit) as stop:
        main(
            ["export", str(genotypes["local_vim"]), "--format", "yaml", "--out", str(out), "--weights", name]
        )
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    assert error.count("\n") == 1
    assert message in error
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["inside", name])


# --- programs ---


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The entries of a small program's archive."""
    path = tmp_path_factory.mktemp("honest") / "model.pt2"
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(3, 3),), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
            node.meta.pop(key, None)
    torch.export.save(program, path)
    assert load_program(path).module()(torch.zeros(5, 3)).shape == (5, 2)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def edited(entries: dict[str, bytes], ending: str, edit: Callable[[Any], None]) -> dict[str, bytes]:
    name = next(name for name in entries if name.endswith(ending))
    data = json.loads(entries[name])
    edit(data)
    return entries | {name: json.dumps(data).encode()}


def pickled_weight(entries: dict[str, bytes]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save(Touch(), buffer)
    name = next(name for name in entries if name.endswith("weight_0"))

    def mark(data: Any) -> None:
        next(iter(data["config"].values()))["use_pickle"] = True

    return edited(entries | {name: buffer.getvalue()}, "model_weights_config.json", mark)


def pickled_inputs(entries: dict[str, bytes]) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save(Touch(), buffer)
    return entries | {
        next(name for name in entries if name.endswith("sample_inputs/model.pt")): buffer.getvalue()
    }


def operation(target: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def change(data: Any) -> None:
        data["graph_module"]["graph"]["nodes"][0]["target"] = target

    return lambda entries: edited(entries, "model.json", change)


def size_as_code(entries: dict[str, bytes]) -> dict[str, bytes]:
    name = next(name for name in entries if name.endswith("model.json"))
    text = entries[name].decode()
    assert '"expr_str"' in text
    head, _, tail = text.partition('"expr_str": "')
    rest = tail[tail.index('"') :]
    return entries | {name: (head + "\"expr_str\": \"__import__('os').system('touch MARK')" + rest).encode()}


def guard_as_code(entries: dict[str, bytes]) -> dict[str, bytes]:
    return edited(entries, "model.json", lambda data: data["guards_code"].append("open('MARK', 'w')"))


def beside(name: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda entries: entries | {f"{next(iter(entries)).split('/')[0]}/{name}": b"x"}


def specification_as_code(entries: dict[str, bytes]) -> dict[str, bytes]:
    """A tree of arguments with a defaultdict, whose factory torch imports by its name."""

    def change(data: Any) -> None:
        node = {"type": "collections.defaultdict", "children_spec": []}
        node["context"] = json.dumps(
            [{"default_factory_module": "antigravity", "default_factory_name": "x"}, []]
        )
        data["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, node])

    return edited(entries, "model.json", change)


def name_as_code(entries: dict[str, bytes]) -> dict[str, bytes]:
    """The input renamed everywhere to a parameter whose default value is code."""
    name = next(name for name in entries if name.endswith("model.json"))
    code = "input=__import__('os').system('touch MARK')"

    def renamed(data: Any) -> Any:
        if isinstance(data, dict):
            return {code if key == "input" else key: renamed(value) for key, value in data.items()}
        if isinstance(data, list):
            return [renamed(value) for value in data]
        return code if data == "input" else data

    program = renamed(json.loads(entries[name]))
    assert code in json.dumps(program)
    return entries | {name: json.dumps(program).encode()}


def endless_size(entries: dict[str, bytes]) -> dict[str, bytes]:
    name = next(name for name in entries if name.endswith("model.json"))
    head, _, tail = entries[name].decode().partition('"expr_str": "')
    return entries | {name: (f'{head}"expr_str": "9**9**9**9' + tail[tail.index('"') :]).encode()}


def huge_value(entries: dict[str, bytes]) -> dict[str, bytes]:
    """A node that makes a tensor of 10^11 numbers when it runs."""

    def change(data: Any) -> None:
        graph = data["graph_module"]["graph"]
        node = json.loads(json.dumps(graph["nodes"][0]))
        node |= {
            "target": "torch.ops.aten.arange.default",
            "name": "huge",
            "outputs": [{"as_tensor": {"name": "huge"}}],
        }
        node["inputs"] = [{"name": "end", "arg": {"as_int": 10**11}, "kind": 1}]
        graph["nodes"].insert(0, node)
        graph["tensor_values"]["huge"] = next(iter(graph["tensor_values"].values()))

    return edited(entries, "model.json", change)


def huge_weight(entries: dict[str, bytes]) -> dict[str, bytes]:
    def change(data: Any) -> None:
        meta = next(iter(data["config"].values()))["tensor_meta"]
        meta["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}]
        meta["strides"] = [{"as_int": 0}, {"as_int": 0}]

    return edited(entries, "model_weights_config.json", change)


PROGRAMS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "pickled weight": (pickled_weight, "pickled tensors, which could run code"),
    "pickled inputs": (pickled_inputs, "example inputs could run code"),
    "operation that opens files": (operation("torch.ops.aten.from_file.default"), "aten.from_file.default"),
    "python function": (operation("torch.hub.load"), "torch.hub.load"),
    "size as code": (size_as_code, "is no plain expression"),
    "size without end": (endless_size, "is no plain expression"),
    "specification as code": (specification_as_code, "no plain list, tuple or dict"),
    "name as code": (name_as_code, "is no plain name"),
    "huge value": (huge_value, "above 2 GiB"),
    "huge weight": (huge_weight, "larger than its content"),
    "guard as code": (guard_as_code, "guards or types as code"),
    "compiled library": (beside("data/aotinductor/model/model.so"), "data/aotinductor/model/model.so"),
    "custom object": (beside("data/constants/custom_obj_0"), "custom_obj_0"),
    "name leading out": (beside("../MARK"), "leads out of it"),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_hostile_programs_are_refused(
    case: str, honest: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, message = PROGRAMS[case]
    zipped(tmp_path / "model.pt2", change(honest))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        load_program("model.pt2")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_compressed_and_damaged_programs_are_refused(honest: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    zipped(path, honest, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="is compressed"):
        load_program(path)
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="not a readable archive"):
        load_program(path)
    zipped(path, {name: content for name, content in honest.items() if not name.endswith("model.json")})
    with pytest.raises(InputError, match="not a program of scansearch"):
        load_program(path)


def disguised(honest: bytes, other: bytes) -> dict[str, bytes]:
    """Files that two readers of archives may take for different archives."""
    return {
        "something in front": b"#!/bin/sh\n" + honest,
        "another archive in front": other + honest,
        "another archive behind": honest + other,
        "something behind": honest + b"\0" * 22,
        "a comment": honest[:-2] + struct.pack("<H", len(other)) + other,
    }


@pytest.mark.parametrize("case", disguised(b"", b""))
def test_a_file_is_one_archive_and_nothing_else(
    case: str, honest: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped(tmp_path / "honest.pt2", honest)
    zipped(tmp_path / "hostile.pt2", pickled_weight(honest))
    contents = [(tmp_path / name).read_bytes() for name in ("honest.pt2", "hostile.pt2")]
    monkeypatch.chdir(tmp_path)
    for first, second in (contents, reversed(contents)):
        Path("file.pt2").write_bytes(disguised(first, second)[case])
        with pytest.raises(InputError, match=r"archive|could run code"):
            load_program("file.pt2")
    assert not Path("MARK").exists()


def test_torch_reads_only_what_was_checked(
    honest: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.pt2"
    zipped(path, honest)
    load = torch.export.load
    given: list[Any] = []
    monkeypatch.setattr(torch.export, "load", lambda file: given.append(file) or load(file))
    assert load_program(path).module()(torch.zeros(5, 3)).shape == (5, 2)
    assert isinstance(given[0], io.BytesIO)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/data", b"2")
    with pytest.raises(InputError, match="occurs twice"):
        check_archive(path, "file")


def test_a_long_expression_is_judged_at_once(honest: dict[str, bytes]) -> None:
    name = next(name for name in honest if name.endswith("model.json"))
    program = json.loads(honest[name])
    check_graph(program, "file")
    program["graph_module"]["graph"]["extra"] = {"expr_str": "1" * 5000 + "!"}
    with pytest.raises(InputError, match="no plain expression"):
        check_graph(program, "file")
