"""From a NIR graph to a verified DYNAP-SE2 configuration.

```
              import_/                 sim/                    quant/                   export/
 NIRGraph ──from_nir──▶ Network ──to_params──▶ Params ──place·quantise·route──▶ Layout ──to_samna──▶ samna configuration
     ▲                    │  ▲                  │                                 │  ▲                         │
     └──────to_nir────────┘  └──────────────────┼──────────to_network─────────────┘  └───────from_samna────────┘
                                                │
                                  simulate · run on a Board
                    Device: limits, parameter table, mismatch — handed to every arrow, changed by none
                    Finding: everything an arrow had to refuse or approximate — collected in a Report
```

    import nir_dynapse as nd

    net = nd.from_nir("model.nir")                  # or an nir.NIRGraph
    layout = nd.compile(net, data=train)            # fitted to data (no labels needed), placed, routed, quantised
    print(nd.report(layout).text())
    print(nd.evaluate(layout, test, devices=100))   # accuracy on virtual chips 0 to 99
    params = nd.fine_tune(net, train)               # weights and biases for chips that it has never seen
    layout = nd.compile(net, params=params)
    with nd.open_board("virtual:7") as board:       # a virtual chip with fingerprint 7; "samna" for the real one
        board.apply(layout)
        out = board.run(events, duration=0.5)
        (profile,) = nd.calibrate(board)            # its biases, mismatch and bad rows, for compile(device=...)

Importing the package loads nothing else: every name below is loaded when it is first used.

Folders, each importing itself and what stands before it, nothing beside it: the nouns `errors`, `files`, `chip`, `network`,
`circuit` and `data`, `layout`, `board` and `reporting`; the arrows `import_`, `sim`, `quant`, `export`; `backend` (the
plugin that host programs find, and `open_board`), `evaluation`, `calibration` and `lava_process`; `fitting`;
`training` and `figures`; `deployment`; `cli`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nir_dynapse.backend import open_board, to_nir, to_params
    from nir_dynapse.board.board import Board
    from nir_dynapse.board.link import Timing
    from nir_dynapse.calibration.calibrate import calibrate
    from nir_dynapse.chip.device import DYNAPSE2, Device, Mismatch
    from nir_dynapse.chip.profile import ChipProfile, load_profiles, save_profiles
    from nir_dynapse.circuit.params import Params
    from nir_dynapse.circuit.params_file import load_params, save_params
    from nir_dynapse.data.data import Data, Events
    from nir_dynapse.data.event_files import events_to_data, read_data, read_events
    from nir_dynapse.data.nir_data import data_from_nir, from_nir_data, to_nir_data
    from nir_dynapse.data.recording import Recording
    from nir_dynapse.data.recording_folder import RecordingFolder
    from nir_dynapse.deployment.deploy import deploy
    from nir_dynapse.errors import (
        CapacityError,
        ConfigurationError,
        DynapseError,
        Finding,
        HardwareError,
        NotInstalledError,
        ParameterRangeError,
        ReaderWarning,
        UnsupportedGraphError,
    )
    from nir_dynapse.evaluation.evaluate import Evaluation, evaluate
    from nir_dynapse.export.samna_config import to_samna
    from nir_dynapse.export.samna_text import write_config_json
    from nir_dynapse.fitting.compiler import compile
    from nir_dynapse.fitting.fit import fit_to_data
    from nir_dynapse.fitting.result import FitResult
    from nir_dynapse.import_.nir_graph import from_nir
    from nir_dynapse.import_.samna_config import from_samna
    from nir_dynapse.layout.layout import Layout
    from nir_dynapse.network.network import Network
    from nir_dynapse.network.redundancy import replicate
    from nir_dynapse.quant.compiler import to_network
    from nir_dynapse.reporting.report import Report, report
    from nir_dynapse.reporting.training_log import TrainingLog
    from nir_dynapse.sim.engine import spike_counts
    from nir_dynapse.sim.simulation import simulate
    from nir_dynapse.sim.surrogate import Surrogate
    from nir_dynapse.training.begin import trainable
    from nir_dynapse.training.fine_tune import fine_tune
    from nir_dynapse.training.losses import Counts, FirstSpike, FirstSpikeTime, Loss, MaxOverTime, Penalty, Trajectory
    from nir_dynapse.training.model import Trainable
    from nir_dynapse.training.options import TrainingOptions

    __version__: str

__all__ = [
    "DYNAPSE2",
    "Board",
    "CapacityError",
    "ChipProfile",
    "ConfigurationError",
    "Counts",
    "Data",
    "Device",
    "DynapseError",
    "Evaluation",
    "Events",
    "Finding",
    "FirstSpike",
    "FirstSpikeTime",
    "FitResult",
    "HardwareError",
    "Layout",
    "Loss",
    "MaxOverTime",
    "Mismatch",
    "Network",
    "NotInstalledError",
    "ParameterRangeError",
    "Params",
    "Penalty",
    "ReaderWarning",
    "Recording",
    "RecordingFolder",
    "Report",
    "Surrogate",
    "Timing",
    "Trainable",
    "TrainingLog",
    "TrainingOptions",
    "Trajectory",
    "UnsupportedGraphError",
    "__version__",
    "calibrate",
    "compile",
    "data_from_nir",
    "deploy",
    "evaluate",
    "events_to_data",
    "fine_tune",
    "fit_to_data",
    "from_nir",
    "from_nir_data",
    "from_samna",
    "load_params",
    "load_profiles",
    "open_board",
    "read_data",
    "read_events",
    "replicate",
    "report",
    "save_params",
    "save_profiles",
    "simulate",
    "spike_counts",
    "to_network",
    "to_nir",
    "to_nir_data",
    "to_params",
    "to_samna",
    "trainable",
    "write_config_json",
]

_HOME = {
    "backend": ("open_board", "to_nir", "to_params"),
    "board.board": ("Board",),
    "board.link": ("Timing",),
    "calibration.calibrate": ("calibrate",),
    "chip.device": ("DYNAPSE2", "Device", "Mismatch"),
    "chip.profile": ("ChipProfile", "load_profiles", "save_profiles"),
    "circuit.params": ("Params",),
    "circuit.params_file": ("load_params", "save_params"),
    "data.data": ("Data", "Events"),
    "data.event_files": ("events_to_data", "read_data", "read_events"),
    "data.nir_data": ("data_from_nir", "from_nir_data", "to_nir_data"),
    "data.recording": ("Recording",),
    "data.recording_folder": ("RecordingFolder",),
    "deployment.deploy": ("deploy",),
    "errors": (
        "CapacityError",
        "ConfigurationError",
        "DynapseError",
        "Finding",
        "HardwareError",
        "NotInstalledError",
        "ParameterRangeError",
        "ReaderWarning",
        "UnsupportedGraphError",
    ),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "export.samna_config": ("to_samna",),
    "export.samna_text": ("write_config_json",),
    "fitting.compiler": ("compile",),
    "fitting.fit": ("fit_to_data",),
    "fitting.result": ("FitResult",),
    "import_.nir_graph": ("from_nir",),
    "import_.samna_config": ("from_samna",),
    "layout.layout": ("Layout",),
    "network.network": ("Network",),
    "network.redundancy": ("replicate",),
    "quant.compiler": ("to_network",),
    "reporting.report": ("Report", "report"),
    "reporting.training_log": ("TrainingLog",),
    "sim.engine": ("spike_counts",),
    "sim.simulation": ("simulate",),
    "sim.surrogate": ("Surrogate",),
    "training.begin": ("trainable",),
    "training.fine_tune": ("fine_tune",),
    "training.losses": ("Counts", "FirstSpike", "FirstSpikeTime", "Loss", "MaxOverTime", "Penalty", "Trajectory"),
    "training.model": ("Trainable",),
    "training.options": ("TrainingOptions",),
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it, once (PEP 562)."""
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("nir-dynapse")
    else:
        home = next((module for module, names in _HOME.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
