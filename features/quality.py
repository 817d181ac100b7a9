"""Promise 1: records in = used + quarantined + merged, printed by each ingest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.contract.errors import DataGateError
from features.contract.schemas import quarantine


@dataclass(frozen=True, slots=True)
class Balance:
    """What became of one source's records.

    `expanded` is how many more candidates the records gave than there were records (a multi-allelic
    line, a wide row with many events); negative where records give none.
    """

    records: int
    expanded: int = 0
    used: int = 0
    merged: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        """Records lost or invented; 0 when the balance holds."""
        return self.records + self.expanded - self.used - self.merged - sum(self.quarantined.values())

    @property
    def refusals(self) -> str:
        """The rules that refused records, and how many."""
        return ", ".join(f"{rule} {count:,}" for rule, count in sorted(self.quarantined.items())) or "none refused"

    def as_counts(self) -> dict[str, object]:
        return asdict(self)


MAPPED = "check the mapping in the configuration: date formats, value ranges, the identity pattern"


def check(balances: Mapping[str, Balance], advice: str = MAPPED) -> None:
    """An ingest that lost or invented records is our bug, and must not publish; nor must one that could
    use nothing of a source: a date format that does not fit refuses each of its records. `advice` is what to do
    then."""
    if not any(balance.records for balance in balances.values()):
        raise DataGateError("the raw files hold no record: a header at most; were they copied whole?")
    for source, balance in balances.items():
        if balance.difference:
            raise AssertionError(f"{source}: the balance is off by {balance.difference} records: {balance}")
        if balance.records and not balance.used and not balance.merged:
            raise DataGateError(
                f"{source}: none of {balance.records:,} records could be used ({balance.refusals}); {advice}"
            )


def refused(frame: DataFrame, job: str) -> DataFrame:
    """Rows with `source_digest`, `location` and `rule` in the shape of `quarantine/<job>`."""
    return frame.withColumn("job", sf.lit(job)).select(quarantine(job).schema.names)
