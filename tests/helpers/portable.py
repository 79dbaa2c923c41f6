"""The intermediate representation (IR) of the kernels that comes with the package, so that users need not wait for Numba.

    python3 -m uv run python tests/helpers/portable.py            # which calls have IR of another text than the present one
    python3 -m uv run python tests/helpers/portable.py --write    # write those anew, after a change of the kernels

Without it Numba writes the IR on the user's machine: slower, with the same machine code in the end.
"""

from __future__ import annotations

import lzma
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nir_dynapse.sim.native import ahead, build, front

KIND = "float32"
FOLDER = Path(build.__file__).parent / "portable"


def stale() -> list[str]:
    """Calls whose IR is missing or of another text."""
    return [what for what in ahead.WHATS if build.portable(what, KIND) is None]


def write(what: str) -> None:
    """Write the IR of a call."""
    text = build.headed(what, KIND, front.made(what, KIND))
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{what}_{KIND}.ll.xz").write_bytes(lzma.compress(text.encode(), preset=9))


def main() -> int:
    found = stale()
    if "--write" in sys.argv:
        with ThreadPoolExecutor(ahead.cpus()) as pool:
            list(pool.map(write, found))
    for what in found:
        sys.stdout.write(f"{'written' if '--write' in sys.argv else 'of another text'}: {what}\n")
    return int(bool(found) and "--write" not in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
