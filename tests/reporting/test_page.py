"""The report in a real browser: made from photographs, opened by Chromium."""

import os
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

import kfeat
from kfeat.cli import commands
from kfeat.errors import InputError
from kfeat.reporting.page import write_page
from kfeat.scoring.features import load_features
from kfeat.serving.report import write_report

HOSTILE = "</script><script>window.stolen=1</script><img src=x onerror=window.stolen=1>"


@pytest.fixture(scope="module")
def page_file(photographs, tmp_path_factory):
    """A report on 80 + 40 photographs, a class of which has a hostile name."""
    images, labels, classes = photographs
    root = tmp_path_factory.mktemp("report")
    for n, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = HOSTILE.replace("/", "\N{DIVISION SLASH}") if label == 0 else classes[label]
        path = root / "data" / ("train" if n < 80 else "test") / name / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    path = root / "report.html"
    results, features = [], []
    for size in (16, 32):
        kept = root / str(size)
        results.append(
            kfeat.score("pixels", str(root / "data"), k=5, image_size=size, save_features=kept)
        )
        features.append({name: load_features(kept / f"{name}.npz") for name in ("test", "train")})
    results[1]["model"] = f"saved_models/cae1/{HOSTILE}"
    write_report(results, features, path, method="tsne", command="kfeat <b>score</b>")
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
    page.locator("#next").focus()
    was = page.locator("#card").inner_html()
    page.keyboard.press("Enter")
    assert page.locator("#card").inner_html() != was
    assert page.evaluate("() => window.stolen") is None
    assert page.locator("h1").count() == 1 and page.locator("b").count() == 0
    assert page.locator("table.matrix").count() == 2
    assert page.locator("tr.study").count() == 1
    assert page.wrong == [] and page.asked == [page_file.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scroll_and_axe_finds_nothing(browser, page_file, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    size = {"width": 360, "height": 740}
    page = open_page(browser, page_file, viewport=size, color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.locator("#next").click()
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10
    wrong = {rule["id"]: [n["html"][:200] for n in rule["nodes"]] for rule in found["violations"]}
    assert wrong == {}
    assert page.wrong == []


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
    for text in (page, path.read_text()):
        assert f"{card['classification']['accuracy']:.4f}" in text
        assert f"{card['clustering']['nmi']:.4f}" in text
        assert len(text.encode()) < 15e6
    assert "pca128" in page and "pca128 on" not in path.read_text()
    assert os.listdir(tmp_path) == ["report.html"]
