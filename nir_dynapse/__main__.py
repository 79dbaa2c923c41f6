"""`python -m nir_dynapse`: the same as the command `nir-dynapse`."""

from __future__ import annotations

import sys

from nir_dynapse.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
