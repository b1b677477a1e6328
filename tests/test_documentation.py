"""What the documentation promises of itself."""

import pathlib
import re

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def test_a_method_of_your_own_fits_a_page():
    text = (DOCS / "own_method.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = [line for line in example.splitlines() if line.strip()]
    assert len(code) <= 40
