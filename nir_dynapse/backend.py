"""The plugin that `importlib.metadata.entry_points(group="nir.backends")["dynapse2"]` loads, and `open_board`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from types import SimpleNamespace

import nir

import nir_dynapse
from nir_dynapse.board.board import Board
from nir_dynapse.board.link import Timing
from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.errors import (
    Finding,
    HardwareError,
    ReaderWarning,
    UnsupportedGraphError,
    raise_if_errors,
    strictly,
)
from nir_dynapse.export import readers
from nir_dynapse.export.chip_extras import chip_extras
from nir_dynapse.export.samna_board import open_samna
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.layout.decoding import as_params
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.quant.compiler import to_network
from nir_dynapse.sim.simulation import simulate
from nir_dynapse.sim.virtual.board import VirtualBoard

__all__ = ["dynapse2", "open_board", "to_nir", "to_params", "written_for"]


def to_nir(
    thing: Network | Params | Layout, *, device: Device = DYNAPSE2, reader: str = "spec", strict: bool = False
) -> nir.NIRGraph:
    """A Network, or what Params or a Layout compute on `device`, as a flat `nir.NIRGraph`, written for `reader`.

    "spec" writes NIR as it is defined, in real seconds. The other readers ("norse", "snntorch", "spikingjelly", "sinabs",
    "spyx", "jaxsnn"; see `export.readers.READERS`) get a graph that their own importer runs with the spikes of an ideal
    run; where one runs something else, a `ReaderWarning` says what, at which node and what to do, and with `strict` that
    is an error.
    Places, bias currents and latches of a circuit travel in the metadata under "dynapse2"; the graph runs without them.
    Raises `UnsupportedGraphError` where the reader cannot run the graph at all, ParameterRangeError for an unknown one.
    """
    made, findings = written_for(thing, reader, device=device)
    raise_if_errors(strictly(findings) if strict else findings, UnsupportedGraphError)
    for finding in findings:
        if finding.severity == "warning":
            warnings.warn(ReaderWarning(finding), stacklevel=2)
    return made


def written_for(
    thing: Network | Params | Layout, reader: str = "spec", *, device: Device = DYNAPSE2
) -> tuple[nir.NIRGraph, tuple[Finding, ...]]:
    """What `to_nir` writes for `reader`, and every finding about it, errors too, without raising or warning."""
    if isinstance(thing, Network):
        return readers.written_for(thing, reader)
    params = as_params(thing, device)
    return readers.written_for(to_network(thing, device), reader, chip_extras(params, device.name))


def to_params(thing: Network | Layout, *, device: Device = DYNAPSE2) -> Params:
    """The analog circuit of a Network (closed form, exact currents) or of a Layout (what its bits configure)."""
    return as_params(thing, device)


def open_board(
    name: str = "virtual:0",
    *,
    device: Device = DYNAPSE2,
    mismatch: Mismatch | None = None,
    bit_file: str | os.PathLike[str] | None = None,
    timing: Timing | None = None,
) -> Board:
    """Open the board called `name`: `virtual:SEED`, `samna` or `samna:SERIAL`.

    `virtual:SEED` is a virtual chip with fingerprint SEED (a whole number from 0), a specimen of `device`; `mismatch`
    overrides how much its elements differ (`Mismatch.none()` for a nominal chip). `samna` is the real board, and
    `samna:SERIAL` one of several; `bit_file` is for its FPGA (default: the environment variable NIR_DYNAPSE_BIT_FILE).
    `timing` says how runs are paced. Raises HardwareError for any other name and where a board cannot be opened,
    NotInstalledError where samna is missing.
    """
    kind, _, which = name.partition(":")
    if kind == "virtual" and (which == "" or which.isdecimal()):
        return VirtualBoard(int(which or 0), device, mismatch, timing=timing)
    if kind == "samna":
        return open_samna(which or None, bit_file=bit_file, timing=timing)
    near = get_close_matches(kind, ("virtual", "samna"), n=1)
    meant = f"Did you mean {near[0]}{name[len(kind) :]}? " if near and near[0] != kind else ""
    raise HardwareError(
        f"unknown board {name!r}. {meant}Known boards: virtual:SEED, a virtual chip with fingerprint SEED, e.g. virtual:7; "
        "samna, the real board that is connected; samna:SERIAL, one of several."
    )


class _Backend(SimpleNamespace):
    @property
    def fine_tune(self) -> Callable[..., Params]:
        """`nir_dynapse.fine_tune`, loaded when it is first used: nobody else needs what training needs."""
        return nir_dynapse.fine_tune

    @property
    def compile(self) -> Callable[..., Layout]:
        """`nir_dynapse.compile`, which may fit the circuit to data first."""
        return nir_dynapse.compile


dynapse2 = _Backend(from_nir=from_nir, to_nir=to_nir, simulate=simulate, device=DYNAPSE2)
"""The DYNAP-SE2 backend as one object: from_nir, to_nir, compile, fine_tune, simulate."""
