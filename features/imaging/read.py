"""DICOM files of the raw zone to images, some dozens of files a task."""

import io
import logging
import math
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.schemas import TIMESTAMP
from features.imaging.clean import MOST_BYTES, Image, Refusal, Rule, clean_image

FILES_PER_TASK = 64
BATCH_BYTES = 32 << 20
DEFLATED = b"1.2.840.10008.1.2.1.99"
# What pydicom raises on bytes that are not what they claim; anything else is a bug or a broken disk.
DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)

TASKS = pa.schema([("path", pa.string()), ("size", pa.int64()), ("place", pa.int64())])
IMAGES = pa.schema(
    [
        ("source_digest", pa.string()),
        ("location", pa.string()),
        ("place", pa.int64()),
        ("rule", pa.string()),
        ("image_key", pa.string()),
        ("series_key", pa.string()),
        ("person_key", pa.string()),
        ("instance_number", pa.int32()),
        ("time", TIMESTAMP),
        ("modality", pa.string()),
        ("series_description", pa.string()),
        ("header", pa.map_(pa.string(), pa.string())),
        ("pixels", pa.binary()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("spacing", pa.list_(pa.float64())),
        ("content", pa.string()),
    ]
)
Row = dict[str, Any]
Batches = Iterable[pa.RecordBatch]


def read_images(spark: SparkSession, root: Location, files: Sequence[FileStat], keyer: PersonKeyer) -> DataFrame:
    """A row per file: `source_digest, location, place` (in the order of paths) and either the `rule`
    that refuses it or the image."""
    tasks = [(file.path, file.size, n) for n, file in enumerate(sorted(files, key=lambda file: file.path))]
    parts = max(1, math.ceil(len(tasks) / FILES_PER_TASK))
    plan = spark.createDataFrame(spark.sparkContext.parallelize(tasks, parts), from_arrow_schema(TASKS))
    return plan.mapInArrow(_reader(root.uri, keyer), from_arrow_schema(IMAGES))


def read_image(data: bytes, keyer: PersonKeyer) -> Image:
    """The image in the bytes of a file; raises Refusal."""
    # Deflated files can grow a thousandfold when opened.
    if DEFLATED in data[:4096]:
        raise Refusal(Rule.PIXELS)
    try:
        with warnings.catch_warnings():
            # pydicom's warnings quote values of the header.
            warnings.simplefilter("ignore")
            return clean_image(pydicom.dcmread(io.BytesIO(data), force=False), keyer)
    except DAMAGED:
        raise Refusal(Rule.UNREADABLE) from None


def _reader(root: str, keyer: PersonKeyer) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def read(batches: Batches) -> Iterator[pa.RecordBatch]:
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        files = (file for batch in batches for file in batch.to_pylist())
        yield from _in_batches(_row(Location(root), keyer, **file) for file in files)

    return read


def _in_batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Some megabytes of pixels at a time, however large the images are."""
    held: list[Row] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row.get("pixels") or b"")
        if size >= BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(held, IMAGES)
            held, size = [], 0
    if held:
        yield pa.RecordBatch.from_pylist(held, IMAGES)


def _row(root: Location, keyer: PersonKeyer, path: str, size: int, place: int) -> Row:
    row: Row = {"source_digest": keyer.path_digest(path), "location": f"0+{size}", "place": place}
    try:
        if size > MOST_BYTES:
            raise Refusal(Rule.PIXELS)
        image = asdict(read_image((root / path).read_bytes(), keyer))
    except Refusal as refusal:
        return {**row, "rule": refusal.rule.value}
    return {**row, **image, "header": list(image["header"].items())}
