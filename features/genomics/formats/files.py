"""The files of genomes, each opened by what it is: VCF, BCF, BGEN or a PLINK fileset, whatever it is called."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.genomics.clean import Layout, Record
from features.genomics.formats import bcf, bed, bgen, pgen, pgen_header
from features.genomics.formats.header import Header
from features.genomics.formats.vcf import VcfPart, read_header
from features.raw_text import WHOLE, Codec, Split, ends_inside_a_line, plan_splits, read_chunks

log = logging.getLogger("riskloom")


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
    kinds = {path: _kind(raw, path) for path in by_path}
    companions = {path: _companions(kind, path, by_path) for path, kind in kinds.items()}
    owner: dict[str, str] = {}
    for path, others in companions.items():
        for other in others:
            if owner.setdefault(other, path) != path:
                both = f"files {keyer.path_digest(owner[other])} and {keyer.path_digest(path)}"
                own = " and ".join(f".{_ending(name)}" for name in others)
                raise DataGateError(f"{both}: they have one {own}; name one of them in genomics.paths")
    opened = []
    for path, file in by_path.items():
        others, kind = companions[path], kinds[path]
        if kind in (_Kind.BED, _Kind.PGEN):
            opened.append(_fileset(raw, keyer, by_path, path, kind, others, step))
        elif kind is _Kind.BGEN:
            opened.append(_bgen(raw, keyer, file, by_path.get(others[0]), step))
        elif path not in owner and _ending(path) in _OWNERS:
            raise DataGateError(
                f"file {keyer.path_digest(path)}: no .{_OWNERS[_ending(path)]} in genomics.paths has the name of "
                f"this .{_ending(path)}; give both one name, or leave it out"
            )
        elif path not in owner:
            opened.append(_variant_file(raw, file, keyer.path_digest(path), step))
    return opened


class _Kind(StrEnum):
    BED = "bed"
    PGEN = "pgen"
    BGEN = "bgen"
    VARIANTS = "variants"


_OF_BED, _OF_PGEN = (".bim", ".bim.zst"), (".pvar", ".pvar.zst")
_VARIANTS = {_Kind.BED: _OF_BED + _OF_PGEN, _Kind.PGEN: _OF_PGEN + _OF_BED}
_SAMPLES = {_Kind.BED: (".fam", ".psam"), _Kind.PGEN: (".psam", ".fam")}
_OWNERS = {"sample": _Kind.BGEN, "psam": _Kind.PGEN, "pvar": _Kind.PGEN, "bim": _Kind.BED, "fam": _Kind.BED}


def _ending(path: str) -> str:
    return path.removesuffix(".zst").rpartition(".")[2]


def _kind(raw: Location, path: str) -> _Kind:
    with (raw / path).open() as stream:
        return _kind_of(stream.read(bgen.MAGIC_AT + len(bgen.MAGIC)))


def _kind_of(first: bytes) -> _Kind:
    """What begins so."""
    # A BGEN begins with a number, which may be anything.
    if first.startswith(bgen.MAGIC, bgen.MAGIC_AT):
        return _Kind.BGEN
    if first.startswith((bed.MAGIC, bed.SAMPLE_MAJOR)):
        return _Kind.BED
    return _Kind.PGEN if first.startswith(pgen_header.MAGIC) else _Kind.VARIANTS


def _companions(kind: _Kind, path: str, by_path: Mapping[str, FileStat]) -> list[str]:
    """The files that belong to this one: a .bed or a .pgen must have two, a .bgen may have one."""
    if kind is _Kind.BGEN:
        return [path.removesuffix(".bgen") + ".sample"]
    if kind is _Kind.VARIANTS:
        return []
    stem = path.removesuffix(".bed").removesuffix(".pgen")
    return [
        next((stem + suffix for suffix in suffixes if stem + suffix in by_path), stem + suffixes[0])
        for suffixes in (_VARIANTS[kind], _SAMPLES[kind])
    ]


def _bgen(raw: Location, keyer: PersonKeyer, file: FileStat, sample: FileStat | None, step: int) -> GenomeFile:
    whole = Split(raw.uri, file.path, keyer.path_digest(file.path), Codec.PLAIN, 0, file.size)
    names = plan_splits(raw, [(sample, keyer.path_digest(sample.path))], WHOLE) if sample else []
    return GenomeFile(*bgen.open_bgen(whole, names, raw / f"{file.path}.bgi", step))


def _fileset(
    raw: Location,
    keyer: PersonKeyer,
    by_path: Mapping[str, FileStat],
    path: str,
    kind: _Kind,
    others: Sequence[str],
    step: int,
) -> GenomeFile:
    digest, size = keyer.path_digest(path), by_path[path].size
    missing = [_ending(other) for other in others if other not in by_path]
    if missing:
        raise DataGateError(
            f"file {digest}: genomics.paths names this .{kind} and not its .{' and .'.join(missing)}; "
            "give all three"
        )
    variants, samples = ((by_path[other], keyer.path_digest(other)) for other in others)
    # The variants are what is cut, and the calls, which are far larger, by their lines.
    lines_step = step * variants[0].size // (variants[0].size + size) + 1
    lines, people = plan_splits(raw, [variants], lines_step), plan_splits(raw, [samples], WHOLE)
    if kind is _Kind.BED and [_ending(other) for other in others] == ["bim", "fam"]:
        return GenomeFile(*bed.open_bed(raw / path, digest, lines, people))
    return GenomeFile(*pgen.open_pgen(raw / path, digest, lines, people, -(-size // step)))


def _variant_file(raw: Location, file: FileStat, digest: str, step: int) -> GenomeFile:
    splits = plan_splits(raw, [(file, digest)], step)
    first = next(read_chunks(splits[0]), None)
    kind = _kind_of(first.data) if first else _Kind.VARIANTS
    if kind is not _Kind.VARIANTS:
        raise DataGateError(
            f"file {digest}: a .{kind} that was compressed as a whole; expand it (gunzip), so that its "
            "variants can be read one by one"
        )
    if first and first.data.startswith(bcf.MAGIC):
        (whole,) = plan_splits(raw, [(file, digest)], WHOLE)
        return GenomeFile(*bcf.open_bcf(whole, step))
    if ends_inside_a_line(splits[-1]):
        log.warning("file %s: its last line has no end; was it cut short? Then copy it again", digest)
    header = read_header(splits)
    return GenomeFile(header, [VcfPart(split, header.ends) for split in splits], splits)
