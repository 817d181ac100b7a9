"""A person's images as one small picture: the middle slice of a series for each channel."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as sf

from features.contract.settings import ImagingFeatures
from features.lake import few_rows

SLICE = pa.schema([("person_key", pa.string()), ("channel", pa.int32()), ("slice", pa.binary())])
PICTURE = pa.schema([("person_key", pa.string()), ("x_imaging", pa.binary())])


def image_shape(features: ImagingFeatures) -> list[int]:
    """Height, width, channels of `x_imaging` (uint8, C order)."""
    return [features.size, features.size, len(features.channels)]


def choose_slices(index: DataFrame, series: DataFrame, images: DataFrame, features: ImagingFeatures) -> DataFrame:
    """`person_key, channel, image_key, after_index`: at most one image per person and channel.

    The latest series at or before `index_time`; with `baseline` the earliest of all. Of its n
    images the one in place n // 2 by instance number. No pixel is read.
    """
    names = [channel.series_description for channel in features.channels]
    channels = few_rows(index.sparkSession, enumerate(names), channel="int", series_description="string")
    taken = series.select("person_key", "series_key", "series_description", "time")
    candidates = index.join(taken, "person_key").join(sf.broadcast(channels), "series_description")
    after = sf.col("time") > sf.col("index_time")
    allowed = candidates if features.baseline else candidates.filter(~after)
    pick = sf.min if features.baseline else sf.max
    best = pick(sf.struct("time", "series_key", after.alias("after_index"))).alias("best")
    chosen = allowed.groupBy("person_key", "channel").agg(best)
    chosen = chosen.select("person_key", "channel", "best.series_key", "best.after_index")
    return chosen.join(_middle(images), "series_key").drop("series_key")


def imaging_features(chosen: DataFrame, images: DataFrame, features: ImagingFeatures) -> DataFrame:
    """`person_key, x_imaging, has_imaging`: bytes of height x width x channels, uint8, C order.

    A slice is averaged down to `size` x `size`; one that is not 8-bit is first stretched from its
    own minimum and maximum to 0..255. A missing channel of a person with another is zeros.
    """
    pixels = images.select("image_key", "pixels", "dtype", "shape")
    named = chosen.join(pixels, "image_key").select("person_key", "channel", "pixels", "dtype", "shape")
    slices = named.mapInArrow(_shrink(features.size), "person_key string, channel int, slice binary")
    columns = [_channel(place).alias(f"c{place}") for place in range(len(features.channels))]
    people = slices.groupBy("person_key").agg(*columns)
    pictures = people.mapInArrow(_stack(features.size), "person_key string, x_imaging binary")
    return pictures.withColumn("has_imaging", sf.lit(True))


def to_uint8(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """8-bit values stay; others are stretched from their minimum and maximum to 0..255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    values = np.nan_to_num(pixels.astype(np.float64))
    low, high = values.min(), values.max()
    return np.asarray(np.rint((values - low) * (255.0 / ((high - low) or 1.0))), dtype=np.uint8)


def shrink(pixels: npt.NDArray[np.generic], size: int) -> bytes:
    """A slice of shape (rows, columns) or (rows, columns, 3) as `size` x `size` grey bytes."""
    grey = Image.fromarray(to_uint8(pixels)).convert("L")
    return grey.resize((size, size), Image.Resampling.BOX).tobytes()


def stack(slices: list[bytes | None], size: int) -> bytes:
    """Channels beside each other, pixel by pixel; zeros for a missing one."""
    planes = [np.frombuffer(plane or bytes(size * size), dtype=np.uint8) for plane in slices]
    return np.stack(planes, axis=-1).tobytes()


def _middle(images: DataFrame) -> DataFrame:
    """`series_key, image_key` of each series' middle image."""
    order = Window.partitionBy("series_key").orderBy("instance_number", "image_key")
    whole = Window.partitionBy("series_key")
    place, number = sf.row_number().over(order) - 1, sf.count("*").over(whole)
    numbered = images.select("series_key", "image_key", place.alias("place"), number.alias("number"))
    return numbered.filter(sf.col("place") == sf.floor(sf.col("number") / 2)).select("series_key", "image_key")


def _channel(place: int) -> Column:
    return sf.max(sf.when(sf.col("channel") == place, sf.col("slice")))


def _shrink(size: int) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def shrink_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            rows = batch.to_pylist()
            small = [shrink(np.frombuffer(r["pixels"], r["dtype"]).reshape(r["shape"]), size) for r in rows]
            columns = [batch.column("person_key"), batch.column("channel"), pa.array(small, pa.binary())]
            yield pa.RecordBatch.from_arrays(columns, schema=SLICE)

    return shrink_batches


def _stack(size: int) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def stack_batches(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            planes = [batch.column(place).to_pylist() for place in range(1, batch.num_columns)]
            pictures = [stack(list(row), size) for row in zip(*planes, strict=True)]
            yield pa.RecordBatch.from_arrays([batch.column(0), pa.array(pictures, pa.binary())], schema=PICTURE)

    return stack_batches
