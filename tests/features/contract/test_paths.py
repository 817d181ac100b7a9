"""Files are listed whole or not at all, created once, and matched as an operator reads a glob."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location, matches


@pytest.mark.parametrize(
    ("path", "glob", "fits"),
    [
        ("clinical/persons.csv", "clinical/persons.csv", True),
        ("old/clinical/persons.csv", "clinical/persons.csv", False),
        ("genomics/c.vcf.gz", "genomics/**/*.vcf.gz", True),
        ("genomics/a/b/c.vcf.gz", "genomics/**/*.vcf.gz", True),
        ("genomics/a/c.vcf.gz", "genomics/*.vcf.gz", False),
        ("dicom/p1/a.dcm", "dicom/*/*.dcm", True),
        ("a+b.csv", "a+b.csv", True),
        ("a1.csv", "a?.csv", True),
    ],
)
def test_globs_fit_the_whole_path(path: str, glob: str, fits: bool) -> None:
    assert matches(path, glob) is fits


def test_a_folder_that_cannot_be_listed_stops_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "person").mkdir()
    (tmp_path / "person" / "a.dcm").write_bytes(b"x")
    root = Location.parse(str(tmp_path))
    listed = type(root.filesystem).ls

    def ls(self: object, path: str, **options: object) -> object:
        if path.rstrip("/").endswith("person"):
            raise PermissionError(13, "Permission denied", path)
        return listed(self, path, **options)

    monkeypatch.setattr(type(root.filesystem), "ls", ls)
    with pytest.raises(DataGateError, match=r"cannot be listed \(Permission denied\)") as error:
        list(root.files())
    assert "person" not in str(error.value).replace(str(tmp_path), "")


def test_only_one_of_two_creates_a_file_and_no_temporary_is_left(tmp_path: Path) -> None:
    file = Location.parse(str(tmp_path / "sub" / "lease.json"))
    assert [file.create_exclusive(b"first"), file.create_exclusive(b"second")] == [True, False]
    file.write_bytes(b"third")
    assert file.read_bytes() == b"third"
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["lease.json"]


def test_hidden_files_are_left_out_and_sizes_told(tmp_path: Path) -> None:
    for name in ("a/b.csv", ".hidden", "_folder/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    assert [(file.path, file.size) for file in Location.parse(str(tmp_path)).files()] == [("a/b.csv", 4)]


def test_a_foreign_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"not s3://"):
        Location.parse("s3://bucket/lake")


def test_a_process_that_used_hdfs_can_still_start_spark() -> None:
    """pyspark starts Java with a `preexec_fn`: a fork in which Python code runs. A client of HDFS that is
    dropped there waits for ever for its threads; building one is enough, no NameNode is needed."""
    program = """
from subprocess import Popen
from features.contract.paths import Location
Location.parse("hdfs://127.0.0.1:1/lake").filesystem
raise SystemExit(Popen(["true"], preexec_fn=lambda: None).wait())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_location_travels_without_its_file_system() -> None:
    location = Location("file:///somewhere/x")
    assert location.exists() is False  # its file system is known now
    assert "filesystem" not in vars(pickle.loads(pickle.dumps(location)))
