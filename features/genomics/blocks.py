"""What is known of each sample, in the order in which a block of genotypes has them: one byte a sample."""

import numpy as np
import numpy.typing as npt
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.genomics.sexes import Sex, Sexes


def by_block(samples: DataFrame, digit: Column) -> dict[str, npt.NDArray[np.uint8]]:
    """A number from 0 to 9 of every sample of each block; `samples` must have all of them."""
    ordered = sf.array_sort(sf.collect_list(sf.struct("sample_index", digit.cast("string").alias("digit"))))
    digits = sf.concat_ws("", sf.transform(ordered, lambda sample: sample["digit"])).alias("digits")
    rows = samples.groupBy("sample_block").agg(digits).collect()
    return {row["sample_block"]: np.frombuffer(row["digits"].encode(), np.uint8) - ord("0") for row in rows}


def sexes_by_block(samples: DataFrame) -> dict[str, Sexes]:
    """The recorded sexes of every sample of each block."""
    numbers = sf.create_map(*(sf.lit(item) for sex in Sex for item in (sex.name.lower(), sex.value)))
    return by_block(samples, numbers[sf.col("sex")])
