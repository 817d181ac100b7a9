"""A real browser opens the page, wide and narrow, and shows the figures."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --enable-logging=stderr"
)
# Appended to a copy: what the page itself may not hold.
MEASURE = """<script>addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  document.body.dataset.figures = boxes.filter(box => box.width > 250 && box.height > 150).length;
  document.body.dataset.overflow = document.documentElement.scrollWidth - innerWidth;
  document.querySelectorAll("svg")[1].scrollIntoView();
})</script>"""


def chromium(folder: Path, page: Path, *options: str) -> str:
    """The browser's standard output; its console must hold no error of the page."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("no chromium to open the report with; install it: apt-get install chromium")
    command = [program, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    return done.stdout


@pytest.fixture
def page(published, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(published.report()["report.html"])
    return path


@pytest.mark.parametrize("width", [1200, 500])
def test_headings_and_figures_are_there_and_nothing_sticks_out(page, tmp_path, width):
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text() + MEASURE)
    seen = chromium(tmp_path, measured, f"--window-size={width},900", "--dump-dom")
    assert 'data-figures="9"' in seen
    assert 'data-overflow="0"' in seen
    for heading in (
        "In short",
        "Flow of records and people",
        "Task Diabetes",
        "Cross-validation",
        "How it was made",
    ):
        assert f">{heading}</h" in seen


def test_a_phone_of_400_pixels_has_all_in_its_width(page, tmp_path):
    """A window cannot be that narrow, a frame in it can."""
    page.with_name("measured.html").write_text(
        page.read_text()
        + MEASURE.replace(
            "})</script>", "parent.document.title = JSON.stringify(document.body.dataset)})</script>"
        )
    )
    frame = page.with_name("frame.html")
    frame.write_text('<title></title><iframe src="measured.html" width="400" height="900"></iframe>')
    seen = chromium(tmp_path, frame, "--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom")
    assert '"figures":"9","overflow":"0"' in seen


def test_a_figure_is_drawn_in_its_colours(page, tmp_path):
    only = page.read_text().split("<svg")[2].split("</svg>")[0]
    alone = tmp_path / "alone.html"
    alone.write_text(f"<body><svg{only}</svg>")
    chromium(tmp_path, alone, "--window-size=600,600", f"--screenshot={tmp_path / 'shot.png'}")
    pixels = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0x2B, 0x6A, 0x8F), (0xC0, 0x7F, 0x2A)):
        assert (np.abs(pixels - colour).max(axis=1) < 12).sum() > 200


def test_the_whole_page_is_not_blank(page, tmp_path):
    chromium(tmp_path, page, "--window-size=1200,4000", f"--screenshot={tmp_path / 'shot.png'}")
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("L"))
    assert shot.shape == (4000, 1200)
    assert all((part < 128).mean() > 0.005 for part in np.array_split(shot, 4))
