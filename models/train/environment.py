"""What must be set in a rank's process before TensorFlow and Horovod are there."""

import os
from typing import Any

HOROVOD = {
    # From three ranks on, fusion changes the digits from run to run.
    "HOROVOD_FUSION_THRESHOLD": "0",
    # Milliseconds between looks for new tensors: the wait that each small step pays.
    "HOROVOD_CYCLE_TIME": "0.1",
    # A rank that hangs must not hold its peers for ever.
    "HOROVOD_STALL_CHECK_TIME_SECONDS": "60",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "300",
}


def prepare(deterministic: bool) -> None:
    """Environment variables; call it before TensorFlow is imported."""
    for name, value in HOROVOD.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if deterministic:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"


def configure(tf: Any, local_rank: int, local_size: int, deterministic: bool) -> None:
    """Threads, determinism and this rank's GPU; call it before the first operation."""
    cores = len(os.sched_getaffinity(0))
    threads = 1 if deterministic else max(1, cores // local_size)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(1, cores // local_size))
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = tf.config.list_physical_devices("GPU")
    if devices:
        own = devices[local_rank % len(devices)]
        tf.config.set_visible_devices(own, "GPU")
        tf.config.experimental.set_memory_growth(own, True)
