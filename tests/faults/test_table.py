"""The table of faults names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_names_a_test_that_exists():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    rows = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line[:1] == "|"]
    named = [
        re.search(r"`(test_\w+)` \|$", row) for row in rows if not row.startswith(("|---", "| injected"))
    ]
    assert len(named) > 20
    assert all(named)
    assert {name[1] for name in named} <= there


def test_every_fault_that_is_tested_is_in_the_table():
    table = (ROOT / "docs" / "reliability.md").read_text()
    for file in ("test_faults.py", "test_panel.py"):
        faults = (ROOT / "tests" / "faults" / file).read_text()
        assert all(f"`{name}`" in table for name in re.findall(r"^def (test_\w+)", faults, re.MULTILINE))
