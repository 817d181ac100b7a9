"""What must be set in a rank's process before TensorFlow and Horovod are there."""

import ctypes
import os
from typing import Any

HOROVOD = {
    # From three ranks on, fusion changes the digits from run to run.
    "HOROVOD_FUSION_THRESHOLD": "0",
    # After a minute each waiting rank writes in its log whom it waits for; the launcher's watch ends the job.
    "HOROVOD_STALL_CHECK_TIME_SECONDS": "60",
}
# glibc hands each large block back to the system when it is freed, and gets it again a moment later: a third
# of a step's time went into fresh pages. Its names and values are in <malloc.h>; 32 MiB is the most it takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = {M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 2**30}


def prepare(deterministic: bool, gpu: str | None = None) -> None:
    """The allocator and environment variables; call it before TensorFlow is imported. `gpu` (an index in the order
    of nvidia-smi, or a UUID) is then the only one that this process sees."""
    _keep_freed_memory()
    for name, value in HOROVOD.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if deterministic:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    if gpu is not None:
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu}


def take_cores(local_rank: int, local_size: int) -> bool:
    """Keep this thread, and those that it starts, to an equal share of the cores it may use, if there is one.

    Ranks wait for each other in every step: one whose threads the system moves onto another's core keeps all
    of them waiting, and so would one with a smaller share.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) % local_size:
        return False
    os.sched_setaffinity(0, cores[local_rank::local_size])
    return True


def configure(tf: Any, local_rank: int, sharing: int, deterministic: bool) -> None:
    """Threads, determinism and this rank's GPU; call it before the first operation. `sharing` ranks use the
    cores that this process may."""
    threads = max(1, len(os.sched_getaffinity(0)) // sharing)
    tf.config.threading.set_intra_op_parallelism_threads(1 if deterministic else threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = tf.config.list_physical_devices("GPU")
    if devices:
        own = devices[local_rank % len(devices)]
        tf.config.set_visible_devices(own, "GPU")
        tf.config.experimental.set_memory_growth(own, True)


def _keep_freed_memory() -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, size in KEPT_BYTES.items():
            library.mallopt(option, size)
