"""How far the simulator is from silicon: what its circuits do at bias codes with which laboratories recorded a chip.

    python3 -m uv run python tests/benchmarks/silicon.py [--write] [--search] [--chips N]

The silicon's side are single numbers derived from public repositories, named in each row; nothing of their data or code is
here. The simulator's side is computed from the codes, for both sets of constants, on the nominal chip and on virtual chips
with the default mismatch. `--write` puts the tables into docs/silicon.md, between its marks. `--search` looks for constants
that sustain the E/I network at the recorded rates, among those that the recordings leave open, and checks what it found on
other chips and networks; without, that of `silicon_network.FOUND` is checked. Takes a minute, with the search some five.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from silicon_network import FOUND, LIMITS, NEAR, Change, Found, found, search

import nir_dynapse as nd
from nir_dynapse.chip import biasgen
from nir_dynapse.chip.constants import RECORDED_NOISE, SETS
from nir_dynapse.chip.device import CURRENTS, PARAMETERS, Circuit, Mismatch
from nir_dynapse.circuit.params import Params, Topology, latch_bits
from nir_dynapse.network.network import Port
from nir_dynapse.sim.mismatch import fabricate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "silicon.md"
ADAPTATION = "Aramatos/dynapse2_adaptation"
HOMEOSTASIS = "Maryada-27/dynapse_homeostasis"
SIZE = 250
"""Neurons of a population of the F-I curves."""
STEPS = np.linspace(0, 250, 15, dtype=int)
"""Fine codes of the DC current, at coarse code 5."""
SECONDS, SETTLE = 2.2, 0.2

RHEOBASE = 0.75
"""Factor on leaks that fits the recorded F-I curves best: within what one board may be off by."""

Code = tuple[int, int]
POPULATIONS: dict[str, dict[str, Code]] = {
    "PC": {"i_tau_mem": (1, 46), "i_gain_mem": (0, 30), "i_ref": (1, 70), "i_spkthr": (4, 100)},
    "PV": {"i_tau_mem": (1, 90), "i_gain_mem": (1, 70), "i_ref": (1, 200), "i_spkthr": (5, 250)},
    "SST": {"i_tau_mem": (1, 44), "i_gain_mem": (1, 80), "i_ref": (1, 90), "i_spkthr": (5, 250)},
}
RAMPS = {"PC": (0.06, 124.0, 60.0), "PV": (0.36, 334.0, 160.0), "SST": (0.18, 198.0, 90.0)}
"""Ramps that the recorded means follow within 28.0 Hz in all: start and slope (Hz) in parts of fine code 250, highest rate
(Hz)."""


def ramp(name: str) -> np.ndarray:
    """Hz at `STEPS`."""
    start, slope, top = RAMPS[name]
    return np.clip(slope * (STEPS / 250 - start), 0, top)


def current(name: str, code: Code) -> float:
    return float(biasgen.current(name, *code))


def driven(
    codes: Sequence[dict[str, float]], group: np.ndarray, place: np.ndarray, circuit: Circuit, dt: float = 1e-3
) -> Params:
    """Neurons without synapses, driven by DC alone; `codes` are the currents in A of each bias group."""
    n, none = len(group), np.zeros(0, int)
    bias = {name: np.array([c.get(name, PARAMETERS[name].off) for c in codes]) for name in CURRENTS}
    latches = np.full(n, latch_bits(dc=True))
    topology = Topology(
        (Port("none", (1,)),), (("cells", n),), (), dt, group, latches, place, none, none, none, none
    )  # fmt: skip
    return Params(bias, np.zeros(0), None, topology, circuit)


def f_i(circuit: Circuit, chip: int | None, mismatch: Mismatch, rheobase: float = 1.0) -> dict[str, np.ndarray]:
    """Rates in Hz (steps, neurons) of the three populations; `chip` None is the nominal one, with one neuron each.

    `rheobase` multiplies the leaks, and with them the current at which a neuron begins to fire.
    """
    size = 1 if chip is None else SIZE
    codes, group, place = [], [], []
    for core, values in enumerate(POPULATIONS.values()):
        fixed = {name: current(name, code) for name, code in values.items()}
        fixed["i_tau_mem"] *= rheobase
        for fine in STEPS.tolist():
            codes.append({**fixed, "i_dc": current("i_dc", (5, fine))})
            group += [len(codes) - 1] * size
            place += [(0, core, slot) for slot in range(size)]  # the same neurons at every step
    params = driven(codes, np.array(group), np.array(place), circuit)
    params = params if chip is None else fabricate(params, mismatch, chip)
    x = np.zeros((1, round(SECONDS / 1e-3), 1), np.uint8)
    counts = nd.simulate(params, x).spikes["cells"][0, round(SETTLE / 1e-3) :].sum(0)
    rates = counts.reshape(len(POPULATIONS), len(STEPS), size) / (SECONDS - SETTLE)
    return dict(zip(POPULATIONS, rates, strict=True))


class Curves:
    """What F-I curves say: the summed RMSE to the ramps, the highest rates, and the first step with a spike."""

    def __init__(self, rates: dict[str, np.ndarray]) -> None:
        means = {name: r.mean(1) for name, r in rates.items()}
        self.rmse = sum(float(np.sqrt(np.mean((means[name] - ramp(name)) ** 2))) for name in means)
        self.top = [float(m[-1]) for m in means.values()]
        fired = np.array([(r > 0).any() for r in np.concatenate([*rates.values()], 1)])
        self.first = int(STEPS[np.argmax(fired)])


def jitter(circuit: Circuit, noise: float, latency: float = 12e-3, neurons: int = 255) -> tuple[float, float, float]:
    """Median latency in s, standard deviation in s of first spikes per run, and their CV² of intervals, under DC.

    Neurons of leak (0, 48) with the threshold and gain of PC, each driven so that it first fires after `latency`: the
    recorded ones fired some 12 ms after their first event, at unknown codes.
    """
    fixed = {name: current(name, code) for name, code in POPULATIONS["PC"].items()} | {
        "i_tau_mem": current("i_tau_mem", (0, 48))
    }

    def run(drive: float, level: float, key: int, seconds: float) -> nd.Recording:
        codes = [{**fixed, "i_dc": drive}]
        place = np.stack([np.zeros(neurons), np.zeros(neurons), np.arange(neurons)], 1)
        params = driven(codes, np.zeros(neurons, int), place, circuit)
        only_noise = Mismatch.uniform(0.0, noise=level)
        return nd.simulate(params, np.zeros((1, round(seconds / 1e-3), 1)), mismatch=only_noise, key=key, times=True)

    low = fixed["i_tau_mem"] * fixed["i_spkthr"] / fixed["i_gain_mem"]
    high = 100 * low
    for _ in range(24):  # the latency falls as the drive grows
        middle = float(np.sqrt(low * high))
        first = run(middle, 0.0, 0, 2 * latency).latencies("cells")[0, 0]
        low, high = (low, middle) if first < latency else (middle, high)
    runs = [run(float(np.sqrt(low * high)), noise, key, 0.5) for key in (1, 2)]
    first = np.stack([r.latencies("cells")[0] for r in runs])
    sd = float(np.std(first[0] - first[1]) / np.sqrt(2))
    cvs = []
    for events in (r.events[0] for r in runs):
        for k in range(neurons):
            gaps = np.diff(np.sort(events.time[events.index == k]))[1:]
            cvs.append(np.var(gaps) / np.mean(gaps) ** 2)
    return float(np.median(first)), sd, float(np.mean(cvs))


# --- the tables -------------------------------------------------------------------------------------------------------


def span(values: Sequence[float], digits: int = 3) -> str:
    low, high = f"{min(values):.{digits}g}", f"{max(values):.{digits}g}"
    return low if low == high else f"{low} to {high}"


def taus(circuit: Circuit, name: str, code: Code, chips: int) -> tuple[str, str]:
    """ms on the nominal chip, and the range over chips of the means of 20 neurons."""
    flowing, neurons = current(name, code), np.arange(20)
    params = driven([{name: flowing}], np.zeros(20, int), np.stack([0 * neurons, 0 * neurons, neurons], 1), circuit)
    drawn = (fabricate(params, Mismatch(), chip).per_neuron(name) for chip in range(chips))
    means = [1e3 * float(np.mean(circuit.tau(name, values))) for values in drawn]
    return f"{1e3 * float(circuit.tau(name, flowing)):.3g} ms", f"{span(means)} ms"


Row = tuple[str, str, str, str, str, str]


def times(chips: int) -> list[Row]:
    """Rows 1a, 1b and 4a: no set changes them."""
    rows = []
    for number, what, name, code, silicon, where in (
        ("1a", "membrane, leak (0, 48)", "i_tau_mem", (0, 48), "20.8 ± 3.6 ms at fine 48, coarse not printed",
         f"{ADAPTATION}, TC_NEURON_Rercording.ipynb"),
        ("1a", "membrane, leak (1, 48)", "i_tau_mem", (1, 48), "the same", f"{ADAPTATION}, TC_NEURON_Rercording.ipynb"),
        ("1b", "membrane, leak (2, 5)", "i_tau_mem", (2, 5), "20 ms, a comment", f"{HOMEOSTASIS}, core_bias.py"),
        ("4a", "AMPA, (2, 30)", "i_tau_ampa", (2, 30), "5 to 10 ms, a comment", f"{HOMEOSTASIS}, core_bias.py"),
    ):  # fmt: skip
        nominal, over_chips = taus(Circuit.published, name, code, chips)
        rows.append((number, f"time constant of {what}", silicon, nominal, over_chips, where))
    return rows


def firing(circuit: Circuit, chips: int, rheobase: float = 1.0) -> list[Row]:
    """Rows 2, 3 and 3b."""
    mismatch = Mismatch()
    nominal = Curves(f_i(circuit, None, mismatch, rheobase))
    many = [Curves(f_i(circuit, chip, mismatch, rheobase)) for chip in range(chips)]
    where = f"{ADAPTATION}, F-I.ipynb, tc_extraction.py"
    tops = "/".join(span([c.top[k] for c in many]) for k in range(3))
    return [
        ("2", "F-I of three populations: RMSE to the recorded ramps, summed", "28.0 Hz", f"{nominal.rmse:.1f} Hz",
         f"{span([c.rmse for c in many])} Hz", where),
        ("3", "highest rate of each, DC (5, 250)", "60/160/90 Hz", "/".join(f"{t:.0f}" for t in nominal.top) + " Hz",
         f"{tops} Hz", where),
        ("3b", "first of 15 fine codes of DC with a spike", "35", str(nominal.first),
         f"{span([c.first for c in many])}, median {np.median([c.first for c in many]):.0f}", where),
    ]  # fmt: skip


def noise_rows(circuit: Circuit) -> list[Row]:
    """Rows 7a and 7b at the noise that recordings support, its limits, and the 0.02 of before."""
    rows = []
    for level in (2e-4, RECORDED_NOISE.value, 1e-3, 2e-2):
        latency, sd, cv2 = jitter(circuit, level)
        what = f"first spikes {1e3 * latency:.1f} ms after DC began, noise {level:g}: SD per run"
        rows.append(("7a", what, "16 µs", f"{1e6 * sd:.3g} µs", "-", f"{ADAPTATION}, combined_data.csv"))
        cv = ("7b", f"CV² of intervals under DC, noise {level:g}", "printed as 0.0", f"{cv2:.1g}", "-")
        rows.append((*cv, f"{ADAPTATION}, F-I.ipynb"))
    return sorted(rows, key=lambda row: row[0])


def network_row(name: str, f: Found) -> tuple[str, ...]:
    c = f.change
    return (
        name, f"{c.c_mem:.3g}", f"{c.c_ref:.3g}", f"{c.wee:.3g}", f"{c.pv_gain:.3g}", f"{c.wei:.3g}",
        f"{f.alive} of {f.chips}", f"{f.near} of {f.chips}", f"{f.e:.0f}/{f.i:.0f}" if f.alive else "-",
    )  # fmt: skip


def network_rows(change: Change, chips: int) -> list[tuple[str, ...]]:
    """Row 9a: both sets, what was found, the same without each of its changes, and on other chips and networks."""
    published, mismatch = Circuit.published, Mismatch()

    def of(name: str, changed: Change, first: int = 0, seed: int = 0) -> tuple[str, ...]:
        return network_row(name, found(published, changed, range(first, first + chips), mismatch, seed))

    rows = [of("published", Change()), of("recorded2026", Change(c_ref=2.36)), of("found", change)]
    for name, usual in asdict(Change()).items():
        if getattr(change, name) != usual:
            rows.append(of(f"found, without {name}", replace(change, **{name: usual})))
    rows += [of(f"found, {chips} other chips, network {seed}", change, chips, seed) for seed in range(3)]
    return rows


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def constants_table() -> str:
    rows = [
        (r.name, "published", f"{r.value:.4g} {r.unit}", r.certainty, r.meaning, r.source)
        for r in SETS["published"].values()
    ]
    changed = [r for name, r in SETS["recorded2026"].items() if r != SETS["published"][name]]
    rows += [
        (r.name, "recorded2026", f"{r.value:.4g} {r.unit}", r.certainty, r.meaning, r.source)
        for r in (*changed, RECORDED_NOISE)
    ]
    return table(("constant", "set", "value", "certainty", "meaning", "source"), rows)


def tables(chips: int, change: Change) -> dict[str, str]:
    """The parts of the page by name."""
    header = ("row", "observable (codes)", "silicon", "nominal chip", f"{chips} virtual chips", "repository, file")
    parts = {"constants": constants_table(), "times": table(header, times(chips))}
    for name in SETS:
        parts[name] = table(header, firing(Circuit.named(name), chips))
    parts["rheobase"] = table(header, firing(Circuit.recorded2026, chips, RHEOBASE))
    parts["noise"] = table(header, noise_rows(Circuit.recorded2026))
    factors = ("C_mem", "C_ref", "Wee", "AMPA gain of I", "Wei")
    ends = ("go on for 1 s", f"both rates within {100 * NEAR:.0f} %", "median E/I, Hz")
    parts["network"] = table(("", *factors, *ends), network_rows(change, chips))
    return parts


def write(parts: dict[str, str]) -> None:
    """Put each part between its marks in the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, rest = text.split(begin)
        text = head + begin + part + "\n" + end + rest.split(end)[1]
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--chips", type=int, default=20)
    args = parser.parse_args()
    change = search(Circuit.published, Mismatch()).change if args.search else FOUND
    if args.search:
        print(f"found within {LIMITS}: {change}")
    parts = tables(args.chips, change)
    for name, part in parts.items():
        print(f"\n{name}\n{part}")
    if args.write:
        write(parts)


if __name__ == "__main__":
    main()
