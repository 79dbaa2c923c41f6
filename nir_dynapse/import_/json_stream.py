"""Read a large JSON text value by value, in bounded memory: only the part that is being looked at is held."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from nir_dynapse.errors import ConfigurationError

__all__ = ["JsonStream"]

CHUNK = 1 << 18
BLANKS = re.compile(r"[ \t\r\n]*")
NUMBER_GOES_ON = re.compile(r"[0-9.eE+-]*")
LONGEST_TOKEN = 16
"""Characters before the end within which a word, a number or an escape that was cut off is an error."""
MAX_VALUE = 1 << 21
"""Most characters that one value may have (a neuron has about 50 000 when indented). At most twice as many are held, each
of which may need 34 bytes in Python."""
LONGEST_PASSAGE = 1 << 15
"""Most characters of a passage (a neuron without blanks has about 10 000)."""
MAX_TEXT = 1 << 29
"""Most characters of a whole text (a full stack of eight chips has about 4·10⁸ when indented)."""


class JsonStream:
    """A JSON file, gzipped or not, read from front to back; a context manager.

    `members()` walks into the object or array that comes next, `value()` decodes a whole value, `end()` checks that
    nothing follows. Everything that is not JSON, truncated, too large or unreadable is a ConfigurationError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._text, self._at, self._read, self._ended = "", 0, 0, False
        self._decoder = json.JSONDecoder()
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). Check the path."
            ) from error
        packed = self._file.peek(2)[:2] == b"\x1f\x8b"
        source: Any = gzip.GzipFile(fileobj=self._file, mode="rb") if packed else self._file
        self._source = io.TextIOWrapper(source, encoding="utf-8")

    def __enter__(self) -> JsonStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        self._file.close()

    def members(self) -> Iterator[str]:
        """Keys of the object that comes next (value0, value1, … for an array); the caller consumes each value."""
        closing = "}" if self._take("{[") == "{" else "]"
        if self._peek() == closing:
            self._at += 1
            return
        index = 0
        while True:
            key = f"value{index}"
            if closing == "}":
                key = self.value()
                if not isinstance(key, str):
                    self.fail(f"a key of an object is {str(key)[:40]!r}")
                self._take(":")
            yield key
            index += 1
            if self._take("," + closing) == closing:
                return

    def value(self, what: str = "a value") -> Any:
        """The value that comes next, decoded; `what` names it where it is too long."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                self.fail("a value is nested too deeply")
            except json.JSONDecodeError as error:
                # What is wrong far from the end is so whatever follows; a string may be a long one.
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - LONGEST_TOKEN
                if cut and len(self._text) - self._at > MAX_VALUE:
                    self.fail(f"{what} has more than {MAX_VALUE} characters")
                if not cut or not self._more():
                    self.fail(error.msg)
                continue
            except ValueError:
                self.fail("a number is too long")
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and NUMBER_GOES_ON.fullmatch(self._text, end) and self._more():
                continue  # a number may go on, also after a point or an exponent that ends the piece
            self._at = end
            return value

    def passage(self, first: str, last: str, least: int = 0) -> str:
        """The text that comes next, which stays to be read, if it begins with `first`: up to the first place behind `least`
        and within `LONGEST_PASSAGE` characters where `last` ends; an empty text otherwise.
        """
        self._peek()
        while True:
            if not self._text.startswith(first[: len(self._text) - self._at], self._at):
                return ""
            found = self._text.find(last, self._at + least, self._at + LONGEST_PASSAGE)
            if found >= 0:
                return self._text[self._at : found + len(last)]
            if len(self._text) - self._at >= LONGEST_PASSAGE or not self._more():
                return ""

    def skip(self, count: int) -> None:
        """Leave out what `passage` gave."""
        self._at += count

    def end(self) -> None:
        """Nothing but white space may follow."""
        if self._peek():
            self.fail("text follows after the end")

    def fail(self, what: str) -> NoReturn:
        """Raise a ConfigurationError for the present position."""
        raise ConfigurationError(
            f"{self.path}: {what}, near character {self._read - len(self._text) + self._at}. "
            "Write the configuration again with write_config_json."
        )

    def _peek(self) -> str:
        """The next character that is not white space, or an empty text at the end."""
        if self._at < len(self._text) and (found := self._text[self._at]) > " ":  # by far the most frequent
            return found
        while True:
            self._at = BLANKS.match(self._text, self._at).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, allowed: str) -> str:
        found = self._peek()
        if not found or found not in allowed:
            self.fail(f"{found!r} where one of {' '.join(allowed)} is needed" if found else "the text ends too early")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Drop what was consumed and read on; False at the end of the text."""
        rest = self._text[self._at :]
        try:
            chunk = "" if self._ended else self._source.read(max(CHUNK, len(rest)))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            self.fail(f"the file is damaged ({error})")
        self._ended = not chunk
        self._read += len(chunk)
        self._text, self._at = rest + chunk, 0
        if self._read > MAX_TEXT:
            self.fail(f"the text has more than {MAX_TEXT} characters")
        return bool(chunk)
