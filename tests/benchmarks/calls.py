"""A VCF as large as one wants, and the commands that read it.

The calls are those of the 1000 Genomes' 2,504 people, written many times at other places and for other people; a
hundred people lose a tenth of their calls and some lines do not pass, so that every rule of QC has something to
do.
"""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.command import SHARED

STORED = SHARED / "thousand_genomes/kg2504_23770snp.GRCh37.vcf.gz"
PEOPLE = 2_504
LOST = "./.\t" * 100
SETTINGS = {"genomics.build": "GRCh37", "genomics.scores": "null", "identity.pattern": "'^(.+)$'"}
SESSION = """
import json, sys
from features.contract.settings import SparkSettings
from features.lake import spark_session, stop_spark
spark_session(SparkSettings(**json.loads(sys.argv[1])), "start").range(1).count()
stop_spark()
"""


def write_vcf(vcf: Path, copies: int, after: int = 0, people: int = 1) -> tuple[int, int]:
    """The stored variants so many times, at places after this one, of so many times the people; its bytes before
    bgzip, and its number of variants."""
    if shutil.which("bgzip") is None:
        raise SystemExit("bgzip is missing: apt-get install tabix")
    with gzip.open(STORED, "rt") as stored:
        lines = stored.read().splitlines()
    *header, names = [line for line in lines if line.startswith("#")]
    records = [line.split("\t", 9) for line in lines if not line.startswith("#")]
    columns = names.split("\t")
    named = [f"{name}.{time}" if time else name for time in range(people) for name in columns[9:]]
    vcf.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with vcf.open("wb") as out:
        bgzip = subprocess.Popen(["bgzip", "--threads", "2"], stdin=subprocess.PIPE, stdout=out)
        assert bgzip.stdin
        bgzip.stdin.write("".join(f"{line}\n" for line in [*header, "\t".join([*columns[:9], *named])]).encode())
        for number, (chrom, _, _, *rest, stored_calls) in enumerate(records):
            rest[3] = "q10" if number % 50 == 0 else "PASS"
            calls = LOST + stored_calls[len(LOST) :] if number % 10 == 0 else stored_calls
            for copy in range(copies):
                place = after + 100 * (number * copies + copy + 1)
                turned = [_turned(calls, copy + time) for time in range(people)]
                line = "\t".join([chrom, str(place), f"v{place}", *rest, *turned]) + "\n"
                size += bgzip.stdin.write(line.encode())
        bgzip.stdin.close()
        if bgzip.wait():
            raise SystemExit("bgzip failed")
    return size, len(records) * copies


def _turned(calls: str, first: int) -> str:
    """The first people come last; a call is three letters and a tab."""
    return f"{calls[4 * first :]}\t{calls[: 4 * first]}".strip("\t")


def stage(name: str, home: Path, settings: Mapping[str, str]) -> list[str]:
    """The command of a stage with the raw zone and the lake in this folder."""
    riskloom = str(Path(sys.executable).parent / "riskloom")
    zones = ["--raw", str(home / "raw"), "--lake", str(home / "lake")]
    own = [f"{key}={value}" for key, value in (SETTINGS | dict(settings)).items()]
    return [
        riskloom,
        name,
        "--config",
        "conf/demo.yaml",
        *zones,
        *(word for key in own for word in ("--set", key)),
    ]


def session(spark: Mapping[str, Any]) -> list[str]:
    """The command that starts a session and ends it, as a stage does."""
    return [sys.executable, "-c", SESSION, json.dumps(spark)]
