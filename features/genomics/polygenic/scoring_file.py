"""Scoring files: the PGS Catalog's format 2.0 and what has its columns.

Format: https://www.pgscatalog.org/downloads/#dl_ftp_scoring. Of a harmonised file the harmonised
positions (`hm_chr`, `hm_pos`) are taken, which have a build of their own. Those of another build are lifted
over where there are chains from it. A file is read by one task; nothing of it comes to the driver but the
header.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.liftover import Liftover
from features.genomics.polygenic.lift import lift_lines
from features.genomics.polygenic.scoring_lines import DOSAGES, read_lines
from features.raw_text import WHOLE, Split, check_last_line, plan_splits, read_chunks

BUILDS = {
    **dict.fromkeys(("ncbi36", "hg18"), "NCBI36"),
    **dict.fromkeys(("grch37", "hg19", "ncbi37"), "GRCh37"),
    **dict.fromkeys(("grch38", "hg38"), "GRCh38"),
}
_PLACES = {True: ("hm_chr", "hm_pos"), False: ("chr_name", "chr_position")}
"""The columns of contig and position, of a harmonised file and of another."""


@dataclass(frozen=True, slots=True)
class ScoringFile:
    """A file, the score it holds, where each column lies, the number of its header's last line, and what leads
    from its build to the study's, where that is another."""

    split: Split
    score: str
    columns: Mapping[str, int]
    harmonised: bool
    header_line: int
    liftover: Liftover | None

    @property
    def place(self) -> tuple[str, str]:
        """The columns of contig and position."""
        return _PLACES[self.harmonised]


def open_scoring_files(
    root: Location, files: Sequence[FileStat], keyer: PersonKeyer, build: str, liftovers: Mapping[str, Liftover]
) -> list[ScoringFile]:
    """In the order of their scores' names; `liftovers` are by the build they lead from. DataGateError for a file
    that is none, is of any other build or has the score of another file, by name."""
    if not files:
        raise DataGateError(f"genomics.scores.paths: no file below {root.uri} matches; check raw and the globs")
    opened: dict[str, ScoringFile] = {}
    for file in files:
        found = open_scoring_file(root, file, keyer, build, liftovers)
        if found.score in opened:
            other = opened[found.score].split.path
            raise DataGateError(f"{file.path}: holds the score {found.score}, as {other} does; leave one out")
        opened[found.score] = found
    return [opened[score] for score in sorted(opened)]


def open_scoring_file(
    root: Location, file: FileStat, keyer: PersonKeyer, build: str, liftovers: Mapping[str, Liftover]
) -> ScoringFile:
    """Read as far as the line of column names, and check that it is a scoring file of this build, or of one from
    which there is a liftover."""
    (split,) = plan_splits(root, [(file, keyer.path_digest(file.path))], WHOLE)
    check_last_line(split)
    about: dict[str, str] = {}
    number, line = 0, "#"
    for number, line in _numbered(split):  # noqa: B007  both are used where it stops
        if not line.startswith("#"):
            break
        key, equals, value = line.lstrip("#").partition("=")
        if equals:
            about[key.strip()] = value.strip()
    if line.startswith("#"):
        raise DataGateError(f"{file.path}: it has no line of column names; is it a PGS Catalog scoring file?")
    columns = {name.strip(): place for place, name in enumerate(line.split("\t"))}
    harmonised = "HmPOS_build" in about and {"hm_chr", "hm_pos"} <= columns.keys()
    found = _build(
        file.path, about.get("HmPOS_build" if harmonised else "genome_build"), {build, *liftovers}, build
    )
    missing = [name for name in (*_PLACES[harmonised], "effect_allele") if name not in columns]
    if not missing and not ({"effect_weight"} & columns.keys() or set(DOSAGES) <= columns.keys()):
        missing = ["effect_weight"]
    if missing:
        raise DataGateError(
            f"{file.path}, line {number}: there is no column {', '.join(missing)}; take the harmonised file of "
            "the PGS Catalog, in which every variant has a position"
        )
    score = about.get("pgs_id") or PurePosixPath(file.path).name.split(".")[0]
    return ScoringFile(split, score, columns, harmonised, number, liftovers.get(found))


def parse(file: ScoringFile) -> Iterator[pa.RecordBatch]:
    """SCHEMA rows of a file, in batches."""
    for batch in _batches(file):
        yield lift_lines(batch, file.liftover) if file.liftover else batch


def _batches(file: ScoringFile) -> Iterator[pa.RecordBatch]:
    for numbers, text in _texts(file.split):
        header = int(np.searchsorted(numbers, file.header_line, "right"))
        if header < len(numbers):
            text = text.split(b"\n", header)[header] if header else text  # noqa: PLW2901  the rest of it
            yield read_lines(text, numbers[header:], file.score, file.columns, file.place)


def _build(path: str, told: str | None, known: Set[str], build: str) -> str:
    found = BUILDS.get((told or "").casefold())
    if found is None:
        raise DataGateError(
            f"{path}: says no genome build ({told or 'no #genome_build line'}); take the harmonised file of the "
            f"PGS Catalog (..._hmPOS_{build}), or add a line #genome_build={build}"
        )
    if found not in known:
        raise DataGateError(
            f"{path}: its positions are of {found}, genomics.build is {build}; take the harmonised file of the "
            f"PGS Catalog (..._hmPOS_{build}), or name a chain file in genomics.scores.chains.{found}"
        )
    return found


def _texts(split: Split) -> Iterator[tuple[npt.NDArray[np.int64], bytes]]:
    """Some lines at once, of those that are not empty: their numbers, and they with a newline between them."""
    first = 1
    for chunk in read_chunks(split):
        text = chunk.data
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        if b"\r" in text or (np.diff(ends, prepend=-1) == 1).any():
            lines = text.splitlines()
            told = np.flatnonzero(np.fromiter(map(len, lines), np.int64, len(lines)))
            yield first + told, b"\n".join(lines[place] for place in told)
            first += len(lines)
        else:
            count = len(ends) + (not text.endswith(b"\n"))
            yield np.arange(first, first + count), text
            first += count


def _numbered(split: Split) -> Iterator[tuple[int, str]]:
    for numbers, text in _texts(split):
        for number, line in zip(numbers.tolist(), text.split(b"\n"), strict=False):
            yield number, line.decode(errors="replace")
