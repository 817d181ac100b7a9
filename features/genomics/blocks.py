"""Blocks of genotypes: their rows one block at a time, and what is known of each sample, in the block's order."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.genomics.dosages import DTYPE, Dosages
from features.genomics.packing import packed_size
from features.genomics.sexes import Sex, Sexes

Masks = dict[str, npt.NDArray[np.bool_]]
KEYS = ["sample_block", "sample_index"]


def batches_by_block(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Each block that a batch has rows of, and those rows."""
    for batch in batches:
        blocks = batch["sample_block"].dictionary_encode()
        for number, block in enumerate(blocks.dictionary.to_pylist()):
            alone = len(blocks.dictionary) == 1
            yield block, batch if alone else batch.filter(pc.equal(blocks.indices, number))


def row_bytes(genotypes: DataFrame, sexes: Mapping[str, Sexes]) -> int:
    """Of the widest row: its calls, and its dosages if any row has some."""
    imputed = genotypes.filter("n_dosage is not null").limit(1).count()
    return widest_row(max(map(len, sexes.values())), bool(imputed))


def widest_row(people: int, dosages: bool) -> int:
    """The bytes of a row of so many people, with dosages or without."""
    return packed_size(people) + (np.dtype(DTYPE).itemsize * people if dosages else 0)


def dosage_rows(dosages: pa.Array) -> Dosages:
    """Dosages of one block (at least one row) as (rows, samples)."""
    return np.frombuffer(b"".join(dosages.to_pylist()), DTYPE).reshape(len(dosages), -1)


def packed_rows(calls: pa.Array) -> npt.NDArray[np.uint8]:
    """Packed calls of one block (at least one row) as (rows, bytes)."""
    return np.frombuffer(b"".join(calls.to_pylist()), np.uint8).reshape(len(calls), -1)


def of_samples(
    block: str, names: Iterable[str], columns: Iterable[pa.Array | npt.NDArray[np.generic]]
) -> pa.RecordBatch:
    """KEYS and these columns of every sample of a block."""
    arrays = [pa.array(column) for column in columns]
    samples = len(arrays[0])
    blocks = pa.array([block]).take(pa.array(np.zeros(samples, np.int64)))
    places = pa.array(np.arange(samples, dtype=np.int32))
    return pa.RecordBatch.from_arrays([blocks, places, *arrays], names=[*KEYS, *names])


def by_block(samples: DataFrame, digit: Column) -> dict[str, npt.NDArray[np.uint8]]:
    """A number from 0 to 9 of every sample of each block, one byte a sample; `samples` must have all of them."""
    ordered = sf.array_sort(sf.collect_list(sf.struct("sample_index", digit.cast("string").alias("digit"))))
    digits = sf.concat_ws("", sf.transform(ordered, lambda sample: sample["digit"])).alias("digits")
    rows = samples.groupBy("sample_block").agg(digits).collect()
    return {row["sample_block"]: np.frombuffer(row["digits"].encode(), np.uint8) - ord("0") for row in rows}


def flags_by_block(samples: DataFrame, chosen: Column) -> Masks:
    """Whether each sample of each block is `chosen`, which is not where that is null."""
    numbers = by_block(samples, sf.coalesce(chosen, sf.lit(False)).cast("int"))
    return {block: found == 1 for block, found in numbers.items()}


def rows_by_block(rows: DataFrame) -> dict[str, int]:
    """How many of these rows each block has: its people, of `samples`, or its variants, of `genotypes`."""
    return {row["sample_block"]: row["count"] for row in rows.groupBy("sample_block").count().collect()}


def sexes_by_block(samples: DataFrame) -> dict[str, Sexes]:
    """The recorded sexes of every sample of each block."""
    numbers = sf.create_map(*(sf.lit(item) for sex in Sex for item in (sex.name.lower(), sex.value)))
    return by_block(samples, numbers[sf.col("sex")])
