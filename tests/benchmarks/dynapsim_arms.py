"""The two arms of `dynapsim.py`: the same network for DynapSim of Rockpool and for `nir_dynapse.sim.engine`.

An arm is `counts(weights, chips, x)` with trainable `weights` and the factors of its virtual `chips`; everything else
(loss, Adam, timing) is common to both.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nir_dynapse.chip.device import CURRENTS, PARAMETERS, Circuit
from nir_dynapse.circuit.params import Params, Topology, latch_bits
from nir_dynapse.network.network import Port
from nir_dynapse.sim.circuit import internal_step

INPUT_RATE = 0.05
"""Events per bin of 1 ms on each input."""
OUTPUT_RATE = 0.07
"""Spikes per bin of 1 ms and neuron that the weights of each arm are scaled to."""
KINDS = ((0, 0.40), (1, 0.20), (2, 0.25), (3, 0.15))
"""Dendrite and share of the sources that use it: AMPA, NMDA, GABA, SHUNT."""
TAUS = {"ampa": 10e-3, "nmda": 30e-3, "gaba": 10e-3, "shunt": 10e-3}
GAINS = {"ampa": 100.0, "nmda": 100.0, "gaba": 50.0, "shunt": 0.1}
"""Ratios I_gain/I_τ; shunting adds to the leak of some pA, where the others add to an input of some nA."""
ADAM = optax.adam(1e-6)
NATIVE: bool | None = None
"""Whether ours uses the compiled kernels (None: where they can, False: XLA alone)."""


@dataclass(frozen=True)
class Setting:
    """A network and how it is run; `rows` are samples per chip, `refine` splits the bins of 1 ms."""

    n_in: int
    n: int
    steps: int
    rows: int
    chips: int = 1
    fan_in: int | None = None  # None: from every input and every neuron
    recurrent: bool = True
    signed: bool = False  # the sign of each weight picks AMPA or GABA; else the source picks one of four dendrites
    excitatory: bool = False
    refine: int = 1
    biases: bool = False  # whether all bias currents of every neuron are trained, too
    refractory: float = 1e-3  # ours, in s

    @property
    def dt(self) -> float:
        return 1e-3 / self.refine

    def synapses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source, neuron and signed value of each synapse, values of the order of 1/√(synapses of a neuron)."""
        rng = np.random.default_rng(0)
        sources = self.n_in + (self.n if self.recurrent else 0)
        if self.fan_in is None:
            pre, post = (part.ravel() for part in np.meshgrid(np.arange(sources), np.arange(self.n), indexing="ij"))
        else:
            post = np.repeat(np.arange(self.n), self.fan_in)
            # A quarter from the inputs, so that a sparse network is driven like a dense one.
            k = self.fan_in // 4
            drawn = [
                np.r_[
                    rng.choice(self.n_in, k, replace=False),
                    self.n_in + rng.choice(self.n, self.fan_in - k, replace=False),
                ]
                for _ in range(self.n)
            ]
            pre = np.concatenate(drawn)
        value = rng.normal(0.2, 1.0, len(pre)) * np.where(pre < self.n_in, 1.0, 0.3) * np.sqrt(self.n / len(pre))
        return pre, post, np.abs(value) if self.excitatory else value

    def events(self) -> np.ndarray:
        """(rows, steps·refine, inputs): the same events whatever `refine` is, each at the start of its millisecond."""
        x = np.random.default_rng(1).random((self.rows, self.steps, self.n_in)) < INPUT_RATE
        fine = np.zeros((self.rows, self.steps * self.refine, self.n_in), np.float32)
        fine[:, :: self.refine] = x
        return fine

    def factors(self, *shape: int) -> np.ndarray:
        """Mismatch of 20 % for every chip, (chips, …)."""
        return np.exp(0.2 * np.random.default_rng(2).normal(size=(self.chips, *shape))).astype(np.float32)


class Missing(RuntimeError):
    """An arm that cannot run here, with the reason."""


class Arm:
    """What both have in common: data, calibration, loss and the step of the training."""

    name = ""

    def __init__(self, setting: Setting, scale: float | None = None) -> None:
        self.setting = setting
        self.build()
        self.x = jnp.asarray(setting.events())
        self.target = jnp.full((setting.n,), 0.5 * OUTPUT_RATE / setting.refine)
        self.scale = self.calibrate() if scale is None else scale
        self.weights = jax.tree_util.tree_map(lambda w: w * self.scale, self.unit)
        if setting.biases:
            ones = {name: jnp.ones(setting.n) for name in self.bias_names()}
            self.weights = {"weights": self.weights, "factors": ones}
        self.state = ADAM.init(self.weights)

    unit: Any
    """Weights before calibration."""
    chips: Any
    """Factors of the chips, leading axis; {} for one nominal chip."""

    def build(self) -> None:
        """Set everything that `single` uses, outside of any tracing; `Missing` where that cannot be."""
        raise NotImplementedError

    def single(self, weights: Any, chip: Any, x: Any, factors: Any) -> Any:
        """Spike counts (rows, time, n) of one chip; `factors` (n,) by name multiply its bias currents."""
        raise NotImplementedError

    def bias_names(self) -> list[str]:
        """Bias currents that can be trained."""
        raise NotImplementedError

    def counts(self, weights: Any, chips: Any, x: Any) -> Any:
        factors = weights["factors"] if self.setting.biases else {}
        weights = weights["weights"] if self.setting.biases else weights
        if self.setting.chips == 1:
            return self.single(weights, chips, x, factors)
        return jax.vmap(self.single, in_axes=(None, 0, None, None))(weights, chips, x, factors)

    def loss(self, weights: Any, chips: Any, x: Any) -> Any:
        return jnp.mean((self.counts(weights, chips, x).mean(-2) - self.target) ** 2)

    def train(self, weights: Any, state: Any, chips: Any, x: Any) -> tuple[Any, Any, Any]:
        """One step: value and gradient to all weights, and Adam's update."""
        value, gradient = jax.value_and_grad(self.loss)(weights, chips, x)
        change, state = ADAM.update(gradient, state)
        return optax.apply_updates(weights, change), state, value

    def loop(self, epochs: int) -> Callable[..., Any]:
        """`epochs` training steps as one program."""

        def run(weights: Any, state: Any, chips: Any, x: Any) -> Any:
            def body(carry: Any, _: None) -> Any:
                *carry, value = self.train(*carry, chips, x)
                return tuple(carry), value

            return jax.lax.scan(body, (weights, state), None, length=epochs)

        return run

    def calibrate(self) -> float:
        """Scale of the weights at which a few samples of 300 ms have spikes in `OUTPUT_RATE` of the milliseconds."""
        steps = min(self.setting.steps, 300) * self.setting.refine
        unit, chip = self.unit, jax.tree_util.tree_map(lambda leaf: leaf[0], self.chips)
        x = self.x[:4, :steps]
        rate = jax.jit(lambda s: self.single(jax.tree_util.tree_map(lambda w: s * w, unit), chip, x, {}).mean())
        low, high = -12.0, 12.0
        for _ in range(12):
            middle = (low + high) / 2
            if float(rate(2.0**middle)) * self.setting.refine < OUTPUT_RATE:
                low = middle
            else:
                high = middle
        return 2.0**low

    def arguments(self, kind: str) -> tuple[Any, ...]:
        return (
            (self.weights, self.chips, self.x) if kind == "forward" else (self.weights, self.state, self.chips, self.x)
        )

    def function(self, kind: str) -> Callable[..., Any]:
        """ "forward", "train" or "loop:epochs"."""
        if kind.startswith("loop:"):
            return self.loop(int(kind[5:]))
        return self.counts if kind == "forward" else self.train


class Peer(Arm):
    """Rockpool: LinearJax → DynapSim, dense signed weights (sparse ones are zeros of the matrix)."""

    name = "peer"
    VARIED = ("Igain_mem", "Igain_syn", "Ispkthr", "Iref", "Ipulse", "Itau_mem", "Itau_syn")
    NO_BIAS = ("Io", "Iscale")

    def build(self) -> None:
        self.net = self._net()
        self.unit = self._unit()
        self.chips = self._chips()

    def _net(self) -> Any:
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from rockpool.devices.dynapse import DynapSim
                from rockpool.nn.combinators import Sequential
                from rockpool.nn.modules import LinearJax
        except ImportError as error:
            raise Missing(f"peer: rockpool is not installed here ({error}).") from error
        s = self.setting
        neurons = DynapSim((s.n, s.n), has_rec=s.recurrent, dt=s.dt)
        return Sequential(LinearJax((s.n_in, s.n), has_bias=False), neurons)

    def _unit(self) -> Any:
        s = self.setting
        pre, post, value = s.synapses()
        dense = np.zeros((s.n_in + s.n, s.n), np.float32)
        dense[pre, post] = value
        weights: dict[str, Any] = {"0_LinearJax": {"weight": jnp.asarray(dense[: s.n_in])}}
        if s.recurrent:
            weights["1_DynapSim"] = {"w_rec": jnp.asarray(dense[s.n_in :])}
        return weights

    def _chips(self) -> Any:
        s = self.setting
        if s.chips == 1:
            return {}
        bias = {name: s.factors(s.n) * np.asarray(getattr(self.net[1], name)) for name in self.VARIED}
        return {
            "bias": jax.tree_util.tree_map(jnp.asarray, bias),
            "weight": jax.tree_util.tree_map(lambda w: jnp.asarray(s.factors(*w.shape)), self.unit),
        }

    def bias_names(self) -> list[str]:
        return [name for name in self.net[1].simulation_parameters() if name[0] == "I" and name not in self.NO_BIAS]

    def single(self, weights: Any, chip: Any, x: Any, factors: Any) -> Any:
        net = self.net
        bias = {name: jnp.asarray(getattr(net[1], name)) for name in factors} | (chip["bias"] if chip else {})
        bias |= {name: bias[name] * factor for name, factor in factors.items()}
        if chip:
            weights = jax.tree_util.tree_map(jnp.multiply, weights, chip["weight"])
        if bias:
            net = net.set_attributes({"1_DynapSim": bias})
        return net.set_attributes(weights).reset_state()(x)[0]


class Ours(Arm):
    """This package: four dendrites, sparse synapses, weight currents in A."""

    name = "ours"

    def build(self) -> None:
        try:
            from nir_dynapse.sim import engine
        except ImportError as error:
            raise Missing(f"ours: nir_dynapse.sim.engine is not there yet ({error}).") from error
        self.engine = engine
        self.params = self._params()
        self.unit = self.params.weight
        self.substeps = internal_step(self.params, self.setting.dt)
        self.chips = self._chips()

    def _params(self) -> Params:
        s, circuit = self.setting, Circuit()
        pre, post, value = s.synapses()
        shares = np.cumsum([share for _, share in KINDS])
        # Sources of one kind lie side by side, as populations do.
        position = np.r_[np.arange(s.n_in) / s.n_in, np.arange(s.n) / s.n]
        kind = np.searchsorted(shares, position, side="right").clip(0, 3)[pre]
        dendrite = np.where(value > 0, 0, 2) if s.signed or s.excitatory else kind
        bias = {name: np.array([PARAMETERS[name].off]) for name in CURRENTS}
        bias["i_tau_mem"] = np.array([circuit.tau("i_tau_mem", 20e-3)])
        for name, tau in TAUS.items():
            bias[f"i_tau_{name}"] = np.array([circuit.tau(f"i_tau_{name}", tau)])
            bias[f"i_gain_{name}"] = GAINS[name] * bias[f"i_tau_{name}"]
        bias["i_ref"] = np.array([circuit.width("i_ref", s.refractory)])
        index = np.arange(s.n)
        topology = Topology(
            inputs=(Port("in", (s.n_in,)),),
            populations=(("hidden", s.n),),
            outputs=(Port("out", (s.n,), "hidden"),),
            dt=s.dt,
            group=index if s.chips > 1 or s.biases else np.zeros(s.n, int),
            latches=np.full(s.n, latch_bits()),
            place=np.stack([index // 1024, index // 256 % 4, index % 256], 1),
            pre=np.where(pre >= s.n_in, pre + 1, pre),  # the tonic channel stands between inputs and neurons
            post=post,
            dendrite=dendrite,
            row=np.zeros(len(pre), int),
        )
        if s.chips > 1 or s.biases:
            bias = {name: np.repeat(v, s.n) for name, v in bias.items()}
        params = Params(bias, 1e-9 * np.abs(value), None, topology, circuit).check()
        return jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)

    def _chips(self) -> Any:
        s = self.setting
        if s.chips == 1:
            return {}
        bias = {name: jnp.asarray(s.factors(s.n)) * value for name, value in self.params.bias.items()}
        return {"bias": bias, "weight": jnp.asarray(s.factors(*self.unit.shape))}

    def bias_names(self) -> list[str]:
        return sorted(self.params.bias)

    def single(self, weights: Any, chip: Any, x: Any, factors: Any) -> Any:
        bias = chip["bias"] if chip else self.params.bias
        bias = {name: value * factors[name] if factors else value for name, value in bias.items()}
        params = replace(self.params, weight=weights * chip["weight"] if chip else weights, bias=bias)
        return self.engine.spike_counts(params, x, self.setting.dt, substeps=self.substeps, native=NATIVE)


ARMS: dict[str, type[Arm]] = {"ours": Ours, "peer": Peer}
