"""A little training table in sight: two clinical columns, three genes, images of 8 x 8 x 1."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.manifest import Certificate, Manifest, Statistics
from models.feed.plan import Part

SHAPE = [8, 8, 1]


def manifest(
    kind: str = "binary", edges: tuple[float, ...] = (365.0,), clinical: int = 2, genes: int = 3
) -> Manifest:
    vocabulary = {"clinical": [f"c{i}" for i in range(clinical)], "genomics": [f"g{i}" for i in range(genes)]}
    statistics = {
        name: Statistics(mean=[0.5] * len(columns), std=[2.0] * len(columns), count=[9] * len(columns))
        for name, columns in vocabulary.items()
    }
    return Manifest(
        task="tiny",
        outcome="death",
        kind=kind,
        horizon_days=int(edges[-1]),
        edges=list(edges),
        read={},
        vocabulary=vocabulary,
        image_shape=SHAPE,
        statistics={"train": statistics},
        rows={"train": 100},
        positives={"train": 30},
        folds=0,
        certificate=Certificate(
            persons=1, distinct_persons=1, persons_in_two_splits=0, identical_rows_across_splits=0
        ),
    )


def people(rows: int, meaning: Manifest, seed: int = 1) -> pa.Table:
    """Rows whose outcome leans on the first clinical column; some values and modalities are missing."""
    random = np.random.default_rng(seed)
    x = {name: random.normal(size=(rows, len(c))).astype(np.float32) for name, c in meaning.vocabulary.items()}
    risk = 1 / (1 + np.exp(-2 * x["clinical"][:, 0]))
    event = (random.uniform(size=rows) < risk).astype(np.int8)
    x["clinical"][random.uniform(size=rows) < 0.1, 1] = np.nan
    columns = {"person_key": [f"{seed}-{i}" for i in range(rows)]}
    for name, values in x.items():
        columns[f"x_{name}"] = pa.array(list(values), pa.list_(pa.float32()))
        columns[f"has_{name}"] = random.uniform(size=rows) < 0.9
    pixels = random.integers(0, 256, (rows, *meaning.image_shape), np.uint8)
    columns["x_imaging"] = pa.array([image.tobytes() for image in pixels], pa.binary())
    columns["has_imaging"] = random.uniform(size=rows) < 0.5
    if meaning.kind == "binary":
        columns["y_death"] = event
    else:
        columns |= {"y_death_time": random.exponential(400, rows).astype(np.float32), "y_death_event": event}
    return pa.table(columns | {"weight": random.uniform(0.5, 2, rows).astype(np.float32)})


def write(folder: Path, name: str, table: pa.Table, row_group: int) -> list[Part]:
    """One Parquet file with several row groups, and its plan."""
    path = folder / f"{name}.parquet"
    pq.write_table(table, path, row_group_size=row_group, write_page_checksum=True)  # as Spark does
    sizes = [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(-(-len(table) // row_group))]
    return [Part(f"file://{path}", i, rows) for i, rows in enumerate(sizes)]
