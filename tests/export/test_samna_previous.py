"""`to_samna` with the Layout that the object holds already: what differs is written, nothing else; `quiet_codes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nir_dynapse.chip.biasgen import current
from nir_dynapse.chip.device import COLUMN, DENDRITES, PARAMETERS
from nir_dynapse.errors import CapacityError, ConfigurationError
from nir_dynapse.export.configuration import Dynapse2Configuration
from nir_dynapse.export.samna_config import quiet_codes, to_samna
from nir_dynapse.import_.samna_config import from_samna
from nir_dynapse.layout.layout import Layout
from shortened import shortened

quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)
Maker = Callable[..., Layout]


def fresh(fake_samna: ModuleType | None, n_chips: int) -> Any:
    """An untouched configuration: a plain one, or the fake's."""
    if fake_samna is None:
        return Dynapse2Configuration(n_chips)
    config = fake_samna.Dynapse2Configuration()
    config.chips = [fake_samna.Dynapse2Chip() for _ in range(n_chips)]
    return config


def with_old_biases(config: Any, previous: Layout, layout: Layout) -> Any:
    """`config`, with the biases that `previous` leaves in cores that `layout` does not use."""
    for i in np.flatnonzero(previous.used_cores).tolist():
        if i >= len(layout.used_cores) or not layout.used_cores[i]:
            parameters = config.chips[i // 4].cores[i % 4].parameters
            for row, (coarse, fine) in zip(PARAMETERS.values(), previous.codes[i].tolist(), strict=True):
                parameters[row.bias].coarse_value, parameters[row.bias].fine_value = coarse, fine
    return config


def pair_of(draw: Callable[..., Any], make: Maker) -> tuple[Layout, Layout]:
    """Two Layouts of one to eight chips: anything, or the second is the first with parts of another one."""
    chips = st.sampled_from([1, 1, 1, 2, 3, 8])
    first, second = (make(draw(seeds), draw(chips), draw(st.sampled_from([0, 1, 30, 250]))) for _ in range(2))
    if draw(st.booleans()):
        return first, second
    other = make(draw(seeds), first.n_chips, first.n_neurons)
    chosen = {"cam": other.cam, "sram": other.sram, "latches": other.latches}
    changed = {name: rows for name, rows in chosen.items() if draw(st.booleans())}
    for name, rows in changed.items():
        some = np.random.default_rng(draw(seeds)).random(first.n_neurons) < draw(st.sampled_from([0.02, 0.5]))
        changed[name] = np.where(some.reshape(-1, *[1] * (rows.ndim - 1)), rows, getattr(first, name))
    if draw(st.booleans()):
        changed["codes"] = np.where(first.used_cores[:, None, None], other.codes, 0)
        changed["membranes"] = np.where(first.used_cores, other.membranes, -1)
    return first, replace(first, **changed)


@pytest.mark.long
@settings(quick, max_examples=12)
@given(data=st.data())
def test_the_result_is_that_of_a_fresh_object(
    random_layout: Maker, fake_samna: ModuleType, data: st.DataObject
) -> None:
    first, second = pair_of(data.draw, random_layout)
    n_chips = max(first.n_chips, second.n_chips)
    kind = data.draw(st.sampled_from([None, fake_samna]))
    config = to_samna(first, fresh(kind, n_chips))
    assert to_samna(second, config, previous=first) is config
    expected = with_old_biases(to_samna(second, fresh(kind, n_chips)), first, second)
    if kind is None:
        assert config == expected
        assert from_samna(config) == second
    else:
        assert fake_samna.snapshot(config) == fake_samna.snapshot(expected)
        assert from_samna(config, names=second) == second


@pytest.fixture
def assignments(fake_samna: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each attribute of cores, neurons and biases of the fake is assigned."""
    counted: Counter[str] = Counter()
    for kind in (fake_samna.Dynapse2Core, fake_samna.Dynapse2Neuron, fake_samna.Dynapse2Parameter):
        plain = kind.__setattr__

        def spy(self: Any, name: str, value: Any, plain: Any = plain) -> None:
            counted[name] += 1
            plain(self, name, value)

        monkeypatch.setattr(kind, "__setattr__", spy)
    return counted


def _bias(layout: Layout) -> dict[str, Any]:
    codes = np.array(layout.codes)
    core = int(np.flatnonzero(layout.used_cores)[0])
    codes[core, COLUMN["i_spkthr"], 1] ^= 1
    return {"codes": codes}


def _cam(layout: Layout) -> dict[str, Any]:
    cam = np.array(layout.cam)
    cam["tag"][3, 5] ^= 1
    return {"cam": cam}


def _sram(layout: Layout) -> dict[str, Any]:
    sram = np.array(layout.sram)
    sram["y_hop"][4, 1] ^= 1
    return {"sram": sram}


def _latch(layout: Layout) -> dict[str, Any]:
    latches = np.array(layout.latches)
    latches[7] ^= 4
    return {"latches": latches}


def _membrane(layout: Layout) -> dict[str, Any]:
    membranes = np.array(layout.membranes)
    membranes[int(np.argmax(membranes >= 0))] ^= 1
    return {"membranes": membranes}


CHANGES = {
    None: {},
    _bias: {"fine_value": 1},
    _cam: {"synapses": 1},
    _sram: {"destinations": 1},
    _latch: {"latch_denm_nmda": 1},
    _membrane: {"monitored_neuron": 1},
}


@pytest.mark.parametrize("change", shortened(CHANGES, 3), ids=lambda change: change.__name__ if change else "nothing")
def test_only_what_differs_is_written(
    random_layout: Maker, fake_samna: ModuleType, assignments: Counter[str], change: Any
) -> None:
    first = random_layout(5, 2, 200)
    second = replace(first, **change(first)) if change else Layout.from_dict(first.to_dict())
    config = to_samna(first, fresh(fake_samna, 2))
    assert assignments.total() > 1000
    assignments.clear()
    to_samna(second, config, previous=first)
    assert dict(assignments) == CHANGES[change]
    assert from_samna(config, names=second) == second


def test_neurons_come_and_go(random_layout: Maker, fake_samna: ModuleType, assignments: Counter[str]) -> None:
    """A neuron that is no longer there gets unused rows and no latches, the others are left alone."""
    first = random_layout(6, 1, 50)
    n = int(np.flatnonzero((first.latches == 3) & (first.sram["cores"] > 0).any(axis=1))[0])
    kept = np.delete(np.arange(50), n)
    arrays = {name: getattr(first, name)[kept] for name in ("chip", "core", "slot", "latches", "cam", "sram")}
    second = replace(first, populations=(("a", "LIF", (49,)),), outputs=(), projections=(), weight_errors={}, **arrays)
    config = to_samna(first, fresh(fake_samna, 1))
    assignments.clear()
    to_samna(second, config, previous=first)
    gone = {"destinations": 1, "latch_so_dc": 1, "latch_so_adaptation": 1}
    gone |= {"synapses": 1} if (first.cam["dendrite"][n] >= 0).any() else {}
    assert dict(assignments) == gone
    assert from_samna(config, names=second) == second
    assignments.clear()
    to_samna(first, config, previous=second)
    assert dict(assignments) == gone
    assert from_samna(config, names=first) == first


def test_it_stays_atomic(random_layout: Maker, fake_samna: ModuleType) -> None:
    """A missing name stops before the first write; a refused value and an interrupt are taken back."""
    first, second = random_layout(1, 1, 100), random_layout(2, 1, 100)
    config = to_samna(first, fresh(fake_samna, 1))
    place = int(second.core[9]), int(second.slot[9])
    neuron = config.chips[0].cores[place[0]].neurons[place[1]]

    answers: list[BaseException] = [KeyboardInterrupt(), RuntimeError("the device is busy")]

    class Stubborn(fake_samna.Dynapse2Neuron):  # type: ignore[name-defined, misc]
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "destinations" and answers:
                raise answers.pop()
            super().__setattr__(name, value)

    stubborn = Stubborn()
    for name in fake_samna.Dynapse2Neuron.RULES:
        object.__setattr__(stubborn, name, getattr(neuron, name))
    config.chips[0].cores[place[0]].neurons[place[1]] = stubborn
    before = fake_samna.snapshot(config)
    with pytest.raises(ConfigurationError, match=r"device is busy.*left as it was"):
        to_samna(second, config, previous=first)
    assert fake_samna.snapshot(config) == before
    with pytest.raises(KeyboardInterrupt):
        to_samna(second, config, previous=first)
    assert fake_samna.snapshot(config) == before

    config.chips[0].cores[place[0]].neurons[place[1]] = neuron
    del config.chips[0].cores[place[0]].parameters["SYPD_EXT_N"]
    before = fake_samna.snapshot(config)
    with pytest.raises(ConfigurationError, match="no bias 'SYPD_EXT_N'"):
        to_samna(second, config, previous=first)
    assert fake_samna.snapshot(config) == before


def test_previous_must_fit(random_layout: Maker) -> None:
    one, two = random_layout(1, 1), random_layout(1, 2)
    config = Dynapse2Configuration(1)
    with pytest.raises(ConfigurationError, match="previous is for 2 chips, the configuration has 1"):
        to_samna(one, config, previous=two)
    with pytest.raises(CapacityError, match="needs 2 chips"):
        to_samna(two, config, previous=one)
    with pytest.raises(ConfigurationError, match="without the config"):
        to_samna(one, previous=one)
    cam = np.array(one.cam)
    cam["tag"][0, 0] = 4000
    with pytest.raises(ConfigurationError, match="tag of a CAM row"):
        to_samna(one, config, previous=replace(one, cam=cam))
    assert config == Dynapse2Configuration(1)


def test_quieting_writes_five_biases_per_core(
    random_layout: Maker, fake_samna: ModuleType, assignments: Counter[str]
) -> None:
    layout = random_layout(3, 2, 300)
    quiet = quiet_codes(layout)
    config = to_samna(layout, fresh(fake_samna, 2))
    assignments.clear()
    to_samna(quiet, config, previous=layout)
    assert set(assignments) == {"coarse_value", "fine_value"}
    assert assignments["fine_value"] <= 5 * int(layout.used_cores.sum())
    names = ("i_tau_mem", *(f"i_tau_{name}" for name in DENDRITES))
    for i, used in enumerate(layout.used_cores.tolist()):
        for name, k in COLUMN.items():
            expected = (5, 255) if used and name in names else tuple(layout.codes[i, k].tolist())
            assert tuple(quiet.codes[i, k].tolist()) == expected
            if used:
                parameter = config.chips[i // 4].cores[i % 4].parameters[PARAMETERS[name].bias]
                assert (parameter.coarse_value, parameter.fine_value) == expected
    assert all(current(name, 5, 255) > 1e-7 for name in names)
    to_samna(layout, config, previous=quiet)
    assert from_samna(config, names=layout) == layout
    assert quiet_codes(quiet) == quiet
    assert replace(quiet, codes=layout.codes) == layout
