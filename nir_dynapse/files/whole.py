"""Files that are whole or not there, whatever happens to the process or the disk; one writer of a checkpoint at a time.

A file is written under a temporary name beside its own, `.NAME.xxxxxxxx.tmp`, forced onto the disk and renamed. Its writer
holds an advisory lock on it. What a killed process left has no lock, and the next one that writes NAME removes it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nir_dynapse.errors import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows: no locks, so that what a killed process left stays
    fcntl = None

__all__ = ["check_target", "locked", "whole_file", "whole_files", "write_arrays", "write_atomically"]

LONGEST = 60
"""Characters of a name that its temporary one repeats: of four bytes each they fit into the 255 that a name may have."""
TOKEN = re.compile(r"[0-9a-f]{8}\.tmp")
FOLDER = "nir_dynapse"
"""What stands for NAME where files are written together."""
REMEDIES = {
    errno.ENOSPC: "Make room on the disk, or choose another one",
    errno.EDQUOT: "Make room in your quota, or choose another disk",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f), or choose another disk",
    errno.EIO: "Check the disk, or choose another one",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` as `whole_file` does (ConfigurationError)."""
    with whole_file(path) as stream:
        stream.write(content)


def write_arrays(path: str | os.PathLike[str], **arrays: Any) -> None:
    """Write a compressed .npz as `whole_file` does (ConfigurationError)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A stream for the content of `path`, which appears complete when the block ends, or stays as it was.

    ConfigurationError, with the reason and what to do, where the file cannot be written.
    """
    with _explained(path):
        target, made = check_target(path), []
        _clear(target.parent, target.name)
        with _finally(lambda: _remove(made)):
            descriptor = _claimed(target.parent, target.name, _new_file, made)
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                if fcntl is None:
                    stream.close()  # Windows renames no open file
                os.replace(made[0], target)  # under its lock: until now nobody takes it for left behind
                made.clear()
            _settle(target.parent)


@contextmanager
def whole_files(folder: str | os.PathLike[str], names: Sequence[str]) -> Iterator[Path]:
    """A new folder to write files `names` into; they move to `folder`, made where it is missing, when the block ends.

    All of them or, where the block or the disk fails, none. Two processes at once do not mix: the files of one are all
    there before those of the other come. Only a process that is killed between two renames leaves whole files of two runs.
    """
    out, made, held = Path(folder), [], []
    with _explained(folder):
        new = not out.exists()

        def clean() -> None:
            _remove(made)
            while held:
                os.close(held.pop())
            if new:
                with suppress(OSError):  # where there is something in it, it stays
                    out.rmdir()

        with _finally(clean):
            out.mkdir(parents=True, exist_ok=True)
            _clear(out, FOLDER)
            held.append(_claimed(out, FOLDER, _new_folder, made))
            staging = made[0]
            try:
                yield staging
            except ConfigurationError as error:  # of a file that the reader knows by its place to be
                if not isinstance(error.__cause__, OSError):
                    raise
                raise ConfigurationError(str(error).replace(str(staging), str(out))) from error.__cause__
            with _turn(out):
                targets = [check_target(out / name) for name in names]
                moves = [(staging / name, target) for name, target in zip(names, targets, strict=True)]
                try:
                    for source, target in moves:
                        os.replace(source, target)
                except KeyboardInterrupt:
                    for source, target in moves:
                        if source.exists():  # those that are left, so that all are of one run
                            os.replace(source, target)
                    raise
            _settle(out)


@contextmanager
def _finally(clean: Callable[[], None]) -> Iterator[None]:
    """Calls `clean` when the block ends, and once more, for an interrupt that came into the first call."""
    try:
        try:
            yield
        finally:
            clean()
    finally:
        clean()


def check_target(path: str | os.PathLike[str]) -> Path:
    """Where to write `path`, links followed; ConfigurationError where something is there that must not be replaced."""
    with _explained(path):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise ConfigurationError(f"'{path}' is a folder. Choose another name for the file.")
        if target.exists():
            if not target.is_file():
                raise ConfigurationError(f"'{path}' is no ordinary file, and would be replaced by one. Choose a file.")
            os.close(os.open(target, os.O_WRONLY))  # a rename would replace what its owner has made read-only
        return target


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keeps other processes from `path` (ConfigurationError at once where one is at it), until the block or process ends.

    Advisory, by the lock of a file `.NAME.lock` beside it; without effect where the file system or Windows has no locks.
    """
    if fcntl is None:
        yield
        return
    with _explained(path):
        target = Path(os.path.realpath(path))
    lock, held = target.with_name(f".{target.name[:LONGEST]}.lock"), []
    with _finally(lambda: _release(lock, held)):
        with _explained(path):
            _lock(path, lock, held)
        yield


def _release(lock: Path, held: list[int]) -> None:
    """Removes `lock` where nobody else has it, also one that an interrupt left while it was made."""
    with suppress(OSError):
        if not held:
            held.append(os.open(lock, os.O_RDWR))
        # Removed while it is locked: who waits for it finds that the name has gone, and makes another.
        if _hold(held[0], lock):
            lock.unlink()
    while held:
        os.close(held.pop())


def _lock(path: str | os.PathLike[str], lock: Path, held: list[int]) -> None:
    """Locks `lock`, with our number in it; its descriptor joins `held`."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _hold(descriptor, lock):
                held.append(descriptor)
                with suppress(OSError):  # the number is for people
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, str(os.getpid()).encode())
                return
            busy = _is(descriptor, lock)
            number = os.pread(descriptor, 20, 0).decode(errors="replace") if busy else ""
        finally:
            if not held:
                os.close(descriptor)
        if busy:
            who = f"another run (process {number})" if number.isdecimal() else "another run"
            raise ConfigurationError(f"{path}: {who} is using this file. Wait for it to end, or give another file.")


def _hold(descriptor: int, path: Path) -> bool:
    """Whether `descriptor` is locked now and still what has the name `path`; true where nothing can be locked."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return _is(descriptor, path)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _claimed(folder: Path, name: str, make: Callable[[Path], int], made: list[Path]) -> int:
    """What `make` makes, under a new temporary name for `name` in `folder`: its descriptor, locked; its path joins `made`.

    Before it is there: an interrupt may come as soon as it is, and who cleans up must know of it.
    """
    while True:
        made.append(folder / f"{_stem(name)}{os.urandom(4).hex()}.tmp")
        try:
            descriptor = make(made[-1])
        except FileExistsError:
            made.pop()
            continue
        if _hold(descriptor, made[-1]):
            return descriptor
        made.pop()
        os.close(descriptor)  # another process takes it for left behind, and removes it


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    try:
        return os.open(os.devnull if fcntl is None else path, os.O_RDONLY)  # Windows opens no folder
    except FileNotFoundError:  # another process took it for left behind
        raise FileExistsError(path) from None


def _stem(name: str) -> str:
    return f".{name[:LONGEST]}."


def _clear(folder: Path, name: str) -> None:
    """Remove the temporary files or folders for `name` that no living process holds."""
    if fcntl is None:
        return
    stem = _stem(name)
    with os.scandir(folder) as entries:
        found = [Path(e.path) for e in entries if e.name.startswith(stem) and TOKEN.fullmatch(e.name[len(stem) :])]
    for path in found:
        with suppress(OSError):  # of another user, on a file system without locks, gone by now
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Waits until no other process moves files into `folder`."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _settle(folder: Path) -> None:
    """Force renames in `folder` onto the disk, where the system can; without it a power cut may bring the old file back."""
    if fcntl is None:
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what the system says of `path` into a ConfigurationError with what to do."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if isinstance(error, ValueError) and "embedded null" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or error
        remedy = REMEDIES.get(getattr(error, "errno", None) or 0, "Choose a folder that exists and is writable")
        there = Path(path)
        with suppress(OSError, ValueError):
            remedy += "; the file of that name is as it was" if there.is_file() else ""
        raise ConfigurationError(f"{path}: cannot be written ({reason}). {remedy}.") from error
