"""What a rank takes of its machine: the GPU that Spark gave to its task, else one of those it sees, by its local
rank; and its share of the cores."""

import os
from contextlib import nullcontext
from types import SimpleNamespace
from unittest import mock

import pytest

from models.train import environment, spark_launch
from models.train.environment import configure, prepare, take_cores

UUID = "GPU-8f6d7c1a"


class FakeTensorFlow:
    """Of TensorFlow what `configure` asks for, on a machine whose driver honours CUDA_VISIBLE_DEVICES."""

    def __init__(self, installed):
        self.taken = []
        nothing = lambda *_: None  # noqa: E731
        threading = SimpleNamespace(
            set_intra_op_parallelism_threads=nothing, set_inter_op_parallelism_threads=nothing
        )
        self.config = SimpleNamespace(
            threading=threading,
            experimental=SimpleNamespace(enable_op_determinism=nothing, set_memory_growth=nothing),
            list_physical_devices=lambda _: os.environ.get("CUDA_VISIBLE_DEVICES", installed).split(","),
            set_visible_devices=lambda device, _: self.taken.append(device),
        )


@pytest.fixture(autouse=True)
def process():
    """Whatever a test sets is undone; the allocator is left as it is, as it cannot be set back."""
    with mock.patch.dict(os.environ), mock.patch.object(environment, "_keep_freed_memory"):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        yield


@pytest.mark.parametrize("address", ["2", UUID])
def test_in_a_spark_task_a_rank_takes_the_tasks_gpu_though_every_rank_is_local_0(address, monkeypatch):
    tensorflow = FakeTensorFlow("0,1,2,3")

    def train(job_json, gpu):
        prepare(True, gpu)
        configure(tensorflow, 0, 1, True)

    monkeypatch.setattr(spark_launch, "train_rank", train)
    monkeypatch.setattr(spark_launch, "as_a_rank", nullcontext)
    monkeypatch.setattr("horovod.spark.task.get_available_devices", lambda: [address])
    spark_launch._rank("")
    assert tensorflow.taken == [address]


def test_a_task_without_a_gpu_hides_none(monkeypatch):
    given = []
    monkeypatch.setattr(spark_launch, "train_rank", lambda job_json, gpu: given.append(gpu))
    monkeypatch.setattr(spark_launch, "as_a_rank", nullcontext)
    spark_launch._rank("")
    assert given == [None]


def test_ranks_of_one_machine_share_its_gpus_in_turn():
    tensorflow = FakeTensorFlow("0,1")
    prepare(True)
    for local_rank in range(4):
        configure(tensorflow, local_rank, 4, True)
    assert tensorflow.taken == ["0", "1", "0", "1"]


def test_the_numbers_of_gpus_are_those_that_sparks_discovery_found():
    prepare(True, "1")
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def shares(cores, ranks, monkeypatch):
    """The cores of each rank that was bound; those there are begin at 10."""
    taken = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(10, 10 + cores)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, share: taken.append(share))
    assert [take_cores(rank, ranks) for rank in range(ranks)] == [bool(taken)] * ranks
    return taken


@pytest.mark.parametrize(("cores", "ranks"), [(1, 1), (2, 1), (2, 2), (6, 3), (16, 4)])
def test_ranks_of_one_machine_divide_its_cores_among_them(cores, ranks, monkeypatch):
    taken = shares(cores, ranks, monkeypatch)
    assert sorted(core for share in taken for core in share) == list(range(10, 10 + cores))
    assert {len(share) for share in taken} == {cores // ranks}


@pytest.mark.parametrize(("cores", "ranks"), [(1, 2), (2, 3), (5, 2)])
def test_ranks_that_could_not_have_equal_shares_are_left_to_the_system(cores, ranks, monkeypatch):
    assert shares(cores, ranks, monkeypatch) == []
