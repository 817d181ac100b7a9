"""The report says what is published, with n, events and interval, and nothing that it may not say."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from features.contract.errors import DataGateError, ModelGateError
from features.contract.runs import Runs
from models.registry import FILES, WEIGHTS, write_bundle
from models.report import build_report
from models.report.words import ABSENT, EN_DASH

SCORE = re.compile(rf"\d+\.\d+ \(\d\.\d+{EN_DASH}\d\.\d+\), n = [\d,]+, [\d,]+ events")
SCRIPT = "<script>alert(1)</script> & [link](http://evil.example) | `x`"
VOID = {"meta", "link", "br", "path", "use", "rect"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed without being open; keeps ids and the text outside of figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.ids += [value for key, value in attributes if key == "id"]
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for key, value in attributes if key == "id"]
        self.attributes += attributes

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def tables(markdown: str) -> list[list[list[str]]]:
    """Each table as rows of cells, its header first."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", markdown, re.MULTILINE)
    rows = [[line.strip("|").split("|") for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for i, row in enumerate(found) if i != 1] for found in rows]


def test_every_score_stands_beside_its_interval_people_and_events(published):
    found = [table for table in tables(published.report()["report.md"]) if table[0][0] == "Predictor"]
    cells = [cell for table in found for row in table[1:] for cell in row[2:]]
    assert len(found) == 3
    assert len(cells) == 4 * (5 + 5 + 6)
    assert all(SCORE.fullmatch(cell) for cell in cells)


def test_html_and_markdown_say_the_same_numbers(published):
    files = published.report()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", files["report.html"]))
    for table in tables(files["report.md"]):
        if table[0][0] == "Predictor":
            assert all(cell in text for row in table[1:] for cell in row[2:])


def test_a_score_that_is_undefined_is_an_en_dash_with_a_reason(study):
    evaluation = study.metrics["diabetes"].evaluations[0]
    model = evaluation.predictors[0]
    bare = model.model_copy(
        update={"metrics": {k: v for k, v in model.metrics.items() if k != "auprc"}, "roc": []}
    )
    changed = evaluation.model_copy(update={"predictors": [bare, *evaluation.predictors[1:]]})
    study.metrics["diabetes"] = study.metrics["diabetes"].model_copy(update={"evaluations": [changed]})
    markdown = study.publish().report()["report.md"]
    assert f"{ABSENT} (not defined on these people)" in markdown
    assert "Not drawn: ROC curve (it needs people with and without an event)" in markdown
    assert not re.search(r"\b(nan|NaN|inf|None)\b", markdown)


def test_a_difference_whose_interval_includes_0_takes_no_side(published):
    markdown = published.report()["report.md"]
    diabetes, stroke = markdown.split("## Task Stroke")
    assert "The interval includes 0: the data cannot tell whether imaging helps." in diabetes
    assert "With imaging it is higher; the interval excludes 0." in stroke
    assert "With imaging it is" not in diabetes


def test_without_a_pair_that_isolates_imaging_nothing_is_said_of_it(study):
    for task, metrics in study.metrics.items():
        evaluations = [
            item.model_copy(update={"differences": [d for d in item.differences if d.against == "logistic"]})
            for item in metrics.evaluations
        ]
        study.metrics[task] = metrics.model_copy(update={"evaluations": evaluations})
    markdown = study.publish().report()["report.md"]
    assert markdown.count("these results do not say whether imaging helps") == 3


def test_the_balance_of_each_source_is_shown_and_marked(published):
    table = next(table for table in tables(published.report()["report.md"]) if table[0][-1] == "Balance")
    rows = {row[0]: row[1:] for row in table[1:]}
    assert rows["Clinical histories: diagnoses"] == ["1,000", "40", "1,020", "8", "12", "✓ holds"]
    assert rows["Clinical histories: laboratory"] == ["1,000", "40", "1,019", "8", "12", "✗ off by 1"]


def test_a_balance_that_is_off_is_shown_among_many_files(study):
    good = {"records": 5, "expanded": 0, "used": 5, "merged": 0, "quarantined": {}}
    study.counts["ingest_genomics"] = {
        "balances": {f"{i:064x}": good for i in range(40)} | {"f" * 64: good | {"used": 3}}
    }
    table = next(table for table in tables(study.publish().report()["report.md"]) if table[0][-1] == "Balance")
    assert [row for row in table if row[0].startswith("Genomics")] == [
        ["Genomics: file ffffffffffff", "5", "0", "3", "0", "0", "✗ off by 2"],
        ["Genomics: 40 sources", "200", "0", "200", "0", "0", "✓ holds"],
    ]


def test_what_jobs_keep_for_later_runs_is_no_count_and_each_part_of_a_run_has_its_box(study):
    parts = {part: {"judged": 9, "usable": 7, "excluded": {"rare": 2}} for part in ("samples", "variants")}
    study.counts["ingest_imaging"] = {"limits": "{}", "basis": "a" * 64, **parts}
    study.counts["ingest_genomics"] |= {"files": {"b" * 64: [5, 6]}, "spans": {"21": [1, 9]}, "raw": {"c" * 64: 4}}
    files = study.publish().report()
    assert not any(digest * 64 in files["report.md"] for digest in "abc") and "Spans" not in files["report.md"]
    assert "Imaging: variants: 9 judged, 7 usable, 2 excluded; " in files["report.html"]


def test_an_estimate_among_the_counts_of_a_run_keeps_its_interval(published):
    row = f"| Diabetes: Held out: Model: Auroc | 0.812 (0.78{EN_DASH}0.84), n = 800, 213 events |"
    assert row in published.report()["report.md"]


def test_only_the_scoring_date_counts_and_everybody_is_in_one_status(published):
    statuses = [table for table in tables(published.report()["report.md"]) if table[0][0] == "Status"]
    assert [row[-1] for row in statuses[0][1:]] == ["560", "40", "600"]


def test_bands_come_in_the_order_of_their_thresholds_with_people(published):
    bands = next(table for table in tables(published.report()["report.md"]) if table[0][0] == "Band")
    assert [row[0] for row in bands[1:]] == [
        f"Low, 0{EN_DASH}0.1",
        f"Medium, 0.1{EN_DASH}0.3",
        f"High, 0.3{EN_DASH}1",
    ]
    assert sum(int(row[1]) for row in bands[1:]) == 560
    assert all(re.fullmatch(rf"0\.\d+ \(0\.\d+{EN_DASH}0\.\d+\), n = \d+", row[3]) for row in bands[1:])


def test_predictions_of_another_bundle_are_called_so(study):
    study.publish()
    folder = study.lake / f"models/diabetes/{study.bundles['diabetes']}"
    files = {name: (folder / name).read_bytes() for name in FILES} | {WEIGHTS: b"trained again"}
    newer = write_bundle(study.lake, "diabetes", files, study.settings.signing)
    markdown = report_with(study, republished(Runs.read(study.lake), "models/diabetes", newer))
    assert "560 of these predictions were made by another bundle" in markdown


def test_imaging_that_counts_as_baseline_is_said(published):
    diabetes, stroke = published.report()["report.md"].split("## Task Stroke")
    assert "Imaging counts as baseline by an explicit setting" in stroke
    assert "In the training table: 3." in stroke
    assert "counts as baseline" not in diabetes


def test_people_with_each_modality_are_counted(published):
    table = next(
        t
        for t in tables(published.report()["report.md"])
        if t[0] == ["Where", "Rows", "Events", "Clinical", "Imaging"]
    )
    assert table[1] == ["Splits train", "420", "90", "420", "210"]


def test_text_from_outside_is_shown_and_never_run(study):
    study.metrics["diabetes"] = study.metrics["diabetes"].model_copy(update={"notes": [SCRIPT]})
    study.counts["score_population"] = {"diabetes": {SCRIPT: 1}}
    files = study.publish().report()
    assert "<script" not in files["report.html"]
    assert "&lt;script&gt;alert(1)" in files["report.html"]
    assert "<script" not in files["report.md"]
    assert r"\[link\]" in files["report.md"]


def test_the_page_needs_nothing_beside_it(published):
    page = published.report()["report.html"]
    parsed = Balanced(page)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"https?://[^\s\"'<>]+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    references = [value for key, value in parsed.attributes if key in ("src", "href", "xlink:href")]
    assert all(value.startswith(("#", "data:")) for value in references)
    assert not re.search(r"@import|url\((?!#)", page)


def test_every_figure_has_a_title_and_words_for_who_cannot_see_it(published):
    page = published.report()["report.html"]
    figures = re.findall(
        r'<svg role="img" aria-label="([^"]+)"[^>]*><title>([^<]+)</title><desc>([^<]+)</desc>', page
    )
    assert len(figures) == page.count("<svg") == 1 + 3 * 2 + 2


def test_the_same_lake_gives_the_same_bytes(published):
    assert published.report() == published.report()


def test_neither_person_nor_path_nor_secret_is_on_the_page(published):
    for text in published.report().values():
        for secret in ("Jane", "hunter2", "hospital", "identity.key", "signing.key", "0" * 60):
            assert secret not in text
        assert "spark.executor.cores" in text


def test_the_runs_behind_the_page_are_those_that_were_read(published):
    runs = Runs.read(published.lake)
    stray = replace(runs.rows[0], run_id="stray", wrote={"events": "2"}, finished=runs.rows[-1].finished)
    markdown = report_with(published, Runs((*runs.rows, stray)))
    assert "stray" not in markdown
    assert all(run.run_id in markdown for run in runs.rows)


def test_a_changed_bundle_gives_no_report(published):
    metrics = published.lake / f"models/stroke/{published.bundles['stroke']}/metrics.json"
    metrics.write_bytes(metrics.read_bytes().replace(b"0.7", b"0.9"))
    with pytest.raises(ModelGateError):
        published.report()


def test_an_unpublished_model_is_named(published):
    rows = tuple(run for run in Runs.read(published.lake).rows if run.job != "train_model")
    with pytest.raises(DataGateError, match="models/diabetes is not published"):
        report_with(published, Runs(rows))


def report_with(study, runs: Runs) -> str:
    return build_report(study.lake, runs, study.settings)["report.md"].decode()


def republished(runs: Runs, output: str, digest: str) -> Runs:
    """As if another bundle had been published there."""
    rows = [replace(run, wrote={**run.wrote, output: digest}) if output in run.wrote else run for run in runs.rows]
    return Runs(tuple(rows))
