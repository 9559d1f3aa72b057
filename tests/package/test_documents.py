"""Documents: short lines, no broken links, a site that builds, and what .ci/run runs."""

import re
import subprocess
import sys

import pytest
from installation import ROOT
from readme import README, blocks

LONGEST = 100
# The reports and the benchmark's tables are made by programs.
GENERATED = ("docs/findings/", "benchmarks/")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "parity/*.md")
    for path in ROOT.glob(pattern)
    if not f"{path.relative_to(ROOT)}".startswith(GENERATED)
)
LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)[^)]*\)")


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.relative_to(ROOT)}")
def test_lines_of_prose_are_short(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    # A table's row and a link are one line each.
    rows = [line for line in text.splitlines() if not line.startswith("|") and "](http" not in line]
    assert [line for line in rows if len(line) > LONGEST] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.relative_to(ROOT)}")
def test_links_lead_to_files(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_ci_runs_the_test_command_as_printed():
    script = (ROOT / ".ci" / "run").read_text().replace('eval "$command"', "exit 0")
    done = subprocess.run(["bash", "-c", script, f"{ROOT / '.ci' / 'run'}"], capture_output=True, text=True)
    assert done.stdout.strip() == blocks("bash")[1].strip()


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", f"{tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "index.html").read_text().count("doc-heading") > 10
