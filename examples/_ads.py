"""The two networks of the ADS arm and how they are trained: a rate network (BPTT) and spiking neurons that follow it.

Teacher: ``tau dx/dt = -x + F c + Omega tanh(x) + b``, read out as ``y = R x``; trained through time with Adam, with
noise on the states so that its answer survives a student that follows it only roughly.

Student: leaky integrate-and-fire neurons between rest 0.5, threshold 1 and reset 0 that hold ``x`` as ``D r`` (r: spikes
filtered by 70 ms)::

    dV/dt = -(V - V_rest) / tau_mem + s (g D^T (F c + b) + Omega_slow r + k D^T (x - D r) - f Omega_fast o)

o: spikes, through a synapse of 1 ms; Omega_fast = D^T D + mu lambda^2 I without its diagonal, which the reset stands for;
s = 0.5 / T scales every neuron from its threshold T = (nu lambda + mu lambda^2 + |D_i|_1^2) / 2 to V_th = 1. (F c + b and
not (F c + b) / tau: the published input gain g = 10 / tau_mem takes its place.)

Only Omega_slow is learned, from what a synapse can know: the presynaptic trace r_j and the error current D_i^T (x - D r)
that its neuron receives anyway, ``Omega_slow += eta (D^T e) r^T`` at every time step. k falls in eight steps to k / 8, and
is 0 once training is over.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

DT = 1e-3
N_RATE, N_SPIKING = 64, 320
TAU_RATE = 0.1
STATE_NOISE = 0.2  # rms of the noise on a rate unit while the teacher trains
COARSE = 5  # the teacher trains with steps of COARSE * DT
TAU_MEM, TAU_SLOW, TAU_OUT, TAU_FAST = 50e-3, 70e-3, 70e-3, 1e-3
MU, NU, LAMBDA = 5e-4, 1e-4, 1 / TAU_MEM
V_REST, V_TH, V_RESET = 0.5, 1.0, 0.0
GAIN = 10 / TAU_MEM
FAST_FACTOR = 0.5
K, K_STEPS = 75.0, 8
ETA = 3e-5


class Teacher(NamedTuple):
    """Rate network with one input channel and one output."""

    w_in: jax.Array  # (unit,): F
    w_rec: jax.Array  # (to, from): Omega
    bias: jax.Array  # (unit,)
    readout: jax.Array  # (unit,): R


class Student(NamedTuple):
    """Spiking network; weights are scaled to the membrane of the neuron they end at."""

    w_in: jax.Array  # (neuron, unit): s D^T
    w_slow: jax.Array  # (to, from)
    w_fast: jax.Array  # (to, from)
    w_out: jax.Array  # (unit, neuron): D
    tau_mem: jax.Array  # (neuron,)
    tau_slow: jax.Array  # (neuron,): of the slow current of a neuron
    v_th: jax.Array  # (neuron,)


def rate_states(
    teacher: Teacher, signal: jax.Array, dt: float = DT, noise: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """States x (time, sample, unit) of the teacher on ``signal`` (sample, time)."""
    steps, n = signal.shape[1], len(signal)

    def step(x: jax.Array, now: tuple) -> tuple:
        c, kick = now
        x = x + dt / TAU_RATE * (-x + c[:, None] * teacher.w_in + jnp.tanh(x) @ teacher.w_rec.T + teacher.bias) + kick
        return x, x

    kicks = jnp.zeros((steps, 1, 1))
    if key is not None:
        kicks = noise * (2 * dt / TAU_RATE) ** 0.5 * jax.random.normal(key, (steps, n, len(teacher.bias)))
    return jax.lax.scan(step, jnp.zeros((n, len(teacher.bias))), (signal.T, kicks))[1]


def train_teacher(
    signal: np.ndarray, target: np.ndarray, *, seed: int, n_rate: int = N_RATE, steps: int = 600, batch: int = 64
) -> Teacher:
    """BPTT on the mean squared error of the output; ``signal`` and ``target`` are (sample, time)."""
    rng = np.random.RandomState(seed)
    spread = n_rate**-0.5
    teacher = Teacher(
        w_in=jnp.array(rng.normal(0, 1, n_rate), jnp.float32),
        w_rec=jnp.array(rng.normal(0, spread, (n_rate, n_rate)), jnp.float32),
        bias=jnp.zeros(n_rate),
        readout=jnp.array(rng.normal(0, 0.3 * spread, n_rate), jnp.float32),
    )
    c, t = (jnp.array(a.reshape(len(a), -1, COARSE).mean(2), jnp.float32) for a in (signal, target))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, steps)))

    def loss(teacher: Teacher, c: jax.Array, t: jax.Array, key: jax.Array) -> jax.Array:
        x = rate_states(teacher, c, COARSE * DT, STATE_NOISE, key)
        return jnp.mean((x @ teacher.readout - t.T) ** 2) + 1e-3 * jnp.mean(x**2)

    @jax.jit
    def update(teacher: Teacher, state: optax.OptState, c: jax.Array, t: jax.Array, key: jax.Array) -> tuple:
        change, state = optimizer.update(jax.grad(loss)(teacher, c, t, key), state)
        return optax.apply_updates(teacher, change), state

    state = optimizer.init(teacher)
    for key in jax.random.split(jax.random.PRNGKey(seed), steps):
        chosen = rng.randint(len(c), size=batch)
        teacher, state = update(teacher, state, c[chosen], t[chosen], key)
    return teacher


def decoder(seed: int, n_rate: int = N_RATE, n_spiking: int = N_SPIKING) -> np.ndarray:
    """D (unit, neuron), drawn once: what a spike of a neuron stands for."""
    return np.random.RandomState(seed).normal(0, 1, (n_rate, n_spiking)) / n_rate


def fast_weights(d: np.ndarray) -> np.ndarray:
    """D^T D + mu lambda^2 I without its diagonal."""
    fast = d.T @ d + MU * LAMBDA**2 * np.eye(d.shape[1])
    np.fill_diagonal(fast, 0)
    return fast


def thresholds(d: np.ndarray) -> np.ndarray:
    """T of every neuron, before it is scaled to V_th."""
    return (NU * LAMBDA + MU * LAMBDA**2 + np.abs(d).sum(0) ** 2) / 2


def untrained(d: np.ndarray) -> Student:
    """The student before it learns: fast and input weights as they stay, no slow weights."""
    n = d.shape[1]
    scale = (V_TH - V_REST) / thresholds(d)[:, None]
    student = Student(
        w_in=scale * d.T,
        w_slow=np.zeros((n, n)),
        w_fast=FAST_FACTOR * scale * fast_weights(d),
        w_out=d,
        tau_mem=np.full(n, TAU_MEM),
        tau_slow=np.full(n, TAU_SLOW),
        v_th=np.full(n, V_TH),
    )
    return Student(*(jnp.array(a, jnp.float32) for a in student))


def _fast_current(fast: jax.Array, arriving: jax.Array) -> jax.Array:
    """Volts that the fast synapses take from the membrane in this step; all of a spike's add up to its weight."""
    decay = np.exp(-DT / TAU_FAST)
    return decay * fast + (1 - decay) * arriving


def _membrane(student: Student, v: jax.Array, volts: jax.Array) -> tuple[jax.Array, jax.Array]:
    v = V_REST + (v - V_REST) * jnp.exp(-DT / student.tau_mem) + volts
    spikes = (v > student.v_th).astype(jnp.float32)
    return jnp.where(spikes > 0, V_RESET, v), spikes


def _drive(student: Student, teacher: Teacher) -> tuple[jax.Array, jax.Array]:
    """Volts in one step for an input of 1, and for the bias."""
    return DT * GAIN * student.w_in @ teacher.w_in, DT * GAIN * student.w_in @ teacher.bias


@jax.jit
def simulate(student: Student, teacher: Teacher, signal: jax.Array, decode: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``decode @ r`` (time, sample, row of decode) without the teacher's help, and the mean rate of a neuron in Hz."""
    n, size = len(signal), len(student.tau_mem)
    of_input, of_bias = _drive(student, teacher)
    slow_decay = jnp.exp(-DT / student.tau_slow)
    out_decay = np.exp(-DT / TAU_OUT)
    targets = jnp.concatenate([student.w_slow, student.w_fast, decode]).T

    def step(carry: tuple, c: jax.Array) -> tuple:
        v, slow, fast, arriving, out, count = carry
        fast = _fast_current(fast, arriving)
        v, spikes = _membrane(student, v, c[:, None] * of_input + of_bias + DT * slow - fast)
        arrived = spikes @ targets
        slow = slow_decay * slow + arrived[:, :size]
        out = out_decay * out + arrived[:, 2 * size :]
        return (v, slow, fast, arrived[:, size : 2 * size], out, count + spikes.mean()), out

    zeros = jnp.zeros((n, size))
    start = (zeros + V_REST, zeros, zeros, zeros, jnp.zeros((n, len(decode))), 0.0)
    carry, out = jax.lax.scan(step, start, signal.T)
    return out, carry[-1] / (signal.shape[1] * DT)


def reconstruction_error(student: Student, teacher: Teacher, signal: np.ndarray) -> float:
    """Squared error of D r against the states of the teacher, who does not help; relative to theirs."""
    c = jnp.array(signal, jnp.float32)
    x, decoded = rate_states(teacher, c), simulate(student, teacher, c, student.w_out)[0]
    return float(((decoded - x) ** 2).sum() / (x**2).sum())


@jax.jit
def learn(
    student: Student, teacher: Teacher, signal: jax.Array, k: jax.Array, eta: jax.Array
) -> tuple[Student, jax.Array]:
    """One batch of signals by the local rule; the student, and the squared error of D r relative to x."""
    n, size = len(signal), len(student.tau_mem)
    of_input, of_bias = _drive(student, teacher)
    decay = np.exp(-DT / TAU_SLOW)
    both = jnp.concatenate([student.w_fast, student.w_out]).T

    def step(carry: tuple, now: tuple) -> tuple:
        v, r, fast, arriving, decoded, w_slow = carry
        c, x = now
        error = x - decoded
        current = error @ student.w_in.T
        fast = _fast_current(fast, arriving)
        volts = c[:, None] * of_input + of_bias + DT * (r @ w_slow.T + k * current) - fast
        v, spikes = _membrane(student, v, volts)
        w_slow = w_slow + eta * current.T @ r
        arrived = spikes @ both
        decoded = decay * decoded + arrived[:, size:]
        carry = v, decay * r + spikes, fast, arrived[:, :size], decoded, w_slow
        return carry, jnp.stack([(error**2).sum(), (x**2).sum()])

    zeros = jnp.zeros((n, size))
    start = (zeros + V_REST, zeros, zeros, zeros, jnp.zeros((n, len(student.w_out))), student.w_slow)
    carry, squares = jax.lax.scan(step, start, (signal.T, rate_states(teacher, signal)))
    error, power = squares.sum(0)
    return student._replace(w_slow=carry[-1]), error / power


def train_student(
    student: Student,
    teacher: Teacher,
    signal: np.ndarray,
    *,
    epochs: int,
    batch: int = 50,
    eta: float = ETA,
) -> tuple[Student, list[float]]:
    """The local rule over ``epochs``, the help of the teacher fading; also the error of every batch."""
    batches = [jnp.array(signal[i : i + batch], jnp.float32) for i in range(0, len(signal), batch)] * epochs
    errors = []
    for i, c in enumerate(batches):
        k = K * (1 - (i * K_STEPS // len(batches)) / K_STEPS)  # K, 7/8 K, ... K/8
        student, error = learn(student, teacher, c, jnp.float32(k), jnp.float32(eta))
        errors.append(float(error))
    return student, errors


def perturbed(student: Student, level: float, rng: np.random.RandomState) -> Student:
    """The student on a device with mismatch: Gaussian, relative; the fast weights as they are."""

    def off(a: jax.Array) -> np.ndarray:
        return np.asarray(a) * (1 + level * rng.normal(size=a.shape))

    changed = {name: off(getattr(student, name)) for name in ("w_in", "w_slow", "w_out")}
    changed |= {name: np.abs(off(getattr(student, name))) for name in ("tau_slow", "tau_mem", "v_th")}
    return student._replace(**{name: jnp.array(a, jnp.float32) for name, a in changed.items()})
