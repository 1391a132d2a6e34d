"""The report in a real browser: made from photographs, opened by Chromium."""

import io
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support
from sklearn.neighbors import KNeighborsClassifier

import kfeat
from kfeat.cli import commands
from kfeat.errors import InputError
from kfeat.reporting import published
from kfeat.reporting.page import write_page
from kfeat.reporting.study import sections
from kfeat.reporting.study_figures import draw_planes
from kfeat.scoring.clustering import kmeans
from kfeat.scoring.neighbours import nearest
from kfeat.serving.evaluate import evaluate
from kfeat.serving.report import strip_neighbours, write_report
from kfeat.study.findings import findings

pytestmark = pytest.mark.xdist_group("page")

HOSTILE = "</script><script>window.stolen=1</script><img src=x onerror=window.stolen=1>"


@pytest.fixture(scope="module")
def scored(photographs, tmp_path_factory):
    """Results and features of 80 + 41 photographs, one of which is in both splits.

    One class has a hostile name, and so has one model.
    """
    images, labels, classes = photographs
    root = tmp_path_factory.mktemp("report")
    for n, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = HOSTILE.replace("/", "\N{DIVISION SLASH}") if label == 0 else classes[label]
        for part in ("train", "test") if n == 50 else ("train",) if n < 80 else ("test",):
            path = root / "data" / part / name / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    results, features = [], []
    for size in (16, 32):
        options = {"k": 5, "image_size": size, "all": size == 32, "intervals": True}
        result, parts = evaluate("pixels", str(root / "data"), **options)
        results.append(result)
        features.append(parts)
    results[1]["model"] = f"{HOSTILE}/cae1/1"
    return results, features


@pytest.fixture(scope="module")
def page_file(scored, tmp_path_factory):
    """A report on `scored`, beside one baseline, and one that there is not."""
    results, features = scored
    path = tmp_path_factory.mktemp("page") / "report.html"
    baselines = {"pixels": {**results[0], "model": "pixels"}, "pca128": f"too few {HOSTILE}"}
    write_report(
        results, features, path, baselines=baselines, method="tsne", command="kfeat <b>score</b>"
    )
    return path


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


def open_page(browser, path, **options):
    """Open a page; what goes wrong and what it asks the network for are kept beside it."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.wrong, page.asked = [], []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.wrong.append(m.text))
    page.on("request", lambda r: r.url.startswith(("data:", "blob:")) or page.asked.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_selector("#map[data-ready]", timeout=60_000)
    return page


def test_hover_shows_images_and_the_switch_changes_colours(browser, page_file):
    page = open_page(browser, page_file, viewport={"width": 1280, "height": 900})
    assert not page.locator("#card .t").count()
    page.locator("#map").scroll_into_view_if_needed()
    place = page.evaluate(
        """() => { const m = document.getElementById("map"), l = m._fullLayout,
        b = m.getBoundingClientRect(), d = m.data[0];
        return [b.x + l._size.l + l.xaxis.d2p(d.x[7]), b.y + l._size.t + l.yaxis.d2p(d.y[7])]; }"""
    )
    page.mouse.move(place[0] - 3, place[1])
    page.mouse.move(*place)
    page.wait_for_selector("#card .t")
    assert page.locator("#card .t").count() == 6  # the image and five neighbours
    image = page.locator("#card .t").first
    assert "data:image/webp" in image.evaluate("e => getComputedStyle(e).backgroundImage")
    colours = "() => document.getElementById('map').data[0].marker.color.join()"
    seen = set()
    for choice in ("class", "cluster", "error"):
        page.locator("#colour").select_option(choice)
        seen.add(page.evaluate(colours))
    assert len(seen) == 3
    before = page.evaluate("() => document.getElementById('map').data[0].x.join()")
    page.locator("#model").select_option("1")
    assert page.evaluate("() => document.getElementById('map').data[0].x.join()") != before
    width = "() => { const [a, b] = map._fullLayout.xaxis.range; return b - a; }"
    whole = page.evaluate(width)
    for button, share in {"#closer": 2 / 3, "#farther": 1, "#reset": 1}.items():
        page.locator(button).click()
        assert page.evaluate(width) == pytest.approx(share * whole)
    page.locator("#next").focus()
    was = page.locator("#card").inner_html()
    page.keyboard.press("Enter")
    assert page.locator("#card").inner_html() != was
    assert page.evaluate("() => window.stolen") is None
    assert page.locator("h1").count() == 1 and page.locator("b").count() == 0
    assert page.locator("table.matrix").count() == 2
    assert page.locator("tr.study").count() == 1 and page.locator("tr.baseline").count() == 1
    assert page.wrong == [] and page.asked == [page_file.as_uri()]


def test_the_page_shows_the_figures_that_were_found(browser, page_file, scored):
    results, features = scored
    page = open_page(browser, page_file)
    for n, (result, parts) in enumerate(zip(results, features, strict=True), 1):
        test, train = parts["test"], parts["train"]
        knn = KNeighborsClassifier(5).fit(train.features, train.labels)
        predicted = knn.predict(test.features)
        labels = np.unique([*test.labels, *predicted])
        found = precision_recall_fscore_support(
            test.labels, predicted, labels=labels, zero_division=np.nan
        )
        section = page.locator(f"section[aria-labelledby=h-classes-{n}]")
        cells = section.locator("table.by-class td").all_inner_texts()
        rows = zip(*(found[part] for part in (0, 1, 3)), strict=True)
        expected = [
            text
            for precision, recall, support in rows
            for text in (*(decimals(value) for value in (precision, recall)), f"{support:.0f}")
        ]
        assert cells == expected
        worst = result["classes"]["most_confused"][0]
        first = section.locator("table.confused tbody tr").first.inner_text().split("\t")
        assert first[2:] == [str(worst["count"]), f"{100 * worst['share']:.1f} %"]
        low, high = result["intervals"]["classification"]
        row = page.locator("section[aria-labelledby=h-score] tbody tr").nth(n - 1)
        score = f"{result['classification']['accuracy']:.4f}"
        assert row.locator("td").last.inner_text().split() == [score, f"{low:.3f}–{high:.3f}"]
        assert low < result["classification"]["accuracy"] < high
    more = page.locator("section[aria-labelledby=h-more] tbody td").all_inner_texts()
    assert more[:8] == ["–"] * 8
    assert more[8] == f"{results[1]['more']['knn_cosine_accuracy']:.4f}" and "–" not in more[8:]
    assert results[1]["leaks"]["count"] >= 1
    pair = page.locator("section[aria-labelledby=h-leaks] figure").first
    assert pair.inner_text().strip() == "0 bits"
    files = [io.BytesIO(thumb.screenshot()) for thumb in pair.locator(".t").all()]
    images = [np.asarray(Image.open(file).convert("RGB"), float) for file in files]
    assert np.abs(images[0] - images[1]).mean() < 8 < images[0].std()
    assert "Without pca128: too few </script>" in page.inner_text("main")


def decimals(value):
    return "–" if np.isnan(value) else f"{value:.3f}"


@pytest.fixture(scope="module")
def study_file(scored, tmp_path_factory):
    """A report below the study's tables, findings and figures, as `kfeat reproduce` makes it."""
    results, features = scored
    folder = tmp_path_factory.mktemp("study")
    plane = features[0]["test"].features[:, :2]
    panels = [
        {"name": name, "failed": None, "plane": plane, "labels": features[0]["test"].labels}
        for name in published.tables()["table1"]
    ]
    draw_planes(panels, features[0]["test"].manifest["data"]["classes"], folder / "plane.png")
    metrics = dict.fromkeys(published.METRICS, 0.5)
    measured = {
        **{"metrics": metrics, "std": None, "reconstruction": None, "minutes": 1.0, "seeds": [0]},
        **{"intervals": {name: [0.4, 0.6] for name in metrics}, "training": "mine", "failed": None},
    }
    failed = dict.fromkeys(measured) | {"seeds": [], "failed": f"no {HOSTILE}"}
    study = sections(
        {
            "profile": "mine",
            "note": "Photographs stand for STL-10.",
            "tables": {
                table: [
                    (failed if name == "UNet" else measured) | {"name": name, "published": figures}
                    for name, figures in rows.items()
                ]
                for table, rows in published.tables().items()
            },
            "findings": findings({name: metrics for name in published.ENCODERS.values()}, {}),
            "figures": {
                "figure1": {"files": [], "failed": "MemoryError()"},
                "figure2": {"files": ["plane.png"]},
            },
        },
        folder,
    )
    write_report(results, features, folder / "report.html", method="tsne", study=study)
    return folder / "report.html"


@pytest.mark.parametrize("file", ["page_file", "study_file"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll_and_axe_finds_nothing(browser, file, scheme, request):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    size = {"width": 360, "height": 740}
    path = request.getfixturevalue(file)
    page = open_page(browser, path, viewport=size, color_scheme=scheme)
    drawn = page.locator("main > section > .scroll > img").all()
    assert len(drawn) == (file == "study_file")
    assert all(image.bounding_box()["width"] > 700 for image in drawn)  # its letters can be read
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.locator("#next").click()
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10
    wrong = {rule["id"]: [n["html"][:200] for n in rule["nodes"]] for rule in found["violations"]}
    assert wrong == {}
    assert page.wrong == []


def test_a_map_of_some_images_is_of_all_classes_and_tells_of_each_what_is_true(scored, tmp_path):
    results, features = scored
    path = tmp_path / "report.html"
    write_report(results, features, path, method="tsne", limit=13)
    data = json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])
    test, train = features[0]["test"], features[0]["train"]
    ids = test.ids.tolist()
    rows = [ids.index(name) for name in data["ids"]]
    assert (rows[0], rows[-1], len(set(rows))) == (0, len(ids) - 1, 13)
    assert data["labels"] == test.labels[rows].tolist()
    for view, result, parts in zip(data["views"], results, features, strict=True):
        x = parts["test"].features.astype(float)
        knn = KNeighborsClassifier(5).fit(parts["train"].features, train.labels)
        assert view["predicted"] == knn.predict(x[rows]).tolist()
        clusters = kmeans(parts["test"].features, result["clustering"]["k"], seed=0)
        assert view["cluster"] == clusters[rows].tolist()
        distances = np.linalg.norm(x[rows, None] - x[rows], axis=2)
        np.fill_diagonal(distances, np.inf)
        near = np.take_along_axis(distances, np.array(view["neighbours"]), axis=1)
        np.testing.assert_allclose(near, np.sort(distances)[:, :5], rtol=1e-5)


def test_only_a_later_model_has_train_images_and_a_file_has_an_odd_name(scored, tmp_path):
    results, (first, second) = scored
    unclassified = {"leaks": None, "classification": {"k": 5, "accuracy": None}, "classes": None}
    names = first["test"].ids.astype("U40")
    names[7] = "caf\udce9.png"  # as Python reads a name that is not UTF-8
    tests = [replace(parts["test"], ids=names) for parts in (first, second)]
    unlabelled = replace(second["train"], labels=None)
    features = [{"test": tests[0]}, {"test": tests[1], "train": unlabelled}]
    assert results[1]["leaks"]["count"]
    path = tmp_path / "report.html"
    write_report([results[0] | unclassified, results[1]], features, path, method="tsne")
    text = path.read_text("utf-8")
    assert "caf\\udce9.png" in text and "0 bits" in text


def test_neighbours_are_found_as_in_the_score(scored):
    """faiss computes in float32, and so finds others than an exact search does."""
    pytest.importorskip("faiss", reason="faiss is an optional search")
    parts = scored[1][1]
    x = np.random.default_rng(0).normal(0, 1, (60, 8)).astype(np.float32)
    x[30:, 0] = 1e4  # so that float32 cannot hold what distances differ by
    rows, chosen = np.arange(30), list(range(10))
    halves = {"test": x[:30], "train": x[30:]}
    parts = {k: replace(parts[k].take(rows), features=half) for k, half in halves.items()}
    found = []
    for search in ("exact", "faiss"):
        result = {"classification": {"k": 5, "search": search, "accuracy": 0.5}}
        found.append(strip_neighbours(result, parts, rows, chosen)[0])
        expected, _ = nearest(x[30:], x[:10], 5, search=search)
        np.testing.assert_array_equal(found[-1], expected)
    assert (found[0] != found[1]).any()


def test_a_failed_report_leaves_the_old_one(page_file, tmp_path):
    old = tmp_path / "report.html"
    old.write_text("old")
    with pytest.raises(InputError, match="cannot be written"):
        kfeat.score("pixels", "photos", limit=20, report=tmp_path / "missing" / "report.html")
    with pytest.raises(AttributeError):
        write_page([{}], None, old)
    assert old.read_text() == "old" and os.listdir(tmp_path) == ["report.html"]


def test_one_command_and_one_call_write_the_page(tmp_path):
    path = tmp_path / "report.html"
    models = ["--model", "pixels", "--model", "pca128"]
    options = ["--limit", "140", "--image-size", "16", "--map", "tsne", "--report", str(path)]
    done = CliRunner().invoke(commands, ["score", *models, "--test", "photos", *options])
    assert done.exit_code == 0, done.output
    page = path.read_text()
    card = kfeat.score("pixels", "photos", limit=140, image_size=16, report=path, report_map="tsne")
    other = path.read_text()
    for text in (page, other):
        assert f"{card['classification']['accuracy']:.4f}" in text
        assert f"{card['clustering']['nmi']:.4f}" in text
        assert len(text.encode()) < 15e6
    assert "pca128 on photos: kfeat" in page and '<tr class="baseline">' not in page
    assert "pca128 on photos: kfeat" not in other and other.count('<tr class="baseline">') == 1
    row = re.search(r'<tr class="baseline"><th scope="row">pca128, .*?</tr>', other, re.DOTALL)
    figures = re.findall(r"0\.\d{4}", row[0])
    assert len(figures) >= 5 and all(figure in page for figure in figures)
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_page_that_cannot_be_is_refused_before_the_work(tmp_path):
    for path, options, reason in (
        ("/proc/report.html", {}, "/proc/report.html cannot be written"),
        (tmp_path / "r.html", {"limit": 3, "k": 2}, "a map of 3 images: give 4"),
        (tmp_path / "r.html", {"report_map": "pca"}, "choose one of umap, tsne"),
    ):
        with pytest.raises(InputError, match=reason):
            kfeat.score("pixels", "photos", report=path, save_features=tmp_path / "f", **options)
    assert not list(tmp_path.rglob("*.npz")) and not list(tmp_path.glob("*.html"))
