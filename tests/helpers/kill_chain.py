"""Kills `finetune` and `deploy` at chosen moments, again and again, and says what is wrong with what they leave.

A chain is one command in one folder: started, killed, looked at, started again, until it may end. Then its results must be
those of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
from jax._src.xla_bridge import backends_are_initialized

import nir_dynapse as nd
from cli_models import DT, graph, write
from nir_dynapse.cli.main import main
from nir_dynapse.deployment.deploy import FILES, TRAINING_FILES
from nir_dynapse.reporting.training_log import TrainingLog

PHASES = ("start, imports", "compile", "training", "checkpoint file", "log file", "runs, report", "result files")
TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
PATIENCE = 300.0
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run with SIGINT ignored
from nir_dynapse.cli.main import main
sys.exit(main())
"""
OUT = "out"


class Lost(AssertionError):
    """A kill left something that it must not."""


@dataclass(frozen=True)
class Command:
    """`argv` in a folder with m.nir and x.npz; `every` steps of it lie between two checkpoints, `results` are its files."""

    name: str
    argv: tuple[str, ...]
    every: int
    steps: int
    results: tuple[str, ...]

    @property
    def whole(self) -> tuple[str, ...]:
        """Results whose bytes depend on the inputs only: the others hold seconds or dates."""
        return tuple(n for n in self.results if n.endswith(("tuned.npz", "layout.json", "config.json.gz")))


def finetune(steps: int = 24) -> Command:
    """A checkpoint at every step."""
    files = ("-o", "tuned.npz", "--log", "log.csv", "--plot", "log.svg", "--checkpoint", "c.npz")
    words = ("--steps", str(steps), "--devices", "2", "--batch", "2", "--check-every", "1", "--uniform", "0.2")
    argv = ("finetune", "m.nir", "--train", "x.npz", *words, *files)
    return Command("finetune", argv, 1, steps, ("tuned.npz", "log.csv", "log.svg"))


def deploy(steps: int = 150) -> Command:
    """A checkpoint at every fiftieth step, as the options of deploy have it."""
    words = ("--train-steps", str(steps), "--train-devices", "2", "--uniform", "0.2", "--compare", "2")
    argv = ("deploy", "m.nir", "--data", "x.npz", "--train", "x.npz", *words, "--checkpoint", "c.npz", "-o", OUT)
    return Command("deploy", argv, 50, steps, tuple(f"{OUT}/{name}" for name in (*FILES, *TRAINING_FILES)))


@dataclass(frozen=True)
class Moment:
    """When to kill and how: at a time since the start, after a number of progress lines, or when a file is being written.

    `after` s (or seconds since the start) later; `writing` is a name as in `.NAME.xxxxxxxx.tmp`, `count` how often.
    """

    how: signal.Signals = signal.SIGKILL
    after: float = 0.0
    lines: int = 0
    writing: str = ""
    count: int = 1


@dataclass(frozen=True)
class Killed:
    """What a kill met: the phase, the last step that was told, the step of the checkpoint, the exit code."""

    phase: str
    told: int
    step: int
    code: int


class Chain:
    """One command in one folder, with what has been seen there so far."""

    def __init__(self, folder: Path, command: Command, reference: Path | None = None, old: Path | None = None) -> None:
        self.folder, self.command, self.reference, self.old = folder, command, reference, old
        self.step = 0
        self.seen: list[Killed] = []
        self.goes_on = False
        folder.mkdir()
        prepare(folder)
        for name in command.results if old is not None else ():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes((old / name).read_bytes())  # pyright: ignore[reportOptionalOperand]

    def run(self, moment: Moment | None, start: Callable[[list[str], Path], Process]) -> Killed | None:
        """Run once; None where it came to its end before the moment (or without one). Raises Lost for what is wrong."""
        before = names(self.folder)
        process = start([*self.command.argv, "-v"], self.folder)
        try:
            watch = _Watch(process, self.folder)
            hit = moment is not None and watch.until(moment)
            there, begun = names(self.folder), self._has_begun(process.pid)
            if hit and moment is not None:
                process.send_signal(moment.how)
            process.wait(PATIENCE)
        finally:
            process.kill()
        text = (self.folder / "said.txt").read_text()
        told = [int(step) for step in re.findall(r"step (\d+), loss", text)]
        self._check(text, told)
        if process.returncode == 0:
            self._check_end(before)
            return None
        if moment is None or not hit:
            raise Lost(f"ended with {process.returncode}: {text}")
        left = names(self.folder)
        if moment.how == signal.SIGKILL:
            require(process.returncode == -signal.SIGKILL, f"{process.returncode}: {text}")
            there, begun = left, self._has_begun(process.pid)
        elif "nir-dynapse: interrupted" in text:
            require(process.returncode == 128 + moment.how, f"{process.returncode}: {text}")
            own = {name for name in left - before if name.endswith((".tmp", ".lock"))}
            require(not own, f"an interrupt left {own}")
        phase = self._phase(begun, there - before, text, told)
        self.seen.append(Killed(phase, max(told, default=0), self.step, process.returncode))
        return self.seen[-1]

    def _has_begun(self, pid: int) -> bool:
        lock = self.folder / ".c.npz.lock"
        return lock.exists() and lock.read_text() == str(pid)

    def _phase(self, begun: bool, new: set[str], text: str, told: list[int]) -> str:
        writing = {match[1] for name in new if (match := TEMPORARY.fullmatch(name.rpartition("/")[2]))}
        if "c.npz" in writing:
            return "checkpoint file"
        if "log.csv" in writing:
            return "log file"
        if writing:
            return "result files"
        if re.search(r"%  (compile|verify|ideal|untrained|circuit|quantised|on this|before|after|done)(?! untr)", text):
            return "runs, report" if "%  done" not in text else "result files"
        if told:
            return "training" if told[-1] < self.command.steps else "result files"
        return "compile" if begun else "start, imports"

    def _check(self, text: str, told: list[int]) -> None:
        """After every run: whole files, known names, no step lost."""
        for name in names(self.folder):
            last = name.rpartition("/")[2]
            known = {"m.nir", "x.npz", "said.txt", "c.npz", ".c.npz.lock", *self.command.results}
            fine = name in known or TEMPORARY.fullmatch(last) or TEMPORARY.fullmatch(name.split("/")[-2:][0])
            require(bool(fine), f"unknown file {name}")
        # Not in imports and in Python's own end, where an interrupt is Python's.
        require("Traceback" not in text or not told or "Exception ignored in" in text, text)
        for name in self.command.results:
            if (path := self.folder / name).exists():
                readable(path)
                if name in self.command.whole and self.reference is not None:
                    olds = () if self.old is None else ((self.old / name).read_bytes(),)
                    require(path.read_bytes() in ((self.reference / name).read_bytes(), *olds), f"{name} is neither")
        step = step_of(self.folder / "c.npz")
        last = max(told, default=0)
        require(step >= self.step, f"the checkpoint went back from step {self.step} to {step}")
        require(step >= last, f"step {last} was told, the checkpoint has {step}")
        # The first step told is the first that was not in the checkpoint: nothing was skipped, nothing done twice.
        expected = min(self.step - self.step % self.command.every + self.command.every, self.command.steps)
        require(not told or told[0] == expected, f"went on from step {self.step} with {told[:1]}")
        if self.goes_on and self.command.name == "finetune" and step and (log := self.folder / "log.csv").exists():
            logged = TrainingLog.load(log).step.max(initial=0)
            require(step - self.command.every <= logged, f"the log ends at {logged}, the checkpoint at {step}")
        self.goes_on = self.old is None or step > 0
        self.step = step

    def _check_end(self, before: set[str]) -> None:
        left = {name for name in names(self.folder) if "tmp" in name or name.endswith(".lock")}
        require(not left, f"a whole run left {left}")
        require(self.step == self.command.steps, f"it ended at step {self.step}")
        for name in self.command.results:
            require((self.folder / name).exists(), f"{name} is missing")
            if name in self.command.whole and self.reference is not None:
                same = (self.folder / name).read_bytes() == (self.reference / name).read_bytes()
                require(same, f"{name} is not that of the undisturbed run")
        log = next(name for name in self.command.results if name.endswith(".csv"))
        if self.reference is not None:
            logs = [TrainingLog.load(path / log) for path in (self.folder, self.reference)]
            logs = [replace(each, seconds=np.zeros(len(each))) for each in logs]
            require(logs[0] == logs[1], "the log is not that of the undisturbed run")


class Process(Protocol):
    """What `subprocess.Popen` and `Forked` have in common."""

    pid: int

    @property
    def returncode(self) -> int | Any: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: signal.Signals, /) -> None: ...
    def kill(self) -> None: ...


def executed(argv: list[str], folder: Path) -> Process:
    """The command as users start it, from the imports on; what it says goes to said.txt."""
    with (folder / "said.txt").open("w") as said:
        words = [sys.executable, "-c", START, *argv]
        return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=said)


def forked(argv: list[str], folder: Path) -> Process:
    """The command in a child of this process, which has imported all and computed nothing: JAX has no threads yet."""
    import nir_dynapse.cli.verbs
    import nir_dynapse.deployment.deploy  # noqa: F401

    if backends_are_initialized() or len(os.listdir("/proc/self/task")) > 1:
        raise Lost("this process has threads, it must not fork")
    with (folder / "said.txt").open("w") as said, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX's about forks
        if pid := os.fork():
            return Forked(pid)
        code = 70
        try:
            os.chdir(folder)
            os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = main(argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


class Forked:
    """A child that is no `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise Lost("it does not end")
            time.sleep(0.002)
        return self.returncode or 0

    def send_signal(self, number: signal.Signals, /) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class _Watch:
    """Waits for a moment in the life of a process."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process, self.folder, self.start = process, folder, time.monotonic()

    def until(self, moment: Moment) -> bool:
        """Waits for the moment; False where the process ended before."""
        if moment.lines and not self._wait(lambda: self._lines() >= moment.lines, 0.002):
            return False
        if moment.writing:
            known = self._writing(moment.writing)
            for number in range(1, moment.count + 1):
                if not self._wait(partial(self._writes, moment.writing, known), 0.0):
                    return False
                if number < moment.count:
                    known = known | self._writing(moment.writing)
        if not (moment.lines or moment.writing):
            return self._wait(lambda: time.monotonic() - self.start >= moment.after, 0.001)
        time.sleep(moment.after)
        return self.process.poll() is None

    def _wait(self, come: Callable[[], bool], pause: float) -> bool:
        while not come():
            if self.process.poll() is not None:
                return False
            if time.monotonic() - self.start > PATIENCE:
                raise Lost("the moment does not come")
            time.sleep(pause or 0.0002)
        return True

    def _lines(self) -> int:
        return (self.folder / "said.txt").read_bytes().count(b"\n")

    def _writes(self, name: str, known: set[str]) -> bool:
        return not self._writing(name) <= known

    def _writing(self, name: str) -> set[str]:
        place = self.folder / OUT if name == "nir_dynapse" else self.folder
        try:
            found = os.listdir(place)
        except FileNotFoundError:
            return set()
        return {each for each in found if each.startswith(f".{name}.") and each.endswith(".tmp")}


def require(fine: bool, what: str) -> None:
    if not fine:
        raise Lost(what)


def prepare(folder: Path) -> None:
    """The network and the data."""
    write(folder / "m.nir", graph())
    x = np.random.default_rng(0).poisson(0.6, (12, 12, 3)).astype(np.uint8)
    nd.Data(x, np.arange(12) % 2, DT).save(folder / "x.npz")


def names(folder: Path) -> set[str]:
    """Names of all files, from `folder` on; of a staging folder also its own."""
    return set(_names(folder, ""))


def _names(folder: Path, prefix: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:  # a staging folder, gone by now
        return
    for entry in entries:
        if entry.is_dir():
            if TEMPORARY.fullmatch(entry.name):
                yield prefix + entry.name
            yield from _names(Path(entry.path), f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint, all arrays of which can be read; 0 where there is none."""
    if not checkpoint.exists():
        return 0
    try:
        with checkpoint.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return int(arrays["numbers"][0])
    except Exception as error:
        raise Lost(f"the checkpoint is damaged: {error}") from error


def readable(path: Path) -> None:
    """Lost where a result is not whole."""
    try:
        _READERS[path.name.partition(".")[2]](path)
    except Exception as error:
        raise Lost(f"{path.name} is damaged: {error}") from error


def _text(path: Path) -> None:
    require("configuration verified" in path.read_text(), "the report has no end")


_READERS: dict[str, Callable[[Path], Any]] = {
    "json": lambda path: nd.Layout.load(path) if path.name == "layout.json" else json.loads(path.read_text()),
    "json.gz": lambda path: nd.from_samna(path),
    "npz": lambda path: nd.load_params(path),
    "csv": lambda path: TrainingLog.load(path),
    "svg": lambda path: ElementTree.parse(path),
    "html": lambda path: require(path.read_text().rstrip().endswith("</html>"), "the page has no end"),
    "txt": _text,
}
