"""Some of many rows, the same ones each time."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

PARTS = 1 << 32


def drawn(rows: DataFrame, number: int, wanted: int, purpose: str, key: str = "variant_key") -> DataFrame:
    """Of so many `rows` all, or about `wanted` where there are more, by a hash of `key`; independent between
    purposes."""
    if number <= wanted:
        return rows
    place = sf.pmod(sf.xxhash64(sf.lit(purpose), key), sf.lit(PARTS))
    return rows.filter(place < int(PARTS * wanted / number))
