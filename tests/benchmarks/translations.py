"""Networks made in one framework and run in another: how many bins of their output differ.

    .venv-frontends/bin/python tests/benchmarks/translations.py [--write]

Each network is made in framework A, run there, written by A's own exporter, turned into plain NIR by `import --frontend A`,
translated by `export --for B`, read by B's own importer and run there on the same events. The table goes to stdout, with
--write also into docs/readers.md; needs the environment of tests/frontends with Sinabs and SpikingJelly.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from frontend_models import Draw, framework, input_spikes  # noqa: E402
from nir_dynapse.cli.main import main as command  # noqa: E402
from nir_dynapse.files.whole import write_atomically  # noqa: E402
from reader_models import quiet, run  # noqa: E402

SIZES = (12, 38, 7)
STEPS = 200
DT = 1e-3
READERS = {"snntorch": "snnTorch", "norse": "Norse", "spikingjelly": "SpikingJelly", "sinabs": "Sinabs"}
PAGE = ROOT / "docs" / "readers.md"
warnings.simplefilter("ignore")


@dataclass(frozen=True)
class Case:
    """One kind of network: `make()` gives what the exporter wrote and a function from events to output spikes."""

    frontend: str
    name: str
    make: Callable[[], tuple[Any, Callable[[np.ndarray], np.ndarray]]]
    options: tuple[str, ...] = ()
    single: bool = True
    """Whether it fires at most once in a step and resets to a value."""


def torch() -> Any:
    return framework("torch")


def linear(n_in: int, n_out: int, draw: Draw, drive: float) -> Any:
    made = torch().nn.Linear(n_in, n_out)
    made.weight.data = torch().tensor(draw.weight(n_out, n_in, drive))
    made.bias.data = torch().tensor(draw.between(-0.1, 0.1, n_out) * drive)
    return made


def layered(cell: Callable[[int, Draw], Any], drive: float) -> list[Any]:
    draw, found = Draw(2), []
    for n_in, n_out in pairwise(SIZES):
        found += [linear(n_in, n_out, draw, drive), cell(n_out, draw)]
    return found


def full(n: int, value: float) -> Any:
    return torch().full((n,), value)


def snntorch(kind: str, drive: float, **options: Any) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    snn = framework("snntorch")

    def cell(n: int, draw: Draw) -> Any:
        values = {"beta": full(n, 0.85), "threshold": full(n, 1.1), **options}
        if "Synaptic" in kind:
            values["alpha"] = full(n, 0.6)
        if kind.startswith("R"):
            values["linear_features"] = n
        made = getattr(snn, kind)(init_hidden=True, **values)
        if kind.startswith("R"):
            made.recurrent.weight.data = torch().tensor(draw.recurrent(n, 0.5))
            made.recurrent.bias.data = torch().tensor(draw.between(-0.1, 0.1, n))
        return made

    net = torch().nn.Sequential(*layered(cell, drive))

    def own(x: np.ndarray) -> np.ndarray:
        for layer in net:
            if hasattr(layer, "reset_mem"):
                layer.reset_mem()
        return np.stack([net(torch().tensor(x[:, t])).detach().numpy() for t in range(x.shape[1])], 1)

    graph = framework("snntorch.export_nir").export_to_nir(net, torch().zeros(1, SIZES[0]), ignore_dims=[0])
    return graph, own


def norse(kind: str, drive: float) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    module = framework("norse.torch")

    def cell(n: int, draw: Draw) -> Any:
        rest = {"v_th": full(n, 1.1), "v_leak": full(n, 0.0)}
        if kind == "LIFCell":
            return module.LIFCell(
                module.LIFParameters(tau_mem_inv=full(n, 90.0), tau_syn_inv=full(n, 180.0), **rest), dt=DT
            )
        if kind == "IAFCell":
            return module.IAFCell(module.IAFParameters(v_th=full(n, 1.1)), dt=DT)
        return module.LIFBoxCell(module.LIFBoxParameters(tau_mem_inv=full(n, 90.0), **rest), dt=DT)

    net = module.SequentialState(*layered(cell, drive))

    def own(x: np.ndarray) -> np.ndarray:
        state, rows = None, []
        with torch().no_grad():
            for t in range(x.shape[1]):
                y, state = net(torch().tensor(x[:, t]), state)
                rows.append(y.numpy().copy())
        return np.stack(rows, 1)

    return module.to_nir(net, torch().zeros(SIZES[0]), dt=DT), own


def spikingjelly(kind: str, drive: float, **options: Any) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    base = "spikingjelly.activation_based"
    neuron, functional = framework(f"{base}.neuron"), framework(f"{base}.functional")
    net = torch().nn.Sequential(*layered(lambda n, draw: getattr(neuron, kind)(**options), drive))

    def own(x: np.ndarray) -> np.ndarray:
        functional.reset_net(net)
        with torch().no_grad():
            return np.stack([net(torch().tensor(x[:, t])).numpy().copy() for t in range(x.shape[1])], 1)

    graph = framework(f"{base}.nir_exchange").export_to_nir(net, torch().zeros(1, SIZES[0]))
    return graph, own


def sinabs(kind: str, drive: float, single: bool = False) -> tuple[Any, Callable[[np.ndarray], np.ndarray]]:
    sl, activation = framework("sinabs.layers"), framework("sinabs.activation")
    how = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()} if single else {}

    def cell(n: int, draw: Draw) -> Any:
        values = {"spike_threshold": full(n, 1.1), "batch_size": len(input_spikes(1)), **how}
        return sl.IAFSqueeze(**values) if kind == "IAF" else sl.LIFSqueeze(tau_mem=full(n, 9.0), **values)

    net = torch().nn.Sequential(*layered(cell, drive))

    def own(x: np.ndarray) -> np.ndarray:
        for layer in net:
            if hasattr(layer, "reset_states"):
                layer.reset_states()
        with torch().no_grad():
            return net(torch().tensor(x).flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()

    return framework("sinabs.nir").to_nir(net, torch().tensor(input_spikes(SIZES[0])).flatten(0, 1)), own


VALUE, SUBTRACT = ("--reset", "value"), ("--reset", "subtract")
NOW = ("--no-reset-delay",)
CASES = (
    Case("snntorch", "Leaky, to zero", lambda: snntorch("Leaky", 1.6, reset_mechanism="zero"), VALUE),
    Case(
        "snntorch",
        "RLeaky, to zero",
        lambda: snntorch("RLeaky", 1.6, reset_mechanism="zero", reset_delay=False),
        (*VALUE, *NOW),
    ),
    Case(
        "snntorch",
        "Synaptic, to zero",
        lambda: snntorch("Synaptic", 0.8, reset_mechanism="zero", reset_delay=False),
        (*VALUE, *NOW),
    ),
    Case("snntorch", "Leaky, by subtraction", lambda: snntorch("Leaky", 1.6), (), False),
    Case("norse", "LIFBoxCell", lambda: norse("LIFBoxCell", 8.0)),
    Case("norse", "LIFCell", lambda: norse("LIFCell", 1.6)),
    Case("norse", "IAFCell", lambda: norse("IAFCell", 0.8)),
    Case("spikingjelly", "LIFNode", lambda: spikingjelly("LIFNode", 5.0, tau=3.7)),
    Case("spikingjelly", "CUBALIFNode", lambda: spikingjelly("CUBALIFNode", 0.6, c_decay=0.6, v_decay=0.8)),
    Case("spikingjelly", "IFNode", lambda: spikingjelly("IFNode", 0.8)),
    Case("sinabs", "LIF, to zero", lambda: sinabs("LIF", 6.0, True), VALUE),
    Case("sinabs", "IAF, to zero", lambda: sinabs("IAF", 0.8, True), VALUE),
    Case("sinabs", "LIF, by subtraction", lambda: sinabs("LIF", 6.0), (), False),
)


def resets_to_zero(model: Any) -> None:
    activation = framework("sinabs.activation")
    for layer in model.modules():
        if type(layer).__name__ == "LIFSqueeze":
            layer.spike_fn, layer.reset_fn = activation.SingleSpike, activation.MembraneReset()


def subtracts_late(model: Any) -> None:
    for layer in model.modules():
        if hasattr(layer, "reset_mechanism"):
            layer.reset_mechanism, layer.state_function, layer.reset_delay = "subtract", layer._base_sub, True


def called(*words: str) -> None:
    """A command line that must succeed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command([*words, "-q"])
    if code:
        raise SystemExit(f"nir-dynapse {' '.join(words)}: {said.getvalue()}")


def translated(case: Case, folder: Path) -> tuple[dict[str, str], int, float]:
    """Differing bins by reader, how many bins there are, and the share of them with spikes."""
    graph, own = quiet(case.make)
    x = input_spikes(SIZES[0], seed=5, steps=STEPS)
    want = own(x)
    if case.frontend == "sinabs":
        graph.infer_types()
    nir.write(folder / "a.nir", graph)
    options = (*case.options, "--dt", str(DT))
    called("import", str(folder / "a.nir"), "--frontend", case.frontend, *options, "-o", str(folder / "plain.nir"))
    cells = {}
    for reader in READERS:
        (folder / "b.nir").unlink(missing_ok=True)
        called("export", str(folder / "plain.nir"), "--for", reader, "-o", str(folder / "b.nir"))
        told = None
        if reader == "sinabs" and case.single:
            told = resets_to_zero
        elif reader == case.frontend == "snntorch" and not case.single:
            told = subtracts_late
        got = run(reader, folder / "b.nir", x, DT, told)
        cells[reader] = f"{int((got != want).sum())}{'¹' if told else ''}"
    return cells, want.size, float((want > 0).mean())


def table() -> str:
    lines = [f"| made in | {' | '.join(READERS.values())} | bins | with spikes |", "| --- " * (len(READERS) + 3) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            cells, bins, active = translated(case, Path(folder))
            (Path(folder) / "plain.nir").unlink()
            row = " | ".join(cells[reader] for reader in READERS)
            lines.append(f"| {READERS[case.frontend]}: {case.name} | {row} | {bins} | {100 * active:.0f} % |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bins that differ between a framework and the one translated to.")
    parser.add_argument("--write", action="store_true", help="put the table into docs/readers.md")
    args = parser.parse_args()
    made = table()
    print(made)
    if args.write:
        text = PAGE.read_text(encoding="utf-8")
        pattern = r"(<!-- translations: tests/benchmarks/translations.py -->\n).*?(\n<!-- end of translations -->)"
        text, found = re.subn(pattern, lambda m: m[1] + made + m[2], text, flags=re.S)
        if found != 1:
            raise SystemExit(f"{PAGE.name}: the markers of the table are there {found} times, not once.")
        write_atomically(PAGE, text.encode())


if __name__ == "__main__":
    main()
