"""Reading a training table part by part: labels, predictions and the baselines' design matrices."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.contract.errors import TrainingError
from features.contract.manifest import Manifest
from features.contract.paths import Location
from models.evaluate.metrics import Floats
from models.feed.plan import Part
from models.train.baseline import design_matrix


def modalities_of(manifest: Manifest) -> list[str]:
    """Every modality of the table, in a fixed order."""
    return [*sorted(manifest.vocabulary), *(["imaging"] if manifest.image_shape else [])]


def label_columns(manifest: Manifest) -> list[str]:
    name = f"y_{manifest.outcome}"
    return [name] if manifest.kind == "binary" else [f"{name}_time", f"{name}_event"]


def read_part(part: Part, columns: list[str]) -> pa.Table:
    """Some columns of one row group."""
    with Location(part.uri).open() as stream, pq.ParquetFile(stream) as file:
        return file.read_row_group(part.row_group, columns=columns)


def read_labels(parts: Sequence[Part], manifest: Manifest) -> pa.Table:
    """`person_key`, `fold` and the label columns, in the order of the parts."""
    columns = ["person_key", "fold", *label_columns(manifest)]
    return pa.concat_tables([read_part(part, columns) for part in parts])


def read_logits(work: Location, fit: str, split: str, keys: pa.ChunkedArray) -> Floats:
    """What a fit predicted for these people, in their order: hazard logits [N, K].

    Raises TrainingError unless the ranks predicted each of them once and nobody else.
    """
    folder = work / f"{fit}/predictions"
    names = [entry.path for entry in folder.files() if entry.path.startswith(f"{split}-")]
    tables = [_read_table(folder / name) for name in names]
    found = pa.concat_tables(tables) if tables else pa.table({"person_key": pa.array([], pa.string())})
    place = pc.index_in(keys, value_set=pc.unique(found["person_key"]))
    if len(found) != len(keys) or place.null_count or len(pc.unique(found["person_key"])) != len(found):
        raise TrainingError(
            f"fit {fit}: {len(found)} predictions for the {len(keys)} people of {split}, expected one each; "
            "a rank was lost: train again"
        )
    logits = found["logits"].combine_chunks()
    values = logits.flatten().to_numpy(zero_copy_only=False).astype(float).reshape(len(found), -1)
    if not np.isfinite(values).all():
        raise TrainingError(f"fit {fit}: predictions are not finite; lower model.learning_rate")
    return np.asarray(values[place.to_numpy()])


def sample_design(
    parts: Sequence[Part], manifest: Manifest, maximum: int, seed: int
) -> tuple[Floats, list[str], pa.Table]:
    """Design matrix, column names and labels of a seeded sample of at most `maximum` people, taken
    from each part by its share."""
    total = sum(part.rows for part in parts)
    random = np.random.default_rng(seed)
    blocks, labels, names = [], [], list[str]()
    for part, table in _read_whole(parts, manifest):
        kept = part.rows if total <= maximum else part.rows * maximum // total
        rows = np.sort(random.permutation(part.rows)[:kept])
        matrix, names = design_matrix(table.take(rows), manifest, modalities_of(manifest))
        blocks.append(matrix)
        labels.append(table.select(label_columns(manifest)).take(rows))
    return np.concatenate(blocks), names, pa.concat_tables(labels)


def designs(parts: Sequence[Part], manifest: Manifest) -> Iterator[Floats]:
    """Design matrices of all people, one part in memory at a time."""
    for _, table in _read_whole(parts, manifest):
        yield design_matrix(table, manifest, modalities_of(manifest))[0]


def _read_whole(parts: Sequence[Part], manifest: Manifest) -> Iterator[tuple[Part, pa.Table]]:
    columns = [f"{prefix}_{modality}" for modality in modalities_of(manifest) for prefix in ("x", "has")]
    for part in parts:
        yield part, read_part(part, [*columns, *label_columns(manifest)])


def _read_table(location: Location) -> pa.Table:
    with location.open() as stream:
        return pq.read_table(stream)
