"""Files are whole or not there: full disks, interrupts, killed and concurrent writers, names that are no files."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cli_models import fails, graph, save, write
from nir_dynapse.chip.profile import ChipProfile
from nir_dynapse.errors import ConfigurationError
from nir_dynapse.export.samna_config import write_config_json
from nir_dynapse.files.whole import check_target, locked, whole_file, whole_files, write_arrays, write_atomically

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")
OLD = b"what was there before"


@contextmanager
def child(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `code` in `folder`, once it has said a line."""
    head = "import sys, time\nfrom nir_dynapse.files.whole import *\n"
    words = [sys.executable, "-c", head + code]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_both(folder: Path, a: bytes, b: bytes) -> None:
    with whole_files(folder, ("a", "b")) as staging:
        write_atomically(staging / "a", a)
        write_atomically(staging / "b", b)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of more than 64 bytes cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- what fails leaves everything as it was -----------------------------------------------------------------------------


def test_no_room(tmp_path: Path, small_files: None, random_layout) -> None:  # type: ignore[no-untyped-def]
    layout, profile, path = random_layout(1), ChipProfile.synthetic(0), tmp_path / "it"
    path.write_bytes(OLD)
    for attempt in (
        lambda: write_atomically(path, bytes(65)),
        lambda: write_arrays(path, x=np.random.default_rng(0).random(100)),
        lambda: layout.save(path),
        lambda: write_config_json(layout, path),
        lambda: profile.save(path),
    ):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        message = f"{path}: cannot be written (File too large). Raise the limit of file sizes (ulimit -f)"
        assert str(caught.value).startswith(message)
        assert str(caught.value).endswith("; the file of that name is as it was.")
        assert path.read_bytes() == OLD
        assert names(tmp_path) == ["it"]
    write_atomically(path, bytes(64))
    assert path.read_bytes() == bytes(64)


def test_several_files_or_none(tmp_path: Path, small_files: None) -> None:
    out = tmp_path / "out"
    for made_before in (False, True):
        if made_before:
            out.mkdir()
            (out / "a").write_bytes(OLD)
        with pytest.raises(ConfigurationError) as caught:
            write_both(out, b"new", bytes(65))
        assert str(caught.value).startswith(f"{out / 'b'}: cannot be written (File too large).")
        assert (names(out) if made_before else names(tmp_path)) == (["a"] if made_before else [])
    assert (out / "a").read_bytes() == OLD
    write_both(out, b"new", b"new")
    assert names(out) == ["a", "b"]
    assert (out / "a").read_bytes() == b"new"


def test_one_target_that_cannot_be_keeps_all(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_bytes(OLD)
    with pytest.raises(ConfigurationError, match="is a folder"):
        write_both(tmp_path, b"new", b"new")
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == OLD


def test_a_file_that_was_not_written_is_missed(tmp_path: Path) -> None:
    def one_of_two() -> None:
        with whole_files(tmp_path, ("a", "b")) as staging:
            write_atomically(staging / "a", b"new")

    with pytest.raises(ConfigurationError, match="No such file"):
        one_of_two()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, ValueError])
def test_an_interrupt_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(OLD)

    def interrupted() -> None:
        with whole_file(tmp_path / "it") as stream:
            stream.write(bytes(100_000))
            assert len(names(tmp_path)) == 2
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == ["it"]
    assert (tmp_path / "it").read_bytes() == OLD


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        done.append("folder" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else "content")

    def renamed(source: Path, target: Path) -> None:
        replace(source, target)
        done.append("rename")

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(tmp_path / "it", b"new")
    assert done == ["content", "rename", "folder"]


# --- names ----------------------------------------------------------------------------------------------------------------


def test_names(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127, "𝕏" * 63, ".hidden", "a b*[c]"):
        write_atomically(tmp_path / name, b"new")
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()
    for name, words in (
        ("x" * 256, "Choose a shorter name"),
        ("a\0b", "embedded null"),
        ("no/it", "No such file"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            write_atomically(f"{tmp_path}/{name}", b"")


def test_links_stay_links(tmp_path: Path) -> None:
    for name in ("folder", "elsewhere"):
        (tmp_path / name).mkdir()
    link = tmp_path / "folder" / "link"
    link.symlink_to(tmp_path / "elsewhere" / "it")
    for content in (b"first", b"second"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / "it").read_bytes() == content
    assert names(tmp_path / "elsewhere") == ["it"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "no ordinary file"),
        (os.devnull, "no ordinary file"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            write_atomically(path, b"")
        with pytest.raises(ConfigurationError, match=words):
            check_target(path)
    assert Path(os.devnull).is_char_device()
    assert (tmp_path / "pipe").is_fifo()


def test_mode_of_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "it", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o640


# --- other processes --------------------------------------------------------------------------------------------------


FILE = """
with whole_file("it") as stream:
    stream.write(b"half"); stream.flush()
    print("ready", flush=True); time.sleep(60)
"""
FOLDER = """
with whole_files(".", ("it", "other")) as staging:
    write_atomically(staging / "it", b"half")
    print("ready", flush=True); time.sleep(60)
"""


@pytest.mark.parametrize("code", [FILE, FOLDER])
def test_what_a_killed_writer_left(code: str, tmp_path: Path) -> None:
    """The next writer of that name removes it, but nothing of a writer that lives, nor what others call alike."""

    def written() -> None:
        if code == FILE:
            write_atomically(tmp_path / "it", b"new")
        else:
            with whole_files(tmp_path, ("it",)) as staging:
                write_atomically(staging / "it", b"new")

    others = (".it.lock", ".it.tmp", ".it.0123.tmp", ".other.01234567.tmp", ".it.0123456g.tmp", "it.01234567.tmp")
    for name in others:
        (tmp_path / name).touch()
    with child(code, tmp_path) as process:
        (left,) = set(names(tmp_path)) - set(others)
        assert left.endswith(".tmp")
        written()
        assert set(names(tmp_path)) == {"it", left, *others}
        process.kill()
        process.wait()
        assert set(names(tmp_path)) == {"it", left, *others}
        written()
    assert set(names(tmp_path)) == {"it", *others}
    assert (tmp_path / "it").read_bytes() == b"new"


def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    """Both write the same names all the time: what is read is whole, and each set of three files is of one writer."""
    code = """
print("ready", flush=True)
for number in range({first}, 120, 2):
    write_atomically("single", bytes([number]) * 300_000)
    with whole_files("out", "abc") as staging:
        for name in "abc":
            write_atomically(staging / name, bytes([number]) * 1000)
"""
    seen: set[int] = set()
    with child(code.format(first=0), tmp_path) as one, child(code.format(first=1), tmp_path) as two:
        while one.poll() is None or two.poll() is None:
            for path, size in ((tmp_path / "single", 300_000), (tmp_path / "out" / "b", 1000)):
                if path.exists():
                    content = path.read_bytes()
                    assert content == content[:1] * size
                    seen.add(content[0])
        assert (one.returncode, two.returncode) == (0, 0)
    assert len(seen) > 10
    assert names(tmp_path) == ["out", "single"]
    assert names(tmp_path / "out") == ["a", "b", "c"]
    assert len({(tmp_path / "out" / name).read_bytes() for name in "abc"}) == 1


def test_threads(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            write_atomically(tmp_path / "it", bytes([number]) * 50_000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = (tmp_path / "it").read_bytes()
    assert content == content[:1] * 50_000
    assert names(tmp_path) == ["it"]


# --- checkpoints --------------------------------------------------------------------------------------------------------


HOLDER = 'with locked("c.npz"):\n    print("ready", flush=True); time.sleep(60)\n'


def test_one_run_per_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = write(tmp_path / "m.nir", graph()), save(tmp_path / "x.npz")
    checkpoint = ["--checkpoint", str(tmp_path / "c.npz")]
    out = ["-o", str(tmp_path / "t.npz")]
    quick = ["--steps", "1", "--devices", "1", "--batch", "1"]
    verbs = (["finetune", model, "--train", data, *quick, *out], ["evaluate", model, "--data", data, "--devices", "1"])
    inputs = {"m.nir", "x.npz"}
    with child(HOLDER, tmp_path) as process:
        for verb in verbs:
            fails(capsys, [*verb, *checkpoint], f"c.npz: another run (process {process.pid}) is using this file. Wait")
        assert set(names(tmp_path)) == {*inputs, ".c.npz.lock"}
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / ".c.npz.lock").exists()
    with locked(tmp_path / "c.npz"), pytest.raises(ConfigurationError, match=f"process {os.getpid()}"):
        locked(tmp_path / "c.npz").__enter__()
    assert set(names(tmp_path)) == inputs


def test_a_lock_that_is_taken_in_turn(tmp_path: Path) -> None:
    """Processes that come and go never hold it together, though each removes its file."""
    code = """
from nir_dynapse.errors import ConfigurationError
from pathlib import Path
print("ready", flush=True)
done = 0
while done < 60:
    try:
        with locked("c.npz"):
            value = int(Path("c.npz").read_text())
            time.sleep(0.001)
            Path("c.npz").write_text(str(value + 1))
            done += 1
    except ConfigurationError:
        time.sleep(0.0005)
"""
    (tmp_path / "c.npz").write_text("0")
    with child(code, tmp_path) as one, child(code, tmp_path) as two, child(code, tmp_path) as three:
        assert [each.wait(60) for each in (one, two, three)] == [0, 0, 0]
    assert (tmp_path / "c.npz").read_text() == "180"
    assert names(tmp_path) == ["c.npz"]
