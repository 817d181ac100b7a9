"""Between which positions of each contig variants lie: parts of files that lie apart, from each other and from
what was read earlier, have no variant twice, and nobody need look for one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pandas.util import hash_array

from features.genomics.columns import batch_of

SPANS = pa.schema(
    [
        ("sample_block", pa.string()),
        ("contig", pa.string()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("is_doubled", pa.bool_()),
    ]
)
"""Between which positions of a contig a part's candidates lie, and whether two of the part's, on any contig, may
be of the same variant."""
Spans = dict[str, list[int]]
"""Of each contig the first and the last position."""


@dataclass(slots=True)
class SpansOfPart:
    """SPANS of the candidates of a part, which are of one block."""

    block: str
    ends: list[pa.Table] = field(default_factory=list)
    names: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    """Of the keys: two of the same have one name, and hardly any others do."""

    def of(self, batches: Iterable[tuple[str, pa.RecordBatch]]) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The same batches."""
        for kind, rows in batches:
            if kind == "variants":
                own = pa.table([rows["contig"], rows["position"], rows["position"]], ["contig", "first", "last"])
                self.ends.append(ends_by_contig(own))
                self.names.append(hash_array(rows["variant_key"].to_numpy(zero_copy_only=False), categorize=False))
            yield kind, rows

    def rows(self) -> pa.RecordBatch:
        if not self.ends:
            return batch_of([[]] * len(SPANS), SPANS)
        ends, names = ends_by_contig(pa.concat_tables(self.ends)).combine_chunks(), np.concatenate(self.names)
        is_doubled = len(np.unique(names)) < len(names)
        places = [ends[name].chunk(0) for name in ("contig", "first", "last")]
        return batch_of([pa.repeat(self.block, len(ends)), *places, pa.repeat(is_doubled, len(ends))], SPANS)


def suspects_of(spans: pa.Table) -> list[int]:
    """The parts, by their numbers, whose candidates may be of the same variant and block as others: SPANS of
    each `part` say that two overlap, or that one has a variant twice."""
    found = set(spans.filter(spans["is_doubled"])["part"].to_pylist())
    widest: dict[str, Any] = {}
    for span in spans.sort_by([(name, "ascending") for name in ("sample_block", "contig", "first")]).to_pylist():
        is_near = widest and all(span[name] == widest[name] for name in ("sample_block", "contig"))
        if is_near and span["first"] <= widest["last"]:
            # What else overlaps with this one overlaps with the widest, too, and is here already.
            found |= {span["part"], widest["part"]}
        if not is_near or span["last"] > widest["last"]:
            widest = span
    return sorted(found)


def spans_of(spans: pa.Table) -> Spans:
    """Of all parts, whose SPANS these are."""
    return {row["contig"]: [row["first"], row["last"]] for row in ends_by_contig(spans).to_pylist()}


def ends_by_contig(spans: pa.Table) -> pa.Table:
    """The `first` and `last` of each contig."""
    found = spans.group_by("contig", use_threads=False).aggregate([("first", "min"), ("last", "max")])
    return found.rename_columns({"first_min": "first", "last_max": "last"})


def widened(spans: Spans, more: Spans) -> Spans:
    """What holds both."""
    found = dict(spans)
    for contig, (first, last) in more.items():
        own = found.get(contig, [first, last])
        found[contig] = [min(own[0], first), max(own[1], last)]
    return found
