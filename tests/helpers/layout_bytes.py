"""The bytes of Layouts and configurations that every Python, NumPy and hash seed must give: their SHA-256, by case."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir_dynapse as nd
from nir_dynapse.export.samna_config import write_config_json
from places import EXAMPLES
from small_networks import recurrent

NETWORKS = EXAMPLES / "networks"


def _example(name: str, **options: Any) -> nd.Layout:
    return nd.compile(nd.from_nir(NETWORKS / f"{name}.nir"), **options)


def _on_a_bad_chip() -> nd.Layout:
    device = nd.DYNAPSE2.with_profiles(nd.ChipProfile.synthetic(3, board="red"))
    return _example("digits_recurrent", device=device, seed=2)


CASES: dict[str, Callable[[], nd.Layout]] = {
    "yin_yang": lambda: _example("yin_yang"),
    "yin_yang, two ranges, seed 5": lambda: _example("yin_yang", second_range=True, seed=5),
    "digits_recurrent": lambda: _example("digits_recurrent"),
    "digits_recurrent, one row per weight": lambda: _example("digits_recurrent", spare_rows=False),
    "digits_recurrent, bad chip": _on_a_bad_chip,
    "random, pruned": lambda: nd.compile(recurrent(4, 90, 40, 5, fan_in=70), fan_in="prune"),
    "random, three chips": lambda: nd.compile(
        recurrent(6, 40, 1800, 20), device=nd.DYNAPSE2.stack(3), seed=1, budget=600.0
    ),
}


VERSIONS = ("nir_dynapse", "nir_version")
"""What `origin` says that may differ while the Layout is the same."""


def hashes(name: str) -> dict[str, str]:
    """SHA-256 of the files of a case: as they are, and what must be the same everywhere.

    That is layout.json without the versions in it, and the configuration without gzip: what zlib makes is its own affair.
    """
    with tempfile.TemporaryDirectory() as folder:
        layout = CASES[name]()
        layout.save(path := Path(folder) / "layout.json")
        write_config_json(layout, config := Path(folder) / "config.json.gz")
        text, packed = path.read_bytes(), config.read_bytes()
    data = json.loads(text)
    data["origin"] = {key: value for key, value in data["origin"].items() if key not in VERSIONS}
    everywhere = json.dumps(data, separators=(",", ":"), sort_keys=True).encode()
    parts = {
        "layout.json": text,
        "config.json.gz": packed,
        "layout": everywhere,
        "configuration": gzip.decompress(packed),
    }
    return {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}


def main(argv: list[str]) -> None:
    """Print what `hashes` finds of the cases named, or of all, as JSON."""
    sys.stdout.write(json.dumps({name: hashes(name) for name in argv or CASES}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
