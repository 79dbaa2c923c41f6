"""At least 200 crafted inputs at each way in: the package's own error, or a result without NaN. Nothing else."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
from crafted import NUMBERS, arrays, check, mutated, outcome
from nir_dynapse.board.link import LinkedBoard
from nir_dynapse.circuit.params_file import load_params, save_params
from nir_dynapse.cli.main import main
from nir_dynapse.data import encoders
from nir_dynapse.evaluation import evaluate as evaluation
from nir_dynapse.sim.virtual.board import VirtualBoard
from nir_dynapse.training.losses import Counts, FirstSpike, MaxOverTime, Penalty, Trajectory
from nir_dynapse.training.steps import Attack
from small_networks import recurrent

LEAST = 200
SHAPE = (2, 6, 4)
DT = 1e-3
LABELS = np.zeros(2, int)


@pytest.fixture(scope="module")
def network() -> nd.Network:
    return recurrent(1, SHAPE[2], 8, 3)


@pytest.fixture(scope="module")
def layout(network: nd.Network) -> nd.Layout:
    return nd.compile(network)


@pytest.fixture(scope="module")
def params(network: nd.Network) -> nd.Params:
    return nd.to_params(network)


@pytest.fixture(scope="module")
def board(layout: nd.Layout) -> LinkedBoard:
    made = VirtualBoard(3)
    made.apply(layout)
    return made


def count(results: list[Any]) -> None:
    check(results, LEAST)


# --- counts ----------------------------------------------------------------------------------------------------------


def thrown(way: Callable[[Any], Any]) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [outcome(lambda x=x: way(x), what) for what, x in arrays(SHAPE)]
    count(results)
    return results


def test_counts_into_simulate(network: nd.Network, layout: nd.Layout) -> None:
    thrown(lambda x: nd.simulate(layout, x, backend="numpy", record=("spikes", "i_mem")))
    thrown(lambda x: nd.simulate(network, x, backend="numpy", ideal=True, record=("spikes", "v")))


@pytest.mark.long
def test_counts_into_simulate_of_circuits(network: nd.Network, layout: nd.Layout, params: nd.Params) -> None:
    for thing in (network, params):
        thrown(lambda x, thing=thing: nd.simulate(thing, x, backend="numpy", record=("spikes", "i_mem")))
    thrown(lambda x: nd.simulate(layout, x, backend="numpy", mismatch=nd.Mismatch(noise=0.1), key=2))


@pytest.mark.long
def test_counts_into_simulate_by_jax(network: nd.Network, layout: nd.Layout) -> None:
    thrown(lambda x: nd.simulate(layout, x, record=("spikes", "i_mem")))
    thrown(lambda x: nd.simulate(network, x, ideal=True, record=("spikes", "v")))


def test_counts_into_boards(board: LinkedBoard) -> None:
    thrown(lambda x: LinkedBoard.run_batch(board, x[:1] if isinstance(x, np.ndarray) and x.ndim == 3 else x, DT))


def test_counts_into_data_and_events(network: nd.Network) -> None:
    thrown(lambda x: nd.Data(x, LABELS, DT))
    thrown(lambda y: nd.Data(np.ones(SHAPE), y, DT))
    thrown(
        lambda x: nd.Events.from_counts(x[0] if isinstance(x, np.ndarray) and x.ndim == 3 and len(x) else x, DT, "in")
    )
    thrown(lambda x: nd.to_nir_data(made := nd.Recording({"in": x}, DT), events=made.spikes["in"].max(initial=0) < 999))
    thrown(lambda x: nd.to_nir_data(nd.Recording({}, DT, values={"in": x})))
    thrown(lambda x: encoders.reconstruct(x, 1.0))
    thrown(lambda x: encoders.rate(x, 6, DT, 100.0))
    thrown(lambda x: encoders.delta(x, 0.5))


def test_counts_into_evaluate_and_fine_tune(network: nd.Network, layout: nd.Layout) -> None:
    """What `Data` takes and circuits receive runs in other tests; here everything else is refused."""

    def refused(x: Any) -> Any:
        data = nd.Data(x, LABELS, DT)
        with np.errstate(all="ignore"):
            whole = data.x.size and data.x.shape == SHAPE and bool((data.x == np.floor(data.x)).all())
        if whole:
            return None
        with pytest.raises(nd.DynapseError) as caught:
            nd.evaluate(layout, data, devices=1)
        with pytest.raises(nd.DynapseError):
            nd.fine_tune(network, data, steps=1)
        raise caught.value

    thrown(refused)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["grid", "events"])
def test_nir_recordings(kind: str, network: nd.Network) -> None:
    def graph(x: Any) -> Any:
        if kind == "grid":
            return nir.NIRGraphData({"in": nir.NIRNodeData({"spikes": nir.TimeGriddedData(x, DT)})})
        time = x if not isinstance(x, np.ndarray) or x.ndim != 3 else x[:, :, 0]
        index = np.zeros(np.shape(time), int) if isinstance(time, np.ndarray) else time
        return nir.NIRGraphData({"in": nir.NIRNodeData({"spikes": nir.EventData(index, time, SHAPE[2], 6 * DT)})})

    def made(x: Any) -> Any:
        try:
            return graph(x)
        except Exception as error:  # NIR's own classes refuse some, which is none of ours
            raise nd.ConfigurationError(f"nir: {type(error).__name__}") from error

    thrown(lambda x: nd.from_nir_data(made(x), dt=DT))
    thrown(lambda x: nd.simulate(network, made(x), backend="numpy"))


# --- events ----------------------------------------------------------------------------------------------------------


def test_event_lists(board: LinkedBoard, tmp_path: Path) -> None:
    odd = [*NUMBERS, *(np.full(2, v) for v in (np.nan, -1, 0.5, 2**31, 2**53, 1e300)), np.arange(3), np.zeros((2, 2))]
    good = {"time": np.array([5, 900]), "node": np.array([0, 0]), "index": np.array([0, 3]), "nodes": ("in",)}
    results = []
    for name, value in itertools.product(good, odd):
        changed = {**good, name: value}
        results.append(outcome(lambda c=changed: board.run(nd.Events(**c), 0.01), f"{name} = {_said(value)}"))
    count(results)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_layouts(layout: nd.Layout) -> None:
    sound = json.loads(json.dumps(layout.to_dict()))
    x = np.ones((1, 4, SHAPE[2]))

    def used(data: Any) -> Any:
        made = nd.Layout.from_dict(data)
        assert nd.Layout.from_dict(made.to_dict()) == made
        assert len(made.neuron_map) == made.n_neurons
        assert len(made.input_map) >= made.n_channels
        assert len(made.output_map) <= 4 * made.n_neurons
        nd.report(made).text()
        nd.to_samna(made)
        nd.to_network(made)
        return nd.simulate(made, x, backend="numpy", mismatch=nd.Mismatch(), key=1, record=("spikes", "i_mem"))

    cases = [mutated(sound, seed) for seed in range(2 * LEAST)]
    count([outcome(lambda data=data: used(data), what) for what, data in cases])


@pytest.mark.long
def test_params_files(params: nd.Params, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    save_params(params, path)
    with np.load(path) as stored:
        sound = dict(stored)
    text = json.loads(str(sound["text"]))
    values = (np.nan, np.inf, -1, 0, 1, 1e-300, 1e-30, 1e30, 1e300, 2**31 - 1, 2**20)
    x, results = np.ones((1, 4, SHAPE[2])), []

    def used() -> Any:
        found = load_params(path)
        return nd.simulate(found, x, backend="numpy", mismatch=nd.Mismatch(), key=1, record=("spikes", "i_mem"))

    rng = np.random.default_rng(0)
    for name, value in itertools.product((n for n in sound if n not in ("format", "text")), values):
        array = sound[name].copy()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array.flat[int(rng.integers(array.size))] = np.asarray(value).astype(array.dtype)
        np.savez(path, **{**sound, name: array})
        results.append(outcome(used, f"{name} holds {value}"))
    for seed in range(LEAST):
        what, other = mutated(text, seed)
        np.savez(path, **{**sound, "text": np.array(json.dumps(other))})
        results.append(outcome(used, what))
    count(results)


@pytest.mark.long
def test_profiles(layout: nd.Layout, tmp_path: Path) -> None:
    profile = nd.ChipProfile.synthetic(1)
    data = {"name": "p", "cams": (~profile.rows).astype(int).tolist()}
    data["tags"] = [[list(range(1024)), list(range(1024, 2048))] for _ in range(4)]
    data |= {
        "neurons": [[1], [], [], []],
        "pairs": [[0, 0, 0, 1500]],
        "scales": {"i_ref": [1, 1, 1.5, 1]},
        "measured": {"a": 1},
    }
    small = {key: data[key] for key in ("name", "tags", "neurons", "pairs", "scales", "measured")}
    path, x, results = tmp_path / "p.json", np.ones((1, 4, SHAPE[2])), []

    def used() -> Any:
        (found, *_) = nd.load_profiles(path)
        return nd.simulate(layout, x, backend="numpy", device=nd.DYNAPSE2.with_profiles(found))

    for seed in range(LEAST):
        what, other = mutated(small, seed)
        path.write_text(json.dumps({**other, "cams": data["cams"]}))
        results.append(outcome(used, what))
    count(results)


def files(tmp_path: Path) -> list[tuple[str, Path]]:
    """Data files with every crafted array as x, and with every crafted number as dt."""
    made = []
    for what, x in arrays(SHAPE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                np.savez(tmp_path / f"{len(made)}.npz", x=x, y=LABELS, dt=DT)
            except Exception:  # what NumPy does not write nobody reads
                continue
        made.append((what, tmp_path / f"{len(made)}.npz"))
    return made


@pytest.mark.long
def test_data_files_on_the_command_line(
    network: nd.Network, layout: nd.Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.save(tmp_path / "l.json")
    codes = []
    for what, path in files(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code = main(["run", str(tmp_path / "l.json"), "--input", str(path), "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        document = json.loads(captured.out)
        assert code in (0, 1), what
        assert ("error" in document) == (code == 1), what
        codes.append(code)
    assert len(codes) >= LEAST
    assert set(codes) == {0, 1}


@pytest.mark.long
def test_checkpoints_of_evaluations(tmp_path: Path) -> None:
    path, digests = tmp_path / "c.npz", {name: name * 8 for name in evaluation.PARTS}
    evaluation._save(path, digests, np.zeros((3, 3), np.int32))
    with np.load(path) as stored:
        sound = dict(stored)
    results = []
    odd = [x for _, x in arrays((1, 3, 3)) if isinstance(x, np.ndarray)]
    for name, value in itertools.product(sound, odd):
        np.savez(path, **{**sound, name: value})
        what = f"{name} is {value.dtype} {value.shape}"
        results.append(outcome(lambda: evaluation._load(path, digests, 5, evaluation.COLUMNS), what))
    count(results)


# --- numbers ---------------------------------------------------------------------------------------------------------


def calls(network: nd.Network, layout: nd.Layout, board: LinkedBoard) -> dict[str, Callable[[Any], Any]]:
    """Every public keyword that is a number, as a function of it; what takes long ends in an error behind the check."""
    x, data = np.ones(SHAPE), nd.Data(np.ones(SHAPE), LABELS, DT)
    events = nd.Events(np.array([5]), np.array([0]), np.array([0]), ("in",))
    values, signal = np.full((1, 2), 0.5), np.zeros((1, 4, 2))
    nobody = (("nobody", 0),)  # which ends it once all numbers were looked at
    found = nd.Evaluation(np.ones(2), np.arange(2), np.zeros(2), np.zeros(2), 1, 1.0)
    taken: dict[str, Callable[[Any], Any]] = {
        "simulate dt": lambda v: nd.simulate(layout, x, dt=v, backend="numpy"),
        "simulate dt ideal": lambda v: nd.simulate(network, x, dt=v, ideal=True, backend="numpy"),
        "simulate key": lambda v: nd.simulate(layout, x, key=v, mismatch=nd.Mismatch(), backend="numpy"),
        "run_batch dt": lambda v: board.run_batch(x, v),
        "run duration": lambda v: board.run(events, v),
        "virtual board": lambda v: VirtualBoard(v),
        "virtual board step": lambda v: VirtualBoard(1, step=v),
        "open_board": lambda v: nd.open_board(f"virtual:{v}" if isinstance(v, int) and abs(v) < 1e99 else "virtual:x"),
        "evaluate devices": lambda v: nd.evaluate(layout, data, devices=v, key=-1),
        "evaluate key": lambda v: nd.evaluate(layout, data, key=v, devices=0),
        "evaluate memory": lambda v: nd.evaluate(layout, data, memory=v, devices=0),
        "quantile": found.quantile,
        "compile seed": lambda v: nd.compile(network, seed=v, membranes=nobody),
        "compile tolerance": lambda v: nd.compile(network, tolerance=v, membranes=nobody),
        "compile budget": lambda v: nd.compile(network, budget=v, membranes=nobody),
        "compile importance": lambda v: nd.compile(network, importance=v),
        "replicate": lambda v: nd.replicate(network, v) if not isinstance(v, int) or v < 100 else None,
        "replicate key": lambda v: nd.replicate(network, 2, key=v),
        "fine_tune devices": lambda v: nd.fine_tune(network, data, devices=v, steps=-1),
        "fine_tune steps": lambda v: nd.fine_tune(network, data, steps=v, key=-1),
        "fine_tune key": lambda v: nd.fine_tune(network, data, key=v, steps=-1),
        "fine_tune bits": lambda v: nd.fine_tune(network, data, bits=v, steps=-1),
        "Data dt": lambda v: nd.Data(x, LABELS, v),
        "Recording dt": lambda v: nd.Recording({"in": x}, v),
        "from_counts dt": lambda v: nd.Events.from_counts(x[0], v, "in"),
        "to_counts size": lambda v: events.to_counts("in", v, DT, 0.01),
        "to_counts dt": lambda v: events.to_counts("in", 4, v, 0.01),
        "to_counts duration": lambda v: events.to_counts("in", 4, DT, v),
        "from_nir_data": lambda v: nd.from_nir_data(nd.to_nir_data(nd.Recording({"in": x}, DT)), dt=v),
        "rate steps": lambda v: encoders.rate(values, v, DT, 100.0),
        "rate dt": lambda v: encoders.rate(values, 5, v, 100.0),
        "rate highest": lambda v: encoders.rate(values, 5, DT, v),
        "rate key": lambda v: encoders.rate(values, 5, DT, 100.0, key=v),
        "rate phase": lambda v: encoders.rate(values, 5, DT, 100.0, phase=v),
        "latency steps": lambda v: encoders.latency(values, v, DT, earliest=0.0, latest=DT),
        "latency dt": lambda v: encoders.latency(values, 5, v, earliest=0.0, latest=DT),
        "latency earliest": lambda v: encoders.latency(values, 5, DT, earliest=v, latest=DT),
        "latency latest": lambda v: encoders.latency(values, 5, DT, earliest=0.0, latest=v),
        "delta threshold": lambda v: encoders.delta(signal, v),
        "reconstruct threshold": lambda v: encoders.reconstruct(signal, v),
        "reconstruct start": lambda v: encoders.reconstruct(signal, 1.0, v),
        "Mismatch uniform": nd.Mismatch.uniform,
        "stack": nd.DYNAPSE2.stack,
        "from_nir dt": lambda v: nd.from_nir(nd.to_nir(network), dt=v),
        "from_nir time_scale": lambda v: nd.from_nir(nd.to_nir(network), time_scale=v),
        "calibrate chips": lambda v: nd.calibrate(board, chips=v, probes=0),
        "calibrate probes": lambda v: nd.calibrate(board, probes=v, rounds=0),
        "calibrate rounds": lambda v: nd.calibrate(board, rounds=v, chips=0),
        "load_profiles": lambda v: nd.load_profiles("no/file.json", max_failure=v),
    }
    for made, names in (
        (nd.TrainingOptions, None),
        (nd.Mismatch, ("synapse", "noise", "spike_loss", "dead_neurons", "dead_rows")),
        (nd.Timing, None),
        (Attack, None),
        (Penalty, None),
        *((loss, None) for loss in (Counts, FirstSpike, MaxOverTime, Trajectory)),
    ):
        for name in names or (field.name for field in fields(made)):
            taken[f"{made.__name__} {name}"] = lambda v, made=made, name=name: made(**{name: v})
    return taken


@pytest.mark.long
def test_numbers(network: nd.Network, layout: nd.Layout, board: LinkedBoard) -> None:
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, call in calls(network, layout, board).items():
            results += [outcome(lambda v=v, call=call: call(v), f"{name} = {_said(v)}") for v in NUMBERS]
    count(results)


def _said(value: Any) -> str:
    return "an integer of thousands of digits" if isinstance(value, int) and abs(value) > 1e300 else repr(value)[:60]


def test_things_of_another_type(network: nd.Network, layout: nd.Layout, board: LinkedBoard) -> None:
    x, data, results = np.ones(SHAPE), nd.Data(np.ones(SHAPE), LABELS, DT), []
    ways: dict[str, Callable[[Any], Any]] = {
        "simulate": lambda v: nd.simulate(v, x, backend="numpy"),
        "simulate record": lambda v: nd.simulate(network, x, record=v, backend="numpy"),
        "simulate backend": lambda v: nd.simulate(network, x, backend=v),
        "simulate mismatch": lambda v: nd.simulate(network, x, mismatch=v, backend="numpy"),
        "evaluate": lambda v: nd.evaluate(v, data, devices=1),
        "evaluate data": lambda v: nd.evaluate(layout, v, devices=1),
        "fine_tune": lambda v: nd.fine_tune(v, data, steps=1),
        "fine_tune data": lambda v: nd.fine_tune(network, v, steps=1),
        "apply": board.apply,
        "run": lambda v: board.run(v, 0.01),
        "compile": nd.compile,
        "to_params": nd.to_params,
        "from_nir_data": nd.from_nir_data,
        "to_nir_data": nd.to_nir_data,
    }
    for name, call in ways.items():
        for value in NUMBERS:
            if name == "simulate mismatch" and value is None:
                continue
            results.append(outcome(lambda v=value, call=call: call(v), f"{name} of {_said(value)}"))
    count(results)
