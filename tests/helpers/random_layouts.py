"""Random Layouts: bits and names that no compiler made, but that a file can hold."""

from __future__ import annotations

import numpy as np

from nir_dynapse.chip.device import PARAMETERS
from nir_dynapse.errors import Finding
from nir_dynapse.layout.layout import CAM_DTYPE, INPUT_DTYPE, MONITOR_HOP, SRAM_DTYPE, Layout
from nir_dynapse.network.network import Port

__all__ = ["random_layout"]


def random_layout(seed: int, n_chips: int = 1, n_neurons: int = 20, *, slots: int = 256) -> Layout:
    """A Layout full of random, valid bits and names, in the first `slots` places of each core."""
    rng = np.random.default_rng(seed)
    core_index, slot = np.divmod(rng.permutation(n_chips * 4 * slots)[:n_neurons], slots)
    chip, core = core_index // 4, core_index % 4
    cut = int(rng.integers(0, n_neurons + 1))
    parts = [("a", "LIF", (cut, 1)), ("b.c", "CubaLIF", (n_neurons - cut,))]
    populations = tuple(part for part in parts if np.prod(part[2]))
    used = np.zeros(n_chips * 4, bool)
    used[core_index] = True
    used[rng.integers(n_chips * 4)] = True
    codes = rng.integers(0, (6, 256), (n_chips * 4, len(PARAMETERS), 2))
    channels = int(rng.integers(1, 9))
    inputs = (Port("in", (channels,)),)
    tonic = bool(rng.integers(2))
    rows = [(k, rng.integers(n_chips), rng.integers(1, 16), rng.integers(2048)) for k in range(channels + tonic)]
    return Layout(
        n_chips=n_chips,
        populations=populations,
        chip=chip,
        core=core,
        slot=slot,
        latches=rng.integers(0, 16, n_neurons),
        cam=_random_cam(rng, n_neurons),
        sram=_random_sram(rng, n_neurons),
        codes=codes * used[:, None, None],
        used_cores=used,
        inputs=inputs,
        outputs=tuple(Port(f"out_{name}", shape, name) for name, _, shape in populations[:1]),
        input_rows=np.array(rows, INPUT_DTYPE),
        projections=tuple(("in", name, f"fc_{name}") for name, _, _ in populations),
        dt=float(rng.uniform(1e-4, 1e-2)),
        tonic_period=0.01 if tonic else None,
        origin={"file": f"{seed}.nir", "options": {"time_scale": 50.0}},
        findings=(Finding("warning", "approximated", "something was approximated.", node="a", index=0, used=0),),
        weight_errors={
            "cores": {"0.0": {"weights": 9, "rows": 12, "lost": 1, "nrmse": 0.02, "bins": [1, 7, 1]}},
            "projections": [["in", "a", 9, 1, 0.02]],
            "neurons": rng.random(n_neurons).round(4).tolist(),
            "borders": [-0.3, -0.1, 0.1, 0.3],
        },
        membranes=np.where(used & (rng.random(len(used)) < 0.5), rng.integers(0, slots, len(used)), -1),
    )


def _random_cam(rng: np.random.Generator, n: int) -> np.ndarray:
    """Every seventh neuron has no rows, every eleventh has all of them."""
    cam = np.zeros((n, 64), CAM_DTYPE)
    cam["tag"], cam["dendrite"] = rng.integers(0, 2048, (n, 64)), rng.integers(0, 4, (n, 64))
    cam["mask"], cam["flags"] = rng.integers(0, 16, (n, 64)), rng.integers(0, 8, (n, 64))
    share = np.where(np.arange(n) % 7 == 3, 0.0, np.where(np.arange(n) % 11 == 5, 1.0, 0.3))
    cam[rng.random((n, 64)) >= share[:, None]] = (0, -1, 0, 0)
    return cam


def _random_sram(rng: np.random.Generator, n: int) -> np.ndarray:
    """Row 0 monitors every second neuron (with tags of their own), rows 1 and 2 send somewhere, row 3 is free."""
    sram = np.zeros((n, 4), SRAM_DTYPE)
    sram["tag"], sram["cores"] = rng.integers(0, 2048, (n, 4)), rng.integers(1, 16, (n, 4))
    sram["x_hop"], sram["y_hop"] = rng.integers(-6, 8, (n, 4)), rng.integers(-7, 8, (n, 4)) * (rng.random((n, 4)) < 0.3)
    sram["tag"][:, 0], sram["cores"][:, 0], sram["x_hop"][:, 0] = np.arange(n) % 2048, 15, MONITOR_HOP
    free = rng.random((n, 4)) < 0.5
    free[:, 0], free[:, 3] = np.arange(n) % 2 == 1, True
    sram[free] = (0, 0, 0, 0)
    return sram
