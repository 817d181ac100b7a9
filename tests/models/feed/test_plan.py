"""How rows are divided over ranks and steps."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.feed.plan import Part, Progress, Shard, shard

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def parts_of(rows: list[int]) -> list[Part]:
    return [Part(f"file:///t/{i}.parquet", 0, n) for i, n in enumerate(rows)]


def rows_of(share: Shard) -> list[tuple[str, int]]:
    return [(piece.part.uri, int(i)) for lane in share.lanes for piece in lane for i in piece.indices()]


@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(1, 8), st.integers(1, 32), st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 3))
def test_every_row_falls_to_one_rank_once_and_all_ranks_make_equal_steps(rows, size, batch_rows, seed, epoch):
    shares = [shard(parts_of(rows), rank, size, seed, epoch, batch_rows) for rank in range(size)]
    seen = Counter(row for share in shares for row in rows_of(share))
    assert seen == Counter((part.uri, i) for part in parts_of(rows) for i in range(part.rows))
    assert len({share.steps for share in shares}) == 1
    for share in shares:
        longest = max(sum(piece.rows for piece in lane) for lane in share.lanes)
        assert longest <= share.steps * share.lane_rows
        assert share.batch_rows <= batch_rows
        assert share.total_rows == sum(rows)


def batches(rows: list[int], size: int, global_batch: int, done: Sequence[Progress] = ()) -> list[Counter]:
    """The people of each global batch."""
    found: list[Counter] = []
    for rank in range(size):
        share = shard(parts_of(rows), rank, size, 5, 0, global_batch // size, done)
        found += [Counter() for _ in range(share.steps - len(found))]
        for lane in share.lanes:
            indices = [(piece.part.uri, int(i)) for piece in lane for i in piece.indices()]
            for step in range(share.steps):
                found[step].update(indices[step * share.lane_rows : (step + 1) * share.lane_rows])
    return found


def test_one_two_four_and_eight_ranks_see_the_same_batches():
    alone = batches([30, 7, 50, 13], 1, 16)
    assert all(batches([30, 7, 50, 13], size, 16) == alone for size in (2, 4, 8))


def test_an_epoch_shuffles_anew_and_the_seed_brings_it_back():
    first, again, other = (rows_of(shard(parts_of([50]), 0, 1, 1, epoch, 8)) for epoch in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_rank_opens_only_the_files_it_needs():
    parts = parts_of([10] * 16)
    files = [{p.part.uri for lane in shard(parts, r, 4, 1, 0, 8).lanes for p in lane} for r in range(4)]
    assert [len(opened) for opened in files] == [4, 4, 4, 4]


@settings(max_examples=150, deadline=None)
@given(
    sizes, st.integers(1, 32), st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3)), min_size=1, max_size=4)
)
def test_an_epoch_broken_off_anywhere_is_finished_by_any_ranks_with_every_row_once(rows, batch_rows, attempts):
    """Each attempt has its own number of ranks and is killed after some steps; the last one finishes."""
    seen, done = Counter(), list[Progress]()
    for size, steps in [*attempts, (3, 10_000)]:
        shares = [shard(parts_of(rows), rank, size, 5, 0, batch_rows, done) for rank in range(size)]
        assert len({share.steps for share in shares}) == 1
        taken = min(steps, shares[0].steps) * shares[0].lane_rows
        for share in shares:
            for lane in share.lanes:
                seen.update([(piece.part.uri, int(i)) for piece in lane for i in piece.indices()][:taken])
        done.append(Progress(sum(len(share.lanes) for share in shares), taken))
    assert seen == Counter((part.uri, i) for part in parts_of(rows) for i in range(part.rows))


def test_the_same_ranks_go_on_with_the_batches_that_were_left():
    whole = batches([30, 7, 50, 13], 2, 16)
    rest = batches([30, 7, 50, 13], 2, 16, [Progress(8, 2), Progress(8, 4)])
    assert rest == whole[3:]


@pytest.mark.parametrize("first", range(0, 1000, 125))
def test_in_a_thousand_epochs_every_row_is_planned_once_and_ranks_make_equal_steps(first):
    """Random row groups (some of one row), ranks, batches and seeds; a lost or doubled row would show."""
    for epoch in range(first, first + 125):
        random = np.random.default_rng(epoch)
        rows = random.integers(1, int(random.choice([2, 50, 3000])), random.integers(1, 40), endpoint=True)
        parts, size = parts_of(rows.tolist()), int(random.integers(1, 9))
        batch_rows = int(random.integers(1, 65))
        shares = [shard(parts, rank, size, 7, epoch, batch_rows) for rank in range(size)]
        seen = {part.uri: np.zeros(part.rows, np.int64) for part in parts}
        for share in shares:
            assert share.steps == shares[0].steps
            assert share.rows <= share.steps * share.batch_rows
            for lane in share.lanes:
                for piece in lane:
                    np.add.at(seen[piece.part.uri], piece.indices(), 1)
        assert all((times == 1).all() for times in seen.values())
