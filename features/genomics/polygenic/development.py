"""Scores that were developed on the people they are used for: in them a score looks better than it is.

The PGS Catalog says of each score on which cohorts it was developed, in its metadata (one row a score and sample
set): https://www.pgscatalog.org/downloads/#dl_metadata.
"""

import io
import logging
import re
from collections.abc import Iterable

import pyarrow as pa
from pyarrow import csv

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import ScoreDevelopment

log = logging.getLogger("riskloom")
SECTION = "genomics.scores.development"
_BETWEEN = re.compile(r"[|,;\s]+")


def developed_here(
    raw: Location, wanted: ScoreDevelopment, keyer: PersonKeyer, scores: Iterable[str]
) -> dict[str, list[str]]:
    """Of these scores those that were developed on one of the study's cohorts, and on which: each is warned of.
    DataGateError for a file that is missing, no table, or has not the columns."""
    ours = {cohort.casefold(): cohort for cohort in wanted.cohorts}
    asked, found = set(scores), dict[str, set[str]]()
    table = _read(raw, wanted, f"{SECTION}: file {keyer.path_digest(wanted.path)}")
    for score, cohorts in zip(table[wanted.id].to_pylist(), table[wanted.column].to_pylist(), strict=True):
        named = {ours[name] for name in _BETWEEN.split(cohorts.casefold()) if name in ours}
        if score in asked and named:
            found.setdefault(score, set()).update(named)
    for score, named in sorted(found.items()):
        log.warning(
            "score %s: it was developed on %s, whose people these are, and looks better in them than it is; take "
            "another, or judge it elsewhere",
            *(score, ", ".join(sorted(named))),
        )
    return {score: sorted(named) for score, named in sorted(found.items())}


def _read(raw: Location, wanted: ScoreDevelopment, where: str) -> pa.Table:
    location = raw / wanted.path
    if not location.exists():
        raise DataGateError(f"{SECTION}.path: {wanted.path} is not below the raw root; correct it")
    columns = [wanted.id, wanted.column]
    try:
        return csv.read_csv(
            io.BytesIO(location.read_bytes()),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
        raise DataGateError(
            f"{where}: expected a CSV file with the columns {wanted.id} and {wanted.column}, as the PGS Catalog's "
            f"metadata of score development samples; correct the file, or {SECTION}.id and column"
        ) from None
