"""Arrays that TensorFlow takes over as they lie, without a copy."""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

# Where TensorFlow's own tensors begin; it ends the process for a foreign one that begins elsewhere.
ALIGNMENT = 64


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array that `tensor` need not copy; what it holds is undefined."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def tensor(array: npt.NDArray[Any]) -> Any:
    """The array as a tensor: the same memory where it is aligned, which must then stay as it is while the
    tensor is used; else a copy. Of bool and native number types."""
    # Here alone: who only decodes, as Spark's driver does, needs no TensorFlow, and who does sets it up first.
    import tensorflow as tf

    flags = array.flags
    if array.size and flags.c_contiguous and flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)
