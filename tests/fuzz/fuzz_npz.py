"""Damage to .npz files: headers of arrays that lie, pickles, other types and shapes, members, the zip file, bombs."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fuzz_bytes import damage_bytes, splice
from fuzz_json import damage_text

__all__ = ["WITNESS", "damage_npz"]

WITNESS = "fuzz_npz_unpickled"
"""A module that would be found in `sys.modules` if a pickle had been loaded."""
DTYPES = ["i1", "u1", "u8", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">i8", "c16", "?", "S3", "U2", "V4"]
DTYPES += ["M8[s]", "m8[us]"]
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, -1e308, 1e-320, 0.5, 2.0**31, 2.0**53, 2.0**62]
NUMBERS += [-(2.0**62), 1, 2, 3, 255]
SHAPES = [(), (0,), (1,), (2,), (3,), (5,), (0, 0), (1, 1), (2, 8), (0, 8), (4, 3), (1, 1, 1), (2, 0, 3)]
SHAPES += [(0, 2**40), (6,), (1,) * 32]
HUGE = ["(1099511627776,)", "(2**62,)", "(9223372036854775807,)", "(4294967296, 4294967296)", "(-1,)", "(1.5,)"]
HUGE += ["('a',)", "(True,)"]
HUGE += ["(268435456,)", "(134217728,)", "(0, 9223372036854775807)", "[3]", "3", "None", "(None,)", "(3,) * 9"]
HUGE += ["(1e3,)", "(" * 300 + ")" * 300]
HUGE += ["(" + "1, " * 70 + ")", "(" + "9" * 5000 + ",)", "(33554432, 1, 1)", "(2, (3,))"]
DESCR = ["'|O'", "'<f8'", "'|V8'", "'<U1000000'", "'<U0'", "'|S0'", "'|V0'", "[('a', '<f8'), ('b', '|O')]"]
DESCR += ["[('a', '<f8', (1000000,))]"]
DESCR += ["'<M8[s]'", "'f16'", "'x'", "('<f8', (3,))", "None", "3", "{}", "'<f8,<f8'", "'<U268435456'"]
DESCR += ["'|S2147483647'", "'|V2147483647'"]
WORDS = ["format", "nir_dynapse.params 1", "nir_dynapse.training 1", "nir_dynapse.evaluation 1", "", "\u2603"]
WORDS += ["x" * 100_000, "\x00a"]
KINDS = ["values", "values", "dtype", "shape", "header", "bytes", "text", "member", "pickle", "twice", "bomb"]
METHODS = [1, 8, 12, 14, 93, 99]


class _Payload:
    """Unpickling it would import a module by this name."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import sys, types; sys.modules[{WITNESS!r}] = types.ModuleType({WITNESS!r})",)


def damage_npz(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> tuple[bytes, str]:
    """One to three changes to arrays and members, or to the bytes of the zip file."""
    how = rng.random()
    if how < 0.2:
        return damage_bytes(content, rng, (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b".npy"))
    if how < 0.22:
        return splice(content, rng, others)
    if how < 0.235:
        return _other(rng), "another file"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # zipfile raises anything where an earlier change was to its directory
        return damage_bytes(content, rng)
    kinds = []
    twice: list[tuple[str, bytes]] = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if not members:
            break
        name = list(members)[int(rng.integers(len(members)))]
        kind = str(rng.choice(KINDS))
        if kind == "bomb" and rng.random() < 0.95:
            kind = "values"
        kinds.append(kind)
        if kind == "member":
            kinds[-1] = _member(members, name, rng)
        elif kind == "twice":
            twice.append((name, members[name][:-1] if rng.random() < 0.5 else members[name]))
        elif kind == "bomb":
            return _bomb(name, members, rng), kind
        else:
            members[name] = _changed(kind, members[name], rng)
    made = _zipped(members, twice, rng)
    return (_lie(made, rng), "+".join([*kinds, "lie"])) if rng.random() < 0.15 else (made, "+".join(kinds))


def _zipped(members: dict[str, bytes], twice: list[tuple[str, bytes]], rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    method = int(
        rng.choice([zipfile.ZIP_DEFLATED] * 6 + [zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    )
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in [*members.items(), *twice]:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            with archive.open(info, "w") as stream:  # without the warning for a name that stands twice
                stream.write(content)
    return buffer.getvalue()


def _array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _header(text: str, data: bytes, version: int = 1) -> bytes:
    raw = text.encode("latin1" if version < 3 else "utf8", "replace")
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw) % 65536) + raw + data
    )


def _changed(kind: str, content: bytes, rng: np.random.Generator) -> bytes:
    """One array with other values, another type or shape, another header, or a pickle."""
    try:
        array = _array(content)
    except (Exception, MemoryError):  # NumPy raises anything where an earlier change was to the header
        return damage_bytes(content, rng)[0]
    if max(array.size, 1) * array.dtype.itemsize > 1 << 22:  # also an empty one of elements of a gigabyte
        return content
    if kind == "pickle":
        made = np.empty(1, object)
        made[0] = _Payload()
        return _npy(made) if rng.random() < 0.5 else pickle.dumps(_Payload())
    if kind == "header":
        return _headed(array, rng)
    if kind == "bytes":
        return damage_bytes(content, rng, (b"NUMPY", b"shape", b"descr"))[0]
    try:
        if kind == "text":
            return _npy(np.array(_word(array, rng)))
        if kind == "dtype":
            return _npy(array.astype(DTYPES[int(rng.integers(len(DTYPES)))]))
        if kind == "shape":
            return _npy(_reshaped(array, rng))
        return _npy(_revalued(array, rng))
    except (ValueError, TypeError, OverflowError):
        return _npy(np.zeros(SHAPES[int(rng.integers(len(SHAPES) - 3))], DTYPES[int(rng.integers(len(DTYPES)))]))


def _word(array: np.ndarray, rng: np.random.Generator) -> str:
    """A text that was changed where the array is one, else any."""
    if array.dtype.kind != "U" or array.ndim or rng.random() < 0.1:
        return WORDS[int(rng.integers(len(WORDS)))]
    from fuzz_json import _local, _structure

    text = str(array)
    how = rng.random()
    if not text.startswith("{"):
        return damage_text(text, rng)[0]
    return (damage_text if how < 0.1 else _structure if how < 0.8 else _local)(text, rng)[0]


def _reshaped(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    flat = array.reshape(-1)
    choices = [array.T, array[None], flat[:-1], np.append(flat, flat[:1]), flat, np.asfortranarray(array)]
    choices.append(np.repeat(flat, 3))
    if rng.random() < 0.3:
        return np.zeros(SHAPES[int(rng.integers(len(SHAPES)))], array.dtype)
    return choices[int(rng.integers(len(choices)))]


def _revalued(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    made = np.array(array, order="C")
    if made.dtype.kind == "U":
        flat = made.reshape(-1)
        words = np.array(["", "x", "b", "output", flat[0] * 2 if flat.size else "", "\ud800"])
        return np.append(flat[1:], words[int(rng.integers(6))]).reshape(made.shape)
    with np.errstate(all="ignore"):
        odd = np.array(NUMBERS[int(rng.integers(len(NUMBERS)))]).astype(made.dtype)
        if made.ndim and made.size and rng.random() < 0.6:
            made.reshape(-1)[int(rng.integers(made.size))] = odd
        elif rng.random() < 0.5:
            made[...] = odd
        else:
            made = np.array(made + odd, made.dtype)
    return made


def _headed(array: np.ndarray, rng: np.random.Generator) -> bytes:
    """A header that says something else than the data behind it."""
    shape = HUGE[int(rng.integers(len(HUGE)))] if rng.random() < 0.6 else repr(array.shape)
    descr = DESCR[int(rng.integers(len(DESCR)))] if rng.random() < 0.5 else repr(array.dtype.str)
    order = ["True", "False", "0", "'x'"][int(rng.integers(4))] if rng.random() < 0.3 else "False"
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    how = rng.random()
    if how < 0.1:
        texts = [text + " " * 60_000, text[:-5], "(" * 5000, "{}", "[1]", "{'descr': '<f8'}", text + "#" * 20_000, "\0"]
        text = texts[int(rng.integers(len(texts)))]
    return _header(text + "\n", array.tobytes(), int(rng.choice([1, 1, 1, 2, 3, 4, 0])))


def _member(members: dict[str, bytes], name: str, rng: np.random.Generator) -> str:
    """Remove, rename, add or exchange members."""
    kind = str(rng.choice(["gone", "renamed", "added", "exchanged", "many"], p=[0.3, 0.25, 0.2, 0.2, 0.05]))
    other = list(members)[int(rng.integers(len(members)))]
    if kind == "gone":
        del members[name]
    elif kind == "renamed":
        short = name.removesuffix(".npy")
        names = ["x", f"../{name}", f"/{name}", name.upper(), short, f"a/{name}", "\u2603.npy", f"{name}.npy", ""]
        new = names[int(rng.integers(len(names)))]
        members[new or "y.npy"] = members.pop(name)
    elif kind == "added":
        members[["y.npy", "extra.npy", "README", "node", "leaf0.npy", "time_us.npy"][int(rng.integers(6))]] = members[
            name
        ]
    elif kind == "exchanged":
        members[name], members[other] = members[other], members[name]
    else:
        members.update({f"m{k}.npy": b"" for k in range(5000)})
    return kind


def _lie(content: bytes, rng: np.random.Generator) -> bytes:
    """Another size, check sum, method, flag or place of one member, in the directory of the zip file or before its data."""
    data = bytearray(content)
    central = rng.random() < 0.7
    mark = b"PK\x01\x02" if central else b"PK\x03\x04"
    places = [k for k in range(len(data) - 46) if data[k : k + 4] == mark] if len(data) < 1 << 16 else [data.find(mark)]
    if not places or places[0] < 0:
        return content
    at = places[int(rng.integers(len(places)))] - (0 if central else 2)
    field, width = [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (24, 4), (28, 2), (42, 4)][int(rng.integers(8))]
    old = int.from_bytes(data[at + field : at + field + width], "little")
    values = [0, 1, old + 1, old - 1, old * 2, 2**31, 2**32 - 1, 2**32 - 2, 2**30, *METHODS]
    value = values[int(rng.integers(len(values)))] % (1 << 8 * width)
    data[at + field : at + field + width] = value.to_bytes(width, "little")
    return bytes(data)


def _bomb(name: str, members: dict[str, bytes], rng: np.random.Generator) -> bytes:
    """The member `name` as an array of zeros of up to 1.2 GiB, well compressed, with a header that is true or lies."""
    mebibytes = int(rng.choice([20, 20, 40, 40, 100, 140, 1200, 1200]))
    descr = str(rng.choice(["<f8", "|u1", "|i1", "<U16", "|S4", "<i4", "<f4", "|b1"]))
    size = (mebibytes << 20) // np.dtype(descr).itemsize
    shape = [(size,), (1, 1, size), (size, 1, 1), (size // 8, 8), ()][int(rng.integers(5))]
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"
    raw, check, total = _deflated(_header(text, b""), mebibytes)
    others = {key: value for key, value in members.items() if key != name}
    return _appended(_zipped(others, [], rng) if others else b"", name, raw, check, total)


@cache
def _zeros() -> bytes:
    """16 MiB of zeros as a piece of a deflate stream that may stand anywhere in one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)


@lru_cache(50)
def _deflated(header: bytes, mebibytes: int) -> tuple[bytes, int, int]:
    """(deflate stream, CRC, bytes) of a header and as many zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    raw = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    rest, check = mebibytes << 20, zlib.crc32(header)
    total = len(header) + rest
    while rest:
        step = min(rest, 1 << 24)
        if step == 1 << 24:
            raw += _zeros()
        else:
            part = zlib.compressobj(1, zlib.DEFLATED, -15)
            raw += part.compress(bytes(step)) + part.flush(zlib.Z_FULL_FLUSH)
        # The sum of more is not worth its time: it is looked at last, and they are refused before.
        check, rest = zlib.crc32(bytes(step), check) if mebibytes < 128 else 0, rest - step
    return raw + b"\x03\x00", check, total


def _appended(archive: bytes, name: str, raw: bytes, check: int, total: int) -> bytes:
    """A zip file with one member more, whose data is compressed already."""
    end = archive.rfind(b"PK\x05\x06")
    _, count, _, start = struct.unpack("<HHII", archive[end + 8 : end + 20]) if archive else (0, 0, 0, 0)
    directory = archive[start:end] if archive else b""
    encoded = name.encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, check, len(raw), total, len(encoded), 0)
    local = b"PK\x03\x04" + fields + encoded
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, start) + encoded
    body = archive[:start] + local + raw
    tail = struct.pack("<HHHHIIH", 0, 0, count + 1, count + 1, len(directory) + len(entry), len(body), 0)
    return body + directory + entry + b"PK\x05\x06" + tail


def _other(rng: np.random.Generator) -> bytes:
    """A .npy, a pickle, a text."""
    texts = [b"x,y\n1,2\n", b"", b"\x89HDF\r\n\x1a\n"]
    return [_npy(np.zeros(3)), pickle.dumps(_Payload()), _npy(np.array(None)), *texts][int(rng.integers(6))]
