"""Hail as it is installed, in its own environment: prints the seconds from a VCF to its tables with QC.

As Hail advises, the VCF is read once, into a matrix table, and QC is of that; the variants and the samples with
their QC are tables beside it. The file is cut so that both cores have work until the end: Hail by itself cuts a
small bgzip file too little. Its session starts, and runs once, before the clock does.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import hail as hl

PARTS = 16
SPARK = {
    "spark.driver.memory": "4g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}


def main(vcf: Path, home: Path) -> None:
    """Leaves the tables in this folder."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    work = f"file://{home.absolute()}/work"
    hl.init(local="local[2]", quiet=True, log=str(home / "log"), tmp_dir=work, local_tmpdir=work, spark_conf=SPARK)
    hl.utils.range_table(1).count()
    started = time.monotonic()
    ingest(vcf, home)
    sys.stdout.write(f"{time.monotonic() - started}\n")


def ingest(vcf: Path, home: Path) -> None:
    """`genotypes.mt`, `variants.ht` and `samples.ht`."""
    read = hl.import_vcf(str(vcf), force_bgz=True, reference_genome="GRCh37", min_partitions=PARTS)
    genotypes = read.checkpoint(str(home / "genotypes.mt"))
    checked = hl.sample_qc(hl.variant_qc(genotypes))
    checked.rows().write(str(home / "variants.ht"))
    checked.cols().write(str(home / "samples.ht"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
