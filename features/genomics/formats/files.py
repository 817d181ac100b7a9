"""The files of genomes, each opened by what it is: VCF, BCF, BGEN or a PLINK 1 fileset, whatever it is called."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.clean import Layout, Record
from features.genomics.formats import bcf, bed, bgen
from features.genomics.formats.header import Header
from features.genomics.formats.vcf import VcfPart, read_header
from features.raw_text import Codec, Split, plan_splits, read_chunks

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
    companions = {path: _companions(raw, path) for path in by_path}
    owner: dict[str, str] = {}
    for path, others in companions.items():
        for other in others:
            if owner.setdefault(other, path) != path:
                both = f"files {keyer.path_digest(owner[other])} and {keyer.path_digest(path)}"
                own = " and ".join(f".{name.rpartition('.')[2]}" for name in others)
                raise DataGateError(f"{both}: they have one {own}; name one of them in genomics.paths")
    opened = []
    for path, file in by_path.items():
        others = companions[path]
        if len(others) == len(_OF_BED):
            opened.append(_fileset(raw, keyer, by_path, path, others, step))
        elif len(others) == len(_OF_BGEN):
            opened.append(_bgen(raw, keyer, file, by_path.get(others[0]), step))
        elif path.endswith(_OF_BGEN) and path not in owner:
            raise DataGateError(
                f"file {keyer.path_digest(path)}: no .bgen in genomics.paths has the name of this .sample; give "
                "both one name, or leave it out"
            )
        elif path not in owner:
            opened.append(_variant_file(raw, file, keyer.path_digest(path), step))
    return opened


_OF_BED, _OF_BGEN = (".bim", ".fam"), (".sample",)


def _companions(raw: Location, path: str) -> list[str]:
    """The files that belong to this one: a .bed must have two, a .bgen may have one."""
    with (raw / path).open() as stream:
        first = stream.read(bgen.MAGIC_AT + len(bgen.MAGIC))
    # A BGEN begins with a number, which may be anything.
    if first[bgen.MAGIC_AT :] == bgen.MAGIC:
        return [path.removesuffix(".bgen") + suffix for suffix in _OF_BGEN]
    if first.startswith((bed.MAGIC, bed.SAMPLE_MAJOR)):
        return [path.removesuffix(".bed") + suffix for suffix in _OF_BED]
    return []


def _bgen(raw: Location, keyer: PersonKeyer, file: FileStat, sample: FileStat | None, step: int) -> GenomeFile:
    whole = Split(raw.uri, file.path, keyer.path_digest(file.path), Codec.PLAIN, 0, file.size)
    names = plan_splits(raw, [(sample, keyer.path_digest(sample.path))], WHOLE) if sample else []
    return GenomeFile(*bgen.open_bgen(whole, names, raw / f"{file.path}.bgi", step))


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
