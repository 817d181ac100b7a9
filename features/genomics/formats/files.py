"""The files of genomes, each opened by what it is: VCF, BCF or a PLINK 1 fileset, whatever it is called."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.clean import Layout, Record
from features.genomics.formats import bcf, bed
from features.genomics.formats.header import Header
from features.genomics.formats.vcf import VcfPart, read_header
from features.raw_text import Split, plan_splits, read_chunks

WHOLE = 1 << 62


class Part(Protocol):
    """A piece of a file that a task reads; `digest` is that of the file which its records lie in."""

    @property
    def digest(self) -> str: ...

    def records(self, layout: Layout) -> Iterator[Record]:
        """Each record in the file's order."""
        ...


@dataclass(frozen=True, slots=True)
class GenomeFile:
    """A file's samples and parts; `text` are the splits of a VCF."""

    header: Header
    parts: Sequence[Part]
    text: Sequence[Split] = field(default_factory=list)


def open_files(raw: Location, keyer: PersonKeyer, files: Sequence[FileStat], step: int) -> list[GenomeFile]:
    """The files by path, in parts of about `step` stored bytes. DataGateError for one that is none of these."""
    by_path = {file.path: file for file in sorted(files, key=lambda file: file.path)}
    magic = {path: _first_bytes(raw / path) for path in by_path}
    companions: dict[str, list[str]] = {}
    for path in by_path:
        if magic[path] in (bed.MAGIC, bed.SAMPLE_MAJOR):
            companions[path] = [path.removesuffix(".bed") + suffix for suffix in (".bim", ".fam")]
    taken: dict[str, str] = {}
    for path, others in companions.items():
        for other in others:
            if taken.setdefault(other, path) != path:
                both = f"files {keyer.path_digest(taken[other])} and {keyer.path_digest(path)}"
                raise DataGateError(f"{both}: they have one .bim and .fam; name one of them in genomics.paths")
    opened = []
    for path, file in by_path.items():
        if path in companions:
            opened.append(_fileset(raw, keyer, by_path, path, companions[path], step))
        elif path not in taken:
            opened.append(_variant_file(raw, file, keyer.path_digest(path), step))
    return opened


def _first_bytes(location: Location) -> bytes:
    with location.open() as stream:
        found: bytes = stream.read(len(bed.MAGIC))
        return found


def _fileset(
    raw: Location,
    keyer: PersonKeyer,
    by_path: dict[str, FileStat],
    path: str,
    others: Sequence[str],
    step: int,
) -> GenomeFile:
    digest = keyer.path_digest(path)
    missing = [other.rpartition(".")[2] for other in others if other not in by_path]
    if missing:
        raise DataGateError(
            f"file {digest}: genomics.paths names this .bed and not its .{' and .'.join(missing)}; give all three"
        )
    bim, fam = ((by_path[other], keyer.path_digest(other)) for other in others)
    # The .bim is what is cut, and the .bed, which is far larger, by its lines.
    lines_step = step * bim[0].size // (bim[0].size + by_path[path].size) + 1
    return GenomeFile(
        *bed.open_bed(raw / path, digest, plan_splits(raw, [bim], lines_step), plan_splits(raw, [fam], WHOLE))
    )


def _variant_file(raw: Location, file: FileStat, digest: str, step: int) -> GenomeFile:
    splits = plan_splits(raw, [(file, digest)], step)
    first = next(read_chunks(splits[0]), None)
    if first and first.data.startswith(bcf.MAGIC):
        (whole,) = plan_splits(raw, [(file, digest)], WHOLE)
        return GenomeFile(*bcf.open_bcf(whole, step))
    return GenomeFile(read_header(splits), [VcfPart(split) for split in splits], splits)
