"""The pages do what they say: every example runs, in its order, on what `pages.py` has for it.

An example that cannot run is marked in the page, on the line before it, by a comment that says why:
`<!-- not run: ... -->`.
"""

import pathlib
import re

import keras
import numpy as np
import pages
import pytest

import tfcomp

ROOT = pathlib.Path(__file__).parent.parent
MARKDOWN = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
# A network of `keras.applications` goes through all of tfcomp there.
SLOW = ("README.md",)
EXAMPLE = re.compile(
    r"(?:<!-- not run: (.+?) -->\n)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def examples(page):
    """List of pairs of code, at the lines where it stands in the page, and why it is not run."""
    text = text_of(page)
    found = []
    for match in EXAMPLE.finditer(text):
        reason, code = match.groups()
        found.append(("\n" * text.count("\n", 0, match.start(2)) + code, reason))
    return found


def with_examples():
    for page in MARKDOWN:
        if examples(page):
            yield pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("error:Layer .* takes the signs of its inputs")
@pytest.mark.parametrize("page", list(with_examples()))
def test_examples_run(page, tmp_path, monkeypatch, capsys):
    assert page in pages.PAGES, f"{page} has examples: say in tests/pages.py what they read"
    monkeypatch.chdir(tmp_path)
    names = pages.PAGES[page]()
    for code, reason in examples(page):
        if not reason:
            exec(compile(code, str(ROOT / page), "exec"), names)
    CLAIMS.get(page, lambda *_: None)(names, capsys.readouterr().out, tmp_path)


def pruning_says(names, printed, folder):
    # "a table": a heading, a row for each of four weights.
    assert str(names["done"]) in printed and str(names["scan"]) in printed
    for table in str(names["done"]), str(names["scan"]):
        assert all(f"{layer}/kernel" in table for layer in ("conv1", "conv2", "dense", "logits"))
        assert len(table.splitlines()) > 6
    assert (folder / "sensitivity.png").stat().st_size > 1000
    assert set(names["targets"]) == {row.path for row in names["scan"]}


def layers_say(names, printed, folder):
    # The quantizer is known by its name, and passes gradients on.
    layer = tfcomp.layers.QuantizedDense(4, kernel_quantizer="third")
    layer.build((None, 5))
    thirds = 3 * keras.ops.convert_to_numpy(layer.quantized_kernel)
    np.testing.assert_allclose(thirds, np.round(thirds), atol=1e-6)
    # What its layer says is what the summary counts.
    model = keras.Sequential([keras.Input((6,)), names["Bilinear"]()])
    assert tfcomp.summary(model, print_table=False).macs == {(32, 32): 6 * 6 + 6}
    kinds = [type(layer).__name__ for layer in names["model"].layers]
    assert "QuantizedEinsumDense" in kinds
    kinds = [type(layer).__name__ for layer in names["small"].layers]
    assert kinds.count("ProductQuantizedDense") + kinds.count("ProductQuantizedConv2D") >= 2


def hardware_says(names, printed, folder):
    # The layer's outputs are the chip's integers, after the ReLU, in units of Q2.9.
    outputs = keras.ops.convert_to_numpy(names["outputs"])
    np.testing.assert_array_equal(outputs * 512, np.maximum(names["integers"], 0))
    cost = names["cost"]
    assert cost.energy > 0 and cost.frames_per_second > 0 and cost.layers[0].seconds > 0
    assert "yoda_conv2d" in printed


def archive_says(names, printed, folder):
    assert (folder / "model.tfc").stat().st_size > 100
    assert names["model"].optimizer is not None


def distillation_says(names, printed, folder):
    assert "teacher" in printed and "student" in printed
    assert (folder / "pictures" / "epoch_0002.png").stat().st_size > 100
    # "a later `fit` of the student keeps the zeros"
    kernel = names["sparse"].get_layer("dense").kernel
    names["sparse"].fit(names["x"], names["y"], verbose=0)
    assert np.mean(keras.ops.convert_to_numpy(kernel.value) == 0) == 0.5
    assert type(names["binary"].get_layer("conv2")) is tfcomp.layers.BinaryConv2D
    assert names["narrow"].get_layer("dense").units == 4


CLAIMS = {
    "docs/archive.md": archive_says,
    "docs/distillation.md": distillation_says,
    "docs/hardware.md": hardware_says,
    "docs/layers.md": layers_say,
    "docs/pruning.md": pruning_says,
}


def test_few_examples_are_not_run():
    left = [(page, reason) for page in MARKDOWN for _, reason in examples(page) if reason]
    assert len(left) <= 3 and all(len(reason) > 10 for _, reason in left), left


def test_python_stands_in_fences():
    """Code that is only indented would not be run."""
    for page in MARKDOWN:
        prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
        lost = re.findall(
            r"^ {4}(?:\w+ = )?(?:tfcomp|keras|model)\.\w+.*\(.*$", prose, re.MULTILINE
        )
        assert not lost, f"{page}: {lost}"
        fences = set(re.findall(r"^```(\w*)$", text_of(page), re.MULTILINE)) - {""}
        assert fences <= {"python", "sh"}, page


def test_links_lead_somewhere():
    for page in MARKDOWN:
        text = text_of(page)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            file, _, anchor = target.partition("#")
            path = (ROOT / page).parent / file if file else ROOT / page
            assert path.exists(), f"{page} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
                assert anchor in slugs, f"{page} links to {target}"


def test_a_method_of_your_own_fits_a_page():
    ((example, _),) = examples("docs/own_method.md")
    code = [line for line in example.splitlines() if line.strip()]
    assert "takes 30 lines" in text_of("docs/callbacks.md") and len(code) <= 30
