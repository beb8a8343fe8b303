"""Links within the project lead somewhere; Sphinx checks those between pages of the site as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = re.compile(
    r"https://(?:github\.com/napari-vdip/napari-vdip/(?:blob|tree)|raw\.githubusercontent\.com/napari-vdip/napari-vdip)"
    r"/main/"
)
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))


def text_of(page: str) -> str:
    """A page without its code, in which nothing is a link or a heading."""
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)


def targets(page: str) -> list[str]:
    """What the links and images of a page lead to."""
    return re.findall(r"\]\(([^)\s]+)\)", text_of(page))


def anchors(page: str) -> set[str]:
    """Names of the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_broken(page: str, target: str) -> bool:
    """Whether a link within the project leads nowhere."""
    ours = OURS.match(target)
    if re.match(r"[a-z]+:", target) and not ours:
        return False
    name, _, anchor = target.removeprefix(ours[0] if ours else "").partition("#")
    there = (ROOT if ours else (ROOT / page).parent) / name if name else ROOT / page
    if not there.exists():
        return True
    return bool(anchor) and anchor not in anchors(there.resolve().relative_to(ROOT).as_posix())


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_project_lead_somewhere(page):
    assert [target for target in targets(page) if is_broken(page, target)] == []


@pytest.mark.parametrize(
    "target",
    [
        "nothing.md",
        "#nothing",
        "docs/faq.md#nothing",
        "https://github.com/napari-vdip/napari-vdip/blob/main/nothing",
    ],
)
def test_a_link_that_leads_nowhere_is_found(target):
    assert is_broken("README.md", target)


def test_the_readme_can_be_read_where_its_neighbours_are_not():
    """The napari hub and PyPI show it alone, and make their own title of level one."""
    assert [target for target in targets("README.md") if not target.startswith("https://")] == []
    assert re.findall(r"^(#+) ", text_of("README.md"), flags=re.M)[1:].count("##") >= 6
    assert not re.search(r"^#{3,} |\n# ", text_of("README.md"), flags=re.M)


def test_the_figures_of_the_readme_are_those_of_the_benchmarks():
    readme = text_of("README.md").partition("## Figures")[2].partition("\n## ")[0]
    figures = re.findall(r"\d+\.\d+(?= dB)", readme)
    levin = text_of("docs/benchmarks.md").partition("### Levin et al., the window")[2]
    measured = levin.partition("\n### Levin et al., image by image")[0]
    assert len(figures) == 4
    assert all(figure in measured for figure in figures)
    said = re.search(r"(\d+) seconds on .*?, (\d+\.\d+) times", readme, flags=re.S)
    speed = text_of("docs/benchmarks.md").partition("<!-- begin speed -->")[2]
    found = re.search(r"\| (\d+\.\d) \| \d+ \| \*\*(\d+\.\d)\*\* \|", speed)
    assert (int(said[1]), said[2]) == (round(float(found[1])), found[2])
