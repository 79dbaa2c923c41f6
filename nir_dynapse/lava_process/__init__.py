"""A compiled network as a Lava process: `from nir_dynapse.lava_process.process import DynapSE2` (needs lava-nc 0.10).

May import nouns, and of the arrows the NumPy parts of `sim` and the reader of NIR graphs; Lava here only.

Importing this package makes Lava importable (see `runtime.shim`), so it comes before any `import lava...`.
"""

from __future__ import annotations

from nir_dynapse.lava_process.runtime.shim import make_importable

__all__: list[str] = []

make_importable()
