"""What `deploy` does around training: the stages, the training with its log, and many virtual chips before and after."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any

from nir_dynapse.chip.device import Device, Mismatch
from nir_dynapse.circuit.params import Params
from nir_dynapse.data.data import Data
from nir_dynapse.data.recording import Decision
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.evaluation.checks import check_decision
from nir_dynapse.evaluation.evaluate import evaluate
from nir_dynapse.files.numbers import COMPARED
from nir_dynapse.layout.layout import Layout
from nir_dynapse.network.network import Network
from nir_dynapse.reporting.training_log import TrainingLog
from nir_dynapse.training.clock import later

__all__ = [
    "AFTER",
    "BEFORE",
    "Stages",
    "check_request",
    "compared",
    "decision_of",
    "fine_tuned",
    "first_seed",
    "spread_text",
]

BEFORE, AFTER = "before training", "after training"
"""The two runs over many virtual chips in a report."""
FIRST_SEED = 1000
"""Of the virtual chips of the comparison, unless the board is one of them."""
WEIGHTS = {"train": 20.0, "fit": 6.0, BEFORE: 4.0, AFTER: 4.0}
"""How much longer these stages take than the others, roughly."""

ALIKE = {"compile untrained": "compile", BEFORE: AFTER}
"""Stages before the training, and those after it that do the same with what was trained."""

Progress = Callable[[str, float], None]


class Stages:
    """How far a deployment is at the beginning of each of its stages, the progress within one, and what they take."""

    def __init__(self, names: Iterable[str], tell: Progress) -> None:
        self._tell, self._names = tell, list(names)
        ends = list(accumulate(WEIGHTS.get(name, 1.0) for name in self._names))
        self._ends = [0.0, *(end / ends[-1] for end in ends)]
        self._took: dict[str, float] = {}
        self._now, self._since = "", 0.0

    def begin(self, name: str) -> None:
        """Tell that stage `name` begins."""
        now = time.monotonic()
        self._took[self._now] = now - self._since
        self._now, self._since = name, now
        self._tell(name, self._ends[self._names.index(name)])

    def after_training(self) -> float:
        """s that the stages after the training take, about: what the same took of the untrained circuit."""
        return sum(self._took.get(before, 0.0) for before, name in ALIKE.items() if name in self._names)

    def done(self) -> None:
        """Tell that all of them are done."""
        self._tell("done", 1.0)

    def within(self, name: str) -> Progress:
        """A `progress` for what stage `name` calls; a stage that says more than its name is told with it."""
        start, end = self._ends[k := self._names.index(name)], self._ends[k + 1]
        rest = self.after_training() if name == "train" else 0.0

        def tell(what: str, share: float) -> None:
            self._tell(f"{name}: {later(what, rest)}", start + (end - start) * min(max(share, 0.0), 1.0))

        return tell


def check_request(train: Data | None, params: Params | None, training: Mapping[str, Any] | None, compare: int) -> None:
    """ConfigurationError or ParameterRangeError where what `deploy` is asked about training contradicts itself."""
    COMPARED.check("deploy", "compare", compare, "Give a number of virtual chips, 0 for none.")
    if train is None and params is None and training:
        raise ConfigurationError(
            f"deploy: training says {', '.join(training)}, but there is nothing to train with. Give train=Data(x, y, dt)."
        )
    useless = sorted(set(training or {}) - {"mismatch"})
    if train is None and useless:
        raise ConfigurationError(
            f"deploy: training says {', '.join(useless)}, but nothing is trained. Give train=Data(x, y, dt)."
        )


def decision_of(decide: Decision | None, loss: Any, network: Network) -> Decision:
    """What decides: what was asked for, else the first spike where the `loss` of the training is about it and there is one
    (ConfigurationError)."""
    if decide is None:
        about = "".join(str(loss if isinstance(loss, str) else type(loss).__name__).lower().split("-"))
        spikes = bool(network.outputs) and network.outputs[0].source not in network.readout.names
        decide = "first-spike" if about.startswith("firstspike") and spikes else "counts"
    check_decision("deploy", decide, network)
    return decide


def fine_tuned(
    thing: Network | Params | Layout, data: Data, keywords: Mapping[str, Any], progress: Progress | None = None
) -> tuple[Params, TrainingLog]:
    """What `fine_tune(thing, data, **keywords)` returns, and its log, also where no file for it is named."""
    from nir_dynapse.training.fine_tune import fine_tune  # JAX and optax, where something is trained

    with _folder() if keywords.get("log") is None else nullcontext() as folder:
        path = Path(keywords["log"]) if folder is None else Path(folder) / "log.csv"
        params = fine_tune(thing, data, **{**keywords, "log": path, "progress": progress})
        return params, TrainingLog.load(path) if path.exists() else TrainingLog()


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="nir_dynapse.")
    except OSError as error:
        raise ConfigurationError(
            f"no temporary folder can be made ({error.strerror}). Make room, or set TMPDIR to another folder."
        ) from error


def compared(
    name: str,
    layout: Layout,
    data: Data,
    chips: int,
    mismatch: Mismatch,
    board: str,
    device: Device,
    decide: Decision,
    stages: Stages,
) -> dict[str, Any]:
    """Accuracy of a Layout, in stage `name`, on `chips` virtual chips, none of them `board`, as `Evaluation.to_dict`."""
    stages.begin(name)
    options = {
        "devices": chips,
        "mismatch": mismatch,
        "key": first_seed(board, chips),
        "device": device,
        "decide": decide,
    }
    return evaluate(layout, data, progress=stages.within(name), **options).to_dict()


def first_seed(board: str, chips: int) -> int:
    """The first of `chips` consecutive seeds without that of `board`."""
    kind, _, number = board.partition(":")
    own = int(number or 0) if kind == "virtual" else -1
    return own + 1 if FIRST_SEED <= own < FIRST_SEED + chips else FIRST_SEED


def spread_text(mismatch: Mismatch, device: Device) -> str:
    """The mismatch of the chips in a word or two."""
    if mismatch == device.mismatch:
        return "of the device"
    spreads = {cv for _, cv in mismatch.cv} | {mismatch.synapse}
    return f"CV {spreads.pop():g}" if len(spreads) == 1 else f"CV {min(spreads):g} to {max(spreads):g}"
