"""What forks Spark's Python workers: pyspark's own daemon, spared what it repeats for each task.

Spark puts its jar on Python's path and calls `importlib.invalidate_caches` at the start of every task. Before
Python 3.12 that lists the whole jar again (https://github.com/python/cpython/issues/103200; Spark's own remedy,
SPARK-54744, is of a later Spark). And at the end of every task a worker collects garbage among all that it ever
imported. Without both, 32 tasks that do nothing take two cores 1.7 s instead of 5.1.
"""

import gc
import zipimport

import pandas  # noqa: F401
import pyarrow as pa
import pyspark.sql  # noqa: F401
from pyspark.daemon import manager


def _keep(_: zipimport.zipimporter) -> None:
    """The archives of a job are whole before its first task, and stay as they are."""


if __name__ == "__main__":
    zipimport.zipimporter.invalidate_caches = _keep  # type: ignore[assignment, method-assign]
    # Arrow's own pool gives memory back to the system a moment after it is freed, and takes it again for the next
    # batch, page by page.
    pa.set_memory_pool(pa.system_memory_pool())
    # What is imported by now lives as long as the workers, which share it.
    gc.freeze()
    manager()  # type: ignore[no-untyped-call]
