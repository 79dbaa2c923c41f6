"""`deploy`: from a NIR file and a test set to a verified configuration with its accuracy on a chip; `check_data`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nir_dynapse.backend import open_board
from nir_dynapse.board import Data
from nir_dynapse.compiler import compile
from nir_dynapse.device import DYNAPSE2, Device
from nir_dynapse.errors import ConfigurationError, Finding, ParameterRangeError
from nir_dynapse.export.samna_config import to_samna, write_config_json
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout import Layout, write_atomically
from nir_dynapse.network import Network
from nir_dynapse.recording import Recording
from nir_dynapse.reporting import Accuracy, Report, report
from nir_dynapse.sim.simulation import simulate

__all__ = ["FILES", "STAGES", "Deployment", "check_data", "check_output", "deploy", "measured_activity", "score"]

FILES = ("layout.json", "config.json.gz", "report.json", "report.txt")
"""What `Deployment.write` writes into its folder."""
STAGES = ("read", "compile", "verify", "ideal", "circuit", "quantised", "on this chip")
"""The stages of `deploy` in order; the last four are the rows of its accuracy table."""
CHUNK_ELEMENTS = 200_000_000
"""Bins times neurons simulated at once at most; larger test sets are cut along the samples."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Deployment:
    """What `deploy` made: `counts[run]` (sample, output neuron) are the output spikes of each run of its table."""

    network: Network
    layout: Layout
    report: Report
    counts: dict[str, np.ndarray]

    @property
    def accuracy(self) -> tuple[Accuracy, ...]:
        """Accuracy ideal, circuit, quantised and on this chip."""
        return self.report.accuracy

    def write(self, out_dir: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write `FILES` into `out_dir`, which is made where it is missing: all of them or none (ConfigurationError)."""
        out = check_output(out_dir)
        new = not out.exists()
        staging = None
        try:
            out.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".nir_dynapse.", dir=out))
            layout, config, as_json, as_text = (staging / name for name in FILES)
            self.layout.save(layout)
            write_config_json(self.layout, config)
            write_atomically(as_json, json.dumps(self.report.to_dict(), indent=1).encode())
            write_atomically(as_text, self.report.text().encode(errors="replace"))
            if from_samna(config, names=layout) != self.layout:
                raise _unfaithful(f"the file {config.name}")
            for name in FILES:
                (staging / name).replace(out / name)
        except OSError as error:
            raise ConfigurationError(
                f"folder '{out}' cannot be written ({error.strerror}). Choose another folder, or make room."
            ) from error
        finally:
            if staging is not None:
                shutil.rmtree(staging, ignore_errors=True)
            if new and out.is_dir() and not any(out.iterdir()):
                out.rmdir()
        return tuple(out / name for name in FILES)


def deploy(
    source: Any,
    data: Data,
    *,
    board: str = "virtual:0",
    bit_file: str | os.PathLike[str] | None = None,
    dt: float | None = None,
    time_unit: str = "s",
    time_scale: float = 1.0,
    frontend: str = "spec",
    reset: Literal["value", "subtract", "none"] | None = None,
    reset_delay: bool | None = None,
    fan_in: Literal["refuse", "prune"] = "refuse",
    seed: int = 0,
    strict: bool = False,
    device: Device = DYNAPSE2,
    options: Mapping[str, Any] | None = None,
    activity_data: Data | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Read `source`, check it against `data`, compile it for `device`, verify the configuration, and run the data.

    Four runs make the accuracy table: ideal (NIR's equations), circuit (the analog circuit, exact parameters), quantised
    (from the bits of the Layout, no mismatch) and on this chip (on `board`; a real one needs a `bit_file`).
    `progress(stage, fraction)` is called before each stage. `options` are further ones of `compile`. On several chips
    neurons are placed by what `activity_data` (where not given, `data`) makes the network do. What the profiles of `device`
    call bad is bad on a virtual board, too; their scales are what is believed of a board, not what it is made of. Nothing
    is written. Raises the DynapseError of whatever fails first.
    """
    tell = progress or (lambda stage, fraction: None)
    stages = {name: k / len(STAGES) for k, name in enumerate(STAGES)}
    believed = device.profiles
    silicon = device.with_profiles(*(None if p is None else replace(p, scales={}, factors={}) for p in believed))
    with open_board(board, device=silicon, bit_file=bit_file) as chip:
        tell("read", stages["read"])
        network = from_nir(
            source,
            dt=dt,
            time_unit=time_unit,
            time_scale=time_scale,
            frontend=frontend,
            reset=reset,
            reset_delay=reset_delay,
            strict=strict,
        )
        findings = check_data(data, network)
        tell("compile", stages["compile"])
        further = dict(options or {})
        if activity_data is not None:
            check_data(activity_data, network, labels=False)
        if device.n_chips > 1:
            further["activity"] = measured_activity(network, activity_data or data)
        layout = compile(network, device=device, fan_in=fan_in, seed=seed, strict=strict, **further)
        tell("verify", stages["verify"])
        checks = _verify(layout)

        chip.apply(layout)
        runs: dict[str, Callable[[np.ndarray], Recording]] = {
            "ideal": lambda x: simulate(network, x, ideal=True),
            "circuit": lambda x: simulate(network, x, device=device),
            "quantised": lambda x: simulate(layout, x, device=device),
            "on this chip": lambda x: chip.run_batch(x, data.dt),
        }
        counts = {}
        for name, run in runs.items():
            tell(name, stages[name])
            counts[name] = _counts(run, data, network.n_neurons)
    accuracy = tuple(score(name, count, data.y, counts["ideal"]) for name, count in counts.items())
    tell("done", 1.0)
    samples = f"{len(data)} samples of {data.x.shape[1]} bins of {1e3 * data.dt:g} ms"
    whole = report(
        layout,
        device=device,
        title=f"{layout.origin.get('source')} on {layout.device}, board {board}",
        accuracy=accuracy,
        checks=checks,
        findings=findings,
        conversion=network.conversion,
        provenance={"board": board, "data": samples},
    )
    return Deployment(network, layout, whole, counts)


def measured_activity(network: Network, data: Data) -> dict[str, np.ndarray]:
    """Events per second of every input channel and neuron (by node, (n,)) in the ideal run of `data`."""
    size = max(1, CHUNK_ELEMENTS // (data.x.shape[1] * max(1, network.n_neurons)))
    time = len(data) * data.x.shape[1] * data.dt
    rates: dict[str, np.ndarray] = {}
    for i in range(0, len(data), size):
        for node, spikes in simulate(network, data.x[i : i + size], ideal=True).spikes.items():
            rates[node] = rates.get(node, 0.0) + spikes.sum((0, 1), dtype=np.float64) / time
    channels = data.x.sum((0, 1), dtype=np.float64) / time
    first = network.input_offsets()
    inputs = {port.name: channels[first[port.name] : first[port.name] + port.size] for port in network.inputs}
    return {**inputs, **{p.name: rates[p.name] for p in network.populations}}


def score(name: str, counts: np.ndarray, labels: np.ndarray, ideal: np.ndarray | None = None) -> Accuracy:
    """Accuracy of output spike counts (sample, class) against labels (sample,); `ideal` are the counts to agree with.

    For a readout on the host they are its values summed over time.
    """
    chosen = counts.argmax(1)
    most = counts.max(1)
    return Accuracy(
        name,
        correct=int((chosen == labels).sum()),
        total=len(labels),
        agreement=float((chosen == (counts if ideal is None else ideal).argmax(1)).mean()),
        ties=int((((counts == most[:, None]).sum(1) > 1) & (counts != 0).any(1)).sum()),
        silent=int((counts == 0).all(1).sum()),
        rate=float("nan") if np.issubdtype(counts.dtype, np.floating) else float(counts.mean()),
    )


def check_data(data: Data, thing: Network | Layout, *, labels: bool = True) -> tuple[Finding, ...]:
    """Findings about what `data` means for `thing`; raises ConfigurationError or ParameterRangeError if it does not fit.

    Channels, step, whole event counts and, unless `labels=False`, classes within the output size are checked.
    """
    ports = ", ".join(f"{port.name!r} ({port.size})" for port in thing.inputs)
    channels = sum(port.size for port in thing.inputs)
    if data.x.size == 0:
        raise ConfigurationError(
            f"the data is empty: x has shape {data.x.shape}. Give at least one sample and one bin."
        )
    if data.x.shape[2] != channels:
        raise ConfigurationError(
            f"the data has {data.x.shape[2]} channels (x has shape {data.x.shape}), the network expects {channels} at "
            f"input node {ports}. Give x as (sample, time, {channels})."
        )
    if abs(data.dt - thing.dt) > 1e-6 * thing.dt:
        raise _step_mismatch(data, thing)
    fractions = data.x[data.x != np.floor(data.x)] if np.issubdtype(data.x.dtype, np.floating) else data.x[:0]
    if fractions.size:
        raise ConfigurationError(
            f"the data holds {fractions.flat[0]:g} events in a bin, a chip receives whole events. Encode the values as "
            "counts of events."
        )
    if not thing.outputs:
        raise ConfigurationError(
            "the network has no output node, so there is no accuracy. Mark a population as output."
        )
    output = thing.outputs[0]
    size = _output_size(thing)
    if labels and not 0 <= data.y.min() <= data.y.max() < size:
        wrong = int(data.y.max() if data.y.max() >= size else data.y.min())
        raise ConfigurationError(
            f"the data has class {wrong}, node {output.source!r} has {size} output neurons for classes 0 to {size - 1}. "
            "Check that the data belongs to this network."
        )
    if len(thing.outputs) == 1:
        return ()
    others = ", ".join(repr(port.name) for port in thing.outputs[1:])
    what = f"the accuracy is that of output node {output.name!r}, the first one; {others} do not count."
    return (Finding("info", "several-outputs", what, node=output.name),)


def _output_size(thing: Network | Layout) -> int:
    """Neurons of the population that the first output reads."""
    source = str(thing.outputs[0].source)
    if isinstance(thing, Network):
        return thing[source].size
    return thing.sizes.get(source) or next(p.size for p in thing.readout.populations if p.name == source)


def _step_mismatch(data: Data, thing: Network | Layout) -> ParameterRangeError:
    """The bins of the data are not the steps of the network: both values, and how to bring them together."""
    scale = float(thing.origin.get("time_scale") or 1.0)
    read_again = (
        f"Read the network with --time-scale {scale * data.dt / thing.dt:.6g} if its time constants are meant that much "
        f"{'longer' if data.dt > thing.dt else 'shorter'}, with --dt {data.dt / scale:.6g} if only its step is wrong, "
        f"or bin the data to {thing.dt:g} s."
    )
    hint = f"Bin the data to {thing.dt:g} s, or compile the network again." if isinstance(thing, Layout) else read_again
    finding = Finding(
        "error",
        "step",
        f"the data has bins of {data.dt:g} s, the network has a step of {thing.dt:g} s; they must be the same time.",
        used=data.dt,
        limit=thing.dt,
        unit="s",
        hint=hint,
    )
    return ParameterRangeError(finding)


def _counts(run: Callable[[np.ndarray], Recording], data: Data, neurons: int) -> np.ndarray:
    """Output spikes per sample and neuron of the first output, in chunks that fit into memory."""
    size = max(1, CHUNK_ELEMENTS // (data.x.shape[1] * max(1, neurons)))
    return np.concatenate([run(data.x[i : i + size]).counts() for i in range(0, len(data), size)])


def _verify(layout: Layout) -> tuple[str, ...]:
    """Read the configuration and the JSON of `layout` back; ConfigurationError where they are not the same Layout."""
    if from_samna(to_samna(layout)) != layout:
        raise _unfaithful("the configuration")
    rows = int((layout.cam["dendrite"] >= 0).sum()) + int((layout.sram["cores"] > 0).sum())
    return (
        f"configuration verified: {layout.n_neurons} neurons, {rows} CAM and SRAM rows and "
        f"{int(layout.used_cores.sum())} core(s) of biases read back from it exactly as the Layout has them.",
    )


def _unfaithful(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} does not read back as the Layout that it was made from; nothing is written. "
        "This is a defect of nir_dynapse: please report it with the network."
    )


def check_output(out_dir: str | os.PathLike[str], files: tuple[str, ...] = FILES) -> Path:
    """`out_dir` as a path after making sure that `files` can be written there; it is neither made nor changed."""
    out = Path(out_dir)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(out)  # raises for names that no file can have
        if out.exists() and not out.is_dir():
            raise ConfigurationError(f"'{out}' is not a folder. Choose another place for the results.")
        blocked = [name for name in files if (out / name).is_dir()]
        if blocked:
            raise ConfigurationError(f"'{out / blocked[0]}' is a folder. Choose another place for the results.")
        nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        if not nearest.is_dir():
            raise ConfigurationError(f"'{out}' cannot be made: '{nearest}' is not a folder. Choose another folder.")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"folder '{out}' cannot be written ({reason}). Choose another folder.") from error
    return out
