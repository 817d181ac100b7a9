"""The gate of `genomics.strict`: every line of VCF text beside the specification, before any record is used.

A task checks the lines of its split one by one. What hangs on the lines before, the order of contigs and
positions, is judged on the driver from where each split begins and ends.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from pyspark.sql import SparkSession

from features.contract.errors import DataGateError
from features.genomics.conformance.header import Fields, NonconformingError, read_fields
from features.genomics.conformance.record import FIXED, Record, check_record
from features.genomics.formats.header import Header
from features.genomics.normalise import trim
from features.raw_text import Split, lines_of, text_lines

MOST_TOLD = 10
TOGETHER, IN_ORDER = "CHROM: expected each contig's records together", "POS: expected records in order of position"
BELOW = "expected records below the header, and no other line of it"
TWICE = "ALT: expected each variant once"

Finding = tuple[int, str]
"""The number of a line and the rule that it breaks."""
Allele = tuple[str, int, str, str]
"""Contig, position, REF and ALT in their shortest spelling."""


@dataclass(slots=True)
class Part:
    """What the lines of a split tell. `broken` are the first findings of `n_broken`, and `runs` where a contig
    begins (its name, the number of the line, its position): lines are counted from the split's first."""

    lines: int = 0
    ended: bool = True
    n_broken: int = 0
    broken: list[Finding] = field(default_factory=list)
    runs: list[tuple[str, int, int]] = field(default_factory=list)
    last_position: int = 0

    def add(self, line: int, rule: str) -> None:
        """Count a finding, and keep it if it is one of the first."""
        self.n_broken += 1
        if len(self.broken) < MOST_TOLD:
            self.broken.append((line, rule))


def check_strictly(spark: SparkSession, files: Sequence[tuple[Sequence[Split], Header]]) -> None:
    """DataGateError with file, line and rule when a VCF file (its splits, in order) breaks the specification."""
    tasks = [
        (splits[place:], fields, len(header.names), header.ends)
        for (splits, header), fields in [(file, declared(file[0])) for file in files]
        for place in range(len(splits))
    ]
    parts = iter(spark.sparkContext.parallelize(tasks, len(tasks)).map(lambda task: read_part(*task)).collect())
    found = [(header.digest, joined([next(parts) for _ in splits])) for splits, header in files]
    number = sum(whole.n_broken for _, whole in found)
    if number:
        told = [f"file {digest}, line {line}: {rule}" for digest, whole in found for line, rule in whole.broken]
        more = f"; and {number - MOST_TOLD:,} more" if number > MOST_TOLD else ""
        lines = "1 line is" if number == 1 else f"{number:,} lines are"
        raise DataGateError(
            f"genomics.strict: {lines} not as the VCF specification has them: "
            f"{'; '.join(told[:MOST_TOLD])}{more}; correct the files, or leave genomics.strict out"
        )


def declared(splits: Sequence[Split]) -> Fields:
    """What a file's header declares; DataGateError for a line of it that breaks the specification."""
    lines = takewhile(lambda line: line.startswith(b"##"), (line for *_, line in lines_of(splits)))
    try:
        return read_fields([line.decode(errors="replace") for line in lines])
    except NonconformingError as error:
        raise DataGateError(
            f"genomics.strict: file {splits[0].digest}, {error}; correct the header, or leave genomics.strict out"
        ) from None


def read_part(splits: Sequence[Split], fields: Fields, samples: int, header_ends: int) -> Part:
    """The lines of the first split, but for those of the header, whose last has this offset; of those that follow
    it only as many as could repeat one of its variants."""
    part, previous, seen = Part(), Record("", 0, "", ()), set[str]()
    live: set[Allele] = set()
    for chunk, start, line in text_lines(splits[0]):
        part.lines += 1
        part.ended = start + len(line) < len(chunk.data)
        if not line or (line.startswith(b"#") and chunk.offset(start) <= header_ends):
            continue
        try:
            record = _checked(line, fields, samples)
        except NonconformingError as error:
            part.add(part.lines, str(error))
            continue
        if record.contig != previous.contig:
            if record.contig in seen:
                part.add(part.lines, TOGETHER)
            seen.add(record.contig)
            part.runs.append((record.contig, part.lines, record.position))
        elif record.position < previous.position:
            part.add(part.lines, IN_ORDER)
        live = _reachable(live, record)
        own = set(_alleles(record))
        if live & own or len(own) < len(record.alts):
            part.add(part.lines, TWICE)
        live |= own
        previous = record
    part.last_position = previous.position
    for number in _repeated(live, splits[1:]):
        part.add(part.lines + number, TWICE)
    return part


def _checked(line: bytes, fields: Fields, samples: int) -> Record:
    if line.startswith(b"#"):
        raise NonconformingError(BELOW)
    return check_record(line, fields, samples)


def _alleles(record: Record) -> Iterator[Allele]:
    for alt in record.alts:
        yield record.contig, *trim(record.position, record.ref, alt)


def _reachable(live: set[Allele], record: Record) -> set[Allele]:
    """Those that this record or a later one may still repeat: no spelling begins behind the shortest one."""
    return {one for one in live if one[0] == record.contig and one[1] >= record.position}


def _repeated(live: set[Allele], following: Sequence[Split]) -> Iterator[int]:
    """The numbers of the following lines that repeat one of these variants."""
    for number, (_, _, line) in enumerate(lines_of(following), start=1):
        columns = line.decode(errors="replace").split("\t", len(FIXED))
        if len(columns) < len(FIXED) or not re.fullmatch("[0-9]{1,10}", columns[1]):
            continue
        alts = tuple(alt for alt in columns[4].upper().split(",") if alt.isalpha())
        record = Record(columns[0].strip("<>"), int(columns[1]), columns[3].upper(), alts)
        live = _reachable(live, record)
        if not live:
            return
        if live & set(_alleles(record)):
            yield number


def joined(parts: Sequence[Part]) -> Part:
    """What a file's parts tell together, lines counted from the file's first, the earliest findings first."""
    whole, contig, seen = Part(), "", set[str]()
    for part in parts:
        found = list(part.broken)
        firsts = {name: (line, position) for name, line, position in reversed(part.runs)}
        for name, (line, position) in firsts.items():
            continues = name == contig and line == part.runs[0][1]
            if continues and position < whole.last_position:
                found.append((line, IN_ORDER))
            elif not continues and name in seen:
                found.append((line, TOGETHER))
        whole.broken += [(whole.lines + line, rule) for line, rule in found]
        whole.n_broken += part.n_broken - len(part.broken) + len(found)
        whole.lines += part.lines
        if part.runs:
            contig, whole.last_position = part.runs[-1][0], part.last_position
        seen |= set(firsts)
    if not parts[-1].ended:
        whole.broken.append((whole.lines, "expected a newline at the end of the file"))
        whole.n_broken += 1
    whole.broken = sorted(whole.broken)[:MOST_TOLD]
    return whole
