"""ChipProfile: equality, what a placer asks, and made-up chips with published statistics."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chip_profiles import changed
from nir_dynapse.chip.profile import BOARDS, ChipProfile
from nir_dynapse.errors import ConfigurationError, ParameterRangeError

quick = settings(deadline=None, max_examples=40)
# Median and worst usable rows per neuron (tags >= 1024) per core: the table of the published profiles.
PUBLISHED = {
    "green": ((61, 58, 63, 52), (36, 29, 37, 34)),
    "orange": ((47, 59, 62, 61), (18, 19, 43, 43)),
    "pink": ((57, 53, 58, 63), (28, 9, 36, 29)),
    "purple": ((54, 60, 63, 61), (20, 37, 55, 44)),
    "red": ((56, 52, 63, 63), (8, 35, 18, 0)),
    "dev": ((64, 61, 58, 64), (61, 34, 19, 31)),
}


def with_pairs(key: int, board: str = "orange", n_pairs: int = 40_000) -> ChipProfile:
    """A made-up chip with single failures everywhere and some tags that no core may use."""
    rng = np.random.default_rng(key)
    p = ChipProfile.synthetic(key, board)
    pairs = rng.integers(0, (4, 256, 64, 2048), (n_pairs, 4))
    return ChipProfile("pairs", p.neurons, p.rows, rng.random((4, 2048)) > 0.05, pairs)


# -- The type -------------------------------------------------------------------------------------------------------


def test_perfect_chip():
    p = ChipProfile.perfect()
    assert p.flawless
    assert p == ChipProfile("other name")
    assert (p.usable_rows(0) == 64).all()
    assert (p.row_kinds() == (0, 0, 64)).all()
    assert p.matching(3, 255, np.r_[1024:1088]).tolist() == list(range(64))
    assert p.describe().startswith(
        "perfect: 0 bad neurons; bad CAM rows for tags below/from 1024: 0/0, 0/0, 0/0, 0/0 %"
    )


def test_equality_sees_every_defect():
    profiles = [
        ChipProfile.perfect(),
        changed(neurons=[(2, 17)]),
        changed(rows=[(2, 17, 5, 0)]),
        changed(rows=[(2, 17, 5, 1)]),
        changed(tags=[(2, 1040)]),
        changed(pairs=[(2, 17, 5, 1040)]),
    ]
    assert len({p.digest for p in profiles}) == len({hash(p) for p in profiles}) == len(profiles)
    for i, a in enumerate(profiles):
        assert [a == b for b in profiles] == [i == j for j in range(len(profiles))]
        assert a.flawless == (i == 0)
    assert profiles[0] != "perfect"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_are_equal_and_read_only(again):
    p = with_pairs(1)
    q = again(p)
    assert q == p
    assert hash(q) == hash(p)
    assert q.name == p.name
    for name in ("neurons", "rows", "tags", "pairs"):
        assert not getattr(q, name).flags.writeable


def test_arrays_are_copied():
    neurons = np.ones((4, 256), bool)
    p = ChipProfile("p", neurons)
    neurons[0, 0] = False
    assert p.flawless


def test_pairs_are_canonical():
    pairs = [(3, 0, 1, 5), (0, 9, 1, 2000), (3, 0, 1, 5), (1, 2, 3, 4)]
    p = changed(pairs=pairs, rows=[(1, 2, 3, 0)])
    assert p.pairs.tolist() == [[0, 9, 1, 2000], [3, 0, 1, 5]]
    assert p == changed(pairs=pairs[::-1], rows=[(1, 2, 3, 0)])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": "two\nlines"}, "name is 'two\\nlines'"),
        ({"neurons": np.ones((4, 255), bool)}, "neurons is bool of shape (4, 255), needed is bool of shape (4, 256)"),
        ({"rows": np.ones((4, 256, 64, 2))}, "rows is float64"),
        ({"tags": np.ones(4, bool)}, "tags is bool of shape (4,)"),
        ({"pairs": np.ones((3, 3), int)}, "pairs is int64 of shape (3, 3)"),
        ({"pairs": np.ones((3, 4))}, "pairs is float64"),
        ({"pairs": np.array([[0, 256, 0, 0]])}, "pairs holds [0, 256, 0, 0], allowed are 0 to 3, 255, 63, 2047"),
        ({"pairs": np.array([[0, -1, 0, 0]])}, "pairs holds [0, -1, 0, 0]"),
    ],
)
def test_wrong_arrays(arguments, text):
    with pytest.raises(ConfigurationError) as error:
        ChipProfile(**arguments)
    assert text in str(error.value)


# -- What a placer asks -----------------------------------------------------------------------------------------------


def test_counts_of_rows():
    p = changed(neurons=[(1, 1)], rows=[(0, 3, 4, 0), (0, 3, 5, 1), (0, 3, 6, 1), (0, 3, 7, 0), (0, 3, 7, 1)])
    assert p.usable_rows(0)[0, 3] == 62
    assert p.usable_rows(1)[0, 3] == 61
    assert p.row_kinds()[0, 3].tolist() == [2, 1, 60]
    assert p.usable_rows(1)[1, 1] == 0
    assert p.row_kinds()[1, 1].tolist() == [0, 0, 0]
    with pytest.raises(ParameterRangeError, match="half is 2"):
        p.usable_rows(2)


@quick
@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_hits_agree_with_allowed(key, seed):
    p, rng = with_pairs(key), np.random.default_rng(seed)
    core, slot = int(rng.integers(4)), int(rng.integers(256))
    tags = np.r_[rng.integers(0, 2048, 100), p.pairs[(p.pairs[:, 0] == core) & (p.pairs[:, 1] == slot), 3]]
    allowed = p.allowed(core, slot, tags)
    assert allowed.shape == (64, len(tags))
    np.testing.assert_array_equal(p.hits(core, slot, np.arange(64)[:, None], tags), ~allowed)
    for c, n, r, t in p.pairs[rng.integers(0, len(p.pairs), 5)].tolist():
        assert p.hits(c, n, r, t).item()
        assert not p.allowed(c, n, np.array([t]))[r, 0]


def most(allowed: np.ndarray) -> int:
    """The size of a maximum matching by augmenting paths, one entry after the other."""
    owner = np.full(len(allowed), -1)

    def augment(entry: int, seen: set[int]) -> bool:
        for row in np.flatnonzero(allowed[:, entry]).tolist():
            if row not in seen:
                seen.add(row)
                if owner[row] < 0 or augment(int(owner[row]), seen):
                    owner[row] = entry
                    return True
        return False

    return sum(augment(entry, set()) for entry in range(allowed.shape[1]))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(0, 90), st.integers(0, 12))
def test_matching_is_valid_and_as_large_as_possible(seed, n, usable):
    rng = np.random.default_rng(seed)
    rows = np.zeros((4, 256, 64, 2), bool)
    rows[0, 0] = rng.random((64, 2)) < usable / 12
    pool = rng.choice(2048, 6, replace=False)
    tags = rng.choice(pool, n)
    cuts = np.stack(np.meshgrid(0, 0, np.arange(64), pool, indexing="ij"), -1).reshape(-1, 4)
    for share in (0.0, 0.05, 0.5, 0.9):
        flags = np.ones((4, 2048), bool)
        flags[0, pool[0]] = rng.random() < 0.7
        p = ChipProfile("p", rows=rows, tags=flags, pairs=cuts[rng.random(len(cuts)) < share])
        result, allowed = p.matching(0, 0, tags), p.allowed(0, 0, tags)
        used = np.flatnonzero(result >= 0)
        assert result.shape == (n,)
        assert len(set(result[used].tolist())) == len(used) == most(allowed)
        assert allowed[result[used], used].all()
        np.testing.assert_array_equal(result, p.matching(0, 0, tags))


def test_matching_takes_rows_of_one_half_first():
    p = changed(rows=[(0, 0, 4, 0), (0, 0, 6, 1), (0, 0, 0, 0), (0, 0, 0, 1)])
    assert p.matching(0, 0, np.array([1030, 1030, 7, 8, 1031])).tolist() == [4, 1, 6, 2, 3]
    assert p.matching(0, 0, np.array([], int)).tolist() == []
    assert (changed(neurons=[(0, 0)]).matching(0, 0, np.array([1030])) == -1).all()
    # A single failure elsewhere changes nothing, one in the way moves as many entries as needed.
    assert changed(pairs=[(0, 0, 50, 1030)]).matching(0, 0, np.array([1030, 1031])).tolist() == [0, 1]
    assert changed(pairs=[(0, 0, 0, 1030)]).matching(0, 0, np.array([1030]))[0] > 0


# -- Made up ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", BOARDS)
def test_synthetic_chips_have_the_published_statistics(board):
    chips = [ChipProfile.synthetic(key, board) for key in range(8)]
    bad = np.array([100 * (1 - p.rows.mean(axis=(1, 2))) for p in chips])
    published = np.array(BOARDS[board][:2]).T
    assert np.abs(bad - published).max() < 3
    assert np.abs(bad.mean(0) - published).max() < 1
    usable = np.array([p.rows[..., 1].sum(-1) for p in chips])
    median, worst = (np.array(v) for v in PUBLISHED[board])
    assert np.abs(np.median(usable, axis=2) - median).max() <= 3
    assert np.abs(np.median(usable.min(2), axis=0) - worst).max() <= 9
    low, high = (np.concatenate([~p.rows[..., h].ravel() for p in chips]) for h in (0, 1))
    assert low[high].mean() > 0.97
    assert 0 < np.mean([(~p.neurons).sum() for p in chips]) < 12
    assert all(p.tags.all() for p in chips)


def test_failures_cluster_in_neurons():
    p = ChipProfile.synthetic(0, "pink")
    bad = 64 - p.rows[1, :, :, 1].sum(-1)
    assert bad.var() > 4 * bad.mean()  # a binomial distribution has less variance than mean


def test_synthetic_chips_are_fixed_by_key_and_board():
    chips = {(key, board): ChipProfile.synthetic(key, board) for key in (0, 1, 2**70) for board in BOARDS}
    assert len({p.digest for p in chips.values()}) == len(chips)
    assert all(p == ChipProfile.synthetic(*name) for name, p in chips.items())
    free, restricted = ChipProfile.synthetic(0), ChipProfile.synthetic(0, restrict_tags=True)
    assert (free.rows == restricted.rows).all()
    assert restricted.tags.sum(1).tolist() == [2048, 1536, 512, 1792]
    assert np.flatnonzero(restricted.tags[2])[[0, 7, 8, -1]].tolist() == [1032, 1039, 1048, 2047]
    assert not restricted.tags[3, 1024:1280].any()


@pytest.mark.parametrize("key", [-1, 0.5, "a", True, None])
def test_wrong_keys(key):
    with pytest.raises(ParameterRangeError, match=r"key is .*, allowed are integers from 0"):
        ChipProfile.synthetic(key)


def test_wrong_board():
    with pytest.raises(ParameterRangeError, match="board is 'blue', known are green, orange, pink, purple, red, dev"):
        ChipProfile.synthetic(0, "blue")
