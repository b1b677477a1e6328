"""Figures in README and docs are those that benchmarks wrote."""

# ruff: noqa: RUF001

import ast
import json
import re
import sys

import pytest
from test_documentation import MARKDOWN, ROOT, text_of

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))
import growth  # noqa: E402
import record  # noqa: E402
import tables  # noqa: E402

RESULTS = sorted(tables.RESULTS.glob("*.json"))
# Numbers that no benchmark measures: what was asked for, versions, and what papers say.
SAID = {
    "README.md": [
        "prunes 95 % of its weights",
        "Python 3.11, Keras 3.13 and TensorFlow 2.20",
        "License 2.0",
    ],
    "docs/archive.md": [
        "-0.0 and every NaN",
        "a kernel of 2 GiB",
        "NNCodec 2.1.3",
        "one kernel, 90 % zeros, 5 bits",
        "chosen on 5,000 held-out images",
    ],
    "docs/callbacks.md": ["TensorFlow 2.21 with Keras's defaults"],
    "docs/distillation.md": ["of Keras 3.13 to 3.15, which are alike"],
    "docs/export.md": ["a weight of -0.0 becomes 0.0"],
    "docs/hardware.md": [
        "1510 GOp/s at 1.2 V; 61.2 TOp/s/W at 0.6 V with 895 µW, which\nmake 54.8 GOp/s. The power "
        "at 1.2 V",
        "up to 7×7",
    ],
    "docs/index.md": [
        "Python 3.11, Keras 3.15.1, TensorFlow 2.21.0, JAX 0.10.2, PyTorch 2.13.0,\n"
        "tensorflow-model-optimization 0.8.1 and numpy 2.4.",
        "Keras 3.13.2 with TensorFlow 2.20.0",
    ],
    "docs/layers.md": [
        # Counts, which the tests of the networks hold.
        "| 6,998,552, 1,583 |",
        "| 1,235,496, 388 (1.0: 1,248,424, 833) |",
        "| 4,253,864, 569 |",
        "| 1,890,208, 137 |",
        "(fewer filters, then 1×1)",
        "(3×1, then 1×3)",
        "(1×1, 3×3, 1×1)",
        "threshold 0.7 of the mean magnitude",
        "threshold 0.05",
        "integers to ±127 times a scale",
    ],
    "docs/pruning.md": [
        "Error and speed on MNIST at 90 %",
        "pruned to 70 % from 2,000 samples",
        "chosen on 5,000 held-out\nimages",
    ],
    "docs/quantization.md": ["chosen on 5,000 held-out images"],
}
UNITS = "ms|ns|s|MiB|GiB|MB|GB|kB|bytes|seconds|minutes|hours|times|percent|per cent"
MEASURED = re.compile(
    rf"(?<![\w.])(?:\d[\d,]*(?:\.\d+)? ?(?:(?:{UNITS})\b|[%×])|\d+\.\d+|\d{{1,3}}(?:,\d{{3}})+)"
    rf"|\b(?:\w+ times|twice|half) (?:as \w+ as|smaller|larger|faster|slower|fewer)\b"
)


def test_no_page_is_stale():
    """After new results, or a change of `tables.py`: `python benchmarks/tables.py`."""
    for page in tables.pages():
        text = page.read_text(encoding="utf-8")
        assert tables.rendered(text) == text, f"{page.name}: run python benchmarks/tables.py"


def test_a_stale_figure_is_noticed(tmp_path, monkeypatch):
    text = text_of("docs/pruning.md")
    assert tables.rendered(text) == text
    assert tables.rendered(text.replace("| 1.63 | 56.0 |", "| 1.36 | 56.0 |")) == text
    for path in RESULTS:
        other = path.read_text(encoding="utf-8").replace('"test error": 1.63', '"test error": 1.7')
        (tmp_path / path.name).write_text(other, encoding="utf-8")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.rendered(text) != text


def test_the_plot_is_of_the_results():
    """After new results: `python benchmarks/growth.py --plot`, as its first lines say."""
    drawn = (ROOT / "docs" / "pictures" / "growth.svg").read_text(encoding="utf-8")
    assert growth.digest(tables.RESULTS / "growth.json") in drawn


def test_blocks_and_their_functions_belong_together():
    blocks = [block for page in MARKDOWN for block in tables.BLOCK.findall(text_of(page))]
    named = [name for _, name, _, _ in blocks]
    assert sorted(named) == sorted(tables.FIGURES)
    for page in MARKDOWN:
        text = text_of(page)
        opened, closed = text.count("\n<!-- figures:"), text.count("\n<!-- end of figures -->")
        assert opened == closed == len(tables.BLOCK.findall(text)), page


def test_every_file_of_results_is_quoted_and_its_command_stands_beside(monkeypatch):
    asked, read = [], tables.results
    monkeypatch.setattr(tables, "results", lambda name: asked.append(name) or read(name))
    quoted = set()
    for page in MARKDOWN:
        text = text_of(page)
        for _, name, _, _ in tables.BLOCK.findall(text):
            asked.clear()
            tables.FIGURES[name]()
            quoted |= set(asked)
            for file in asked:
                command = json.loads((tables.RESULTS / f"{file}.json").read_text())["command"]
                (script,) = re.findall(r"\w+/\w+\.py", command)
                assert script in text, f"{page} does not say that {name} is from {script}"
    assert quoted == {path.stem for path in RESULTS}


@pytest.mark.parametrize("page", MARKDOWN)
def test_no_other_figures_are_quoted(page):
    text = tables.BLOCK.sub("", text_of(page))
    text = re.sub(r"^```.*?^```$|`[^`\n]*`|arXiv:\S+", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\b\d{4}\.\d{4,5}\b", "", text)
    for phrase in SAID.get(page, ()):
        assert phrase in text, f"{page} no longer says {phrase!r}: take it out of SAID"
        text = text.replace(phrase, "")
    found = [text[max(0, m.start() - 40) : m.end() + 20] for m in MEASURED.finditer(text)]
    assert not found, f"{page}: in no JSON, see benchmarks/tables.py: {found}"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_how_they_were_measured(path):
    text = path.read_text(encoding="utf-8")
    found = json.loads(text)
    assert record.text_of(found) == text
    assert {"command", "date", "versions", "machine", "results"} <= set(found)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])
    (script,) = re.findall(r"\w+/\w+\.py", found["command"])
    source = (ROOT / script).read_text(encoding="utf-8") + (BENCHMARKS / "lenets.py").read_text()
    for option in re.findall(r"--[\w-]+", found["command"]):
        assert f'"{option}"' in source, f"{script} has no {option}"
    # Printed figures of before the file was kept say so; others name what ran.
    assert found.get("recorded") or found["versions"]["keras"]
    # The largest has seven checks for each of forty networks.
    assert path.stat().st_size < 64_000


def test_a_record_is_written_whole_and_names_no_folder(tmp_path, monkeypatch):
    script = str(BENCHMARKS / "mask_update.py")
    monkeypatch.setattr(sys, "argv", [script, "--data", "/somewhere/mnist.npz", "--side", "10"])
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    record.write(tmp_path / "a.json", {"ratio": 0.5}, larq="0.13")
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["command"] == "python benchmarks/mask_update.py --data mnist.npz --side 10"
    assert found["results"] == {"ratio": 0.5} and found["versions"]["larq"] == "0.13"
    with pytest.raises(TypeError):
        record.write(tmp_path / "a.json", {"ratio": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == found


def test_benchmarks_write_in_one_way():
    for path in sorted(BENCHMARKS.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "ArgumentParser" not in source or path.name in ("tables.py", "lenets.py"):
            continue
        assert re.search("^from record import (write|Rows)$", source, re.M), (
            f"{path.name} writes no results"
        )
        assert "json.dump(" not in source, f"{path.name} writes JSON of its own"


@pytest.mark.parametrize(
    "path", sorted([*BENCHMARKS.glob("*.py"), *ROOT.glob("examples/*.py")]), ids=lambda p: p.stem
)
def test_what_scripts_import_of_tfcomp_is_there(path):
    """Without running them: a benchmark that nobody ran lately may import what has moved."""
    import importlib

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tfcomp":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_commands_in_pages_are_those_of_the_scripts():
    for page in MARKDOWN:
        for line in re.findall(r"python ((?:benchmarks|examples)/[^`\n]*)", text_of(page)):
            script = ROOT / line.split()[0]
            assert script.exists(), f"{page}: {line}"
            source = script.read_text(encoding="utf-8") + (BENCHMARKS / "lenets.py").read_text()
            for option in re.findall(r"--[\w-]+", line):
                assert f'"{option}"' in source, f"{page}: {script.name} has no {option}"
