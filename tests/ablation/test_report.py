"""The report: its conclusions, its files, and how a browser shows it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ablation_report import csv_rows, synthetic
from websockets.sync.client import connect

from jaxdodge.ablate import ablate
from jaxdodge.ablation import plots
from jaxdodge.ablation.conclusions import comparison
from jaxdodge.ablation.report import write_report
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import cell_results
from jaxdodge.fields import ConfigError


def test_every_figure_has_its_numbers_in_the_csv(folder):
    rows = csv_rows(folder)
    figures = {"learning_curve", "score", "survival", "profile", "improvement", "main_effect", "pair_mean"}
    figures |= {"survival_curve"}
    assert figures | {"interaction", "cost", "seed_return", "condition_return"} <= {
        row["figure"] for row in rows
    }
    for row in rows:
        if row["low"]:
            assert float(row["low"]) <= float(row["value"]) + 1e-9 <= float(row["high"]) + 2e-9
    names = {path.name for path in (folder / "figures").iterdir()}
    markdown = (folder / "report.md").read_text()
    assert names == set(re.findall(r"!\[[^\]]+\]\(figures/([^)]+)\)", markdown))
    assert {
        "scores.svg",
        "profiles.svg",
        "curves_by_steps.svg",
        "curves_by_time.svg",
        "survival_by_steps.svg",
    } <= names
    assert {"sample_32x32_gray.png", "sample_32x32_colour.png"} <= names


def test_the_same_results_give_the_same_files(folder, tmp_path):
    write_report(*synthetic(folder), tmp_path)
    for name in ("report.html", "report.md", "results.csv", "results.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_figure_that_cannot_be_drawn_changes_no_result(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_report(*synthetic(folder), tmp_path)
    for name in ("results.csv", "results.json", "report.md"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert "not drawn (" in (tmp_path / "figures" / "scores.svg").read_text()
    assert set(capsys.readouterr().err.splitlines()) == {
        "figure: not drawn (import of matplotlib.figure halted; None in sys.modules)"
    }


def test_results_are_written_before_the_report(folder, tmp_path):
    (tmp_path / "figures").touch()
    with pytest.raises(OSError, match="figures"):
        write_report(*synthetic(folder), tmp_path)
    assert (tmp_path / "results.json").read_bytes() == (folder / "results.json").read_bytes()


def test_json_has_nothing_but_json(folder):
    content = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["reproducible"]
    assert content["cells"][0]["scores"] == [100, 101, 102, 103]


def test_a_curve_of_one_point_shows_the_point():
    point = {"of": "cell", "steps": 100, "value": 5.0, "low": 4.0, "high": 6.0}
    assert "<use " in plots.learning_curves([point], "steps").split('id="patch_2"')[1].split("axis")[0]


def row(name: str, value: float, low: float, high: float) -> dict:
    return {"of": name, "value": value, "low": low, "high": high}


def test_conclusions_name_overlapping_intervals():
    lines = comparison([row("a", 1, 0, 2), row("b", 9, 8, 10), row("c", 7, 5, 8), row("d", 3, 2, 4)])
    assert lines == [
        "highest: b, 9.0 [8.0, 10.0]",
        "not distinguishable from the highest, intervals overlap: c, 7.0 [5.0, 8.0]",
        "below the highest, intervals do not overlap: d, 3.0 [2.0, 4.0]; a, 1.0 [0.0, 2.0]",
        "of the others, these intervals overlap: d and a",
    ]
    assert comparison([row("a", 9, 8, 10), row("b", 8, 6, 9), row("c", 6, 5, 7), row("d", 1, 0, 2)])[3:] == [
        "of the others, these intervals overlap: b and c"
    ]
    assert comparison([row("a", 1, 0, 2)]) == ["highest: a, 1.0 [0.0, 2.0]"]


def _browser() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def chromium() -> str:
    """Path of Chromium; if missing, it is installed from Debian's packages if possible."""
    if not _browser() and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *command], check=False, capture_output=True, timeout=600)
    path = _browser()
    if not path:
        pytest.fail("no Chromium, and it could not be installed: as root, apt-get install chromium")
    return path


def visit(chromium: str, page: Path, profile: Path, expression: str) -> tuple[list[str], list[str], object]:
    """Requested addresses and errors of a page, and the value of an expression in it."""
    process = subprocess.Popen(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port.is_file() and len(port.read_text().splitlines()) == 2):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        number, path = port.read_text().splitlines()
        with connect(f"ws://127.0.0.1:{number}{path}", max_size=None, open_timeout=60) as browser:
            return _visit(browser, page, expression)
    finally:
        process.kill()
        process.wait()


def _visit(browser, page: Path, expression: str) -> tuple[list[str], list[str], object]:
    addresses: list[str] = []
    errors: list[str] = []
    loaded = []
    session: dict[str, str] = {}

    def listen(timeout: float = 60) -> dict:
        message = json.loads(browser.recv(timeout))
        method, content = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            addresses.append(content["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            errors.append(content["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and content["entry"]["level"] == "error":
            errors.append(content["entry"]["text"])
        elif method == "Page.loadEventFired":
            loaded.append(True)
        return message

    def call(number: int, method: str, **parameters: object) -> dict:
        browser.send(json.dumps({"id": number, "method": method, "params": parameters} | session))
        while (message := listen()).get("id") != number:
            pass
        return message["result"]

    target = call(1, "Target.createTarget", url="about:blank")["targetId"]
    session["sessionId"] = call(2, "Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for number, domain in enumerate(("Network", "Runtime", "Log", "Page"), 3):
        call(number, f"{domain}.enable")
    call(7, "Page.navigate", url=page.absolute().as_uri())
    while not loaded:
        listen()
    value = call(8, "Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]
    return [address for address in addresses if not address.startswith("data:")], errors, value


LOOK = """({
    images: [...document.images].map(
        image => [image.alt.length > 10, image.complete && image.naturalWidth > 0]
    ),
    cut: [...document.querySelectorAll("table")].filter(
        table => table.getBoundingClientRect().right > innerWidth
    ).map(table => table.rows[0].innerText),
})"""


def test_html_escapes_text_and_embeds_all_figures(folder):
    text = (folder / "report.html").read_text()
    assert "Which &lt;b&gt;is&lt;/b&gt; it?" in text
    assert "a &lt;fast&gt; one" in text
    assert text.count("<img ") == text.count('src="data:image/') == len(list((folder / "figures").iterdir()))
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)


@pytest.mark.slow
def test_a_browser_opens_it_without_network_and_errors(chromium, folder, tmp_path):
    """Every picture is shown, and no column is cut off in a window of 800 pixels."""
    page = folder / "report.html"
    addresses, errors, found = visit(chromium, page, tmp_path, LOOK)
    assert addresses == [page.as_uri()]
    assert errors == []
    assert len(found["images"]) == len(list((folder / "figures").iterdir())) >= 8
    assert found["images"] == [[True, True]] * len(found["images"])
    assert found["cut"] == []


@pytest.mark.slow
def test_the_visit_notices_requests_errors_and_missing_texts(chromium, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="http://127.0.0.1:9/a.png"><script>throw new Error("x")</script>'
        '<table style="width: 2000px"><tr><td>wide</td></tr></table>'
    )
    addresses, errors, found = visit(chromium, page, tmp_path / "profile", LOOK)
    assert addresses == [page.as_uri(), "http://127.0.0.1:9/a.png"]
    assert len(errors) >= 2
    assert found == {"images": [[False, False]], "cut": ["wide"]}


def test_the_finished_cells_of_an_unfinished_study_are_reported(folder, tmp_path, capsys):
    study = folder / "study.yaml"
    unfinished = [one for one in cell_results(read_study(study), folder) if "colour colour" in one.cell.name]
    shutil.copytree(folder / "cells", tmp_path / "cells")
    for cell in unfinished:
        next((tmp_path / "cells").glob(f"{cell.task.key}.*")).unlink()
    arguments = [f"{study}", "--out", f"{tmp_path}", "--report-only"]
    assert ablate(arguments) == 0
    assert capsys.readouterr().out.endswith("report.html; 2 of 4 cells are not finished\n")
    report = (tmp_path / "report.md").read_text()
    assert "2 of 4 cells are not finished. The others are compared." in report
    for cell in unfinished:
        assert report.count(f"| {cell.cell.name} |") == 1  # in the table of the configurations
    assert "Failed cells" not in report
    # Of the factor that has only one level so far there is nothing to say.
    assert "| frame_stack 1 | 101.5" in report
    assert "| colour gray |" not in report
    assert "Interactions" not in report
    shutil.rmtree(tmp_path / "cells")
    with pytest.raises(ConfigError, match="no finished cell of study; expected at least one"):
        ablate(arguments)
