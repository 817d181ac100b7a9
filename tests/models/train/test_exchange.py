"""What ranks send each other in an update."""

import subprocess

from models.train.environment import HOROVOD
from models.train.processes import python

SHAPES = [[3], [2, 5], [], [20], [1], [4, 4]]
# Buffers of one tensor each, of some, and one of all.
RANK = f"""
import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf
from models.train import step

hvd.init()
shapes = list(enumerate({SHAPES}))
first, second = ([tf.random.stateless_normal(shape, [rank, i]) for i, shape in shapes] for rank in (0, 1))
own = second if hvd.rank() else first
for step.BUFFER_BYTES, buffers in (1, 6), (60, 2), (10**6, 1):
    assert len(step._buffers(own)) == buffers
    found = tf.function(lambda *tensors: step._summed(list(tensors)), autograph=False)(*own)
    for summed, one, other in zip(found, first, second, strict=True):
        assert summed.shape == one.shape
        np.testing.assert_array_equal(summed, one + other)
print("equal")
"""


def test_tensors_that_travel_together_are_each_summed_over_the_ranks(monkeypatch):
    for name, value in HOROVOD.items():
        monkeypatch.setenv(name, value)
    options = ["-np", "2", "-H", "localhost:2", "--gloo", "--disable-cache"]
    command = python("-m", "models.train.horovod_servers", *options, *python("-c", RANK))
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ran.stdout.count("equal") == 2, ran.stderr
