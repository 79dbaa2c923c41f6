"""Networks as Lava processes: the spikes of `simulate` in NumPy, bin by bin, and what Lava users do with a process."""

from __future__ import annotations

import itertools

import pytest

from lava_runs import run_script
from shortened import shortened

pytest.importorskip("lava.magma", reason="lava-nc is not installed")

EQUAL = """
name = sys.argv[1]
rng = np.random.default_rng(3)
if name == "yin-yang":
    net = nd.from_nir(NETWORKS / "yin_yang.nir", dt=1e-3)
    x = rng.random((2, 60, net.inputs[0].size)) < 0.1
elif name == "recurrent":
    net = nd.from_nir(NETWORKS / "digits_recurrent.nir", dt=1e-3)
    x = rng.random((2, 40, net.inputs[0].size)) < 0.1
else:
    net = nd.from_nir(REFERENCE / "braille_noDelay_bias_zero.nir", dt=1e-4, time_scale=50)
    golden = np.load(REFERENCE / "braille_bias_zero_golden.npz")["input_256x12"]
    x = np.stack([golden[:100], golden[100:200]])
x = x.astype(np.uint8)
mismatch = nd.Mismatch(noise=0.01, spike_loss=0.01)
total = differing = 0
for kind, thing in {"Network": net, "Params": nd.to_params(net), "Layout": nd.compile(net)}.items():
    for chip in ({}, {"mismatch": mismatch, "key": 4}):
        expected = nd.simulate(thing, x, backend="numpy", **chip).output
        in_jax = nd.simulate(thing, x, **chip).output
        total += expected.sum()
        differing += (in_jax != expected).sum()
        process = DynapSE2(thing=thing, **chip)
        sink = wired(process, np.concatenate(x))
        with LavaRun(process) as run:
            for sample in range(len(x)):
                run(x.shape[1])
                process.reset()
            got = sink.data.get().T.reshape(expected.shape)
        assert (got == expected).all(), (kind, chip, int((got != expected).sum()))
assert total > 100, "the test needs spikes"
print("equal", int(total), "in JAX", int(differing), "of", 6 * expected.size, "bins differ")
assert differing <= 1e-3 * 6 * expected.size
"""


@pytest.mark.parametrize("name", shortened(["recurrent", "yin-yang", "braille"]))
def test_lava_gives_the_spikes_of_simulate(name: str) -> None:
    if name == "braille":
        from places import REFERENCE

        if not REFERENCE.is_dir():
            pytest.skip("the NIR paper's files are not at hand")
    assert run_script(EQUAL, name).startswith("equal")


SMALL = """
from nir_dynapse.network.network import Network, Population, Port, Projection

def small(n=24, channels=6, tau_syn=5e-3, seed=3):
    rng = np.random.default_rng(seed)
    full = lambda value: np.full(n, value)
    pop = Population("rec", "CubaLIF", full(20e-3), full(20.0), full(0.0), full(1.0), full(0.0), full(tau_syn), full(5.0))
    first = Projection.from_dense(
        "in", "rec", rng.normal(0.05, 0.1, (n, channels)), bias=rng.uniform(0, 0.02, n), nodes=("fc",)
    )
    second = Projection.from_dense("rec", "rec", rng.normal(0, 0.05, (n, n)), nodes=("w_rec",))
    return Network((pop,), (first, second), (Port("in", (channels,)),), (Port("out", (n,), "rec"),), 1e-3)

net = small()
x = np.random.default_rng(1).poisson(0.3, (80, 6))
"""

STATES = """
from lava.proc.monitor.process import Monitor

names = ("i_mem", "i_ampa", "i_gaba")
expected = nd.simulate(net, x, backend="numpy", record=("spikes", *names))
process, monitor = DynapSE2(thing=net), Monitor()
monitor.probe(process.i_mem, 500)
sink = wired(process, x)
with LavaRun(process, run_cfg=Loihi2SimCfg(select_tag="floating_pt")) as run:
    run(30)
    run(len(x) - 30)
    for name in names:
        assert (np.float32(getattr(process, name).get()) == expected.states[name]["rec"][0, -1]).all(), name
    assert process.counts.get().sum() == expected.output[0, -1].sum()
    seen = monitor.get_data()[process.name]["i_mem"][: len(x)]
    assert (np.float32(seen) == expected.states["i_mem"]["rec"][0]).all()
    got = sink.data.get().T
    assert (got == expected.output[0]).all()
    # What is set acts from the next step on: state, parameters, weights.
    process.i_mem.set(np.full(24, 0.5e-12))
    process.refractory.set(np.full(24, 5e-3))
    run(4)
    assert process.counts.get().sum() == 0 and (process.refractory.get() > 0).all()
    process.reset()
    threshold = process.i_spkthr.get()
    process.i_spkthr.set(2 * threshold)
    run(76)
    process.reset()
    run(80)
    fewer = sink.data.get().sum()
    p = nd.to_params(net).numpy()
    twice = nd.simulate(dataclasses.replace(p, bias={**p.bias, "i_spkthr": 2 * p.bias["i_spkthr"]}), x, backend="numpy")
    assert fewer == twice.output.sum() < 0.8 * got.sum(), (fewer, twice.output.sum())
    process.i_spkthr.set(threshold)
    process.weight.set(np.zeros(process.weight.shape))
    process.reset()
    run(80)
    assert sink.data.get().sum() == 0
    for wrong in (lambda: process.i_spkthr.set(-threshold), lambda: process.i_mem.set(np.zeros(3))):
        try:
            wrong()
        except nd.DynapseError as error:
            print(error)
        else:
            raise AssertionError("accepted")
    run(5)  # still alive
"""


def test_states_and_parameters_are_vars() -> None:
    said = run_script("import dataclasses\n" + SMALL + STATES)
    assert "i_spkthr is set to" in said
    assert "must be finite and positive" in said
    assert "shape (3,), it has shape (24,)" in said


PAIR = """
from lava.proc.dense.process import Dense

p = nd.to_params(net)
assert DynapSE2(thing=p, dt=5e-4).n_substeps == 1
for chip in ({}, {"mismatch": nd.Mismatch(cv={"i_spkthr": 0.2, "i_tau_mem": 0.1}), "key": 2}):
    expected = nd.simulate(p, x, dt=1e-3 / 2, backend="numpy", **chip).output[0]
    process = DynapSE2Network(thing=p, dt=5e-4, **chip)
    steps = len(x)
    sink = wired(process, x)
    with LavaRun(process, run_cfg=Loihi2SimCfg(select_tag="floating_pt")) as run:
        run(steps)
        got = sink.data.get().T
        assert (got != expected).sum() <= 2 and got.sum() > 50, (got != expected).sum()
        process.reset()
        run(steps)
        assert (sink.data.get().T == got).all()
        process.i_spkthr.set(10 * process.i_spkthr.get())
        process.weight.set(0 * process.weight.get())
        process.reset()
        run(steps)
        assert sink.data.get().sum() == 0, sink.data.get().sum(1)
    print("differing bins", int((got != expected).sum()), "of", expected.size)

# Lava's own Dense instead of the synapses: weights in A; it sends what it got a step before.
feedforward = Network((net.populations[0],), net.projections[:1], net.inputs, net.outputs, net.dt)
synapses = DynapSE2Synapses(thing=feedforward)
neurons = DynapSE2Neurons(thing=feedforward, node="rec")
ampa = Dense(weights=synapses.matrix("ampa"), num_message_bits=8)
gaba = Dense(weights=synapses.matrix("gaba"), num_message_bits=8)
source, sink = Source(data=x.T.astype(float)), Sink(shape=(24,), buffer=len(x))
source.s_out.connect(ampa.s_in)
source.s_out.connect(gaba.s_in)
ampa.a_out.connect(neurons.ampa_in)
gaba.a_out.connect(neurons.gaba_in)
neurons.s_out.connect(sink.a_in)
no_bias = Projection(**{**vars(net.projections[0]), "bias": None})
plain = nd.simulate(Network(feedforward.populations, (no_bias,), net.inputs, net.outputs, net.dt), x, backend="numpy")
with LavaRun(neurons) as run:
    run(len(x))
    got = sink.data.get().T
print(got.sum(), plain.output.sum())
assert abs(got[1:] - plain.output[0, :-1]).sum() <= 4 and got.sum() > 20
"""


@pytest.mark.long
def test_synapses_and_neurons_by_themselves() -> None:
    assert "differing bins" in run_script(SMALL + PAIR)


AMONG = """
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIF

# LIF → Dense → the network → Dense → LIF, with stock run configurations, in steps.
drive = LIF(shape=(5,), bias_mant=0.3, vth=1.0, du=1.0, dv=0.0)
before = Dense(weights=np.random.default_rng(0).integers(0, 2, (6, 5)))
process = DynapSE2(thing=net)
behind = Dense(weights=np.ones((2, 24)), num_message_bits=8)
last = LIF(shape=(2,), vth=20.0, du=1.0, dv=0.1)
sink, raster, into = Sink(shape=(2,), buffer=60), Sink(shape=(24,), buffer=60), Sink(shape=(6,), buffer=60)
drive.s_out.connect(before.s_in)
before.a_out.connect(process.s_in)
before.a_out.connect(into.a_in)
process.s_out.connect(behind.s_in)
process.spikes_out.connect(raster.a_in)
behind.a_out.connect(last.a_in)
last.s_out.connect(sink.a_in)
with LavaRun(last, run_cfg=Loihi2SimCfg(select_tag="floating_pt")) as run:
    for _ in range(3):
        run(20)
    events, spikes, out = (part.data.get().T for part in (into, raster, sink))
expected = nd.simulate(net, events, backend="numpy").output[0]
assert (spikes == expected).all() and out.sum() > 3 and spikes.sum() > 50, (out.sum(), spikes.sum())

# Lava's own Reset begins a sample every 20 steps.
from lava.proc.io.reset import Reset

process, every = DynapSE2(thing=net), Reset(reset_value=1, interval=20, offset=19)
every.connect_var(process.clear)
sink = wired(process, events)
with LavaRun(process) as run:
    run(60)
    spikes = sink.data.get().T
expected = nd.simulate(net, events.reshape(3, 20, 6), backend="numpy").output
assert (spikes.reshape(expected.shape) == expected).all() and spikes.sum() > 30

# Wrong shapes say what the port is for.
try:
    Source(data=np.zeros((5, 9))).s_out.connect(process.s_in)
except AssertionError as error:
    print(error)

# Counts, not only spikes, leave the port, and readouts of the host are computed.
net = nd.from_nir(sys.argv[1], dt=1e-3)
x = np.random.default_rng(1).poisson(0.5, (50, 3))
expected = nd.simulate(net, x, backend="numpy").output[0]
for cls in (DynapSE2, DynapSE2Network):  # from the file itself, the hierarchical one with stock run configurations, too
    process = cls(thing=sys.argv[1], dt=1e-3)
    sink = wired(process, x)
    with LavaRun(process, run_cfg=Loihi2SimCfg(select_tag="floating_pt", select_sub_proc_model=True)) as run:
        run(50)
        got = sink.data.get().T
        process.reset()
        run(50)
        assert (sink.data.get().T == got).all()
    # No recurrence and one layer: both are the same, but for the rounding of sums.
    assert np.allclose(got, expected, atol=1e-9) and len(np.unique(got)) > 10, abs(got - expected).max()
"""


@pytest.mark.long
def test_among_processes_of_lava(tmp_path) -> None:
    import nir
    import numpy as np

    from nir_graphs import affine, cubalif, linear, port_in, port_out

    nodes = {
        "in": port_in(3),
        "fc": linear(8, 3),
        "hidden": cubalif(8),
        "ro": affine(2, 8),
        "li": nir.LI(tau=np.full(2, 0.03), r=np.full(2, 2.0), v_leak=np.array([0.1, -0.2])),
        "out": port_out(2),
    }
    names = list(nodes)
    path = tmp_path / "readout.nir"
    nir.write(path, nir.NIRGraph(nodes, list(itertools.pairwise(names))))
    said = run_script(SMALL + AMONG, str(path))
    assert "s_in: event counts of the input nodes 'in' (6)" in said


REFUSED = """
for wrong in (
    lambda: DynapSE2(thing=3),
    lambda: DynapSE2(thing=net, dt=-1.0),
    lambda: DynapSE2Neurons(thing=net, node="nobody"),
    lambda: DynapSE2(thing="nothing.nir"),
):
    try:
        wrong()
    except nd.DynapseError as error:
        print(error)
    else:
        raise AssertionError("accepted")
process = DynapSE2(thing=net)
wired(process, x)
with LavaRun(process) as run:
    run(1_000_000, blocking=False)
    for what in (process.i_mem.get, process.reset, lambda: process.i_mem.set(np.zeros(24))):
        try:
            what()
        except nd.DynapseError as error:
            print(error)
        else:
            raise AssertionError("accepted")
    run.pause()
    assert process.i_mem.get().shape == (24,)
"""


def test_refusals_say_what_is_wrong() -> None:
    said = run_script(SMALL + REFUSED)
    for part in ("a int is no network", "dt is -1.0, allowed are", "no population 'nobody'", "nothing.nir"):
        assert part in said
    assert said.count("Call pause() or wait() first") == 3


COPIES = """
from nir_dynapse.circuit.copies import with_copies

params = with_copies(nd.to_params(net), (3,))
expected = nd.simulate(params, x, backend="numpy", mismatch=nd.DYNAPSE2.mismatch, key=2)
process = DynapSE2(thing=params, mismatch=nd.DYNAPSE2.mismatch, key=2)
assert process.s_out.shape == (24,) and process.spikes_out.shape == process.i_mem.shape == (72,)
sink = wired(process, x)
with LavaRun(process) as run:
    run(len(x))
    got = sink.data.get().T
assert got.sum() > 50 and (got % 3).any()
assert (got == expected.output[0]).all()
print("equal")
"""


def test_copies_come_out_as_sums() -> None:
    assert run_script(SMALL + COPIES).startswith("equal")
