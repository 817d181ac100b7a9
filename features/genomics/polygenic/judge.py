"""Scoring files and variants to what became of each line, and what the scores weigh at each variant."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import FileStat, Location
from features.contract.schemas import SCORE_MATCHES
from features.genomics.columns import by_name, filled, flags, sparse
from features.genomics.polygenic import scoring_lines
from features.genomics.polygenic.boxes import SEALED, boxed, by_box, in_boxes, sealed
from features.genomics.polygenic.match import KINDS, NONE, Matches, Sites, match_lines, sites_of
from features.genomics.polygenic.scoring_file import ScoringFile, parse
from features.genomics.polygenic.weigh import WEIGHED, means, weigh, weighed_rows, with_means
from features.task_files import task_files

COUNTS = pa.schema(
    [
        ("score", pa.int32()),
        ("match_type", pa.string()),
        ("lifted_strand", pa.string()),
        ("lines", pa.int64()),
        ("first_line", pa.int64()),
    ]
)
"""How many lines of a score, by its number, became what, and the first of them."""
MEANS = pa.schema([("box", pa.int32()), ("region", pa.int32()), ("sums", pa.binary())])
"""What two copies and what one have in each score, (2, scores), if all calls of a region are the mean."""
FILES = pa.schema([("name", pa.string())])
"""The files of SCORE_MATCHES that were written whole."""
JUDGED = pa.schema([*SEALED, *WEIGHED])
"""Either a variant that is weighed, or SEALED rows of COUNTS, MEANS or FILES."""
_PLACE = [("variant_key", pa.string()), ("contig", pa.string()), ("position", pa.int64())]
_TAKEN = {
    "lines": pa.schema([("score", pa.int32()), *list(scoring_lines.SCHEMA)[1:]]),
    "variants": pa.schema([*_PLACE, ("ref", pa.string()), ("alt", pa.string())]),
    "usable": pa.schema([*_PLACE, *(WEIGHED.field(name) for name in ("region", "mean", "mean_two"))]),
}
_KINDS = pa.array([str(kind) for kind in KINDS])
_PARQUET: dict[str, Any] = {
    "use_dictionary": [field.name for field in SCORE_MATCHES.schema if field.type == pa.string()],
    "write_statistics": ["score", "contig", "position"],
}
"""What pays where hardly a number comes twice, and one looks for lines by their score or place."""
_TASKS = 4
"""A core, of those that read the files."""
_BYTES, _VARIANTS = 4 << 20, 1 << 18
"""Of a box, of files and of variants, about."""
_AT_ONCE = 1 << 20
"""Bytes of weighed variants, so that no batch of them is large."""
_FEWEST_BOXES, _MOST_BOXES = 64, 1024


def number_of_boxes(files: Sequence[FileStat], variants: int) -> int:
    """So many that none is large. It hangs on no cluster, and so neither do sums over a box."""
    wanted = max(sum(file.size for file in files) // _BYTES, variants // _VARIANTS)
    return min(_MOST_BOXES, max(_FEWEST_BOXES, wanted))


def judge_lines(
    files: Sequence[ScoringFile],
    variants: DataFrame,
    usable: DataFrame,
    build: str,
    keep_ambiguous: bool,
    boxes: int,
    folder: Location,
) -> DataFrame:
    """JUDGED rows. Lines are matched to `variants`, and used where these are among the `usable` ones. What became
    of them is written below `folder`. Evaluate it in `bounded_arrow_batches` of boxes.ROW_BYTES."""
    sites = variants.select(_TAKEN["variants"].names)
    frames = [
        _lines_in_boxes(variants.sparkSession, files, boxes),
        in_boxes(sites, "variants", boxes),
        in_boxes(with_means(usable, build), "usable", boxes),
    ]
    names = [file.score for file in files]
    return by_box(frames, _TAKEN, _Judge(names, keep_ambiguous, folder), JUDGED)


def _lines_in_boxes(spark: SparkSession, files: Sequence[ScoringFile], boxes: int) -> DataFrame:
    shared = spark.sparkContext.broadcast(files)
    kind = _TAKEN["lines"].field("score").type

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                for lines in parse(shared.value[number]):
                    numbered = lines.set_column(0, "score", pa.repeat(pa.scalar(number, kind), len(lines)))
                    yield from boxed(numbered, "lines", boxes)

    tasks = spark.range(0, len(files), 1, min(len(files), _TASKS * spark.sparkContext.defaultParallelism))
    return tasks.mapInArrow(rows, from_arrow_schema(SEALED))


@dataclass(frozen=True)
class _Judge:
    """The function that each task runs: boxes in, JUDGED rows out."""

    names: Sequence[str]
    keep_ambiguous: bool
    folder: Location

    def __call__(self, boxes: Iterable[tuple[int, dict[str, pa.Table]]]) -> Iterator[pa.RecordBatch]:
        with task_files(self.folder, SCORE_MATCHES, _PARQUET) as log:
            for box, rows in boxes:
                if not len(rows["lines"]):
                    continue
                told, parts = judge_box(box, rows, self.names, self.keep_ambiguous)
                log.write(told)
                weighed = parts.pop("weighed")
                for batch in weighed.to_batches(max(1, _AT_ONCE * len(weighed) // max(1, weighed.nbytes))):
                    yield sparse(JUDGED, **by_name(batch))
                for kind, found in parts.items():
                    if len(found):
                        yield sparse(JUDGED, **by_name(sealed(box, kind, found)))
        if log.names:
            yield sparse(JUDGED, **by_name(sealed(0, "files", pa.table({"name": log.names}, FILES))))


def judge_box(
    box: int, rows: dict[str, pa.Table], names: Sequence[str], keep_ambiguous: bool
) -> tuple[pa.Table, dict[str, pa.Table]]:
    """SCORE_MATCHES of a box's lines; and COUNTS, MEANS and WEIGHED, by these names."""
    lines = in_order(rows["lines"])
    sites, weights = sites_of(rows["variants"]), _weights(lines)
    places = pc.index_in(sites.variants["variant_key"], rows["usable"]["variant_key"]).combine_chunks()
    usable = places.is_valid().to_numpy(zero_copy_only=False)
    found = match_lines(lines, weights, sites, usable, keep_ambiguous)
    weighing = weigh(found, lines["score"].to_numpy(), weights, sites)
    known = rows["usable"].take(places)
    sums = means(weighing, known, len(names))
    parts = {
        "counts": _counts(lines, found),
        "means": pa.table([[box] * len(sums), [*sums], [own.tobytes() for own in sums.values()]], MEANS),
        "weighed": weighed_rows(weighing, known),
    }
    return _told(lines, found, sites, names), parts


def in_order(lines: pa.Table) -> pa.Table:
    """By score and line, in one chunk, its texts CODED. A chunk is of one score and has its lines in order, as
    files are read."""
    parts = sorted(lines.to_batches(), key=lambda part: (part["score"][0].as_py(), part["line"][0].as_py()))
    whole = pa.Table.from_batches(parts, lines.schema).combine_chunks()
    columns = [
        column.dictionary_encode() if pa.types.is_string(column.type) else column for column in whole.columns
    ]
    return pa.table(columns, whole.column_names)


def _weights(lines: pa.Table) -> npt.NDArray[np.float64]:
    """(3, lines), of no, one and two effect alleles; no numbers where a line has none."""
    one, others = filled(lines["weight"].chunk(0), np.nan), lines["others"].chunk(0)
    with np.errstate(over="ignore"):
        found = np.stack([np.where(np.isnan(one), np.nan, 0), one, 2 * one])
    if others.null_count < len(others):
        found[::2, flags(others.is_valid())] = others.flatten().to_numpy().reshape(-1, 2).T
    return found


def _told(lines: pa.Table, found: Matches, sites: Sites, names: Sequence[str]) -> pa.Table:
    """SCORE_MATCHES, its texts coded."""
    columns = {
        **{name: lines[name] for name in lines.column_names},
        "score": pa.DictionaryArray.from_arrays(lines["score"].chunk(0), names),
        "match_type": pa.DictionaryArray.from_arrays(pa.array(found.kinds.astype(np.int32)), _KINDS),
        "variant_key": _keys(found, sites),
    }
    return pa.table({name: columns[name] for name in SCORE_MATCHES.schema.names})


def _keys(found: Matches, sites: Sites) -> pa.DictionaryArray:
    """Of the lines' variants, where these are known."""
    none = found.variants == NONE
    asked = np.zeros(len(sites.variants) + 1, bool)
    asked[found.variants] = True
    numbers = np.cumsum(asked[:-1], dtype=np.int32) - 1
    keys = sites.variants["variant_key"].combine_chunks().filter(pa.array(asked[:-1]))
    of_line = np.append(numbers, np.int32(NONE))[found.variants]
    return pa.DictionaryArray.from_arrays(pa.array(of_line, mask=none), keys)


def _counts(lines: pa.Table, found: Matches) -> pa.Table:
    """COUNTS of lines in order."""
    strand = lines["lifted_strand"].chunk(0)
    strands = strand.indices.fill_null(len(strand.dictionary)).to_numpy()
    score = lines["score"].to_numpy()
    shape = (score.max() + 1, len(KINDS), len(strand.dictionary) + 1)
    place = np.ravel_multi_index((score, found.kinds, strands), shape)
    number = np.bincount(place)
    first = np.zeros(len(number), np.int64)
    first[place[::-1]] = lines["line"].to_numpy()[::-1]
    seen = np.flatnonzero(number)
    scores, kinds, lifted = np.unravel_index(seen, shape)
    columns = [
        scores.astype(np.int32),
        _KINDS.take(pa.array(kinds)),
        strand.dictionary.take(pa.array(lifted, mask=lifted == len(strand.dictionary))),
        number[seen],
        first[seen],
    ]
    return pa.table(columns, schema=COUNTS)
