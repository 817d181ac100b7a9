"""Ranks as Spark tasks."""

import re
from pathlib import Path

import psutil
import pytest

from features.contract.errors import ClusterError, ConfigError
from features.contract.training_settings import LaunchSettings
from models.train import horovod_servers
from models.train.launch import launch
from tests.models.train.test_launch import job_in, weights


def is_rank(process: psutil.Process) -> bool:
    own = psutil.Process().children(recursive=True)
    return process in own and "horovod.spark.task.gloo_exec_fn" in (process.info["cmdline"] or [])


def test_spark_ranks_learn_what_others_learn(spark, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(horovod_servers.__file__).parents[2]))
    launch(job_in(tmp_path), LaunchSettings(launcher="spark", ranks=2), spark)
    assert weights(tmp_path)
    assert (tmp_path / "work/final/predictions/tuning-1.parquet").exists()
    assert not [process for process in psutil.process_iter(["cmdline"]) if is_rank(process)]


def test_too_few_slots_are_named_before_horovod_waits(spark, tmp_path):
    settings = LaunchSettings(launcher="spark", ranks=5, slots_timeout_seconds=1)
    with pytest.raises(ClusterError, match=re.escape("5 slots are wanted, 2 were there after 1 s")):
        launch(job_in(tmp_path), settings, spark)


def test_the_spark_launcher_needs_a_session(tmp_path):
    with pytest.raises(ConfigError, match="needs a Spark session"):
        launch(job_in(tmp_path), LaunchSettings(launcher="spark", ranks=2))
