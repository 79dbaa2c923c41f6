"""TrainingLog: rows, CSV, picture."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nir_dynapse.errors import ConfigurationError, ParameterRangeError
from nir_dynapse.reporting.training_log import COLUMNS, TrainingLog

HEADER = "step,loss,accuracy,held_out,held_out_low,score,learning_rate,seconds"


@pytest.fixture
def log() -> TrainingLog:
    made = TrainingLog()
    for step in range(0, 200, 10):
        row = {
            "step": step,
            "loss": 2.3 * math.exp(-step / 30) + 1 / 3e4,
            "learning_rate": 1 / 3e2,
            "seconds": step / 7,
        }
        if step % 20 == 0:
            row |= {"accuracy": 1 - math.exp(-step / 50) / 3}
        if step % 50 == 0:
            row |= {"held_out": 0.8 + step / 1e3, "held_out_low": 0.7 + step / 1e3}
        made = made.append(row)
    return made


def test_rows(log: TrainingLog) -> None:
    assert len(log) == 20
    assert log.step.tolist() == list(range(0, 200, 10))
    assert log.step.dtype == np.int64
    assert all(getattr(log, name).dtype == np.float64 for name in COLUMNS[1:])
    assert np.isnan(log.accuracy).tolist() == [False, True] * 10
    assert np.isfinite(log.held_out).sum() == 4
    assert len(TrainingLog()) == 0
    with pytest.raises(ValueError, match="read-only"):
        log.loss[0] = 1.0


def test_equal_by_value(log: TrainingLog) -> None:
    again = TrainingLog(**{name: getattr(log, name).copy() for name in COLUMNS})
    assert again == log
    assert again != log.append({"step": 200, "loss": 0.1})
    assert TrainingLog() == TrainingLog()
    assert log != 3


def test_table(log: TrainingLog) -> None:
    table = log.table()
    assert (table.shape, table.dtype) == ((20, 8), np.float64)
    assert TrainingLog.of(table) == log
    assert TrainingLog.of(TrainingLog().table()) == TrainingLog()
    for wrong in (table[:, :6], table[0], table.astype(str)):
        with pytest.raises(ParameterRangeError, match="needed are numbers of shape"):
            TrainingLog.of(wrong)


def test_what_is_refused(log: TrainingLog) -> None:
    for row, words in (
        ({"step": 190, "loss": 1.0}, "step 190 comes after step 190"),
        ({"step": 200}, "lacks loss"),
        ({"step": 200, "loss": 1.0, "acuracy": 1.0}, "holds 'acuracy'. Give step, loss and any of accuracy, held_out"),
    ):
        with pytest.raises(ParameterRangeError, match=words):
            log.append(row)
    with pytest.raises(ParameterRangeError, match="1 steps, but 2 of loss, 0 of accuracy"):
        TrainingLog(np.array([1]), np.array([1.0, 2.0]))


def test_csv_round_trip(log: TrainingLog, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    for some in (
        log,
        TrainingLog(),
        log.append({"step": 2**40, "loss": math.inf}),
        log.append({"step": 500, "loss": math.nan}),
    ):
        some.save(path)
        assert TrainingLog.load(str(path)) == some
        assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]
    lines = path.read_text().splitlines()
    assert lines[0] == HEADER
    assert lines[2] == f"10,{log.loss[1].item()!r},,,,,{1 / 3e2!r},{10 / 7!r}"
    assert lines[-1] == "500,,,,,,,"


def test_csv_from_elsewhere(log: TrainingLog, tmp_path: Path) -> None:
    """A spreadsheet's line ends, mark at the start and quotes."""
    log.save(tmp_path / "log.csv")
    text = (tmp_path / "log.csv").read_text().replace("\n", "\r\n").replace("\n10,", '\n"10",')
    (tmp_path / "other.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert TrainingLog.load(tmp_path / "other.csv") == log


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the first line is ''"),
        ("step,loss\n1,2\n", "the first line is 'step,loss', needed is 'step,loss,accuracy"),
        (HEADER + "\n1,2\n", "line 2 has 2 fields, needed are 8"),
        (HEADER + "\n1,2,,,,,,\n\n", "line 3 has 0 fields"),
        (HEADER + "\n1,2,,,,,,\n2,x,,,,,,\n", "line 3 is damaged"),
        (HEADER + "\n1.5,2,,,,,,\n", "line 2 is damaged"),
        (HEADER + "\n,2,,,,,,\n", "line 2 is damaged"),
        (HEADER + "\n99999999999999999999,2,,,,,,\n", "out of range"),
        (HEADER + "\n2,2,,,,,,\n1,2,,,,,,\n", "step 1 comes after step 2"),
        ("\xff\xfe", "not a CSV file in UTF-8"),
        ("a\0b", "Give a CSV file that TrainingLog.save wrote"),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        TrainingLog.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "Give a CSV file" in str(caught.value)


def test_files_that_cannot_be_used(log: TrainingLog, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        TrainingLog.load(tmp_path / "none.csv")
    for write in (log.save, log.plot):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            write(tmp_path / "no" / "folder")


def words_of(path: Path) -> set[str]:
    root = ElementTree.parse(path).getroot()
    return {"".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")}


def test_picture(log: TrainingLog, tmp_path: Path) -> None:
    path = tmp_path / "log.svg"
    log.plot(path, title="Digits")
    legend = {"loss", "training", "held-out chips", "held-out chips, 5 % quantile"}
    assert {"Digits", "step", "accuracy", "90 %", "100 %", "0.1", "0", *legend} <= words_of(path)
    TrainingLog().plot(path)
    assert {"Training", "no values", "step"} <= words_of(path)
    TrainingLog().append({"step": 1, "loss": math.nan}).plot(path)
    assert "no values" in words_of(path)


def test_picture_of_a_score_that_is_no_share(tmp_path: Path) -> None:
    log = TrainingLog()
    for step in range(1, 5):
        log = log.append({"step": step, "loss": 1.0 / step, "held_out": -3.0 / step})
    log.plot(tmp_path / "log.svg")
    words = words_of(tmp_path / "log.svg")
    assert {"score", "held-out chips", "-3"} <= words
    assert not {"accuracy", "training"} & words
