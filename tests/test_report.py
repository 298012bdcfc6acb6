"""``pyquant report``: the figures, the table, the JSON, and a page that stands alone."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import pyquant as pq

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("safetensors")

from pyquant.cli import report_page
from pyquant.cli.recipe import recipes, worst_channel

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;"


def tool(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "pyquant", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tensors():
    rng = np.random.default_rng(7)
    uneven = rng.standard_normal((16, 128)).astype(np.float32)
    uneven[5] *= 0.01  # lost on a scale for the whole tensor
    return {
        "even": rng.uniform(-1, 1, (32, 64)).astype(np.float32),
        "uneven": uneven,
        "half": rng.standard_normal((8, 8)).astype(np.float16),
        "constant": np.full((4, 4), 0.5, np.float32),
        "bias": np.zeros(16, np.float32),
        "ids": np.arange(12).reshape(3, 4),
        HOSTILE: rng.standard_normal((4, 6)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def checkpoint(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "model.safetensors"
    pq.save(path, tensors)
    return path


@pytest.fixture(scope="module")
def made(checkpoint):
    """The printed text, the JSON tree and the page of one run with the default recipes."""
    folder = checkpoint.parent
    done = tool("report", checkpoint, "--json", folder / "r.json", "--html", folder / "r.html")
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "r.json").read_text()), folder / "r.html"


def result(tree, tensor, recipe):
    (entry,) = (t for t in tree["tensors"] if t["name"] == tensor)
    (found,) = (r for r in entry["results"] if r["recipe"] == recipe)
    return found


RECIPES = {
    "int8 / tensor / minmax": {},
    "int8 / channel / mse": {"axis": 0, "calibration": "mse"},
    "int4 / block 64 / minmax": {"dtype": "int4", "axis": -1, "block_size": 64},
    "int4 / tensor / mse": {"dtype": "int4", "calibration": "mse"},
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["even", "uneven", "half", HOSTILE])
def test_figures_are_those_of_the_library(made, tensors, name, recipe):
    found = result(made[1], name, recipe)
    q = pq.quantize(tensors[name], **RECIPES[recipe])
    error = pq.error(tensors[name], q)
    for key in ("sqnr_db", "mse", "max_abs", "clipped"):
        assert found[key] == getattr(error, key), key
    ends = [(end - q.zero_point.astype(int)) * q.scale.astype(float)
            for end in (q.params.qmin, q.params.qmax)]  # fmt: skip
    assert found["clip_low"] == ends[0].min() and found["clip_high"] == ends[1].max()
    assert found["inner_low"] == ends[0].max() and found["inner_high"] == ends[1].min()
    assert found["bits_per_value"] == 8 * q.pack().nbytes / q.size


def test_the_worst_channel_is_found(made, tensors):
    found = result(made[1], "uneven", "int8 / tensor / minmax")
    assert found["worst_channel"] == 5
    x = tensors["uneven"]
    real = pq.quantize(x).dequantize()
    expected = pq.error(x[5], real[5]).sqnr_db
    assert found["worst_channel_sqnr_db"] == pytest.approx(expected)


def test_the_worst_channel_of_many_rows_and_odd_cases():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5000, 300)).astype(np.float32)
    x[4321] *= 0.01
    assert worst_channel(x, pq.quantize(x))[0] == 4321
    x[1234] = 1e-9  # rounds to zero: all of its signal is noise
    channel, sqnr = worst_channel(x, pq.quantize(x))
    assert channel == 1234 and sqnr == pytest.approx(0)
    assert worst_channel(x[0], pq.quantize(x[0])) == (None, None)
    same = np.full((3, 3), 0.5, np.float32)
    assert worst_channel(same, pq.quantize(same)) == (None, None)


def test_the_worst_tensor_of_each_recipe_is_named(made):
    _, tree, _ = made
    for worst in tree["worst"]:
        figures = {
            t["name"]: r["sqnr_db"]
            for t in tree["tensors"]
            for r in t["results"]
            if r["recipe"] == worst["recipe"] and r["sqnr_db"] is not None
        }
        assert worst["tensor"] == min(figures, key=figures.get)
        assert worst["sqnr_db"] == min(figures.values())


def test_what_is_in_and_what_is_not(made):
    _, tree, _ = made
    assert {t["name"] for t in tree["tensors"]} == {"even", "uneven", "half", "constant", HOSTILE}
    assert set(tree["skipped"]) == {"bias", "ids"}
    for t in tree["tensors"]:
        assert sum(t["histogram"]) == math.prod(t["shape"])
    assert result(tree, "constant", "int8 / tensor / minmax")["sqnr_db"] is None
    assert result(tree, "constant", "int8 / tensor / minmax")["mse"] == 0


def test_the_table_has_every_recipe_and_the_worst_first(made):
    text, tree, _ = made
    for recipe in tree["recipes"]:
        assert recipe["name"] in text
    assert text.index("\nuneven ") < text.index("\neven ")
    assert "worst offenders" in text and "exact" in text
    assert re.search(r"^uneven +\S+ \S+ +int8 / tensor / minmax .* 5 \(", text, re.MULTILINE)


def test_recipes_are_what_was_asked_for(checkpoint, tmp_path):
    done = tool(
        "report", checkpoint, "--dtype", "int3", "--dtype", "uint8", "--granularity", "channel",
        "--granularity", "block", "--block-size", 16, "--calibration", "entropy",
        "--calibration", "minmax", "--scheme", "affine", "--axis", 1, "--block-axis", 0,
        "--include", "*even", "--include", "bias", "--exclude", "un*",
        "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tree = json.loads((tmp_path / "r.json").read_text())
    assert [r["name"] for r in tree["recipes"]] == [
        f"{dtype} / {rest}"
        for dtype in ("int3", "uint8")
        for rest in ("channel / entropy", "channel / minmax", "block 16 / minmax")
    ]
    by_name = {t["name"]: t for t in tree["tensors"]}
    assert set(by_name) == {"even", "bias"}
    assert len(by_name["even"]["results"]) == 6
    assert len(by_name["bias"]["results"]) == 2, "no axis 1, but blocks along axis 0"
    assert result(tree, "even", "int3 / block 16 / minmax")["scales"] == 2 * 64
    assert result(tree, "even", "uint8 / channel / minmax")["scales"] == 64


def test_every_calibrator_makes_a_recipe():
    methods = ["minmax", "percentile", "mse", "entropy", "aciq_laplace", "aciq_gauss"]
    options = {"scheme": "symmetric", "axis": 0, "block_axis": -1, "block_size": 64}
    made = recipes(["int8"], ["tensor", "channel", "block"], methods, **options)
    blocks = {recipe.calibration for recipe in made if recipe.granularity == "block"}
    assert "minmax" in blocks and "entropy" not in blocks
    assert len(made) == 2 * len(methods) + len(blocks)
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    for recipe in made:
        assert pq.error(x, recipe.quantize(x)).sqnr_db > 10
    with pytest.raises(ValueError, match="no recipe is left"):
        recipes(["int8"], ["block"], ["entropy"], **options)


def test_top_limits_the_table_and_not_the_files(checkpoint, tmp_path):
    done = tool("report", checkpoint, "--top", 1, "--json", tmp_path / "r.json")
    assert "and 4 tensors that come out better" in done.stdout
    assert len(json.loads((tmp_path / "r.json").read_text())["tensors"]) == 5


def test_nan_is_reported_and_not_fatal(tmp_path):
    x = np.ones((4, 4), np.float32)
    x[1, 2] = np.nan
    pq.save(tmp_path / "m.safetensors", {"bad": x, "good": np.eye(4, dtype=np.float32)})
    page = tmp_path / "r.html"
    done = tool("report", tmp_path / "m.safetensors", "--html", page)
    assert done.returncode == 0, done.stderr
    assert "bad: 1 of 16 values are NaN or infinite" in done.stdout
    assert "1 of 16 values are NaN or infinite" in page.read_text()


def test_a_tensor_that_cannot_be_quantized_does_not_hide_the_others(tmp_path):
    huge = np.full((2, 3), 1e300)
    huge[0, 0] = -1e300
    np.savez(tmp_path / "m.npz", huge=huge, good=np.eye(4))
    out = tmp_path / "r.json"
    done = tool("report", tmp_path / "m.npz", "--json", out)
    assert done.returncode == 0, done.stderr
    assert "huge: " in done.stdout
    problems = {t["name"]: t["problem"] for t in json.loads(out.read_text())["tensors"]}
    assert problems["good"] is None and "float32" in problems["huge"]


def test_bfloat16_is_read(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).standard_normal((8, 64)).astype(ml_dtypes.bfloat16)
    pq.save(tmp_path / "m.safetensors", {"x": x})
    out = tmp_path / "r.json"
    done = tool("report", tmp_path / "m.safetensors", "--json", out)
    assert done.returncode == 0, done.stderr
    tree = json.loads(out.read_text())
    assert tree["tensors"][0]["dtype"] == "bfloat16"
    found = result(tree, "x", "int8 / channel / minmax")
    assert found["sqnr_db"] == pq.error(x, pq.quantize(x, axis=0)).sqnr_db


def test_folders_npz_and_npy_are_read(tensors, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("even", "uneven"):
        pq.save(shards / f"{name}.safetensors", {name: tensors[name]})
    np.savez(tmp_path / "m.npz", even=tensors["even"], uneven=tensors["uneven"])
    for source in (shards, tmp_path / "m.npz"):
        out = tmp_path / f"{source.name}.json"
        assert tool("report", source, "--json", out).returncode == 0
        assert len(json.loads(out.read_text())["tensors"]) == 2
    np.save(tmp_path / "x.npy", tensors["even"])
    assert tool("report", tmp_path / "x.npy").returncode == 0


def test_tensors_quantized_before_are_left_out(tensors, tmp_path):
    path = tmp_path / "m.safetensors"
    pq.save(path, {"even": tensors["even"], "done": pq.quantize(tensors["uneven"])})
    out = tmp_path / "r.json"
    assert tool("report", path, "--json", out).returncode == 0
    tree = json.loads(out.read_text())
    assert [t["name"] for t in tree["tensors"]] == ["even"] and tree["skipped"] == ["done"]


@pytest.mark.parametrize(
    "arguments, status, sentence",
    [
        (["--dtype", "int99"], 2, "int99"),
        (["--granularity", "row"], 2, "tensor, channel, block"),
        (["--calibration", "guess"], 2, "guess"),
        (["--granularity", "block", "--calibration", "entropy"], 2, "no recipe is left"),
        (["--include", "nothing*"], 1, "matches none"),
        (["--exclude", "*"], 1, "no float tensors"),
        (["--html", "r.html"], 1, "exists"),
    ],
)
def test_mistakes_are_refused(checkpoint, made, arguments, status, sentence):
    before = made[2].read_bytes()
    done = tool("report", checkpoint, *arguments, cwd=checkpoint.parent)
    assert done.returncode == status
    # A terminal's box may break a sentence anywhere.
    assert sentence in re.sub(r"[\s│]+", " ", done.stderr)
    assert made[2].read_bytes() == before


class Page(HTMLParser):
    """Collects what a page would load, and its scripts."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags, self.data, self._into = [], [], "", False

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        names = dict(attributes)
        self.addresses += [names[k] for k in ("src", "href", "action", "data") if names.get(k)]
        self._into = tag == "script" and names.get("id") == "data"

    def handle_data(self, data):
        self.data += data if self._into else ""


def test_the_page_loads_nothing_and_holds_the_measurements(made):
    _, tree, path = made
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.addresses == []
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text) is None
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a vocabulary, never loaded"
    assert json.loads(page.data) == tree
    assert 'name="viewport"' in text and "default-src 'none'" in text


def test_names_from_files_stay_text(made):
    page = Page()
    page.feed(made[2].read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert HOSTILE in {t["name"] for t in json.loads(page.data)["tensors"]}
    assert "innerHTML" not in report_page.html({"tensors": []})


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def drawn(page, folder):
    """The page's elements after its script has run, as text."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", "--window-size=390,900",
        "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.partition('<script type="application/json"')[0]


def test_the_page_draws_itself_in_a_browser(made, tmp_path):
    body = drawn(made[2], tmp_path)
    _, tree, _ = made
    assert body.count("<svg") == len(tree["tensors"])
    assert body.count("<tr>") == (len(tree["recipes"]) + 1) + (len(tree["tensors"]) + 1)
    assert "&lt;/script&gt;&lt;img src=x" in body and "<img" not in body
    assert "NaN" not in body and "undefined" not in body


@pytest.mark.parametrize("clicks", [1, 2])
def test_a_tap_on_a_heading_sorts(made, tmp_path, clicks):
    _, tree, path = made
    tap = "document.querySelectorAll('#tensors th button')[1].click();"
    page = tmp_path / "tapped.html"
    page.write_text(path.read_text().replace("</body>", f"<script>{clicks * tap}</script></body>"))
    table = drawn(page, tmp_path).partition('id="tensors"')[2].partition("</table>")[0]
    assert f'aria-sort="{"ascending" if clicks == 1 else "descending"}"' in table
    sizes = [int(n.replace(",", "")) for n in re.findall(r"<td>([\d,]+)</td>", table)]
    expected = sorted(math.prod(t["shape"]) for t in tree["tensors"])
    assert sizes == (expected if clicks == 1 else expected[::-1])


def test_a_tap_on_a_recipe_redraws_the_histograms(made, tmp_path):
    _, tree, path = made
    i = [r["name"] for r in tree["recipes"]].index("int8 / channel / minmax")
    page = tmp_path / "tapped.html"
    tap = f"<script>document.querySelectorAll('.chip')[{i}].click()</script></body>"
    page.write_text(path.read_text().replace("</body>", tap))
    cards = drawn(page, tmp_path).partition('id="cards"')[2]
    assert "255 levels with" in cards
    assert "15 levels" not in cards, "a card still shows the recipe of before"
