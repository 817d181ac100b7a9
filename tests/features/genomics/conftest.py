"""Small VCF files in sight of the test that reads them, and an ingest into a lake of its own."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Run, Runs
from features.contract.settings import GenomicsSettings, Settings
from features.genomics.ingestion.ingest import ingest_genomics
from features.lake import Written

TABLES = ("variants", "genotypes", "samples", "quarantine/ingest_genomics")
GENOMICS = GenomicsSettings(paths=["*"], build="GRCh38", gene_field="GENE", consequence_field="VC")

WriteVcf = Callable[..., Path]
Tables = dict[str, pd.DataFrame]
Ingest = Callable[..., tuple[Written, Tables]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def write_vcf(raw: Path) -> WriteVcf:
    """Write a VCF with a sound header; records are given with spaces for tabs."""
    return writer(raw)


def writer(raw: Path) -> WriteVcf:
    """`write_vcf` for a folder of one's own."""

    def write(name: str, samples: Sequence[str], records: Sequence[str], end: str = "\n") -> Path:
        contigs = [f"##contig=<ID={contig},length=1000000>" for contig in ("1", "chr1", "2", "X", "Y", "MT")]
        columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]
        lines = [
            "##fileformat=VCFv4.3",
            *contigs,
            '##INFO=<ID=GENE,Number=1,Type=String,Description="gene">',
            '##INFO=<ID=VC,Number=1,Type=String,Description="consequence">',
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">',
            "\t".join(columns),
            *(record.replace(" ", "\t") for record in records),
        ]
        (raw / name).write_text(end.join(lines) + end, newline="")
        return raw / name

    return write


@pytest.fixture(scope="session")
def ingested() -> dict[str, tuple[Written, Path]]:
    """What was written of which input, and a copy of the lake: many tests begin with the same genomes."""
    return {}


@pytest.fixture
def ingest(
    spark: SparkSession,
    lake: Location,
    raw: Path,
    keyer: PersonKeyer,
    ingested: dict[str, tuple[Written, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Ingest:
    """Run the ingest over the raw folder; what it wrote, and its tables by path.

    Of the same files and settings a lake without tables gets a copy of what an earlier test wrote.
    """

    def run(
        genomics: GenomicsSettings = GENOMICS, keyer: PersonKeyer = keyer, folder: Path = raw
    ) -> tuple[Written, Tables]:
        root = Location.parse(str(folder))
        settings = Settings.model_construct(
            name="tests", raw=root.uri, lake=lake.uri, identity=keyer.identity, genomics=genomics
        )
        files = [file for file in root.files() if Path(file.path).match(genomics.paths[0])]
        shared = folder == raw and not Path(lake.path).exists()
        key = digest(folder, genomics, keyer) if shared else ""
        if key in ingested:
            written, copy = ingested[key]
            shutil.copytree(copy, lake.path)
        else:
            written = ingest_genomics(spark, lake, settings, keyer, files)
            if shared:
                ingested[key] = written, tmp_path_factory.mktemp("ingested") / "lake"
                shutil.copytree(lake.path, ingested[key][1])
        versions = written.tables.items()
        return written, {
            table: DeltaTable(f"{lake.uri}/{table}", version=version).to_pandas() for table, version in versions
        }

    return run


def digest(folder: Path, genomics: GenomicsSettings, keyer: PersonKeyer) -> str:
    """Of all that an ingest reads: files of the folder, its settings and the key."""
    read = genomics.without("quality", "relatives", "ancestry", "scores")
    found = hashlib.sha256(f"{read!r} {keyer.identity!r} {keyer.path_digest('key')}".encode())
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def made_of(job: str, read: dict[str, int], wrote: Sequence[str], counts: dict[str, object]) -> Runs:
    """The runs of a lake with version 1 of the genomes' tables, of which the job read such versions."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ingested = dict.fromkeys(("variants", "genotypes", "samples"), "1")
    first = Run("a", "ingest_genomics", start, "c", "i", "v", wrote=ingested, finished=start)
    found = dict.fromkeys(wrote, "0")
    return Runs((first, Run("b", job, start, "c", "i", "v", read, found, counts=counts, finished=start)))
