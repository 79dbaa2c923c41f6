"""The published NIR files do what the README beside them says."""

from __future__ import annotations

from typing import Any

import h5py
import nir
import numpy as np
import pytest

from nir_dynapse.errors import CapacityError, ParameterRangeError
from nir_dynapse.import_.nir_graph import from_nir
from nir_dynapse.quant.compiler import compile
from nir_dynapse.sim.simulation import simulate
from places import REFERENCE

reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference files are not part of the repository")


@reference
def test_lif_norse():
    net = from_nir(REFERENCE / "lif_norse.nir", dt=1e-4)
    assert (net.dt, net.n_neurons) == (1e-4, 1)
    assert net["1"].tau_mem[0] == pytest.approx(2.5e-3)
    assert net["1"].v_threshold[0] == pytest.approx(0.1)
    assert all(f.severity == "info" for f in net.findings)


@reference
def test_lif_rockpool_loses_its_batch_and_time_axes():
    with pytest.raises(ValueError, match="mismatch"):
        nir.read(REFERENCE / "lif_rockpool.nir")
    net = from_nir(REFERENCE / "lif_rockpool.nir", dt=1e-4)
    assert net.outputs[0].shape == (1,)
    assert any(f.node == "output" and "without batch and time" in str(f) for f in net.findings)


@reference
def test_two_lif_neurons():
    net = from_nir(REFERENCE / "two_lif_neurons.nir", dt=1e-4)
    assert [p.name for p in net.populations] == ["lif1", "lif2"]
    assert net["lif1"].v_leak[0] > net["lif1"].v_threshold[0]


@reference
def test_braille():
    net = from_nir(REFERENCE / "braille_noDelay_bias_zero.nir", dt=1e-4, time_scale=50)
    assert [(p.name, p.kind, p.size) for p in net.populations] == [("lif1.lif", "CubaLIF", 38), ("lif2", "CubaLIF", 7)]
    assert [(q.source, q.target, q.name, len(q.weight)) for q in net.projections] == [
        ("input", "lif1.lif", "fc1", 12 * 38),
        ("lif1.lif", "lif1.lif", "lif1.w_rec", 38 * 38),
        ("lif1.lif", "lif2", "fc2", 38 * 7),
    ]
    assert net.dt == pytest.approx(5e-3)
    np.testing.assert_allclose(net["lif1.lif"].tau_mem, 0.05, rtol=1e-6)
    with h5py.File(REFERENCE / "braille_noDelay_bias_zero.nir") as h5:
        stored: Any = {name: h5[f"node/nodes/{name}/bias"] for name in ("fc1", "lif1.w_rec", "fc2")}
        np.testing.assert_array_equal(net.bias("lif1.lif"), stored["fc1"][()].astype(float) + stored["lif1.w_rec"][()])
        np.testing.assert_array_equal(net.bias("lif2"), stored["fc2"][()])
    gains = from_nir(REFERENCE / "braille_noDelay_bias_zero.nir", time_scale=50)
    assert gains.dt == pytest.approx(5e-3, rel=1e-5)


@reference
def test_braille_subgraph_is_the_same_network():
    with pytest.raises(ValueError, match="does not exist"):
        nir.read(REFERENCE / "braille_noDelay_bias_zero_subgraph.nir", type_check=False)
    flat = from_nir(REFERENCE / "braille_noDelay_bias_zero.nir", dt=1e-4)
    net = from_nir(REFERENCE / "braille_noDelay_bias_zero_subgraph.nir", dt=1e-4)
    assert [p.name for p in net.populations] == ["lif1.lif1", "lif2"]
    for a, b in zip(flat.populations, net.populations, strict=True):
        np.testing.assert_array_equal(a.tau_mem, b.tau_mem)
    for a, b in zip(flat.projections, net.projections, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
    assert [f.node for f in net.findings if f.code == "repair" and f.severity == "warning"] == ["lif1.lif1"]


@reference
@pytest.mark.parametrize(("name", "hidden"), [("norse_braille", 38), ("braille_fanin67", 55)])
def test_other_trainings(name, hidden):
    net = from_nir(REFERENCE / f"{name}.nir", dt=1e-4, time_scale=50)
    assert [p.size for p in net.populations] == [hidden, 7]


@reference
def test_fan_in_of_67_is_refused_with_the_count_and_fits_when_pruned():
    net = from_nir(REFERENCE / "braille_fanin67.nir", dt=1e-4, time_scale=50)
    with pytest.raises(
        CapacityError, match=r"55 neurons of node 'lif1.lif': up to 67 incoming synapses and a constant"
    ):
        compile(net)
    layout = compile(net, fan_in="prune")
    assert len(layout.neuron_map) == 62
    assert (layout.cam["dendrite"] >= 0).sum(1).max() == 64


@reference
def test_cnn_sinabs_is_too_large_in_every_way_at_once():
    net = from_nir(REFERENCE / "cnn_sinabs.nir", frontend="sinabs", dt=1e-3)
    assert net.n_neurons == 8970
    assert [p.kind for p in net.populations] == ["IF"] * 5
    with pytest.raises(CapacityError) as caught:
        compile(net)
    text = str(caught.value)
    for fan_in in (144, 256, 512, 576):  # a pool folded behind a convolution multiplies the fan-in
        assert f"{fan_in} incoming synapses" in text
    assert "8970 neurons" in text
    assert len(caught.value.findings) >= 5


@reference
def test_spyx_with_negative_time_constants():
    with pytest.raises(ParameterRangeError) as caught:
        from_nir(REFERENCE / "spyx_shd_negative_tau.nir")
    text = str(caught.value)
    assert "node 'LIF', neuron 0: tau is -201.8 s (and 7 more neurons), it must be above 0." in text
    assert "looks transposed" in text


@reference
def test_braille_as_snntorch_with_its_own_reset_is_the_published_raster_too():
    golden = np.load(REFERENCE / "braille_bias_zero_golden.npz")
    options: dict[str, Any] = {"frontend": "snntorch", "dt": 5e-3, "reset": "value", "reset_delay": False}
    net = from_nir(REFERENCE / "braille_noDelay_bias_zero.nir", **options)
    run = simulate(net, golden["input_256x12"], ideal=True)
    assert (run.spikes["lif1.lif"][0] != golden["hidden__noDelay_bias_zero__snntorch"]).sum() == 0


@reference
def test_the_step_of_rockpools_file_is_found_in_its_gains():
    net = from_nir(REFERENCE / "lif_rockpool.nir", frontend="rockpool")
    assert net.dt == pytest.approx(1e-4, rel=1e-4)
    gains = net.populations[0].step_gains(net.dt)
    np.testing.assert_allclose(gains.gain, 1, rtol=1e-6)
    np.testing.assert_allclose(1 - gains.leak, np.exp(-1e-4 / 2.5e-3), rtol=1e-5)
