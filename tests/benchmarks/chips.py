"""Time of `evaluate` on the Yin-Yang network, 100 samples: linear in the number of virtual chips.

python3 -m uv run python tests/benchmarks/chips.py
"""

from __future__ import annotations

import time
from pathlib import Path

import nir_dynapse as nd

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def main() -> None:
    layout = nd.compile(nd.from_nir(EXAMPLES / "networks" / "yin_yang.nir"))
    whole = nd.Data.load(EXAMPLES / "data" / "yin_yang_test.npz")
    data = nd.Data(whole.x[:100], whole.y[:100], whole.dt)
    print("| virtual chips | seconds | median accuracy |")
    print("|---|---|---|")
    for devices in (125, 250, 500, 1000):
        start = time.perf_counter()
        result = nd.evaluate(layout, data, devices=devices)
        print(f"| {devices} | {time.perf_counter() - start:.1f} | {100 * result.median:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
