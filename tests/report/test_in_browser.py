"""The page in a real browser: it draws, sorts, filters and marks, says nothing to anybody, and looks right on a phone.

Screenshots are left in build/screenshots/.
"""

import base64
import csv
import io
import json
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from inferometer.cli.explain import metrics_document
from inferometer.core.record import Finding
from inferometer.report.html_page import render

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --force-device-scale-factor=1"
)

pytestmark = pytest.mark.skipif(
    PROGRAM is None or DRIVER is None,
    reason="needs chromium and its driver: apt-get install chromium chromium-driver",
)


class Browser:
    """One page of ours at a time. `problems`: what the console said; `asked`: every address that the page asked for."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.binary_location = PROGRAM or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, file: Path, *, width: int = 1280, height: int = 900, theme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # empties it
        self.driver.get(file.as_uri())
        self.run("try { localStorage.clear() } catch {}")

    @property
    def problems(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    @property
    def asked(self) -> set[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def choose(self, selector: str, value: str) -> None:
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1]; "
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind))",
            selector,
            value,
        )

    def texts(self, selector: str) -> list[str]:
        """Of those that are seen."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
            ".map(e => e.textContent.trim())",
            selector,
        )

    def style(self, selector: str, name: str) -> str:
        return self.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)

    def screenshot(self, name: str) -> None:
        """The whole page, so far as a picture of 16,000 pixels holds it."""
        width, height = self.run("const e = document.documentElement; return [e.clientWidth, e.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16_000), "scale": 1}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory, make) -> Path:
    folder = tmp_path_factory.mktemp("study")
    file = folder / "report.html"
    file.write_text(render(make.page(folder / "s", make.two_arms()), "0", metrics_document()), encoding="utf-8")
    return file


def test_the_page_asks_nobody_for_anything_and_the_console_is_silent(browser: Browser, report: Path):
    browser.open(report)
    for option in browser.run("return [...document.querySelectorAll('select')].map(s => '#' + s.id)"):
        browser.run("const s = document.querySelector(arguments[0]); s.selectedIndex = s.options.length - 1; "
                    "s.dispatchEvent(new Event('change'))", option)  # fmt: skip
    assert browser.problems == []
    assert {address.partition(":")[0] for address in browser.asked} <= {
        "file",
        "data",
        "chrome",
    }  # the last: its own empty tab


def test_every_picture_has_drawn(browser: Browser, report: Path):
    browser.open(report)
    sizes = browser.run(
        "return [...document.querySelectorAll('svg.picture')].filter(e => e.checkVisibility()).map(e => {"
        "  const marks = [...e.querySelectorAll('path, rect, circle')].map(m => m.getBBox());"
        "  return [e.getBoundingClientRect().width, e.getBoundingClientRect().height,"
        "          marks.filter(b => b.width > 0 || b.height > 0).length, e.querySelectorAll('text').length] })"
    )
    assert len(sizes) == 1 + 8 + 1 + 6 + 2 + 1  # ranking, spread, tokens, over time, acceptance, memory
    for width, height, marks, texts in sizes:
        assert width > 300 and height > 100 and marks > 4 and texts > 4
    fills = browser.run("return [0, 1].map(i => getComputedStyle(document.querySelector('.picture .fill-' + i)).fill)")
    assert fills == ["rgb(0, 114, 178)", "rgb(213, 94, 0)"]


def test_another_request_s_tokens_and_another_trial_can_be_chosen(browser: Browser, report: Path):
    browser.open(report)
    assert browser.texts("#timelines figcaption") == ["r2 (python, write); stall 300 ms"]  # the longest stall first
    browser.choose("#timeline-choice", "5")
    assert browser.texts("#timelines figcaption") == ["r4 (python, write)"]
    browser.choose("#run-choice", "3")
    assert browser.run("return document.querySelector('#runs .chosen').dataset.choice") == "3"
    assert len(browser.texts("#runs figcaption")) == 6


def rows(browser: Browser) -> list[str]:
    return browser.texts("#requests-table .head td:first-child span")


def test_the_table_of_requests_sorts_by_numbers_and_by_words_both_ways(browser: Browser, report: Path):
    browser.open(report)
    assert rows(browser) == [f"r{i}" for i in range(8)]
    heads = browser.texts("#requests-table th[aria-sort]")
    ttft = heads.index("TTFT ms")
    browser.click(f'#requests-table th[data-column="{ttft}"] button')
    assert rows(browser) == [f"r{i}" for i in range(8)]  # 100, 110, … 170 ms
    browser.click(f'#requests-table th[data-column="{ttft}"] button')
    assert rows(browser) == [f"r{i}" for i in reversed(range(8))]
    assert browser.run("return [...document.querySelectorAll('#requests-table [aria-sort]:not([aria-sort=none])')]"
                       ".map(e => [e.textContent.trim(), e.ariaSort])") == [["TTFT ms", "descending"]]  # fmt: skip
    browser.click('#requests-table th[data-column="1"] button')  # by language: go before python
    assert rows(browser)[:4] == ["r7", "r5", "r3", "r1"]


def test_the_table_of_requests_is_filtered_by_words_and_by_kind(browser: Browser, report: Path):
    browser.open(report)
    browser.choose("#filter-text", "GO what is 3?")
    assert rows(browser) == ["r3"] and browser.texts("#filter-count") == ["1 of 8 requests"]
    browser.choose("#filter-text", "(x, ")  # only in an answer
    assert rows(browser) == ["r1"]
    browser.choose("#filter-text", "")
    browser.choose("#filter-kind", "differs")
    assert rows(browser) == ["r1"]
    browser.choose("#filter-kind", "failed")
    assert rows(browser) == [] and browser.texts("#filter-count") == ["0 of 8 requests"]


def test_a_row_opens_by_keyboard_and_shows_the_answers_side_by_side_with_the_first_difference_marked(
    browser: Browser, report: Path
):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    assert browser.texts("#texts-2") == []
    opener = browser.driver.find_element(By.CSS_SELECTOR, '[aria-controls="texts-2"]')
    opener.send_keys(Keys.ENTER)
    assert opener.get_attribute("aria-expanded") == "true"
    assert browser.texts("#texts-2 mark") == ["a", "x"]  # `def add(a, ` and `def add(x, `
    shared = browser.texts("#texts-2 .shared")
    assert shared == ["def add(", "def add("]
    left, right = browser.run("return [...document.querySelectorAll('#texts-2 .outputs pre')].map(e => e.offsetLeft)")
    assert right > left + 300
    opener.send_keys(Keys.SPACE)
    assert browser.texts("#texts-2") == []


def luminance(colour: str) -> float:
    """Of WCAG 2.2, from `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out_from_the_ground_in_either_theme(browser: Browser, report: Path, theme: str):
    """4.5 to 1 for text and 3 to 1 for what a picture needs, as WCAG 2.2 asks."""
    browser.open(report, theme=theme)
    ground = browser.style("body", "backgroundColor")
    assert (luminance(ground) > 0.5) == (theme == "light")
    for selector in ("body", ".about", "figcaption span", ".kind.note", "nav a"):
        assert contrast(browser.style(selector, "color"), ground) >= 4.5, selector
    for i in range(8):
        colour = browser.run(
            "const e = document.createElement('i'); document.body.append(e);"
            "e.style.color = `var(--arm-${arguments[0]})`; return getComputedStyle(e).color",
            i,
        )
        assert contrast(colour, ground) >= 3, i


def test_the_theme_can_be_switched_against_the_system_s(browser: Browser, report: Path):
    browser.open(report, theme="light")
    grounds = []
    for _ in range(3):
        browser.click("#theme")
        is_light = luminance(browser.style("body", "backgroundColor")) > 0.5
        grounds.append((browser.texts("#theme")[0].split()[-1], is_light))
    assert grounds == [("Light", True), ("Dark", False), ("Auto", True)]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_hangs_over_the_edge_of_the_screen(browser: Browser, report: Path, width: int, theme: str):
    browser.open(report, width=width, theme=theme)
    browser.click('[aria-controls="texts-2"]')
    assert browser.run("return document.documentElement.scrollWidth") == width
    sizes = browser.run(
        "return [...document.querySelectorAll('svg.picture text')].filter(e => e.checkVisibility())"
        ".map(e => e.getBoundingClientRect()).map(b => [b.height, b.left, b.right])"
    )
    assert min(height for height, _, _ in sizes) > 10
    assert all(left >= -1 and right <= width + 1 for _, left, right in sizes)
    browser.screenshot(f"report-{width}-{theme}")


def test_everything_that_acts_has_a_name_and_can_be_reached_by_keyboard(browser: Browser, report: Path):
    browser.open(report)
    nameless = browser.run(
        "return [...document.querySelectorAll('button, select, input, a')].filter(e => e.checkVisibility())"
        ".filter(e => !(e.textContent.trim() || e.labels?.length) || e.tabIndex < 0).map(e => e.outerHTML.slice(0, 99))"
    )
    assert nameless == []
    wide = browser.run(
        "return [...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 &&"
        " ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.tabIndex < 0 && e.tagName !== 'NAV')"
        ".map(e => e.outerHTML.slice(0, 99))"
    )
    assert wide == []


def test_on_paper_the_page_is_light_without_its_controls(browser: Browser, report: Path):
    browser.open(report, theme="dark")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert luminance(browser.style("body", "backgroundColor")) > 0.9
    assert browser.texts("header, .controls, .copy, .tools, .anchor") == []
    assert len(browser.texts("#timelines figcaption")) == 1
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_what_ran_is_copied(browser: Browser, report: Path):
    browser.open(report)
    browser.run("window.copied = ''; navigator.clipboard.writeText = async (text) => { window.copied = text }")
    browser.click("button.copy")
    copied = browser.run("return window.copied")
    assert "cpu_cores_logical: 2  (psutil)" in copied and "name: By hand" in copied
    assert browser.texts("button.copy") == ["Copied"]


def test_hostile_text_does_nothing_in_the_browser(browser: Browser, make, tmp_path: Path):
    evil = "</script><script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=\"document.title=1\">"
    arms = {name: [make.trial([make.record(0, words=(evil, "\u202eend"), request_id=evil)])] for name in ("a", evil)}
    found = make.page(tmp_path / "s", arms)
    file = tmp_path / "evil.html"
    file.write_text(render(found), encoding="utf-8")
    browser.open(file)
    browser.click(".open-it")
    assert browser.run("return document.title") == "By hand – Inferometer"
    assert browser.run("return document.querySelectorAll('img, script:not(:last-child)').length") == 0
    assert evil in browser.texts("#texts-1 pre")[1]
    assert browser.problems == []
    assert {address.partition(":")[0] for address in browser.asked} <= {
        "file",
        "data",
        "chrome",
    }  # the last: its own empty tab


def test_the_policy_stops_a_script_that_got_in(browser: Browser, report: Path, tmp_path: Path):
    """What escaping should have kept out is put into the file by hand."""
    text = report.read_text(encoding="utf-8")
    file = tmp_path / "broken.html"
    file.write_text(text.replace("</h1>", "<script>document.title='owned'</script></h1>", 1), encoding="utf-8")
    browser.open(file)
    assert "owned" not in browser.run("return document.title")
    assert any("Content Security Policy" in problem for problem in browser.problems)


@pytest.mark.parametrize("kind", ["one arm", "four arms", "failed", "no samples"])
def test_other_studies_have_a_page_without_complaint(browser: Browser, make, tmp_path: Path, kind: str):
    good = [make.trial([make.record(i) for i in range(4)], n) for n in (1, 2)]
    bad = [make.trial([make.failed(0)], state="failed", error="no engine", plan_started_ns=None)]
    arms = {
        "one arm": {"only": good[:1]},
        "four arms": {name: make.two_arms(4, 2)["draft"] for name in ("a", "b draft", "c " + "long " * 12, "d")},
        "failed": {"good": good, "bad": bad},
        "no samples": {"a": good, "b": good},
    }[kind]
    file = tmp_path / "report.html"
    file.write_text(render(make.page(tmp_path / "s", arms)), encoding="utf-8")
    for width in (390, 1280):
        browser.open(file, width=width)
        assert browser.run("return document.documentElement.scrollWidth") == width
        browser.screenshot(f"{kind.replace(' ', '-')}-{width}")
    assert browser.problems == []


# --- the answer, the marks and the files ----------------------------------------------------------


def many_arms(make, count: int) -> dict[str, Any]:
    speeds = [1.0, 0.8, 1.3, 0.95, 1.1, 0.7, 1.5, 0.6][:count]
    return {
        f"arm {place}, a set-up with a long name": [
            make.trial([make.record(i, ttft_ms=100 / speed + n, gaps_ms=20 / speed) for i in range(4)], n)
            for n in (1, 2, 3)
        ]
        for place, speed in enumerate(speeds)
    }


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_answer_needs_no_scrolling(browser: Browser, make, tmp_path: Path, count: int):
    found = make.page(tmp_path / "s", many_arms(make, count))
    differs = (f"--cache-type-k q8_0 --cache-type-v q8_0 {i}" for i in range(count))
    set_ups = tuple(
        msgspec.structs.replace(a, differs=(d,)) for a, d in zip(found.comparison.set_ups, differs, strict=True)
    )
    warnings = tuple(Finding("warning", f"kind-{i}", f"warning {i}: {'the machine was busy ' * 3}.") for i in range(3))
    comparison = msgspec.structs.replace(found.comparison, set_ups=set_ups, findings=warnings)
    file = tmp_path / "report.html"
    file.write_text(render(msgspec.structs.replace(found, comparison=comparison)), encoding="utf-8")
    browser.open(file, height=800)
    ends = browser.run(
        "return ['.verdict', '.answer svg.wide', '.set-ups', '.cautions'].map(s => [s,"
        " document.querySelector(s).getBoundingClientRect().bottom])"
    )
    assert [part for part, bottom in ends if not 0 < bottom <= 800] == []
    browser.screenshot(f"first-screen-{count}")


def test_every_picture_tells_its_values_to_the_keyboard_and_the_pointer(browser: Browser, report: Path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open(report)
    pictures = [one for one in browser.driver.find_elements(By.CSS_SELECTOR, "svg.picture") if one.is_displayed()]
    assert len(pictures) == 19
    for picture in pictures:
        browser.run(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'}); arguments[0].focus()", picture
        )
        picture.send_keys(Keys.END, Keys.ARROW_LEFT)
        # The page moved below the pointer: a busy browser notices later, and then hides the value at the pointer.
        by_key = WebDriverWait(browser.driver, 10).until(
            lambda _, own=picture: browser.texts("#tip.shown") or own.send_keys(Keys.ARROW_LEFT)
        )
        assert any(char.isdigit() for char in by_key[0]), picture.get_attribute("aria-label")
        ring = picture.find_element(By.CSS_SELECTOR, ".at")
        ActionChains(browser.driver).move_to_element(ring).perform()
        assert any(char.isdigit() for char in browser.texts("#tip.shown")[0])
        picture.send_keys(Keys.ESCAPE)
        assert browser.texts("#tip.shown") == []


def test_a_timeline_is_zoomed_by_buttons_and_keys_and_shows_the_whole_again(browser: Browser, report: Path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    picture = browser.driver.find_element(By.CSS_SELECTOR, "#timelines .chosen svg.wide")

    def ticks() -> list[float]:
        return [float(text) for text in browser.texts("#timelines .chosen svg.wide .ticks text")]

    whole = ticks()
    browser.click('#timelines .chosen button[aria-label^="Zoom in"]')
    near = ticks()
    assert len(near) > 1 and near[-1] - near[0] < 0.7 * (whole[-1] - whole[0]) and near[0] > 0
    picture.send_keys(Keys.HOME)
    first = browser.texts("#tip")[0]
    picture.send_keys(Keys.ARROW_RIGHT)
    assert browser.texts("#tip")[0] != first
    x = browser.run("return +document.querySelector('#timelines .chosen svg.wide .at').getAttribute('cx')")
    assert 12 <= x <= 1108
    picture.send_keys("0")
    assert ticks() == whole


def test_the_run_over_time_is_zoomed_in_all_its_pictures_together(browser: Browser, report: Path):
    browser.open(report)
    browser.click('#runs .chosen button[aria-label^="Zoom in"]')
    assert browser.run("return document.querySelectorAll('#runs .chosen svg.zoomed').length") == 6
    assert browser.run("return document.querySelectorAll('#runs .choice:not(.chosen) svg.zoomed').length") == 0


def test_sections_have_links_to_themselves(browser: Browser, report: Path):
    browser.open(report)
    links = browser.run("return [...document.querySelectorAll('a.anchor')].map(a => a.getAttribute('href').slice(1))")
    assert {"validity", "table", "tokens", "time", "ran", "definitions"} <= set(links)
    assert len(links) == len(set(links))
    missing = browser.run("return arguments[0].filter(id => !document.getElementById(id))", links)
    assert missing == []


SAVE = """
window.saved = [];
URL.createObjectURL = (blob) => { window.saved.push(blob); return "#" };
URL.revokeObjectURL = () => {};
const click = HTMLAnchorElement.prototype.click;
HTMLAnchorElement.prototype.click = function () {
  if (!this.download) click.call(this); else window.named = this.download;
};
"""


def saved(browser: Browser, button: str, where: str) -> tuple[str, bytes]:
    browser.run("window.saved = []")
    browser.click(f'{where} button[aria-label="Save this picture{button}"]')
    content = browser.run(
        "for (let i = 0; i < 100 && !window.saved.length; i++) await new Promise(done => setTimeout(done, 20));"
        "const bytes = new Uint8Array(await window.saved[0].arrayBuffer());"
        "return btoa([...bytes].map(byte => String.fromCharCode(byte)).join(''))"
    )
    return browser.run("return window.named"), base64.b64decode(content)


@pytest.mark.parametrize("where", ["#verdict", "#timelines .chosen", "#memory"])
def test_a_picture_is_saved_as_svg_as_png_and_as_its_numbers(browser: Browser, report: Path, where: str):
    browser.open(report)
    browser.run(SAVE)
    name, drawn = saved(browser, " as SVG", where)
    root = ElementTree.fromstring(drawn.decode())
    assert name.endswith(".svg") and root.tag.endswith("svg")
    assert ("var(--" not in drawn.decode() and "fill: rgb(" in drawn.decode()) or "fill: #" in drawn.decode()
    name, image = saved(browser, " as PNG", where)
    width, height = struct.unpack(">II", image[16:24])
    assert name.endswith(".png") and image.startswith(b"\x89PNG") and width > 800 and height > 100
    name, numbers = saved(browser, "'s numbers as CSV", where)
    rows = list(csv.reader(io.StringIO(numbers.decode())))
    assert name.endswith(".csv") and len(rows) > 2 and len({len(row) for row in rows}) == 1
    assert browser.problems == []


def test_each_table_is_copied_as_markdown(browser: Browser, report: Path):
    browser.open(report)
    browser.run("window.copied = ''; navigator.clipboard.writeText = async (text) => { window.copied = text }")
    browser.click("#table .tools button")
    lines = browser.run("return window.copied").splitlines()
    assert lines[0].startswith("| Metric | baseline") and lines[1].startswith("| :--- | ---: |")
    assert any(line.startswith("| Output token throughput (tok/s) |") for line in lines)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    without = browser.run(
        "return [...document.querySelectorAll('.scroll')]"
        ".filter(e => !e.previousElementSibling?.matches('.tools')).length"
    )
    assert without == 0


def test_the_name_of_a_metric_leads_to_its_definition(browser: Browser, report: Path):
    browser.open(report)
    links = browser.run(
        "return [...document.querySelectorAll('.numbers tbody th a')].map(a =>"
        " [a.textContent, document.querySelector(a.getAttribute('href')).textContent])"
    )
    found = dict(links)
    assert "first output event − sent" in found["Median TTFT (ms)"]
    assert len(links) == len(browser.texts(".numbers tbody th"))


@pytest.mark.parametrize("count", [2, 4])
def test_on_a_narrow_screen_every_verdict_is_in_sight(browser: Browser, make, tmp_path: Path, count: int):
    file = tmp_path / "report.html"
    file.write_text(render(make.page(tmp_path / "s", many_arms(make, count))), encoding="utf-8")
    browser.open(file, width=500)
    assert browser.run("return document.documentElement.scrollWidth") == 500
    edges = browser.run(
        "return [...document.querySelectorAll('.numbers tbody td')].map(e => e.getBoundingClientRect())"
        ".map(b => [b.left, b.right])"
    )
    assert edges and all(left >= 0 and right <= 500 for left, right in edges)
    browser.screenshot(f"narrow-{count}")


def test_without_a_script_all_is_there_to_read(browser: Browser, report: Path):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.open(report)
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.texts("#texts-2 mark") == ["a", "x"]
    assert browser.texts(".controls, #theme, .tools, .anchor") == []
    assert browser.texts(".verdict p") and browser.texts(".set-ups dt") == ["baseline", "draft"]
