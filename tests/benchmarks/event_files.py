"""Time and memory of reading and binning 10^6 events from each format, each in a process of its own.

    python3 -m uv run python tests/benchmarks/event_files.py [--events N]

Events are spread over 640 x 480 pixels and 10 s, pooled to (2, 24, 32) channels and bins of 1 ms.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from event_recordings import FORMATS, random_events, write_shd

INPUT, DT = (2, 24, 32), 1e-3
MIB = 1 << 20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--read", nargs=2, metavar=("FORMAT", "FILE"), help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.read:
        read(*args.read)
        return
    events = random_events(args.events, 10_000_000)
    print(f"{len(events)} events: file, seconds to read and bin, peak memory of the process (after the imports)")
    with tempfile.TemporaryDirectory() as folder:
        for name, write in FORMATS.items():
            (path := Path(folder) / f"r.{name}").write_bytes(write(events))
            ask(name, path)
        np.save(path := Path(folder) / "array.npy", events)
        ask("array", path)
        one_row = (events["t"] * 1e-6, events["x"] % 700)
        write_shd(path := Path(folder) / "shd.h5", [one_row], [0])
        ask("shd", path)


def ask(name: str, path: Path) -> None:
    command = [sys.executable, __file__, "--read", name, str(path)]
    print(
        f"  {name:<7} {path.stat().st_size / MIB:6.1f} MiB  {subprocess.check_output(command, text=True).strip()}",
        flush=True,
    )


def read(name: str, path: str) -> None:
    from nir_dynapse.data.data import Events
    from nir_dynapse.data.event_files import events_to_data, read_data
    from nir_dynapse.network.network import Port

    row = name == "shd"
    inputs = [Port("input", (70,) if row else INPUT)]
    array = np.load(path) if name == "array" else None
    before, start = peak(), time.perf_counter()
    if array is not None:
        data = events_to_data(Events.from_structured(array, shape=INPUT, pool=20), inputs, DT)
    else:
        data = read_data(path, inputs, DT, labels=False, pool=10 if row else 20)
    seconds, after = time.perf_counter() - start, peak()
    print(f"{seconds:5.2f} s  {after:4.0f} MiB ({before:.0f})  {int(data.x.sum(dtype=np.int64))} in bins")


def peak() -> float:
    """MiB that this process has had at most (its parent's, too, are in what getrusage says)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
