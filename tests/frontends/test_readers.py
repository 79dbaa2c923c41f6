"""Every reader of NIR files: its own importer runs what `to_nir(reader=…)` writes, bin for bin as an ideal run.

Sinabs is told after its import to reset to zero with one spike per step, Spyx is compared with a network that resets as it
does; both are warnings of `to_nir`. Where a reader cannot run a network, the test shows what it really does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

import nir_dynapse as nd
import reader_models as models
from frontend_models import framework, input_spikes
from nir_dynapse.backend import written_for
from nir_dynapse.export.readers import READERS

pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")

MODULES = {
    "norse": "norse.torch",
    "snntorch": "snntorch.import_nir",
    "spikingjelly": "spikingjelly.activation_based.nir_exchange",
    "sinabs": "sinabs.nir",
    "spyx": "spyx.nir",
}
TORCH = [name for name in MODULES if name != "spyx"]
STEPS = 100


def leaky(n: int, draw: Any) -> Any:
    return draw.between(-0.2, 0.3, n)


NETWORKS: dict[str, Callable[..., nd.Network]] = {
    "LIF": lambda **o: models.layers("LIF", **o),
    "CubaLIF": lambda **o: models.layers("CubaLIF", **o),
    "IF": lambda **o: models.layers("IF", **o),
    "Threshold": lambda **o: models.layers("Threshold", **o),
    "bias": lambda **o: models.layers("CubaLIF", bias=True, **o),
    "recurrent LIF": lambda **o: models.layers("LIF", recurrent=True, **o),
    "recurrent CubaLIF with bias": lambda **o: models.layers("CubaLIF", recurrent=True, bias=True, **o),
    "v_leak and v_reset": lambda **o: models.layers("LIF", v_leak=leaky, v_reset=leaky, **o),
    "convolution, sum": lambda **o: models.convolution("LIF", "SumPool2d", **o),
    "convolution, mean": lambda **o: models.convolution("CubaLIF", "AvgPool2d", **o),
    "past layers": lambda **o: models.skip(**o),
    "past layers, CubaLIF": lambda **o: models.skip("CubaLIF", **o),
    "a loop of two": lambda **o: models.loop(**o),
    "several ports": lambda **o: models.several_ports(**o),
}
CHAINS = [name for name in NETWORKS if not name.startswith(("past", "a loop", "several"))]
"""What Spyx can read: layers one after the other."""


def network_for(reader: str, name: str) -> nd.Network:
    """SpikingJelly takes layers of one time constant only."""
    return NETWORKS[name](one=reader == "spikingjelly")


def resets_to_zero(model: Any) -> None:
    """What Sinabs' LIF layers must be told: the hint of the finding."""
    activation = framework("sinabs.activation")
    for layer in model.modules():
        if type(layer).__name__ == "LIFSqueeze":
            layer.spike_fn, layer.reset_fn = activation.SingleSpike, activation.MembraneReset()


def as_spyx(network: nd.Network) -> nd.Network:
    """`network` with the reset and the late spikes of Spyx."""
    kinds = {"CubaLIF": "subtract"}
    changed = tuple(replace(p, reset=kinds.get(p.kind, "subtract-late")) for p in network.populations)
    return replace(network, populations=changed).with_semantics(emission="next-step")


def same(reader: str, network: nd.Network, path: Path, x: np.ndarray, change: Any = None) -> None:
    """The reader's output is that of an ideal run in every bin, and some bins have spikes."""
    want = models.ideal(network, x)
    assert 0.01 < (want > 0).mean() < 0.9
    got = models.run(reader, path, models.shaped(network, path, x), change=change)
    assert got.shape == want.shape
    differing = int((np.abs(got - want) > 1e-4).sum())  # values of a sum are floats
    assert differing == 0, f"{differing} of {want.size} bins differ"


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("reader", TORCH)
def test_same_spikes(reader: str, name: str, tmp_path: Path) -> None:
    framework(MODULES[reader])
    network = network_for(reader, name)
    codes = {f.code for f in models.write(network, reader, tmp_path / "a.nir") if f.severity != "info"}
    assert codes == ({"reset"} if reader == "sinabs" else set())
    x = input_spikes(network.n_inputs, steps=STEPS)
    same(reader, network, tmp_path / "a.nir", x, resets_to_zero if reader == "sinabs" else None)


@pytest.mark.parametrize("name", CHAINS)
def test_same_spikes_in_spyx_but_for_its_reset(name: str, tmp_path: Path) -> None:
    framework(MODULES["spyx"])
    network = network_for("spyx", name)
    codes = {f.code for f in models.write(network, "spyx", tmp_path / "a.nir") if f.severity != "info"}
    assert codes == {"reset", "emission"}
    same("spyx", as_spyx(network), tmp_path / "a.nir", input_spikes(network.n_inputs, steps=STEPS))


def test_every_reader_is_here() -> None:
    assert {"spec", "jaxsnn", *MODULES} == set(READERS)  # jaxsnn: test_jaxsnn.py


# --- where the threshold is met --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", TORCH)
def test_a_threshold_that_is_met_exactly_is_no_spike(reader: str, tmp_path: Path) -> None:
    """Weights of 0.5 and a threshold of 1: NIR says v > v_threshold; SpikingJelly and Sinabs fire at v ≥ v_threshold."""
    framework(MODULES[reader])
    n = 4
    neurons = nir.IF(np.full(n, 1 / models.DT), np.ones(n), np.zeros(n))
    nodes = {"input": models.port(n), "fc": nir.Linear(0.5 * np.eye(n)), "lif": neurons, "output": models.port(n, True)}
    network = models.read(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
    models.write(network, reader, tmp_path / "a.nir")
    same(reader, network, tmp_path / "a.nir", input_spikes(n), resets_to_zero if reader == "sinabs" else None)


# --- resets ----------------------------------------------------------------------------------------------------------


def test_sinabs_resets_as_it_is_told(tmp_path: Path) -> None:
    """By subtraction with several spikes per step where nothing is set: what 'subtract-multiple' is."""
    framework(MODULES["sinabs"])
    network = models.layers("LIF", recurrent=True)
    network = replace(network, populations=tuple(replace(p, reset="subtract-multiple") for p in network.populations))
    assert not [f for f in models.write(network, "sinabs", tmp_path / "a.nir") if f.severity != "info"]
    x = input_spikes(12, steps=STEPS)
    assert models.ideal(network, x).max() > 1
    same("sinabs", network, tmp_path / "a.nir", x)


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_norse_subtracts_where_it_is_told(kind: str, tmp_path: Path) -> None:
    norse = framework("norse.torch")
    network = models.layers(kind, recurrent=True).with_semantics(reset="subtract")
    (finding, *_) = models.write(network, "norse", tmp_path / "a.nir")
    assert finding.code == "reset"
    reset = framework("norse.torch.functional.reset").reset_subtract
    model = norse.from_nir(nir.read(tmp_path / "a.nir"), dt=models.DT, reset_method=reset)
    x = input_spikes(12, steps=STEPS)
    np.testing.assert_array_equal(models.stepped(model, x), models.ideal(network, x))


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
@pytest.mark.parametrize("reset", ["subtract-late", "subtract-once"])
def test_snntorch_subtracts_where_it_is_told(reset: Any, kind: str, tmp_path: Path) -> None:
    framework(MODULES["snntorch"])
    network = models.layers(kind).with_semantics(reset=reset)
    assert {f.code for f in models.write(network, "snntorch", tmp_path / "a.nir") if f.severity != "info"} == {"reset"}

    def told(model: Any) -> None:
        for layer in model.modules():
            if hasattr(layer, "reset_mechanism"):
                layer.reset_mechanism, layer.state_function = "subtract", layer._base_sub
                layer.reset_delay = reset == "subtract-late"

    same("snntorch", network, tmp_path / "a.nir", input_spikes(12, steps=STEPS), told)


def test_snntorch_resets_to_zero_whatever_the_network_does(tmp_path: Path) -> None:
    framework(MODULES["snntorch"])
    network = models.layers("CubaLIF").with_semantics(reset="subtract")
    assert {f.code for f in models.write(network, "snntorch", tmp_path / "a.nir") if f.severity != "info"} == {"reset"}
    x = input_spikes(12, steps=STEPS)
    got = models.run("snntorch", tmp_path / "a.nir", x)
    assert np.any(got != models.ideal(network, x))
    np.testing.assert_array_equal(got, models.ideal(network.with_semantics(reset="value"), x))


# --- what readers do with a file that was not written for them --------------------------------------------------------


def plain(network: nd.Network, path: Path) -> Path:
    nir.write(path, nd.to_nir(network))
    return path


def test_norse_meets_parallel_branches_too_early(tmp_path: Path) -> None:
    """nirtorch.load goes depth first: a layer that two branches feed is stepped before the second one."""
    framework(MODULES["norse"])
    network, x = models.skip("CubaLIF"), input_spikes(12, steps=STEPS)
    got = models.run("norse", plain(network, tmp_path / "a.nir"), x)
    assert np.any(got != models.ideal(network, x))


def test_snntorch_cannot_run_its_recurrent_layers(tmp_path: Path) -> None:
    framework(MODULES["snntorch"])
    network = nd.from_nir(nd.to_nir(models.layers("LIF", recurrent=True)), dt=models.DT, time_scale=0.1)
    path = plain(network, tmp_path / "a.nir")
    with pytest.raises((AttributeError, AssertionError)):
        models.run("snntorch", path, input_spikes(12, steps=2))


def test_sinabs_drops_a_square_linear(tmp_path: Path) -> None:
    """It knows Affine only: what else it does not know is a wire."""
    framework(MODULES["sinabs"])
    draw = models.Draw(1)
    nodes = {"input": models.port(6), "fc": models.matrix(6, 6, draw, 8.0), "lif": models.neuron("LIF", 6, draw)}
    nodes["output"] = models.port(6, True)
    network = models.read(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")])
    without = models.read({k: v for k, v in nodes.items() if k != "fc"}, [("input", "lif"), ("lif", "output")])
    x = input_spikes(6, steps=STEPS)
    got = [models.run("sinabs", plain(n, tmp_path / f"{k}.nir"), x) for k, n in enumerate((network, without))]
    np.testing.assert_array_equal(got[0], got[1])


def test_spyx_leaves_the_second_edge_out(tmp_path: Path) -> None:
    framework(MODULES["spyx"])
    network = models.skip()
    assert {f.node for f in models.write(network, "spyx", tmp_path / "a.nir") if f.code == "chain"} >= {
        "past1",
        "past2",
    }
    graph, _ = written_for(network, "spyx")
    chain = {k: v for k, v in graph.nodes.items() if "past" not in k and k != "input_to_l2"}
    edges = [edge for edge in graph.edges if set(edge) <= chain.keys()]
    alone = nd.from_nir(nir.NIRGraph(chain, edges), dt=models.DT)
    x = input_spikes(12, steps=STEPS)
    np.testing.assert_array_equal(models.run("spyx", tmp_path / "a.nir", x), models.ideal(as_spyx(alone), x))
