"""`make bench`: ours measured against its limits and beside its peers; name some to run only those.

Every row is a figure of this run on this machine: the limit, what was found, and whether it holds.
The exit code is 1 when a limit does not hold.
"""

import sys
from collections.abc import Callable

from tests.benchmarks import demo, feed, genomes, growth, scaling, scores, writing
from tests.benchmarks.claims import Row, show

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "demo": demo.run,
    "feed": feed.run,
    "genomes": genomes.run,
    "growth": growth.run,
    "scaling": scaling.run,
    "scores": scores.run,
    "writing": writing.run,
}


def main(names: list[str]) -> int:
    """Run, print the table, return the exit code."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"{unknown[0]}: expected {', '.join(BENCHMARKS)}\n")
        return 2
    rows = [row for name in names or BENCHMARKS for row in BENCHMARKS[name]()]
    show(rows)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
