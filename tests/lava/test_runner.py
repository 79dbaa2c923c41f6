"""LavaRun: errors of workers arrive, nothing hangs and nothing is left behind, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shortened import shortened

pytest.importorskip("lava.magma", reason="lava-nc is not installed")
if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)

FAULTY = Path(__file__).parent / "faulty"
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
LIMIT = 100  # s; a run that hangs fails. Most scripts take one or two
# Every run lives in a process of its own. `left()` is what the process still holds, but for Python itself.
START = f"""
import logging, os, sys, threading, time
sys.path.append({str(FAULTY)!r})
import nir_dynapse.lava_process
from faulty_process import Faulty
from lava.magma.core.run_conditions import RunSteps
from lava.proc.io.extractor import Extractor
from lava.proc.io.injector import Injector
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.monitor.process import Monitor
from nir_dynapse.errors import LavaRunError, ParameterRangeError
from nir_dynapse.lava_process.runtime.runner import LavaRun
import numpy as np

def children():
    mine = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            mine.append(int(pid))
    return mine

def left():
    return dict(
        children=children(),
        fds=len(os.listdir("/proc/self/fd")),
        shm=sum("/dev/shm/" in line or "/dev/zero" in line for line in open("/proc/self/maps")),
        threads=threading.active_count(),
        handlers=len(logging.getLogger().handlers),
    )

def network(fault="", step=3, steps=50):
    first, sink = Faulty(fault=fault, step=step), Sink(shape=(2,), buffer=steps)
    first.s_out.connect(sink.a_in)
    return first, sink

def refused(call, *words, error=LavaRunError):
    try:
        call()
    except error as caught:
        assert all(word in str(caught) for word in words), str(caught)
        return caught
    raise SystemExit(f"not refused: {{words}}")

nothing = left()
"""


@contextmanager
def started(tmp_path: Path, script: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A script under way, as the leader of a process group of its own."""
    path = tmp_path / "script.py"
    path.write_text(START + textwrap.dedent(script))
    process = subprocess.Popen(
        [sys.executable, *options, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(tmp_path: Path, script: str, *options: str, code: int = 0) -> tuple[str, str]:
    with started(tmp_path, script, *options) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == code, (out[-1000:], err[-3000:])
    return out, err


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_runs_go_on_where_the_last_one_ended(tmp_path: Path) -> None:
    script = """
    first, sink = network("slow", steps=2000)
    handle = LavaRun(first, timeout=60)
    refused(lambda: handle(1), "not been started")
    refused(lambda: LavaRun(first, timeout=0), "timeout", error=ParameterRangeError)
    with handle as run:
        assert len(children()) == 3 and not run.running  # two processes and the service, no more
        run(3)
        run(steps=2, blocking=False)
        assert run.running
        refused(lambda: run(1), "not finished")
        refused(first.count.get, "between runs")
        run.wait()
        assert not run.running and first.count.get() == 5
        first.count.set(np.array([100.0]))
        run(10**6, blocking=False)
        time.sleep(0.2)
        run.pause()
        run.pause()  # nothing runs: nothing happens
        paused = first.count.get()
        assert not run.running and 100 < paused < 1000
        run(4)  # Lava itself never returns from the first run after a pause
        assert first.count.get() == paused + 4
        run(2, blocking=False)
        time.sleep(0.5)  # over, but nobody has looked
        run.pause()
        run(1)
        assert first.count.get() == paused + 7
        run.forever()
        time.sleep(0.2)
        run.pause()
        assert first.count.get() > paused + 7
        for wrong in (0, -1, 1.5):
            refused(lambda: run(wrong), "steps", error=ParameterRangeError)
        run(1, blocking=False)
        time.sleep(0.2)
        first.run(RunSteps(num_steps=2))  # Lava's own way
        run(None)
    assert not run.running and left() == nothing, (left(), nothing)
    run.stop()
    refused(lambda: run(1), "has ended")
    refused(first.count.get, "Read Vars")
    refused(LavaRun(first).start, "make the processes anew")
    del first, sink, run

    first, sink = network("ask for pause", step=4)
    with LavaRun(first, timeout=60) as run:
        run(100)
        assert first.count.get() == 4 and not run.running
        run(2)
        assert first.count.get() == 6
    first, sink = network("ask for stop", step=4)
    with LavaRun(first, timeout=60).start() as run:
        run(100)
        assert not run.running
        refused(lambda: run(1), "has ended")

    injector, first, extractor = Injector(shape=(2,)), Faulty(), Extractor(shape=(2,))
    injector.out_port.connect(first.s_in)
    first.s_out.connect(extractor.in_port)
    with LavaRun(first, timeout=60) as run:
        run(20, blocking=False)
        for k in range(20):
            injector.send(np.array([k, -k]))
            assert list(extractor.receive()) == [k, -k]
        run.wait()
    refused(extractor.receive, "has ended")
    assert left() == nothing, (left(), nothing)
    print("fine")
    """
    out, err = run(tmp_path, script)
    assert (out, err) == ("fine\n", "")


@pytest.mark.long
def test_failures_arrive_soon_and_leave_nothing(tmp_path: Path) -> None:
    script = """
    def failing(fault, *words, build=network, steps=10, timeout=60, soon=20.0, text=True):
        first, other = build(fault)
        def attempt():
            with LavaRun(first, timeout=timeout) as run:
                clock.append(time.monotonic())
                run(steps)
        clock = [time.monotonic()]
        caught = refused(attempt, *words)
        took = time.monotonic() - clock[-1]
        assert took < soon, (fault, took)
        assert ("Traceback" in caught.traceback) == text, caught.traceback
        assert left() == nothing, (fault, left(), nothing)
        print(fault, "took", round(took, 2), file=sys.stderr)
        return caught

    def monitored(fault):
        first, monitor = Faulty(), Monitor()
        monitor.probe(first.count, 5)
        return first, monitor

    def loop(fault):
        first, second = Faulty(name="one"), Faulty(name="two")
        first.s_out.connect(second.s_in)
        second.s_out.connect(first.s_in)
        return first, second

    who = "'faulty' (Faulty, PyFaulty)"
    caught = failing("before", who, "in step 3", "ValueError: before sending")
    assert "in run_spk" in caught.traceback and "before sending" in str(caught.__cause__)
    failing("after", who, "in step 3", "after sending")
    failing("later phase", who, "in a later phase")
    failing("init", who, "before its first step", "no such model")
    failing("init killed", who, "signal 9, SIGKILL", text=False)
    failing("killed", who, "SIGKILL", text=False)
    failing("os._exit", who, "exit code 7", text=False)
    failing("exit", who, "SystemExit: a model that leaves")
    failing("overflow", "(Monitor, PyMonitorModel)", "in step 6", "IndexError", build=monitored)
    failing("hang", "timeout = 0.3 s", timeout=0.3, text=False)
    failing("loop", "timeout = 0.3 s", build=loop, timeout=0.3, text=False)
    failing("init slow", "timeout = 0.5 s", timeout=0.5, text=False)

    first, sink = network()  # an error of the user
    try:
        with LavaRun(first) as run:
            run.forever()
            1 / 0
    except ZeroDivisionError:
        assert left() == nothing, (left(), nothing)

    # A failure between two calls shows at whatever call comes next.
    for call in ("wait", "pause", "stop", "running"):
        first, sink = network("before")
        with_run = LavaRun(first).start()
        with_run.forever()
        time.sleep(0.3)
        refused(lambda: with_run.running if call == "running" else getattr(with_run, call)(), "before sending")
        refused(lambda: with_run(1), "after an error", "before sending")
        with_run.stop()
    first, sink = network()
    with_run = LavaRun(first).start()
    os.kill(children()[0], 9)
    time.sleep(0.1)
    refused(first.count.get, "SIGKILL")

    injector, first = Injector(shape=(2,)), Faulty(fault="killed")  # the host waits for data, not for the end of steps
    extractor = Extractor(shape=(2,))
    injector.out_port.connect(first.s_in)
    first.s_out.connect(extractor.in_port)
    with_run = LavaRun(first).start()
    with_run.forever()
    def exchange():
        while True:
            injector.send(np.ones(2))
            extractor.receive()
    refused(exchange, "SIGKILL")

    first, sink = network("hang")  # stopping by force, because the network does not stop by itself
    clock = time.monotonic()
    with LavaRun(first) as run:
        run(10, blocking=False)
        time.sleep(0.2)
    assert time.monotonic() - clock < 20
    del injector, first, extractor, sink, run, with_run
    assert left() == nothing, (left(), nothing)
    print("fine")
    """
    out, err = run(tmp_path, script)
    assert out == "fine\n", err
    assert "Exception ignored" not in err
    assert err.count("\n") == err.count(" took "), err


@pytest.mark.long
def test_twenty_runs_leave_no_more_than_one(tmp_path: Path) -> None:
    script = """
    from lava.magma.core.process.process import ProcessServer
    from lava.magma.core.process.variable import VarServer
    for _ in range(20):
        injector, first, monitor = Injector(shape=(2,)), Faulty(), Monitor()
        injector.out_port.connect(first.s_in)
        monitor.probe(first.count, 4)
        with LavaRun(first, timeout=60) as run:
            run(4, blocking=False)
            for _ in range(4):
                injector.send(np.ones(2))
            run.wait()
            data = monitor.get_data()["faulty"]["count"].ravel()
            assert list(data) == [1, 2, 3, 4], data
        assert left() == nothing, (left(), nothing)
    assert not ProcessServer().processes and not VarServer().vars
    one, _ = network()
    watched = dict(use_watchdog=True, short_event_timeout=60, long_event_timeout=60)
    with LavaRun(one, compile_config=watched) as run:
        run(2)
    assert left()["children"] == [] and left()["handlers"] == 0
    """
    _, err = run(tmp_path, script)
    assert not err


def test_jax_before_lava_and_a_lock_before_the_import(tmp_path: Path) -> None:
    script = """
    import jax.numpy as jnp
    for _ in range(3):
        assert float(jnp.ones(3).sum()) == 3
        first, sink = network()
        with LavaRun(first, timeout=60) as run:
            run(5)
            assert first.count.get() == 5
    """
    before = "import multiprocessing\nlock, queue = multiprocessing.Lock(), multiprocessing.Queue()\n"
    path = tmp_path / "first.py"
    path.write_text(before + START + textwrap.dedent(script))
    options = ["-W", "error:.*os.fork.*:RuntimeWarning", "-W", "error:.*multi-threaded.*:DeprecationWarning"]
    command = [sys.executable, *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=ENV)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise KeyError('mine')", 1)])
def test_a_forgotten_stop_does_not_keep_python(tmp_path: Path, end: str, code: int) -> None:
    script = f"""
    first, sink = network()
    run = LavaRun(first).start()
    run.forever()
    print(*children(), flush=True)
    {end}
    """
    out, err = run(tmp_path, script, code=code)
    assert gone([int(pid) for pid in out.split()])
    assert ("KeyError: 'mine'" in err) if code == 1 else not err


@pytest.mark.parametrize(
    ("fault", "then", "to_all"),
    shortened(
        [
            ("", "run(10**9)", True),
            ("", "run(10**9)", False),
            ("slow", "run.forever(); time.sleep(100)", True),
            ("init slow", "pass", True),
        ],
        2,
    ),
)
def test_ctrl_c_ends_everything(tmp_path: Path, fault: str, then: str, to_all: bool) -> None:
    # Where tests run in the background, SIGINT may be ignored, which children inherit: as on a terminal again.
    script = f"""
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first, sink = network({fault!r})
    def say():
        while len(children()) < 3:
            time.sleep(0.02)
        time.sleep(0.3)
        print(*children(), flush=True)
    threading.Thread(target=say).start()
    try:
        with LavaRun(first) as run:
            {then}
    finally:
        print("left", left()["children"], flush=True)
    """
    with started(tmp_path, script) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 3
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert out == "left []\n"
    assert err.count("Traceback") == 1, err
    assert "KeyboardInterrupt" in err
    assert gone(pids)


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = """
    first, sink = network()
    run = LavaRun(first).start()
    run.forever()
    print(*children(), flush=True)
    time.sleep(100)
    """
    with started(tmp_path, script) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
        assert len(pids) == 3
        assert gone(pids)
