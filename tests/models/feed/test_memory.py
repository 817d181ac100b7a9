"""What TensorFlow takes over as it lies, and what it copies."""

import gc
import subprocess
import sys

import numpy as np
import pytest

from models.feed.memory import ALIGNMENT, aligned, tensor


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int32])
@pytest.mark.parametrize("shape", [(7,), (5, 3), (2, 3, 4), (0, 4), (3, 0)])
def test_an_aligned_array_is_taken_over_without_a_copy(shape, dtype):
    array = aligned(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    array[...] = np.arange(array.size).reshape(shape)
    taken = tensor(array)
    np.testing.assert_array_equal(taken.numpy(), array)
    if array.size:
        assert array.ctypes.data % ALIGNMENT == 0
        array.flat[0] = 9
        assert taken.numpy().flat[0] == 9


def not_taken():
    whole = aligned((16, 16), np.float32)
    whole[...] = np.arange(256).reshape(16, 16)
    still = whole.view()
    still.flags.writeable = False
    return whole, {
        "begins elsewhere": whole.ravel()[1:],
        "strided": whole[:, :3],
        "turned": whole.T,
        "read-only": still,
    }


@pytest.mark.parametrize("what", not_taken()[1])
def test_any_other_array_is_copied(what):
    whole, arrays = not_taken()
    before = arrays[what].copy()
    copied = tensor(arrays[what])
    whole[...] = -1
    np.testing.assert_array_equal(copied.numpy(), before)


def test_who_only_decodes_or_starts_to_score_brings_no_tensorflow():
    """Spark's driver has no memory to spare for it, and a worker sets it up before it is imported."""
    ask = "import sys, models.scoring, models.train.task; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


def test_a_tensor_keeps_its_memory_alive():
    array = aligned((1024, 1024), np.float32)
    array[...] = 3
    taken = tensor(array)
    del array
    gc.collect()
    for _ in range(20):
        aligned((1024, 1024), np.float32)[...] = 7
    assert (taken.numpy() == 3).all()
