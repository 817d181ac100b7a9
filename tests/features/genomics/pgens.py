"""A plain writer of .pgen files, one value at a time as the specification says: for what plink2 does not write."""

import random
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

PAIRS = {(0, 1): 1, (0, 2): 2, (0, 3): 3, (1, 2): 5, (1, 3): 6, (2, 3): 9}
TURNED = [2, 1, 0, 3]
BLOCK = 1 << 16

Codes = Sequence[int]
Record = tuple[int, bytes]
"""Its kind and what it holds."""


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def packed(values: Sequence[int], width: int) -> bytes:
    whole = sum(value << width * place for place, value in enumerate(values))
    return whole.to_bytes(-(-width * len(values) // 8), "little")


def difflist(samples: int, ids: Sequence[int], codes: Codes | None = None) -> bytes:
    """The groups of 64: their first samples, their sizes but the last, the codes, the steps. 256 samples take two
    bytes, as in what plink2 writes, and not one as the specification has it."""
    if not ids:
        return b"\0"
    width = 1 if samples < 1 << 8 else 2 if samples < 1 << 16 else 3 if samples < 1 << 24 else 4
    groups = [ids[at : at + 64] for at in range(0, len(ids), 64)]
    steps = [b"".join(varint(b - a) for a, b in pairwise(group)) for group in groups]
    return (
        varint(len(ids))
        + b"".join(group[0].to_bytes(width, "little") for group in groups)
        + bytes(len(step) - 63 for step in steps[:-1])
        + (packed(codes, 2) if codes is not None else b"")
        + b"".join(steps)
    )


def differences(codes: Codes, other: Codes) -> bytes:
    ids = [place for place, (a, b) in enumerate(zip(codes, other, strict=True)) if a != b]
    return difflist(len(codes), ids, [codes[place] for place in ids])


def main_track(form: int, codes: Codes, base: Codes = ()) -> bytes:
    """The calls in one of the forms 0 to 7; in 1 the pair is of the two commonest."""
    if form == 0:
        return packed(codes, 2)
    if form == 1:
        low, high = sorted(sorted(range(4), key=codes.count)[-2:])  # type: ignore[attr-defined]
        common = [high if code == high else low for code in codes]
        bits = packed([int(code == high) for code in codes], 1)
        return bytes([PAIRS[low, high]]) + bits + differences(codes, common)
    if form == 2:
        return differences(codes, base)
    if form == 3:
        return differences([TURNED[code] for code in codes], base)
    if form == 5:
        assert not any(codes)
        return b""
    return differences(codes, [form & 3] * len(codes))


def code_of(genotype: tuple[int, int] | None) -> int:
    """Of two alleles, the lower first; None where missing."""
    return 3 if genotype is None else (genotype[0] > 0) + (genotype[1] > 0)


def rarer_alts(genotypes: Sequence[tuple[int, int] | None], alts: int, forms: tuple[int, int]) -> bytes:
    """Who has an ALT after the first, of those with one and with two; in the form 0, 1 or 15 each."""
    found = bytes([forms[0] | forms[1] << 4])
    for copies, form in zip((1, 2), forms, strict=True):
        have = [place for place, genotype in enumerate(genotypes) if code_of(genotype) == copies]
        plain = (0, 1) if copies == 1 else (1, 1)
        who = [place for place in have if genotypes[place] != plain]
        if form == 0:
            found += packed([int(place in who) for place in have], 1)
        elif form == 1:
            found += difflist(len(genotypes), who)
        else:
            assert not who
            continue
        own = [genotypes[place] or (0, 0) for place in who]
        if copies == 1:
            found += packed([b - 2 for _, b in own], _width(alts - 1))
        elif alts == 2:
            found += packed([int(genotype == (2, 2)) for genotype in own], 1)
        else:
            found += packed([allele - 1 for genotype in own for allele in genotype], _width(alts))
    return found


def _width(values: int) -> int:
    return next(width for width in (0, 1, 2, 4, 8, 16) if values <= 2**width)


def phase(heterozygous: int, rng: random.Random, explicit: bool) -> bytes:
    """Of everyone's, or with a bit that says of whom: the first one at least."""
    if not explicit:
        return packed([0, *(rng.randrange(2) for _ in range(heterozygous))], 1)
    known = [1, *(rng.randrange(2) for _ in range(heterozygous - 1))]
    return packed([1, *known], 1) + packed([rng.randrange(2) for _ in range(sum(known))], 1)


def dosage_tracks(kind: int, values: Sequence[int | None], phases: Sequence[int | None] = ()) -> bytes:
    """Dosages and, under 0x80, the differences of the copies; None where there is none."""
    who = [place for place, value in enumerate(values) if value is not None]
    form = kind & 0x60
    if form == 0x40:
        found = b"".join(struct.pack("<H", 65535 if value is None else value) for value in values)
        if kind & 0x80:
            deltas = [-32768 if value is None else delta or 0 for value, delta in zip(values, phases, strict=True)]
            found += b"".join(struct.pack("<h", delta) for delta in deltas)
        return found
    found = difflist(len(values), who) if form == 0x20 else packed([int(v is not None) for v in values], 1)
    found += b"".join(struct.pack("<H", values[place]) for place in who)
    if kind & 0x80:
        found += packed([int(phases[place] is not None) for place in who], 1)
        found += b"".join(struct.pack("<h", phases[place]) for place in who if phases[place] is not None)
    return found


def pgen(
    records: Sequence[Record],
    samples: int,
    storage: int = 0x10,
    alleles: Sequence[int] | None = None,
    provisional: int | Sequence[bool] = 1,
    width: int = 4,
    extension: bytes = b"",
) -> bytes:
    """A whole file: `width` bytes for the length of a record, one for the number of alleles if they are given."""
    told = provisional if isinstance(provisional, int) else 3
    flags = [] if isinstance(provisional, int) else list(provisional)
    start = b"\x6c\x1b" + struct.pack("<BII", storage, len(records), samples)
    if storage < 0x10:
        return start + bytes([told << 6]) + packed(flags, 1) + b"".join(data for _, data in records)
    wide = any(kind > 15 for kind, _ in records)
    control = told << 6 | (1 if alleles else 0) << 4 | wide << 2 | width - 1
    blocks = [range(at, min(at + BLOCK, len(records))) for at in range(0, len(records), BLOCK)]
    tables = b""
    for block in blocks:
        tables += packed([records[place][0] for place in block], 8 if wide else 4)
        tables += b"".join(len(records[place][1]).to_bytes(width, "little") for place in block)
        tables += bytes(alleles[block.start : block.stop]) if alleles else b""
        tables += packed(flags[block.start : block.stop], 1)
    at, offsets = len(start) + 1 + 8 * len(blocks) + len(tables) + len(extension), b""
    for block in blocks:
        offsets += struct.pack("<Q", at)
        at += sum(len(records[place][1]) for place in block)
    return start + bytes([control]) + offsets + tables + extension + b"".join(data for _, data in records)


def write(folder: Path, data: bytes, alts: Sequence[str], samples: int, name: str = "a") -> list[Path]:
    """The three files, with variants at 101, 102, ... named v0, v1, ..., REF is A."""
    files = [folder / f"{name}.{suffix}" for suffix in ("pgen", "pvar", "psam")]
    files[0].write_bytes(data)
    lines = [f"1\t{101 + place}\tv{place}\tA\t{alt}\n" for place, alt in enumerate(alts)]
    files[1].write_text("#CHROM\tPOS\tID\tREF\tALT\n" + "".join(lines))
    files[2].write_text("#IID\tSEX\n" + "".join(f"B-{i}\tNA\n" for i in range(samples)))
    return files
