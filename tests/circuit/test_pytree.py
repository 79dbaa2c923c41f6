"""`Params` is a PyTree whichever comes first, it or JAX; nobody else waits for JAX."""

from __future__ import annotations

import subprocess
import sys

import pytest

from places import EXAMPLES

LATER = """
import sys
import nir_dynapse as nd
from nir_dynapse.layout.decoding import as_params
params = as_params(nd.from_nir(sys.argv[1]))
assert "jax" not in sys.modules
import jax
leaves, tree = jax.tree_util.tree_flatten(params)
again = jax.tree_util.tree_unflatten(tree, leaves)
assert type(again) is nd.Params and again.topology == params.topology, again
assert not any(type(finder).__module__.startswith("nir_dynapse") for finder in sys.meta_path)
print(len(leaves))
"""


@pytest.mark.parametrize("before", ["", "import jax\n"], ids=["Params first", "JAX first"])
def test_in_either_order(before: str) -> None:
    code = before + (LATER.replace('assert "jax" not in sys.modules\n', "") if before else LATER)
    words = [sys.executable, "-c", code, str(EXAMPLES / "networks" / "yin_yang.nir")]
    said = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert int(said.stdout) > 20
