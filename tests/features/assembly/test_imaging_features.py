"""The middle slice of the right series, small, channel beside channel."""

from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from features.contract.schemas import IMAGES, SERIES
from features.contract.settings import ImageChannel, ImagingFeatures
from features.imaging.features import choose_slices, imaging_features, to_uint8
from tests.features.assembly.rows import by_person, day, frame, key

CHANNELS = [ImageChannel(series_description="FLAIR"), ImageChannel(series_description="T1")]
# Series: person, description, day, and the grey values of its slices by instance number.
SERIES_ROWS = {
    "old": ("a", "FLAIR", -9, {1: 10, 2: 11, 3: 12}),
    "new": ("a", "FLAIR", -2, {30: 5, 4: 20, 9: 21, 10: 22, 11: 23}),
    "late": ("a", "FLAIR", 1, {1: 30}),
    "t1": ("a", "T1", -5, {1: 40}),
    "only": ("b", "T1", -1, {2: 51, 1: 50}),
    "after": ("c", "FLAIR", 2, {1: 60}),
    "other": ("d", "SCOUT", -2, {1: 70}),
}


def _pictures(spark: SparkSession, baseline: bool) -> tuple[dict[str, Any], int]:
    features = ImagingFeatures(size=8, channels=CHANNELS, baseline=baseline)
    series = [
        {"series_key": name, "person_key": key(who), "series_description": text, "time": day(at)}
        for name, (who, text, at, _) in SERIES_ROWS.items()
    ]
    images = [
        _image(name, number, np.full((16, 24), grey, np.uint8))
        for name, (_, _, _, slices) in SERIES_ROWS.items()
        for number, grey in slices.items()
    ]
    index = spark.createDataFrame([(key(n), day(0)) for n in "abcde"], "person_key string, index_time timestamp")
    frames: list[DataFrame] = [frame(spark, SERIES, series), frame(spark, IMAGES, images)]
    chosen = choose_slices(index, *frames, features)
    found = by_person(imaging_features(chosen, frames[1], features), "x_imaging")
    pictures = {k: np.frombuffer(x, np.uint8).reshape(8, 8, 2)[3, 4].tolist() for k, x in found.items()}
    return pictures, chosen.filter("after_index").count()


def _image(series: str, number: int, pixels: np.ndarray) -> dict[str, Any]:
    shown = {"pixels": pixels.tobytes(), "dtype": str(pixels.dtype), "shape": list(pixels.shape)}
    return {"image_key": f"{series}{number}", "series_key": series, "instance_number": number, **shown}


def test_a_picture_is_the_middle_slice_of_the_latest_series_before_the_index(spark: SparkSession) -> None:
    found, after = _pictures(spark, baseline=False)
    assert found == {key("a"): [22, 40], key("b"): [0, 51]}
    assert after == 0


def test_baseline_takes_the_earliest_series_and_counts_those_after_the_index(spark: SparkSession) -> None:
    found, after = _pictures(spark, baseline=True)
    assert found == {key("a"): [11, 40], key("b"): [0, 51], key("c"): [60, 0]}
    assert after == 1


def test_wide_pixels_are_stretched_to_eight_bits_and_eight_bits_stay() -> None:
    assert to_uint8(np.array([[-100, 0, 155]], np.int16)).tolist() == [[0, 100, 255]]
    assert to_uint8(np.array([[7, 7]], np.float32)).tolist() == [[0, 0]]
    assert to_uint8(np.array([[7, 9]], np.uint8)).tolist() == [[7, 9]]


def test_a_smaller_picture_is_the_average_of_its_pixels(spark: SparkSession) -> None:
    features = ImagingFeatures(size=8, channels=CHANNELS[:1])
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images = frame(spark, IMAGES, [_image("s", 1, pixels)])
    chosen = spark.createDataFrame([(key("a"), 0, "s1")], "person_key string, channel int, image_key string")
    found = np.frombuffer(by_person(imaging_features(chosen, images, features), "x_imaging")[key("a")], np.uint8)
    expected = pixels.reshape(8, 2, 8, 2).mean(axis=(1, 3))
    assert np.abs(found.reshape(8, 8) - expected).max() <= 0.5
