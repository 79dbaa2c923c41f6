"""The verb `calibrate`: measure a board and write the profile of its chips."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from nir_dynapse.cli.exchange import check_places, device_of
from nir_dynapse.cli.output import Output, table

__all__ = ["calibrate"]


def calibrate(args: argparse.Namespace, out: Output) -> int:
    path = Path(args.out)
    check_places(args)
    device = device_of(args)

    from nir_dynapse.backend import open_board  # JAX, once there is something to compute
    from nir_dynapse.calibration.calibrate import calibrate
    from nir_dynapse.chip.profile import save_profiles

    with out.progress() as tell, open_board(args.board, device=device, bit_file=args.bit_file) as board:
        options = {"chips": args.chips, "probes": args.probes, "rows": not args.no_rows, "all_tags": args.all_tags}
        profiles = calibrate(board, **options, device=device, progress=tell)
    save_profiles(path, profiles)
    lines, data = [], []
    for profile in profiles:
        errors = profile.measured["errors"]
        rows = [
            (name, *(f"{s:.3f} ± {100 * e:.1f} %" for s, e in zip(scale, errors[name], strict=True)))
            for name, scale in profile.scales.items()
        ]
        lines += [profile.describe(), "", table(("bias", *(f"core {c}" for c in range(4))), rows), ""]
        data.append(_summary(profile))
    out.result({"board": args.board, "chips": data, "files": [str(path)]}, "\n".join([*lines, f"Written: {path}"]))
    return 0


def _summary(profile: Any) -> dict[str, Any]:
    """A profile as JSON-ready numbers, without its large arrays."""
    return {
        "name": profile.name,
        "bad_neurons": int((~profile.neurons).sum()),
        "bad_rows": np.round(1 - profile.rows.mean((1, 2)), 4).tolist(),
        "unreachable_tags": (~profile.tags).sum(1).tolist(),
        "scales": {name: np.asarray(value).tolist() for name, value in profile.scales.items()},
        "factors_of": list(profile.factors),
        "measured": profile.measured,
    }
