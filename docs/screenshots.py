"""Take the screenshots of docs/report.md: python docs/screenshots.py report.html docs."""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SIZES = {"report-desktop": (1200, 1500, "light"), "report-phone": (360, 1400, "dark")}

with sync_playwright() as driver:
    browser = driver.chromium.launch(
        executable_path=shutil.which("chromium"),
        args=["--no-sandbox", "--enable-unsafe-swiftshader"],
    )
    for name, (width, height, scheme) in SIZES.items():
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(Path(sys.argv[1]).resolve().as_uri())
        page.wait_for_selector("#map[data-ready]")
        page.locator("#next").click()
        page.wait_for_timeout(1500)
        file = Path(sys.argv[2]) / f"{name}.png"
        page.screenshot(path=file)
        Image.open(file).convert("RGB").quantize(192).save(file, optimize=True)
    browser.close()
