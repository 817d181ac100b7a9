"""Petastorm's reading engine under current Arrow; the only module that imports petastorm.

Petastorm 0.12.1 names three things at import that newer pyarrow lacks. Its `workers_pool`, all we
use, never touches them, so empty stand-ins are there while it is imported and gone afterwards.
Its own Parquet reader and its metadata (unpickled from footers) are not used.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pyarrow.lib


@contextmanager
def _missing_names() -> Iterator[None]:
    stand_ins = {"pyarrow.filesystem": "LocalFileSystem", "pyarrow.hdfs": "HadoopFileSystem"}
    provided = {module: ModuleType(module) for module in stand_ins if module not in sys.modules}
    for module, name in stand_ins.items():
        if module in provided:
            setattr(provided[module], name, type(name, (), {}))
    sys.modules.update(provided)
    had_error = hasattr(pyarrow.lib, "ArrowIOError")
    if not had_error:
        pyarrow.lib.ArrowIOError = OSError
    try:
        yield
    finally:
        for module in provided:
            del sys.modules[module]
        if not had_error:
            del pyarrow.lib.ArrowIOError


with _missing_names():
    from petastorm.workers_pool import EmptyResultError
    from petastorm.workers_pool.thread_pool import ThreadPool
    from petastorm.workers_pool.ventilator import ConcurrentVentilator
    from petastorm.workers_pool.worker_base import WorkerBase

__all__ = ["ConcurrentVentilator", "EmptyResultError", "ThreadPool", "WorkerBase"]
