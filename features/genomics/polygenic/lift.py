"""Lines of a scoring file in another genome build: their positions, and their alleles as its strand reads them.

A line says nothing of which allele is the reference's, so that all bases of the longer one must stay side by side.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.genomics.columns import filled
from features.genomics.liftover import CODES, Liftover, Unlifted

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
ALLELES = ("effect_allele", "other_allele")
FORWARD, REVERSE = "+", "-"


def lift_lines(lines: pa.RecordBatch, liftover: Liftover) -> pa.RecordBatch:
    """Rows of a scoring file's SCHEMA in the other build; what cannot be lifted has its reason as `problem`, and
    no place. `lifted_strand` is set for the others."""
    found = liftover.lift(lines["contig"], filled(lines["position"], 0), filled(_bases(lines), 1))
    targets = np.where(found.reverse & _is_indel(lines), CODES[Unlifted.REVERSED_INDEL], found.targets)
    placed = lines["problem"].is_null()
    nowhere = (targets < 0) | ~filled(placed, False)
    reverse = found.reverse & ~nowhere
    reasons = pa.array([kind.value for kind in Unlifted]).take(pa.array(-1 - targets, mask=targets >= 0))
    contigs = pa.array([target.contig for target in liftover.targets])
    new = {
        "contig": contigs.take(pa.array(targets, mask=nowhere)),
        "position": pa.array(found.positions, mask=nowhere),
        "effect_allele": _turned(lines["effect_allele"], reverse),
        "other_allele": _turned(lines["other_allele"], reverse),
        "problem": pc.if_else(placed, reasons, lines["problem"]),
        "lifted_strand": pa.array([FORWARD, REVERSE]).take(pa.array(reverse.astype(np.int8), mask=nowhere)),
    }
    columns = [new.get(name, lines[name]) for name in lines.schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=lines.schema)


def _bases(lines: pa.RecordBatch) -> pa.Array:
    """Of the longer allele."""
    return pc.max_element_wise(*(pc.utf8_length(lines[name]).cast("int64") for name in ALLELES))


def _is_indel(lines: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Unless both alleles are told and of one length; a line that repeats its one allele tells one."""
    effect, other = (lines[name] for name in ALLELES)
    alike = pc.and_(pc.equal(pc.utf8_length(effect), pc.utf8_length(other)), pc.not_equal(effect, other))
    found: npt.NDArray[np.bool_] = (filled(_bases(lines), 1) > 1) & ~filled(alike, False)
    return found


def _turned(alleles: pa.StringArray, reverse: npt.NDArray[np.bool_]) -> pa.StringArray:
    """Reverse-complemented where the strand is the other one."""
    found = alleles.to_pylist()
    for row in np.flatnonzero(reverse):
        if found[row] is not None:
            found[row] = found[row].translate(_COMPLEMENT)[::-1]
    return pa.array(found, pa.string())
