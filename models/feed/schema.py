"""The columns that a feed reads, as declared, and whether a file has them so.

The rule of nulls: a value inside a list or sequence may be null and is then missing (NaN). A null anywhere
else, a whole list or image included, is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from features.contract.errors import DataGateError
from features.contract.manifest import Manifest

# Columns of the manifest's modality that holds pixels.
IMAGING = "imaging"
REBUILD = "run build_features again"


@dataclass(frozen=True, slots=True)
class SequenceShape:
    """A list column of float32 that holds up to `longest` steps of `width` values each, step by step."""

    longest: int
    width: int

    @property
    def values(self) -> int:
        """Of a row of full length."""
        return self.longest * self.width


@dataclass(frozen=True)
class Schema:
    """What is read: `scalars` by name and type, `lists` of float32 and `images` of uint8 by name and
    values per row, `texts` and `sequences` by name."""

    scalars: Mapping[str, pa.DataType] = field(default_factory=dict)
    lists: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    sequences: Mapping[str, SequenceShape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [*self.columns, *(f"{name}_steps" for name in self.sequences)]
        if len(set(names)) < len(names):
            raise ValueError(f"a name stands for two things: {sorted(names)}")

    @property
    def columns(self) -> list[str]:
        return [*self.scalars, *self.lists, *self.sequences, *self.images, *self.texts]

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row, texts left out."""
        padded = sum(sequence.values + 1 for sequence in self.sequences.values())
        return 4 * (len(self.scalars) + sum(self.lists.values()) + padded) + sum(self.images.values())


def input_schema(manifest: Manifest, modalities: list[str]) -> Schema:
    """What a network takes in. Raises DataGateError where images are asked for and the manifest has no shape."""
    images = {}
    if IMAGING in modalities:
        if manifest.image_shape is None:
            raise DataGateError(f"x_{IMAGING}: the manifest has no image_shape; {REBUILD}")
        images = {f"x_{IMAGING}": _product(manifest.image_shape)}
    return Schema(
        scalars={f"has_{name}": pa.bool_() for name in modalities},
        lists={f"x_{name}": len(manifest.vocabulary[name]) for name in modalities if name != IMAGING},
        images=images,
    )


def training_schema(manifest: Manifest, modalities: list[str], person_key: bool = False) -> Schema:
    """What a network takes in and what it is trained on; the people's keys where asked."""
    given, outcome = input_schema(manifest, modalities), f"y_{manifest.outcome}"
    if manifest.kind == "binary":
        labels = {outcome: pa.int8()}
    else:
        labels = {f"{outcome}_time": pa.float32(), f"{outcome}_event": pa.int8()}
    scalars = {**given.scalars, **labels, "weight": pa.float32()}
    return replace(given, scalars=scalars, texts=("person_key",) if person_key else ())


def check_types(found: pa.Schema, declared: Schema) -> None:
    """Raises DataGateError with the first declared column that is missing or of another type."""
    for name in declared.columns:
        if name not in found.names:
            raise DataGateError(f"column {name} is missing; {REBUILD}")
        kind = found.field(name).type
        if not _fits(kind, name, declared):
            raise DataGateError(f"column {name} is {kind}, expected {_expected(name, declared)}; {REBUILD}")


def _fits(kind: pa.DataType, name: str, declared: Schema) -> bool:
    if name in declared.scalars:
        return bool(kind == declared.scalars[name])
    if name in declared.images:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    if name in declared.texts:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if pa.types.is_fixed_size_list(kind) and kind.list_size != declared.lists.get(name):
        return False
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in lists) and bool(pa.types.is_float32(kind.value_type))


def _expected(name: str, declared: Schema) -> str:
    if name in declared.scalars:
        return str(declared.scalars[name])
    if name in declared.images:
        return "binary"
    if name in declared.sequences:
        return "a list of float of any length"
    return "string" if name in declared.texts else f"a list of {declared.lists[name]} float"


def _product(shape: list[int]) -> int:
    height, width, channels = shape
    return height * width * channels
