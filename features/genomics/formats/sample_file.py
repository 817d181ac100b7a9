"""Oxford's .sample files: the samples of a .bgen, in its order.

Format: https://www.cog-genomics.org/plink/2.0/formats#sample
"""

from collections.abc import Sequence

from features.contract.errors import DataGateError
from features.genomics.sexes import Sex
from features.raw_text import Split, fields_of, lines_of

_SEXES = {"1": Sex.MALE, "2": Sex.FEMALE, "0": Sex.UNKNOWN, "NA": Sex.UNKNOWN}


def read_sample_file(splits: Sequence[Split]) -> tuple[list[str], list[str], list[Sex]]:
    """Names (the column ID_2, or ID), where each row lies as quarantine writes it, and sexes where there is such a
    column. DataGateError for what is no such file."""
    lines = [(chunk.location(start, len(line)), fields_of(line)) for chunk, start, line in lines_of(splits)]
    digest = splits[0].digest
    columns, kinds = (lines[number][1] if len(lines) > number else [] for number in (0, 1))
    ids = 1 if columns[:2] == ["ID_1", "ID_2"] else 0
    if columns[: ids + 1] not in (["ID_1", "ID_2"], ["ID"]) or kinds[: ids + 1] != ["0"] * (ids + 1):
        raise DataGateError(
            f"file {digest}, line 1: expected the columns ID_1 ID_2, or ID, and a 0 below each; is it the .sample "
            "file of this .bgen?"
        )
    rows = lines[2:]
    while rows and not rows[-1][1]:
        rows.pop()
    for number, (_, row) in enumerate(rows, start=3):
        if len(row) != len(columns):
            raise DataGateError(
                f"file {digest}, line {number}: {len(row)} columns, expected the {len(columns)} of line 1"
            )
    lower = [column.lower() for column in columns]
    sex = lower.index("sex") if "sex" in lower else None
    for number, (_, row) in enumerate(rows, start=3):
        if sex is not None and row[sex] not in _SEXES:
            raise DataGateError(
                f"file {digest}, line {number}: its sex is none of {', '.join(_SEXES)}; correct it"
            )
    sexes = [] if sex is None else [_SEXES[row[sex]] for _, row in rows]
    return [row[ids] for _, row in rows], [place for place, _ in rows], sexes
