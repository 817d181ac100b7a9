"""Whose genomes the new files hold: their blocks and sexes, beside those of everyone who was genotyped earlier."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.schemas import SAMPLES
from features.contract.settings import GenomicsSettings
from features.genomics.blocks import KEYS, sexes_by_block
from features.genomics.counts import SEXES
from features.genomics.formats.header import Header
from features.genomics.ingestion.earlier import Earlier, OutdatedError
from features.genomics.ingestion.roster import NOBODY, Roster, read_roster
from features.genomics.sexes import Sex, Sexes, of_people, read_sexes
from features.lake import few_rows

WHO = pa.schema([SAMPLES.schema.field(name).with_nullable(True) for name in (*KEYS, "person_key", "sex")])
"""Nullable, for Spark leaves out the table's checks of NOT NULL where it is told that they hold."""
_AT_ONCE = 1 << 12
"""People."""


@dataclass(frozen=True, slots=True)
class Batch:
    """`roster` is of the new files, some of whose blocks may be earlier ones; `sexes` are of all blocks."""

    roster: Roster
    sexes: dict[str, Sexes]
    earlier: Earlier | None

    @property
    def sizes(self) -> dict[str, int]:
        return {block: len(found) for block, found in self.sexes.items()}

    def by_sex(self) -> dict[str, int]:
        """The number of samples in all blocks by suffix of SEXES."""
        found = np.concatenate([np.empty(0, np.uint8), *self.sexes.values()])
        return {suffix: len(found) if sex is None else int((found == sex).sum()) for suffix, sex in SEXES.items()}

    def people(self, spark: SparkSession) -> DataFrame:
        """WHO of every sample. New ones lie compressed in the driver's Java: as rows they would take several times
        as much of it."""
        stored = [
            (_packed(block, start, self.roster.people[block][start : start + _AT_ONCE], self.sexes[block]),)
            for block in self.new_blocks
            for start in range(0, len(self.sexes[block]), _AT_ONCE)
        ]
        new = few_rows(spark, stored, people="binary").mapInArrow(_unpacked, from_arrow_schema(WHO))
        return new if self.earlier is None else self.earlier.samples.select(*WHO.names).unionByName(new)

    def files_by_block(self) -> dict[str, list[str]]:
        """The digests of the files of each block, earlier ones first."""
        found = {block: list(told["files"]) for block, told in self.earlier.blocks.items()} if self.earlier else {}
        for digest, columns in self.roster.columns.items():
            if columns.block != NOBODY:
                found.setdefault(columns.block, []).append(digest)
        return found

    @property
    def new_blocks(self) -> list[str]:
        return [block for block in self.roster.people if self.earlier is None or block not in self.earlier.blocks]


def _packed(block: str, start: int, keys: Sequence[str], sexes: Sexes) -> bytes:
    """WHO of the samples of a block from this one on, whose `keys` these are."""
    names = pa.array([sex.name.lower() for sex in Sex])
    places = np.arange(start, start + len(keys), dtype=np.int32)
    columns = [pa.repeat(block, len(keys)), places, keys, names.take(pa.array(sexes[places]))]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, WHO, options=pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    ) as out:
        out.write_table(pa.table(columns, schema=WHO))
    return bytes(sink.getvalue())


def _unpacked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for stored in batch["people"]:
            yield from pa.ipc.open_stream(stored.as_buffer())


def open_batch(
    spark: SparkSession,
    raw: Location,
    genomics: GenomicsSettings,
    keyer: PersonKeyer,
    headers: Sequence[Header],
    earlier: Earlier | None,
) -> Batch:
    """Who the new files are of. OutdatedError where what is recorded of the others' sexes has changed;
    DataGateError for a person in two blocks, and for a record of sexes that is of nobody here."""
    roster = read_roster(headers, keyer)
    if not roster.people and earlier is None:
        raise DataGateError("genomics.paths: none of the files has sample columns; give files with genotypes")
    recorded = read_sexes(raw, genomics.sexes, keyer) if genomics.sexes else sexes_of_files(headers, keyer)
    sexes = {block: of_people(people, recorded) for block, people in roster.people.items()}
    if earlier:
        _check_people(spark, earlier, roster)
        _check_sexes(spark, earlier, recorded, genomics.sexes is not None)
        sexes |= sexes_by_block(earlier.samples)
    batch = Batch(roster, sexes, earlier)
    _check_recorded(batch, genomics)
    return batch


def sexes_of_files(headers: Sequence[Header], keyer: PersonKeyer) -> dict[str, Sex]:
    """The sex of each person whose file tells it. DataGateError for a person with two."""
    found: dict[str, Sex] = {}
    for header in headers:
        for place, (name, sex) in enumerate(zip(header.names, header.sexes, strict=False)):
            key = keyer.person_key(name)
            if key is not None and sex is not Sex.UNKNOWN and found.setdefault(key, sex) is not sex:
                raise DataGateError(
                    f"file {header.place(place)[0]}, sample {place + 1}: this person has another sex elsewhere "
                    "in it or in another file; correct them, or give genomics.sexes"
                )
    return found


def _check_people(spark: SparkSession, earlier: Earlier, roster: Roster) -> None:
    """No person of a new block in an earlier one: their calls of one variant would count twice."""
    digests = {columns.block: digest for digest, columns in reversed(roster.columns.items())}
    new = [
        (digests[block], key)
        for block, keys in roster.people.items()
        if block not in earlier.blocks
        for key in keys
    ]
    found = _keyed(spark, new, "digest").join(earlier.samples, "person_key").groupBy("digest").count()
    for row in found.orderBy("digest").limit(1).collect():
        raise DataGateError(
            f"file {row['digest']}: {row['count']} of its people are also in files ingested earlier, with another "
            "sample list; expected the same samples in the same order, or other people: reorder or subset the "
            "files (bcftools view -S), or leave one batch out of genomics.paths"
        )


def _check_sexes(spark: SparkSession, earlier: Earlier, recorded: Mapping[str, Sex], of_everyone: bool) -> None:
    """Of whom nothing is recorded the sex is unknown if the record is `of_everyone`, and else as it was."""
    if not recorded and not of_everyone:
        return
    now = _keyed(spark, [(sex.name.lower(), key) for key, sex in recorded.items()], "recorded")
    absent = sf.lit("unknown") if of_everyone else sf.col("sex")
    both = earlier.samples.select("person_key", "sex").join(now, "person_key", "left")
    other = both.filter(sf.coalesce("recorded", absent) != sf.col("sex")).count()
    if other:
        raise OutdatedError(f"the record has another sex now of {other} samples that were ingested earlier")


def _keyed(spark: SparkSession, rows: Iterable[tuple[str, str]], value: str) -> DataFrame:
    return few_rows(spark, rows, **{value: "string"}, person_key="string")


def _check_recorded(batch: Batch, genomics: GenomicsSettings) -> None:
    by_sex = batch.by_sex()
    if genomics.sexes and by_sex["_female"] + by_sex["_male"] == 0:
        raise DataGateError(
            f"genomics.sexes: it gives none of the {by_sex['']} samples a sex; are its ids those of the samples, "
            f"and is {genomics.sexes.sex} the right column?"
        )
