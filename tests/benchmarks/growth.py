"""What an ingest of genomes takes as its input grows: a VCF of the 1000 Genomes' people, and two of 16 times the
genotypes, by variants and by people.

In Spark's local mode driver and executor are one JVM; here they are processes of their own (`local-cluster`). The
executor's heap is fixed and counts as full: what can grow is what Python, Arrow and the JVM beside its heap take.
Of the driver's heap counts what a full collection leaves, every three seconds. Memory is meant at its highest.
What a session takes to start and to end is measured in the same round and not counted.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from statistics import median

import pyspark

from tests.benchmarks.calls import PEOPLE, session, stage, write_vcf
from tests.benchmarks.claims import Row
from tests.benchmarks.measure import Measured, measure

HOME = Path("build/bench/growth")
TIMES = 16
ROUNDS = 3
MIB = 1 << 20
SPARK_HOME = (HOME / "spark").absolute()
COLLECTIONS = (HOME / "collections.log").absolute()
SPARK = {
    "master": "local-cluster[1,2,2048]",
    "conf": {
        "spark.driver.extraJavaOptions": f"-Xlog:gc:file={COLLECTIONS}",
        "spark.cleaner.periodicGC.interval": "3s",
        "spark.executor.memory": "2g",
        "spark.executor.extraJavaOptions": "-Xms2g -XX:+AlwaysPreTouch",
    },
}
SETTINGS = {"genomics.paths": '["*.vcf.gz"]'} | {f"spark.{key}": json.dumps(of) for key, of in SPARK.items()}
LIMITS = {
    "ns a genotype": 1.1,
    "MiB of all processes": 1.2,
    "MiB of the driver's Python": 1.1,
    "MiB in the driver's heap": 1.1,
}


def run() -> list[Row]:
    """How each figure of the grown inputs stands to that of the first."""
    shutil.rmtree(HOME, ignore_errors=True)
    _lend_spark()
    size, variants = write_vcf(HOME / "once/raw/genomes.vcf.gz", 1)
    write_vcf(HOME / "variants/raw/genomes.vcf.gz", TIMES)
    write_vcf(HOME / "people/raw/genomes.vcf.gz", 1, people=TIMES)
    rounds = [_round(variants * PEOPLE) for _ in range(ROUNDS)]
    once = f"{variants:,} variants of {PEOPLE:,} people ({size / 1e9:.2f} GB of VCF)"
    return [
        _row(f"{unit}, {TIMES} times as many {grown} beside {once}", limit, grown, unit, rounds)
        for grown in ("variants", "people")
        for unit, limit in LIMITS.items()
    ]


def _lend_spark() -> None:
    """Executors leave their logs below Spark's home, which must not be where Spark is installed."""
    SPARK_HOME.mkdir(parents=True)
    for name in ("bin", "jars", "python"):
        (SPARK_HOME / name).symlink_to(Path(pyspark.__file__).parent / name)


def _row(what: str, limit: float, grown: str, unit: str, rounds: list[dict[str, dict[str, float]]]) -> Row:
    ratios = [found[grown][unit] / found["once"][unit] for found in rounds]
    more, once = (median(found[name][unit] for found in rounds) for name in (grown, "once"))
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; {more:.0f} beside {once:.0f})"
    return Row(what, f"at most {limit:g} times", figure, median(ratios) <= limit)


def _round(once: int) -> dict[str, dict[str, float]]:
    """The figures of each input, the first of so many genotypes."""
    start = _measure(session(SPARK)).seconds
    genotypes = {"once": once, "variants": TIMES * once, "people": TIMES * once}
    return {name: _ingest(HOME / name, count, start) for name, count in genotypes.items()}


def _measure(command: list[str]) -> Measured:
    return measure(["env", f"SPARK_HOME={SPARK_HOME}", *command])


def _ingest(home: Path, genotypes: int, start: float) -> dict[str, float]:
    shutil.rmtree(home / "lake", ignore_errors=True)
    found = _measure(stage("ingest_genomics", home, SETTINGS))
    held = max(int(after) for after in re.findall(r"Pause Full .*->(\d+)M", COLLECTIONS.read_text()))
    figures = (
        1e9 * (found.seconds - start) / genotypes,
        found.peaks.tree_bytes / MIB,
        found.peaks.own_bytes / MIB,
        held,
    )
    sys.stderr.write(f"{home.name}: {', '.join(f'{figure:.1f}' for figure in figures)}\n")
    return dict(zip(LIMITS, figures, strict=True))
