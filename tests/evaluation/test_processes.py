"""`evaluate` gives the same numbers on any number of JAX devices and processes; this file is also what those run."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nir_dynapse as nd
import small_networks
from jax_processes import finish, free_port, joined, several, start
from nir_dynapse.sim import ensemble

pytestmark = pytest.mark.long

TIMEOUT = 120
"""Seconds after which a process is killed."""
MISMATCH = nd.Mismatch.uniform(0.2)


def options(**more: Any) -> dict[str, Any]:
    return {"devices": 18, "key": 2, "mismatch": MISMATCH, **more}


def problem() -> tuple[nd.Network, nd.Data]:
    """A network whose sums are long enough for XLA to split them among threads, and whose recurrence keeps a difference."""
    network = small_networks.recurrent(4, 200, 24, 3, fan_in=60)
    x = np.random.default_rng(0).poisson(0.2, (70, 40, 200)).astype(np.uint8)
    return network, nd.Data(x, np.arange(70) % 3, 1e-3)


def counted(network: nd.Network, data: nd.Data) -> dict[str, str]:
    """A digest of all output counts of every chip that this process runs."""
    found: dict[str, str] = {}
    for part in ensemble.output_counts(nd.to_params(network), data.x, data.dt, MISMATCH, range(2, 20)):
        found |= {str(number): hashlib.sha256(counts.tobytes()).hexdigest() for number, counts in part.items()}
    return found


def program(command: str, folder: str) -> None:
    """What each process does: `devices`, or `process:N:PORT` as number N of two."""
    import jax

    kind, number = joined(command)
    network, data = problem()
    told: list[float] = []

    def tell(stage: str, fraction: float) -> None:
        told.append(fraction)

    result: dict[str, Any] = {"jax_devices": jax.device_count(), "local": jax.local_device_count()}
    result |= nd.evaluate(network, data, progress=tell, **options()).to_dict()
    result["told"], result["counted"] = told, counted(network, data)
    if kind == "process":
        path = Path(folder) / f"chips{number}.npz"
        nd.evaluate(network, data, checkpoint=path, **options(devices=3))
        result["written"] = path.exists()
        # Only the first process has the file of 3 chips.
        result["resumed"] = nd.evaluate(network, data, checkpoint=path, **options(devices=5)).accuracy.tolist()
        result["foreign"] = refusal(network, data, options(checkpoint=path, devices=5, key=3))
        result["differ"] = refusal(network, data, options(key=int(number)))
    sys.stdout.write(json.dumps(result) + "\n")


def refusal(network: nd.Network, data: nd.Data, arguments: dict[str, Any]) -> str:
    try:
        nd.evaluate(network, data, **arguments)
    except nd.ConfigurationError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    network, data = problem()
    return nd.evaluate(network, data, **options()).to_dict() | {"counted": counted(network, data)}


def numbers(result: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in known}


def test_same_numbers_on_any_number_of_devices(known: dict[str, Any], tmp_path: Path) -> None:
    counts = (1, 2, 8)
    lines = finish([start(__file__, "devices", tmp_path, several(count)) for count in counts], TIMEOUT)
    results = [json.loads(line) for line in lines]
    assert [result["jax_devices"] for result in results] == list(counts)
    assert len({*known["counted"].values()}) == 18, "chips differ"
    for result in results:
        assert numbers(result, known) == known


def test_same_numbers_in_two_processes(known: dict[str, Any], tmp_path: Path) -> None:
    port = free_port()
    lines = finish([start(__file__, f"process:{k}:{port}", tmp_path, several(1)) for k in range(2)], TIMEOUT)
    results = [json.loads(line) for line in lines]
    shares = [result["counted"] for result in results]
    assert all(len(share) < 18 for share in shares), "each process runs its own chips"
    assert all(shares[0][number] == shares[1][number] for number in {*shares[0]} & {*shares[1]}), "padding"
    for result in results:
        result["counted"] = shares[0] | shares[1]
        assert (result["jax_devices"], result["local"]) == (2, 1)
        assert numbers(result, known) == known
        assert result["told"] == results[0]["told"]
        assert result["resumed"] == known["accuracy"][:5]
        assert "process 1 was called with other arguments than process 0" in result["differ"]
    assert [result["written"] for result in results] == [True, False], "only the first process writes"
    assert "made with another key" in results[0]["foreign"]
    assert "process 0 refused the checkpoint" in results[1]["foreign"]


if __name__ == "__main__":
    program(*sys.argv[1:])
