"""A NIR graph with Delay nodes as a Lava process: the spikes of `simulate`, nominal and on a drawn chip."""

from __future__ import annotations

from lava_runs import run_script

LATE = """
import nir
from itertools import pairwise
from nir_dynapse.network.primitives import graph

n = 12
lif = nir.LIF(tau=np.full(n, 0.02), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.ones(n), v_reset=np.zeros(n))
weight = np.random.default_rng(0).uniform(2, 9, (n, 4))
nodes = {"in": nir.Input({"input": np.array([4])}), "fc": nir.Linear(weight)}
nodes |= {"wait": nir.Delay(np.repeat([1.0, 4, 9, 20], 3) * 1e-3), "hidden": lif}
nodes |= {"out": nir.Output({"output": np.array([n])})}
net = nd.from_nir(graph(nodes, list(pairwise(nodes))), dt=1e-3)
x = np.zeros((90, 4))
x[[3, 30, 31, 55]] = 2
layout = nd.compile(net)
firsts = []
for thing, chip in ((net, {}), (layout, {}), (layout, {"mismatch": nd.Mismatch(), "key": 4})):
    expected = nd.simulate(thing, x[None].astype(np.uint8), backend="numpy", **chip).output[0]
    process = DynapSE2(thing=thing, **chip)
    sink = wired(process, x)
    with LavaRun(process, run_cfg=Loihi2SimCfg(select_tag="floating_pt")) as run:
        run(len(x))
        got = sink.data.get().T
    assert (got == expected).all(), int((got != expected).sum())
    assert got.sum() > 30
    firsts.append(got.argmax(0))
assert firsts[0][-1] - firsts[0][0] >= 17, "20 ms are later than 1 ms"
assert (firsts[1] != firsts[2]).any(), "and not alike on every chip"
print("equal")
"""


def test_a_late_network_in_lava() -> None:
    assert run_script(LATE).startswith("equal")
