"""Time a report in a browser: how soon it is ready, how smoothly its map moves.

    kfeat score --model pca128 --test cifar10 --report report.html
    python benchmarks/report.py report.html

Headless Chromium, driven by Playwright, opens the page at 1280x900 pixels. Without a GPU it
draws WebGL by SwiftShader, on the processor: a desktop's GPU is faster. Given are, in
milliseconds:

* ready: from the navigation until the map can be pointed at;
* hover: from the browser's mouse event until the card shows another image, and until the frame
  that paints it; median and 95th percentile of 40 points;
* zoom, pan: time from one animation frame to the next while the wheel turns, or the pointer
  drags, without a pause for 3 seconds; and the page's own JavaScript, a frame, which is what
  remains where drawing costs nothing;
* colour: from the choice of another colouring until the frame that paints it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WATCH_CARD = """() => {
  window.seen = [];
  let moved = 0;
  const note = () => { moved ||= performance.now(); };
  document.getElementById("map").addEventListener("mousemove", note, true);
  new MutationObserver(() => {
    if (!moved) return;
    const start = moved, changed = performance.now();
    moved = 0;
    requestAnimationFrame(() => setTimeout(() =>
      window.seen.push([changed - start, performance.now() - start])));
  }).observe(document.getElementById("card"), { childList: true });
  window.ready = () => { moved = 0; };
}"""
WATCH_FRAMES = """() => {
  window.frames_ = [];
  window.watching = true;
  let last = performance.now();
  const tick = (now) => {
    window.frames_.push(now - last);
    last = now;
    if (window.watching) requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""
PLACES = """() => {
  const map = document.getElementById("map"), layout = map._fullLayout, data = map.data[0];
  const box = map.getBoundingClientRect(), step = Math.floor(data.x.length / 40);
  return Array.from({ length: 40 }, (_, n) => n * step).map((n) => [
    box.x + layout._size.l + layout.xaxis.d2p(data.x[n]),
    box.y + layout._size.t + layout.yaxis.d2p(data.y[n])]);
}"""
COLOUR = """(choice) => new Promise((done) => {
  const select = document.getElementById("colour"), start = performance.now();
  select.value = choice;
  select.dispatchEvent(new Event("change"));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 1),
        "max": round(ordered[-1], 1),
        "count": len(ordered),
    }


def frames(page: Page, act, seconds: float = 3) -> dict[str, float]:
    """Frame times while something is done again and again."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def scripted() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "ScriptDuration")

    before = scripted()
    page.evaluate(WATCH_FRAMES)
    ends = page.evaluate("() => performance.now()") + 1000 * seconds
    step = 0
    while page.evaluate("() => performance.now()") < ends:
        act(step)
        step += 1
    page.evaluate("() => { window.watching = false; }")
    found = spread(page.evaluate("() => window.frames_.slice(1)"))
    return found | {"script": round(1000 * (scripted() - before) / found["count"], 1)}


def measure(path: Path, chromium: str) -> dict[str, object]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(
            """addEventListener("DOMContentLoaded", () => {
              const map = document.getElementById("map");
              const note = () => {
                if (map.dataset.ready) window.readyAfter ??= performance.now();
              };
              new MutationObserver(note).observe(map, { attributes: true });
              note();
            })"""
        )
        page.goto(path.resolve().as_uri())
        page.wait_for_function("() => window.readyAfter", timeout=120_000)
        found: dict[str, object] = {
            "bytes": os.path.getsize(path),
            "points": page.evaluate("() => document.getElementById('map').data[0].x.length"),
            "drawn by": page.evaluate("() => document.getElementById('map').data[0].type"),
            "browser": f"Chromium {browser.version}",
            "ready": round(page.evaluate("() => window.readyAfter")),
        }
        page.locator("#map").scroll_into_view_if_needed()
        page.wait_for_timeout(1000)
        page.evaluate(WATCH_CARD)
        for x, y in page.evaluate(PLACES):
            page.evaluate("() => window.ready()")
            page.mouse.move(x, y)
            page.wait_for_timeout(250)
        seen = page.evaluate("() => window.seen")
        found["hover, card changed"] = spread([changed for changed, _ in seen])
        found["hover, card painted"] = spread([painted for _, painted in seen])
        box = page.locator("#map").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        found["zoom"] = frames(page, lambda n: page.mouse.wheel(0, -60 if n // 8 % 2 else 60))
        page.locator("#reset").click()
        page.wait_for_timeout(500)
        page.mouse.move(*middle)
        page.mouse.down()
        found["pan"] = frames(
            page, lambda n: page.mouse.move(middle[0] + 6 * (n % 20), middle[1] + 3 * (n % 20))
        )
        page.mouse.up()
        choices = page.locator("#colour option").evaluate_all("all => all.map((o) => o.value)")
        found["colour"] = spread(
            [page.evaluate(COLOUR, choice) for choice in (choices[1:] + choices[:1]) * 3]
        )
        browser.close()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.page, arguments.chromium), indent=2))
