"""The process that reads damaged files: `python fuzz_worker.py JOB`, JOB a JSON object (`fuzz_cases.Job`).

It writes one line of JSON before a case (so that a crash or a hang names it) and one after it. What it reads is fixed by
format, seed and number of the case; in guided mode also by the cases before it, whose inputs are kept where they reach a
branch of the reading modules that none has reached.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

import fuzz_branches

READERS = ("files.bounds", "layout", "data", "chip", "circuit", "network", "import_")
READERS += ("reporting.training_log", "training.state", "evaluation.evaluate")
fuzz_branches.install([f"nir_dynapse.{name}" for name in READERS])

import numpy as np

from fuzz_bytes import damage_bytes
from fuzz_cases import EXPECTED
from fuzz_formats import FORMATS, Format
from fuzz_npz import WITNESS
from nir_dynapse.errors import DynapseError

MOST_SECONDS = 20
"""A case that computes longer, or lasts five times as long on a busy machine, is a hang: a signal ends the process."""
MOST_MEMORY = 1 << 30
"""Bytes that the process may grow while it reads; no more address space than a little above is given to it."""
MOST_TEXT = 4000
"""Characters of a message."""
KEPT_SHARE, LARGE = 0.5, 1 << 22
"""How often an input that was kept is damaged further; from which size on sound files are damaged a tenth as often."""


class Corpus:
    """Sound files, and in guided mode the inputs that reached something new, on disk for the next process."""

    def __init__(self, sound: dict[str, bytes], folder: Path | None) -> None:
        self.sound, self.folder = sound, folder
        self.all = list(sound.values())
        self.most = 2 * max(map(len, self.all))  # damage to larger ones would take most of the time
        self.kept: list[tuple[str, bytes]] = []
        self.seen = bytearray(len(fuzz_branches.HITS))
        if folder is not None:
            folder.mkdir(exist_ok=True)
            self.kept = [(p.stem, p.read_bytes()) for p in sorted(folder.glob("*.kept"))]
            if (folder / "seen").exists():
                self.seen[:] = (folder / "seen").read_bytes()

    def choose(self, rng: np.random.Generator) -> tuple[str, bytes]:
        if self.kept and rng.random() < KEPT_SHARE:
            return self.kept[int(rng.integers(len(self.kept)))]
        names = list(self.sound)
        name = names[int(rng.integers(len(names)))]
        if len(self.sound[name]) > LARGE and rng.random() < 0.9:
            name = names[0]
        return name, self.sound[name]

    def tell(self, case: int, content: bytes) -> int:
        """How many branches are reached for the first time; keeps the input where there are some."""
        new = [k for k, hit in enumerate(fuzz_branches.HITS) if hit and not self.seen[k]]
        for k in new:
            self.seen[k] = 1
        if new and self.folder is not None and len(content) <= self.most:
            self.kept.append((f"{case:07d}", content))
            (self.folder / f"{case:07d}.kept").write_bytes(content)
            (self.folder / "seen").write_bytes(self.seen)
        return len(new)


def _status(key: str) -> int:
    """Bytes of a line of /proc/self/status: VmHWM (highest), VmRSS (now), VmSize (address space)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) << 10
    raise KeyError(key)


def _memory_chain(error: BaseException | None) -> bool:
    """Whether an error came from memory that was not there: it was asked for before its size was checked."""
    chain: list[BaseException] = []
    while error is not None:
        if error in chain:
            raise RuntimeError("an error that is its own cause")
        if isinstance(error, MemoryError):
            return True
        chain.append(error)
        error = error.__cause__ or error.__context__
    return False


def outcome(form: Format, path: Path) -> str:
    """What reading gives: "valid" or the class of a DynapseError, else what is wrong."""
    try:
        thing = form.read(path)
    except DynapseError as error:
        text = str(error)
        if _memory_chain(error):
            return f"memory was asked for before its size was checked: {traceback.format_exc()}"
        if not text or len(text) > MOST_TEXT:
            return f"a message of {len(text)} characters: {text[:200]}"
        named = path.name in text or any(word in text for word in form.places)
        return type(error).__name__ if named else f"the message does not name the file: {text}"
    except BaseException:
        return traceback.format_exc()
    try:
        return "valid" if form.again(thing, path.with_name(f"again{path.suffix}")) else "another thing when written"
    except BaseException:
        return f"valid, but: {traceback.format_exc()}"


def guarded(form: Format, path: Path) -> tuple[str, int]:
    """The outcome and the growth of memory in bytes, in limited time and address space."""
    gc.collect(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + MOST_MEMORY + (MOST_MEMORY >> 3), hard))
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.alarm(5 * MOST_SECONDS)
    try:
        result = outcome(form, path)
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    grown = _status("VmHWM") - before
    if WITNESS in sys.modules:
        return "a pickle was loaded", grown
    return (result if grown < MOST_MEMORY else f"{grown >> 20} MiB of memory; {result}"), grown


def content_of(form: Format, corpus: Corpus, name: str, seed: int, case: int) -> tuple[bytes, str]:
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed, case])
    base, content = corpus.choose(rng)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made, what = form.damage(content, rng, corpus.all)
        except Exception:  # the tools that do the damage need not bear what an earlier case left
            made, what = damage_bytes(content, rng)
    return made, f"{base} {what}"


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main(job: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    form, folder = FORMATS[job["format"]], Path(job["folder"])
    path = folder / f"case{form.suffix}"
    with tempfile.TemporaryDirectory() as sound:
        corpus = Corpus(form.seeds(Path(sound)), folder / "kept" if job["guided"] else None)
    for name, content in corpus.sound.items():
        path.write_bytes(content)
        if (result := outcome(form, path)) != "valid":
            raise RuntimeError(f"the sound file {name} is read as {result}")
    if job.get("replay"):
        shutil.copyfile(job["replay"], path)
        result, grown = guarded(form, path)
        say(case=-1, what="replay", outcome=result, grown=grown, took=0.0, new=0)
        return
    corpus.tell(-1, b"")
    for case in range(job["first"], job["last"]):
        say(case=case)
        content, what = content_of(form, corpus, job["format"], job["seed"], case)
        path.write_bytes(content)
        fuzz_branches.HITS[:] = bytes(len(fuzz_branches.HITS))
        start = time.perf_counter()
        result, grown = guarded(form, path)
        took = time.perf_counter() - start
        say(case=case, what=what, outcome=result, grown=grown, took=took, new=corpus.tell(case, content))
        if result not in EXPECTED:
            sys.stdin.readline()  # until its input has been saved


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main(json.loads(sys.argv[1]))
