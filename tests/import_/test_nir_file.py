"""The tolerant reader: NIR's real files, old and broken ones, and things that are no NIR file at all."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from nir_dynapse.errors import DynapseError, UnsupportedGraphError
from nir_dynapse.import_ import nir_file
from nir_dynapse.import_.nir_file import read_nir, read_version
from nir_dynapse.import_.nir_graph import from_nir


def network(n=3) -> nir.NIRGraph:
    v = np.ones(n)
    nodes: dict[str, Any] = {
        "in": nir.Input(input_type={"input": np.array([2])}),
        "fc": nir.Affine(weight=np.arange(2.0 * n).reshape(n, 2), bias=np.zeros(n)),
        "lif": nir.LIF(tau=v * 0.02, r=v * 20, v_leak=v * 0, v_threshold=v, v_reset=v * 0),
        "out": nir.Output(output_type={"output": np.array([n])}),
    }
    return nir.NIRGraph(nodes, [("in", "fc"), ("fc", "lif"), ("lif", "out")], metadata={"dt": 1e-3, "by": "me"})


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "model.nir"
    nir.write(path, network())
    return path


def edit(path: Path):
    """The nodes of a stored graph, for writing."""
    h5 = h5py.File(path, "r+")
    nodes: Any = h5["node/nodes"]
    return h5, nodes


def refused(path, error: type[DynapseError] = UnsupportedGraphError, *, findings=1) -> str:
    with pytest.raises(error) as caught:
        from_nir(path)
    assert len(caught.value.findings) == findings
    text = str(caught.value)
    assert "\n\n" not in text
    return text


# --- what it reads ---------------------------------------------------------------------------------------------------


def test_a_sound_file_needs_no_repair(file):
    graph, findings, sha256 = read_nir(file)
    assert findings == []
    assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert isinstance(graph, nir.NIRGraph)
    assert graph.metadata == {"dt": 1e-3, "by": "me"}
    net = from_nir(str(file))
    assert net.digest() == from_nir(network()).digest()
    assert net.origin["source"] == "model.nir"
    assert net.origin["sha256"] == sha256
    assert net.origin["file_version"] == read_version(file) == nir.version
    assert net.metadata == {"dt": 1e-3, "by": "me"}


def test_missing_optional_fields_are_infos(file):
    h5, nodes = edit(file)
    del nodes["lif/v_reset"]
    nodes["lif/colour"] = "red"
    h5.close()
    net = from_nir(file)
    assert net.digest() == from_nir(network()).digest()
    assert sorted((f.severity, f.node) for f in net.findings) == [("info", "lif"), ("info", "lif")]
    text = " ".join(map(str, net.findings))
    assert "without v_reset" in text
    assert "no field 'colour'" in text


def test_a_single_node_root(tmp_path):
    path = tmp_path / "single.nir"
    nir.write(path, network().nodes["lif"])
    with pytest.raises(TypeError):
        nir.read(path)
    net = from_nir(path)
    assert [(p.name, p.size) for p in net.populations] == [("lif", 3)]
    assert {f.severity for f in net.findings} <= {"info"}


def test_scalar_parameters(tmp_path):
    graph, path = network(), tmp_path / "scalar.nir"
    lif: Any = graph.nodes["lif"]
    for key in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        setattr(lif, key, np.array(getattr(lif, key)[0]))
    nir.write(path, graph, compression=None)  # pyright: ignore[reportArgumentType]
    assert from_nir(path).digest() == from_nir(network()).digest()


def test_nested_graphs_with_broken_types(tmp_path):
    inner = network(2)
    inner.nodes["in"] = nir.Input(input_type={"input": np.array([9, 9])})
    inner.nodes["w"] = nir.Linear(weight=np.eye(2))
    inner.edges += [("lif", "w"), ("w", "lif")]
    nodes: dict[str, Any] = {"x": nir.Input(input_type={"input": np.array([2])}), "sub": inner}
    nodes["y"] = nir.Output(output_type={"output": np.array([1, 2])})
    path = tmp_path / "nested.nir"
    nir.write(path, nir.NIRGraph(nodes, [("x", "sub"), ("sub", "y")], type_check=False))
    with pytest.raises(ValueError, match="mismatch"):
        nir.read(path, type_check=False)
    net = from_nir(path)
    assert [p.name for p in net.populations] == ["sub.lif"]
    assert [q.nodes for q in net.projections] == [("sub.fc",), ("sub.w",)]


def test_names_with_a_slash(file):
    h5, nodes = edit(file)
    nodes.move("lif", "block/lif")
    edges: Any = h5["node"]
    del edges["edges"]
    edges["edges"] = np.array([["in", "fc"], ["fc", "block/lif"], ["block/lif", "out"]], dtype=object)
    h5.close()
    net = from_nir(file)
    assert [p.name for p in net.populations] == ["block/lif"]
    assert any("contains '/'" in str(f) for f in net.findings)


def test_a_node_that_its_own_constructor_refuses_gets_a_named_error(file):
    h5, nodes = edit(file)
    del nodes["lif/r"]
    nodes["lif/r"] = np.ones(2)
    h5.close()
    with pytest.raises(AssertionError):
        nir.read(file)
    assert "node 'lif': its parameters have different shapes" in refused(file)


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_paths_that_hold_no_file(tmp_path):
    assert "does not exist. Check the path" in refused(tmp_path / "nothing.nir")
    assert str(tmp_path) in refused(tmp_path / "nothing.nir")
    assert "is a directory" in refused(tmp_path)
    assert refused(str(tmp_path) + "/a\0b.nir")
    os.mkfifo(tmp_path / "pipe.nir")
    assert "not a regular file" in refused(tmp_path / "pipe.nir")


def test_a_folder_names_the_files_in_it(tmp_path, file):
    assert "Give the .nir file in it: 'model.nir'." in refused(tmp_path)


@pytest.mark.parametrize("written", [True, False], ids=["nodes", "nothing"])
def test_a_file_that_nir_write_did_not_finish(tmp_path, written):
    """A value that HDF5 cannot hold ends nir.write in a TypeError, after /version and some of /node/nodes."""
    graph = network()
    if written:
        graph.nodes["lif"].metadata = {"note": object()}
        with pytest.raises(TypeError):
            nir.write(tmp_path / "half.nir", graph)
    else:
        with h5py.File(tmp_path / "half.nir", "w") as h5:
            h5["version"] = "1.0.8"
            h5.create_group("node")
    text = refused(tmp_path / "half.nir")
    assert "was not written to its end" in text
    assert "write the file again" in text
    assert "nir.write" in text


class Bomb:
    """Its unpickling creates a file: the reader must not."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_never_loaded(tmp_path):
    trap = tmp_path / "trap"
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(trap)))
    contents = {"zip archive": zipped.getvalue(), "Python pickle": pickle.dumps(Bomb(trap))}
    for word, content in contents.items():
        path = tmp_path / "model.nir"
        path.write_bytes(content)
        assert word in refused(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty (0 bytes)"),
        (b"hello\n", "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a Git LFS pointer"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
        (b"<html>", "Download the file itself"),
        ("Größe τ".encode() * 100, "a text file"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\xff\xfe\x00\x01" * 9, "unknown binary format"),
    ],
)
def test_files_of_another_kind(tmp_path, content, word):
    path = tmp_path / "model.nir"
    path.write_bytes(content)
    text = refused(path)
    assert word in text
    assert str(path) in text


def test_truncated_files(file):
    content = file.read_bytes()
    for size in (9, 100, 600, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        assert "is damaged" in refused(file)


def test_hdf5_that_is_not_nir(tmp_path):
    path = tmp_path / "net.hdf5"
    with h5py.File(path, "w") as h5:
        h5["layer/0/weight"] = np.ones(3)
    text = refused(path)
    assert "is HDF5 but not NIR" in text
    assert "'layer'" in text
    with h5py.File(path, "w") as h5:
        h5["node"] = 3
    assert "not NIR" in refused(path)


def test_unknown_types_and_missing_fields_all_at_once(file):
    h5, nodes = edit(file)
    del nodes["fc/type"], nodes["lif/tau"], nodes["in/type"]
    nodes["fc/type"] = "Afine"
    h5.close()
    text = refused(file, findings=3)
    assert "node 'fc': unknown type 'Afine'. Did you mean Affine" in text
    assert "Supported types: Input, Output" in text
    assert "node 'lif': LIF without its field 'tau'" in text
    assert "node 'in': it has no type" in text


def test_a_graph_without_nodes_or_with_odd_edges(file):
    h5, _ = edit(file)
    del h5["node/edges"]
    h5["node/edges"] = np.ones((3, 2))
    h5.close()
    assert "not (n, 2) names" in refused(file)
    h5, _ = edit(file)
    del h5["node/nodes"]
    h5.close()
    assert "without nodes or edges" in refused(file)


def test_links_are_not_followed(file, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as h5:
        h5["weight"] = np.ones((3, 2))
    layout = h5py.VirtualLayout((3, 2), float)
    layout[:] = h5py.VirtualSource(str(secret), "weight", (3, 2))
    raw = tmp_path / "raw.bin"
    raw.write_bytes(bytes(48))

    def external(nodes):
        nodes["fc/weight"] = h5py.ExternalLink(str(secret), "/weight")

    def soft(nodes):
        nodes["fc/weight"] = h5py.SoftLink("/node/nodes/fc/bias")

    def virtual(nodes):
        nodes["fc"].create_virtual_dataset("weight", layout)

    def stored_outside(nodes):
        nodes["fc"].create_dataset("weight", (3, 2), float, external=[(str(raw), 0, 48)])

    content = file.read_bytes()
    for make in (external, soft, virtual, stored_outside):
        file.write_bytes(content)
        h5, nodes = edit(file)
        del nodes["fc/weight"]
        make(nodes)
        h5.close()
        assert "links are not followed" in refused(file)
    with h5py.File(file, "w") as h5:
        h5["node"] = h5py.ExternalLink(str(secret), "/")
    assert "not NIR" in refused(file)


def test_groups_that_contain_themselves(file):
    h5, nodes = edit(file)
    nodes["loop"] = h5["node"]
    h5.close()
    assert "nests groups more than" in refused(file)


def test_absurd_sizes_are_refused_before_they_are_allocated(file):
    h5, nodes = edit(file)
    del nodes["fc/weight"]
    nodes["fc"].create_dataset("weight", (2**20, 2**20), "f8", chunks=(64, 64))  # nothing is stored of its 8 TiB
    h5.close()
    text = refused(file)
    assert "(1048576, 1048576)" in text
    assert f"allowed are {32 * 2**20} elements" in text


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "text"),
    [
        ("lif/tau", (2**22,), "f8", "allowed are 2097152 elements"),
        ("in/shape", (65,), "i8", "allowed are 64 elements"),
        ("lif/metadata/x", (2**22,), "i1", "allowed are 2097152 elements"),
        ("lif/type", (2**25,), "S1", "allowed are 400000 elements"),
        (
            "fc/weight",
            (2**10, 2**10),
            "f8",
            "declares 8 MiB for dataset '/node/nodes/fc/weight', but does not hold them",
        ),
    ],
)
def test_sizes_that_a_field_of_this_kind_cannot_have(file, name, shape, dtype, text):
    h5, nodes = edit(file)
    if name in nodes:
        del nodes[name]
    nodes.create_dataset(name, shape, dtype, chunks=tuple(min(n, 64) for n in shape))
    h5.close()
    assert text in refused(file)


def test_edges_beyond_all_bounds_are_not_read(file):
    h5, _ = edit(file)
    del h5["node/edges"]
    h5["node"].create_dataset("edges", (2**24, 2), "S1", chunks=(64, 2))  # pyright: ignore
    h5.close()
    assert "allowed are 400000 elements" in refused(file)


def test_the_sum_of_sizes_is_limited_too(file, monkeypatch):
    monkeypatch.setattr(nir_file, "MAX_TOTAL_BYTES", 100)
    assert "allowed are 0" in refused(file)  # the file itself
    monkeypatch.setattr(nir_file, "MAX_TOTAL_BYTES", file.stat().st_size)
    h5, nodes = edit(file)
    nodes["lif"].create_dataset("a", (64, 64), "f8", compression="gzip")
    for key in ("tau", "r"):
        del nodes[f"lif/{key}"]
        nodes["lif"].create_dataset(key, (64, 64), "f8", compression="gzip")
    h5.close()
    monkeypatch.setattr(nir_file, "MAX_TOTAL_BYTES", 33000)
    assert "allowed are" in refused(file)


def test_a_heap_object_without_size_does_not_hang_the_reader(file):
    content = bytearray(file.read_bytes())
    at = start = content.index(b"GCOL") + 16
    while int.from_bytes(content[at : at + 2], "little"):
        at += 16 + (int.from_bytes(content[at + 8 : at + 16], "little") + 7) // 8 * 8
    assert at > start
    content[at + 8 : at + 16] = bytes(8)  # HDF5 itself would walk on by this size for ever
    file.write_bytes(content)
    assert "is damaged" in refused(file)


def test_a_text_of_gigabytes_is_not_allocated(file):
    content = file.read_bytes()
    with h5py.File(file) as h5:
        places: Any = [h5[f"node{name}"].id.get_offset() for name in ("/type", "/edges", "/nodes/lif/type")]  # pyright: ignore
        version: Any = h5["version"]
        at = version.id.get_offset()
    for place in places:
        file.write_bytes(content[:place] + b"\xff\xff\xff\xf0" + content[place + 4 :])
        assert "a text of more than" in refused(file)
    file.write_bytes(content[:at] + b"\xff\xff\xff\xf0" + content[at + 4 :])
    assert from_nir(file).origin["file_version"] is None


@pytest.mark.long
def test_flipped_bits_never_raise_anything_else(file):
    content, rng = bytearray(file.read_bytes()), np.random.default_rng(0)
    outcomes = set()
    for _ in range(250):
        broken = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 9)):
            broken[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(broken)
        try:
            outcomes.add(type(from_nir(file)).__name__)
        except DynapseError as error:
            outcomes.add(type(error).__name__)
    assert {"Network", "UnsupportedGraphError"} <= outcomes
