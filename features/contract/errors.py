"""The one error family: every failure a user can meet names its cause and carries its exit code."""

import os
from enum import IntEnum


class ExitCode(IntEnum):
    """What a scheduler sees (DESIGN, promise 9)."""

    DONE = 0
    BUG = 1
    CONFIG = 2
    DATA_GATE = 3
    CLUSTER = 4
    TRAINING = 5
    MODEL_GATE = 6


class RiskloomError(Exception):
    """A failure the user can act on; its text says what was expected and what to do."""

    exit_code = ExitCode.BUG


class ConfigError(RiskloomError):
    """The configuration or the command line is wrong."""

    exit_code = ExitCode.CONFIG


class DataGateError(RiskloomError):
    """The input is missing, cut short or not what the configuration says."""

    exit_code = ExitCode.DATA_GATE


class ClusterError(RiskloomError):
    """A resource is missing: an unwritable lake, a held lease, too few slots."""

    exit_code = ExitCode.CLUSTER


class TrainingError(RiskloomError):
    """Training did not end well: a lost rank, rows not accounted for, a diverged loss."""

    exit_code = ExitCode.TRAINING


class ModelGateError(RiskloomError):
    """A bundle is not what it claims: tampered, unsigned or of another vocabulary."""

    exit_code = ExitCode.MODEL_GATE


def from_system(error: BaseException) -> RiskloomError | None:
    """A file system's refusal, without the file's name: it may hold a person's."""
    if not isinstance(error, OSError):
        return None
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return ClusterError(
        f"a file could not be read or written ({reason}); check permissions and space of raw, lake and TMPDIR"
    )
