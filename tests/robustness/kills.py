"""Kills `finetune` and `deploy` at random moments of their lives: nothing may be lost but the last step.

    python3 -m uv run python tests/robustness/kills.py --kills 200 --seed 0

Three of ten kills come at any time (spread evenly over a whole life), two after a line of progress, five while a file is
written; seven of ten are SIGKILL, the others SIGINT and SIGTERM. Every chain of kills in one folder ends with a run that is
left alone, whose results must be those of a run that was never disturbed, byte for byte. A few seconds per kill: runs whose
imports are not to be killed are forked from this process, which has imported everything and computed nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads, so that this process may fork

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from kill_chain import PHASES, Chain, Command, Lost, Moment, deploy, executed, finetune, forked, names

CHAIN = (6, 13)
"""Kills of a chain."""
SIGNALS = (*[signal.SIGKILL] * 7, *[signal.SIGINT] * 2, signal.SIGTERM)
NAMES = {"finetune": ("c.npz", "log.csv", "tuned.npz", "log.svg"), "deploy": ("c.npz", "nir_dynapse")}
LAST = ("tuned.npz", "log.svg", "nir_dynapse")
"""What is written when there is nothing more to train: a chain comes to that at its end only."""


def moments(rng: np.random.Generator, command: Command, life: float) -> Iterator[Moment]:
    """The kills of one chain: at first those that let training go on, then those of its results."""
    size = int(rng.integers(*CHAIN))
    times = (np.arange(size) + rng.random(size)) / size * life  # evenly over a life, in any order
    rng.shuffle(times)
    ends = int(rng.integers(1, 3))
    for k in range(size):
        how = SIGNALS[rng.integers(len(SIGNALS))]
        kind = rng.choice(["time", "line", "file"], p=[0.3, 0.2, 0.5])
        last = k >= size - ends
        if kind == "time":
            yield Moment(how, float(times[k]))
        elif kind == "line":
            yield Moment(how, float(rng.exponential(0.01)), lines=int(rng.integers(1, 17 if last else 5)))
        else:
            choice = [name for name in NAMES[command.name] if (name in LAST) == last]
            name = str(rng.choice(choice or ["c.npz"]))
            slow = 0.15 if name == "nir_dynapse" else 0.003
            yield Moment(
                how,
                float(rng.random() * slow),
                writing=name,
                count=int(rng.integers(1, 1 if last else 4, endpoint=True)),
            )


class Kills:
    """All chains of one call: what they are measured by, and what they met."""

    def __init__(self, root: Path, seed: int, fast: bool) -> None:
        self.root, self.rng, self.fast = root, np.random.default_rng(seed), fast
        self.met: Counter[tuple[str, str, str]] = Counter()
        self.chains = self.leftovers = self.resumed = self.wrong = 0
        self.commands = (finetune(),) if fast else (finetune(), deploy())
        self.life = {command.name: self._undisturbed(command, "reference") for command in self.commands}
        if not fast:
            for command in self.commands:
                self._undisturbed(replace(command, argv=(*command.argv, "--seed", "1")), "old")

    def _undisturbed(self, command: Command, name: str) -> float:
        """Runs a command once; returns the seconds that it took."""
        begun = time.monotonic()
        Chain(self.root / f"{command.name}.{name}", command).run(None, forked if self.fast else executed)
        return time.monotonic() - begun

    def __len__(self) -> int:
        return sum(self.met.values())

    def chain(self, most: int) -> None:
        """One more chain, of at most so many kills, and the run that is left alone."""
        command = self.commands[self.chains % len(self.commands)]
        old = self.root / f"{command.name}.old" if self.rng.random() < 0.4 and not self.fast else None
        chain = Chain(self.root / f"chain{self.chains}", command, self.root / f"{command.name}.reference", old)
        self.chains += 1
        try:
            for moment in moments(self.rng, command, self.life[command.name]):
                if len(chain.seen) < most:
                    self._kill(chain, moment)
            chain.run(None, forked)
        except Lost as error:
            self.wrong += 1
            print(f"WRONG in chain {self.chains - 1} ({command.name}): {error}", *chain.seen, sep="\n  ", flush=True)
        else:
            shutil.rmtree(chain.folder)

    def _kill(self, chain: Chain, moment: Moment) -> None:
        killed = chain.run(moment, forked if moment.lines or moment.writing else executed)
        if killed is not None:
            self.met[chain.command.name, killed.phase, moment.how.name] += 1
            self.resumed += killed.step > 0
            self.leftovers += any(name.endswith(".tmp") for name in names(chain.folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="finetune only, into folders without older files")
    args = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nir_dynapse_kills.") as place:
        keep_compiled(Path(place))
        kills = Kills(Path(place), args.seed, args.fast)
        print("undisturbed:", ", ".join(f"{name} {life:.1f} s" for name, life in kills.life.items()), flush=True)
        while len(kills) < args.kills and kills.wrong < 5:
            kills.chain(args.kills - len(kills))
            print(f"{len(kills)} kills, {kills.chains} chains, {time.monotonic() - begun:.0f} s", flush=True)
    show(kills.met)
    print(f"{len(kills)} kills in {kills.chains} chains.")
    print(f"After {kills.leftovers} of them temporary files were left, which the next run removed.")
    print(
        f"After {kills.resumed} there was a checkpoint, with the last step told or a later one, and training went on at the"
    )
    print("next step: finetune has a checkpoint after every step, deploy after every fiftieth.")
    print(f"Chains with something wrong: {kills.wrong}.")
    return int(kills.wrong > 0)


def keep_compiled(folder: Path) -> None:
    """What Python and XLA compile is kept, so that a life is short; the kernels are kept anyway."""
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "python")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    settings = {"compilation_cache_dir": str(folder / "xla"), "persistent_cache_min_compile_time_secs": 0.0}
    for name, value in settings.items():
        os.environ[f"JAX_{name.upper()}"] = str(value)
        jax.config.update(f"jax_{name}", value)


def show(met: Counter[tuple[str, str, str]]) -> None:
    """A table of the kills by phase, command and signal."""
    columns = [("finetune", how) for how in ("SIGKILL", "SIGINT", "SIGTERM")]
    columns += [("deploy", how) for how in ("SIGKILL", "SIGINT", "SIGTERM")]
    print(f"\n| {'phase':<16} | " + " | ".join(f"{verb} {how}" for verb, how in columns) + " | all |")
    print("|---" * (len(columns) + 2) + "|")
    for phase in PHASES:
        counts = [met[verb, phase, how] for verb, how in columns]
        cells = [f"{count:>{len(verb) + len(how) + 1}}" for count, (verb, how) in zip(counts, columns, strict=True)]
        print(f"| {phase:<16} | " + " | ".join(cells) + f" | {sum(counts):>3} |")


if __name__ == "__main__":
    sys.exit(main())
