"""Every line of a delimited file becomes a row or a refusal, whatever is in it."""

import gzip
from pathlib import Path

import pytest

from features.clinical.lines import LONGEST_LINE, Layout, Lines, judge
from features.clinical.mapping import mapped_columns
from features.clinical.read import check_header, parse_header, read_split, row_schema
from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.settings import ClinicalSource
from features.raw_text import Chunk, plan_splits

THREE = Layout(delimiter=",", nulls=["", "NA"], columns=3, wanted=[0, 2])


def judged(text: bytes) -> list[tuple[str, str | None, tuple[str | None, ...]]]:
    """(location, rule, cells) of each line, in the order of the file."""
    found = [
        (location, rule, tuple((row or {}).values()))
        for lines, rule, cells in judge(Lines.of(Chunk(text, [(0, 0)])), THREE)
        for location, row in zip(lines.locations().to_pylist(), cells.to_pylist(), strict=True)
    ]
    return sorted(found, key=lambda row: int(row[0].split("+")[0]))


def test_a_line_gives_its_wanted_cells_and_its_place() -> None:
    assert judged(b"a,b,c\nd,e,f\n") == [("0+5", None, ("a", "c")), ("6+5", None, ("d", "f"))]


def test_the_nulls_of_a_source_are_null_and_other_text_stays_as_it_is() -> None:
    assert judged(b"NA,b,\n=1+1,b, 7 \n") == [("0+5", None, (None, None)), ("6+10", None, ("=1+1", " 7 "))]


def test_a_quoted_delimiter_does_not_part_a_cell() -> None:
    assert judged(b'"a,1",b,"say ""c"""\n') == [("0+19", None, ("a,1", 'say "c"'))]


@pytest.mark.parametrize("bad", [b"a,b", b"a,b,c,d", b"a", b'a,"b,c', b'a"b,"c,d', b"a\rb,c,d", b",,,,,,"])
def test_a_line_of_another_shape_is_refused_and_its_neighbours_are_not(bad: bytes) -> None:
    rows = judged(b"a,b,c\n" + bad + b"\nd,e,f\n")
    assert [rule for _, rule, _ in rows] == [None, "columns", None]
    assert rows[2][2] == ("d", "f")


def test_two_open_quotes_that_would_swallow_each_other_are_both_refused() -> None:
    assert [rule for _, rule, _ in judged(b'a,b,"c\nd,e,f\n"g,h,i\nj,k,l\n')] == ["columns", None, "columns", None]


def test_bytes_that_are_no_utf8_are_refused_line_by_line() -> None:
    assert [rule for _, rule, _ in judged(b"a,b,c\n\xff\xfe,b,c\nM\xc3\xbcller,b,c\n")] == [None, "encoding", None]


def test_blank_lines_and_the_line_ends_of_windows_are_no_records() -> None:
    assert judged(b"\r\na,b,c\r\n\n\nd,e,f") == [("2+5", None, ("a", "c")), ("11+5", None, ("d", "f"))]


def test_a_huge_cell_is_refused_before_it_is_parsed() -> None:
    rows = judged(b"a,b," + b"x" * LONGEST_LINE + b"\na,b,c\n")
    assert [rule for _, rule, _ in rows] == ["columns", None]


def test_every_line_is_read_once_whatever_the_splits_are(tmp_path: Path) -> None:
    source = ClinicalSource(name="x", path="*", person_id="id")
    body = "".join(f"{n},{'v' * (n % 50)}\n" for n in range(20_000))
    for name, data in (("a.csv", body.encode()), ("a.csv.gz", gzip.compress(b"id,v\n" + body.encode()))):
        (tmp_path / name).write_bytes(data if name.endswith("gz") else b"id,v\n" + data)
        layout = Layout.of(source, ["id", "v"], mapped_columns(source))
        stat = FileStat(name, (tmp_path / name).stat().st_size, 0)
        splits = plan_splits(Location.parse(str(tmp_path)), [(stat, "d")], 1 << 16)
        batches = [batch for split in splits for batch in read_split(split, 0, layout, row_schema(source))]
        ids = [row["c0"] for batch in batches for row in batch.column("cells").to_pylist()]
        assert ids == [str(n) for n in range(20_000)]
        positions = [place for batch in batches for place in batch.column("position").to_pylist()]
        assert positions[:2] == [5, 8]


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    assert parse_header(b"\xef\xbb\xbfid, date \r\n", ",", "d") == ["id", "date"]


def test_a_missing_column_names_the_source_the_digest_and_the_nearest_column() -> None:
    source = ClinicalSource(name="visits", path="SMITH.csv", person_id="patient_id")
    with pytest.raises(
        DataGateError, match=r"visits, file d1g: no column patient_id; .*nearest there is patientid"
    ):
        check_header(["date", "patientid"], source, "d1g")
    with pytest.raises(DataGateError, match="two columns are named patient_id"):
        check_header(["patient_id", "patient_id"], source, "d1g")


def test_a_header_that_is_no_text_fails_early() -> None:
    with pytest.raises(DataGateError, match=r"file d1g: its first line is no header"):
        parse_header(b"\xff\xfe\x00i", ",", "d1g")
