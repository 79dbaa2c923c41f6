"""`deploy`: from a NIR file and a test set to a verified configuration with its accuracy on a chip, trained where asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nir_dynapse.backend import open_board
from nir_dynapse.chip.device import DYNAPSE2, Device
from nir_dynapse.circuit.closed_form import to_params
from nir_dynapse.circuit.params import Params
from nir_dynapse.circuit.params_file import save_params
from nir_dynapse.data.data import Data
from nir_dynapse.data.pooling import pool_data
from nir_dynapse.data.recording import Decision, Recording
from nir_dynapse.deployment.activity import CHUNK_ELEMENTS, measured_activity
from nir_dynapse.deployment.files import FILES, TRAINING_FILES
from nir_dynapse.deployment.pruning import Pruning, fan_in_of, rows_chosen
from nir_dynapse.deployment.stages import (
    AFTER,
    BEFORE,
    Stages,
    check_request,
    compared,
    decision_of,
    fine_tuned,
    spread_text,
)
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.evaluation.checks import check_data, check_output, check_params, losses, score
from nir_dynapse.export.samna_config import to_samna, write_config_json
from nir_dynapse.files.whole import whole_files, write_atomically
from nir_dynapse.fitting.fit import TRIED, fit_to_data
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.network.pooling import pool_channels
from nir_dynapse.quant.compiler import compile
from nir_dynapse.quant.spending import Spend, spread_out
from nir_dynapse.reporting.plots import distribution_svg
from nir_dynapse.reporting.report import Accuracy, Report, report
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.sim.simulation import simulate

__all__ = [
    "FILES",
    "STAGES",
    "TRAINING_FILES",
    "Deployment",
    "check_data",
    "check_output",
    "deploy",
    "measured_activity",
    "score",
    "silicon_of",
]

UNTRAINED, UNTRAINED_PRUNED, PRUNED = "untrained circuit", "untrained, pruned", "pruned"
POOLED, CLOSED, COPIED = "pooled", "closed form", "copied"
UNTRAINED_ROWS = (CLOSED, UNTRAINED, UNTRAINED_PRUNED)
STAGES = (
    *("read", "fit", "compile untrained", BEFORE, "train", "compile", "verify"),
    *("ideal", POOLED, *UNTRAINED_ROWS, "circuit", PRUNED, COPIED, "quantised", "on this chip", AFTER),
)
"""The stages of `deploy` in order, those for fitting, pooling, pruning and training only where there is any; from "ideal"
to "on this chip" they are the rows of its accuracy table."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Deployment:
    """What `deploy` made: `counts[run]` (sample, output neuron) are the output spikes of each run of its table.

    `params` is what was trained (None: nothing), `log` how, where it was trained here. `report.samples[run]` is what each
    run recorded of the first sample.
    """

    network: Network
    layout: Layout
    report: Report
    counts: dict[str, np.ndarray]
    params: Params | None = None
    log: TrainingLog | None = None

    def __repr__(self) -> str:
        rows = "; ".join(f"{row.name} {100 * row.share:.1f} %" for row in self.accuracy)
        return f"Deployment({self.layout!r}; {rows})"

    @property
    def accuracy(self) -> tuple[Accuracy, ...]:
        """Accuracy ideal, circuit, quantised and on this chip; "untrained circuit" as second where it was trained."""
        return self.report.accuracy

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that `write` writes: `FILES`, and of `TRAINING_FILES` those that there are."""
        there = (self.params is not None, self.log is not None, self.log is not None, bool(self.report.virtual_chips))
        return (*FILES, *(name for name, is_there in zip(TRAINING_FILES, there, strict=True) if is_there))

    def write(self, out_dir: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write `files` into `out_dir`, which is made where it is missing: all of them or none (ConfigurationError)."""
        out = check_output(out_dir, self.files)
        with whole_files(out, self.files) as staging:
            self._fill(staging)
        return tuple(out / name for name in self.files)

    def _fill(self, folder: Path) -> None:
        layout, config, *reports = (folder / name for name in FILES)
        self.layout.save(layout)
        write_config_json(self.layout, config)
        for path in reports:
            self.report.save(path)
        if from_samna(config, names=layout) != self.layout:
            raise _unfaithful(f"the file {config.name}")
        tuned, log, picture, chips = (folder / name for name in TRAINING_FILES)
        if self.params is not None:
            save_params(self.params, tuned)
        if self.log is not None:
            self.log.save(log)
            self.log.plot(picture, title=f"Training of {self.report.title}")
        if self.report.virtual_chips:
            series = {name: np.asarray(run["accuracy"]) for name, run in self.report.virtual_chips.items()}
            write_atomically(chips, distribution_svg(series, title=self.report.title).encode())


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
    fan_in: Literal["train", "prune", "refuse"] | None = None,
    spend: Spend | None = None,
    seed: int = 0,
    strict: bool = False,
    device: Device = DYNAPSE2,
    options: Mapping[str, Any] | None = None,
    activity_data: Data | None = None,
    train: Data | None = None,
    params: Params | None = None,
    training: Mapping[str, Any] | None = None,
    compare: int = 100,
    fit: bool = True,
    pool: int | Sequence[int] | None = None,
    decide: Decision | None = None,
    progress: Progress | None = None,
) -> Deployment:
    """Read `source`, check it against `data`, compile it for `device`, verify the configuration, and run the data.

    A run for each step makes the accuracy table: ideal (NIR's equations), circuit (the analog circuit, exact parameters),
    pruned (where there is too much, the same with the synapses that the chip has CAM rows for), copied (with `spend`, the
    same with copies), quantised (from the bits of the Layout, no mismatch) and on this chip (on `board`; a real one needs a
    `bit_file`).
    `progress(stage, fraction)` is called before each stage, and within the long ones. `options` are further ones of
    `compile`. On several chips neurons are placed by what `activity_data` (where not given, `data`) makes the network do.
    What the profiles of `device` call bad is bad on a virtual board, too; their scales are what is believed of a board, not
    what it is made of.

    With `train` the network is fine-tuned on that data before it is compiled; `training` are further keywords of
    `fine_tune` (its `key` is `seed` unless given). `params` are what was trained earlier; with `train` training goes on
    from them. The table then says what the trained circuit does, the untrained one in a row of its own, and the report
    compares both on `compare` virtual chips (0: none) with the `mismatch` of `training`, none of which is `board`.

    `pool` adds up that many neighbouring channels of the input node before all else (`pool_channels`, `pool_data`); what
    the layout then receives is pooled data.

    With `fit` (and no `params`) the circuit is fitted to `train`, or where there is none to `data`, before it is pruned or
    trained, so that it follows the ideal run (`fit_to_data`; labels are not used); where that changed it, the row "closed
    form" of the table says what it does without.

    `fan_in` says what becomes of neurons with more synapses than CAM rows: "train" chooses the synapses by `train`
    (the default with `train`), "prune" keeps those that the circuit's answers to `train` (else to `activity_data`,
    else to `data`) depend on most, before any training, and "refuse" raises CapacityError (the default without). `spend`
    says how many neurons of the chip stand for one of the network: "chip" (as many as fit, the default with `train`),
    "none" (one, the default without), or a number.

    The accuracy is that of the most spikes. With `decide="first-spike"` the table, and the comparison, also tell that of
    the first spike; unless said, they do where `training` has such a loss ("first-spike", "first-spike-time").

    Nothing is written. Raises the DynapseError of whatever fails first.
    """
    check_request(train, params, training, compare)
    way = fan_in_of(fan_in, train)
    tuned = train is not None or params is not None
    compares = tuned and compare > 0
    tell = progress or (lambda stage, fraction: None)
    given, log, before, untrained, fitting = dict(training or {}), None, None, None, None
    mismatch = given.get("mismatch") or device.mismatch
    with open_board(board, device=silicon_of(device), bit_file=bit_file) as chip:
        tell("read", 0.0)
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
        decide = decision_of(decide, given.get("loss"), network)
        whole, all_channels = network, data
        if pool is not None:
            network = pool_channels(network, pool)
            shape = whole.inputs[0].shape
            data = pool_data(data, pool, shape=shape)
            train, activity_data = (
                None if part is None else pool_data(part, pool, shape=shape) for part in (train, activity_data)
            )
        if params is not None:
            check_params(params, network)
        further: dict[str, Any] = {**(options or {}), "seed": seed, "device": device}
        asked_for = further.pop("spend", None) if spend is None else spend
        if asked_for is not None and train is None:
            further["spend"] = asked_for
        if activity_data is not None:
            check_data(activity_data, network, labels=False)
        fitted: Params | None = None
        if fit and params is None:
            tell("fit", 0.0)
            on, tried = (data, TRIED) if train is None else (train, 1)  # training goes on from there
            fitted, fitting = fit_to_data(network, on, device=device, key=seed, tried=tried, own_rows=train is None)
        if device.n_chips > 1:
            further["activity"] = measured_activity(network, activity_data or data)
        prune = Pruning(network, train or activity_data or data, device, further)
        start = params or fitted or to_params(network, device)
        if train is not None and way == "refuse":
            prune.refuse(start)  # without training compile does it, with what else does not fit
        if tuned and not prune.fits():
            untrained = prune(fitted)
        if train is not None and way == "prune" and not prune.fits(start):
            start = prune(start)
        asked = {
            "train": train is not None,
            POOLED: pool is not None,
            UNTRAINED: tuned,
            UNTRAINED_PRUNED: untrained is not None,
        }
        asked |= dict.fromkeys(("compile untrained", BEFORE, AFTER), compares)
        asked[PRUNED] = train is None and way == "prune" and not prune.fits(start)
        asked |= {"fit": fitting is not None, CLOSED: fitting is not None and fitting.kept}
        asked[COPIED] = train is None and asked_for not in (None, "none", 1) and not start.topology.copies
        names = tuple(name for name in STAGES if asked.get(name, True))
        stages, chips = Stages(names, tell), {}
        against = (compare, mismatch, board, device, decide, stages)
        further["fan_in"] = "refuse" if way == "refuse" else "prune"  # of what finds no good rows, too
        if compares:  # before the training: what does not fit is found before hours of it
            stages.begin("compile untrained")
            known = {} if params is None or not params.topology.copies else {"spend": params.topology.copies_of}
            first = fitted if untrained is None else untrained
            before = compile(network, params=first, **{**further, **known})  # on as many neurons as after
            chips[BEFORE] = compared(BEFORE, before, data, *against)  # tells how long the other one will take, too
        if train is not None:
            stages.begin("train")
            copies = "chip" if asked_for is None and way != "prune" else asked_for or "none"
            keywords = {"key": seed, "spend": copies, "start": start, **given, "device": device}
            params, log = fine_tuned(network, train, keywords, stages.within("train"))
        stages.begin("compile")
        circuit: Network | Params = params or fitted or network
        pruned, copied = prune(params or fitted) if asked[PRUNED] else None, None
        if params is not None and params.topology.copies:
            further.pop("spend", None)  # they have theirs
        layout = compile(network, params=pruned or params or fitted, strict=strict, **further)
        if asked[COPIED]:
            copied, _, _ = spread_out(pruned or start, layout.copies_of, None, device, further["fan_in"], seed)
        stages.begin("verify")
        checks = _verify(layout)

        chip.apply(layout)
        runs: dict[str, Callable[[np.ndarray], Recording]] = {
            "ideal": lambda x: simulate(whole, x, ideal=True),
            POOLED: lambda x: simulate(network, x, ideal=True),
            CLOSED: lambda x: simulate(network, x, device=device),
            UNTRAINED: lambda x: simulate(fitted or network, x, device=device),
            UNTRAINED_PRUNED: lambda x: simulate(untrained or network, x, device=device),
            "circuit": lambda x: simulate(circuit, x, device=device),
            PRUNED: lambda x: simulate(pruned or circuit, x, device=device),
            COPIED: lambda x: simulate(copied or circuit, x, device=device),
            "quantised": lambda x: simulate(layout, x, device=device),
            "on this chip": lambda x: chip.run_batch(x, data.dt),
        }
        counts, first, samples = {}, {}, {}
        for name, run in runs.items():
            if name in names:
                stages.begin(name)
                what = all_channels if name == "ideal" else data
                counts[name], first[name], samples[name] = _outcome(run, what, layout.n_neurons, decide)
    spikes = bool(network.outputs) and network.outputs[0].source not in network.readout.names
    accuracy = tuple(score(n, count, data.y, counts["ideal"], spikes, first[n]) for n, count in counts.items())
    chosen = rows_chosen(params, prune, accuracy) if train is not None and untrained is not None else ()
    provenance = {"board": board, "data": _described(data)}
    if fitting is not None:
        provenance["fit"] = fitting.described()
    if before is not None:
        chips[AFTER] = compared(AFTER, layout, data, *against)
        provenance["virtual chips"] = f"mismatch {spread_text(mismatch, device)}"
    if train is not None and log is not None:
        provenance["training"] = f"{_described(train)}, {log.step.max(initial=0)} steps"
    stages.done()
    told = report(
        layout,
        device=device,
        title=f"{layout.origin.get('source')} on {layout.device}, board {board}",
        accuracy=accuracy,
        checks=checks,
        findings=(*findings, *chosen, *losses(accuracy, trained=train is not None)),
        conversion=network.conversion,
        provenance=provenance,
        virtual_chips=chips,
        asked=circuit,
        samples=samples,
    )
    return Deployment(network, layout, told, counts, params, log)


def silicon_of(device: Device) -> Device:
    """What a virtual board is made of where profiles say what is believed of it: their defects, not their scales."""
    return device.with_profiles(*(None if p is None else replace(p, scales={}, factors={}) for p in device.profiles))


def _described(data: Data) -> str:
    return f"{len(data)} samples of {data.x.shape[1]} bins of {1e3 * data.dt:g} ms"


def _outcome(
    run: Callable[[np.ndarray], Recording], data: Data, neurons: int, decide: Decision
) -> tuple[np.ndarray, np.ndarray | None, Recording]:
    """Output spikes per sample and neuron of the first output, in chunks that fit into memory; their times, where those
    decide; and the spikes of sample 0."""
    size = max(1, CHUNK_ELEMENTS // (data.x.shape[1] * max(1, neurons)))
    counts, times, first = [], [], None
    for i in range(0, len(data), size):
        recording = run(data.x[i : i + size])
        counts.append(recording.counts())
        times += [recording.first_spikes()] if decide == "first-spike" else []
        if first is None:  # copies: a view would keep all samples in memory
            spikes = {node: np.array(spikes[:1]) for node, spikes in recording.spikes.items()}
            first = Recording(spikes, recording.dt, recording.outputs, copies=recording.copies)
    return np.concatenate(counts), np.concatenate(times) if times else None, first or Recording({}, data.dt)


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
