"""Test files as programs of their own: on several JAX devices, and as one of two processes of `jax.distributed`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from places import ROOT, TESTS


def joined(command: str) -> tuple[str, str]:
    """Kind and number of a `command`; of `process:N:PORT` after joining the other process as number N of two."""
    import jax

    kind, _, which = command.partition(":")
    number, _, port = which.partition(":")
    if kind == "process":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
    return kind, number


def several(devices: int) -> dict[str, str]:
    """The environment of a process with so many JAX devices."""
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}


def start(file: str, command: str, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Run the test file `file` with `command` and `folder` as arguments."""
    paths = os.pathsep.join([str(ROOT), str(TESTS / "helpers")])
    env = {**os.environ, **environment, "PYTHONPATH": paths}
    argv = [sys.executable, file, command, str(folder)]
    return subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(processes: list[subprocess.Popen[str]], timeout: float, code: int = 0) -> list[str]:
    """The last lines of what the processes print; all are killed where one takes over `timeout` s or fails."""
    lines = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            assert process.returncode == code, err[-3000:]
            lines.append((out.splitlines() or [""])[-1])
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return lines


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])
