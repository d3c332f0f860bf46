"""The report in a real browser: nothing fails, nothing overflows, everything can be read, in light, dark and print."""

import base64
import importlib.util
import shutil

import pytest

from hfcompress.measure.report import report_available, write_report
from tests.measure.report.measured import realistic

MISSING = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
MISSING += [] if importlib.util.find_spec("selenium") else ["selenium"]
MISSING += [] if report_available() else ["matplotlib"]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

# Contrast of each visible text with the nearest opaque ground, by the formula of WCAG 2.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const parts = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = "#000"; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = (colour) => colour.slice(0, 3)
  .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parts(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const unseen = element.closest("script, title, .skip") || !element.checkVisibility();
  if (!walker.currentNode.data.trim() || unseen) continue;
  const style = getComputedStyle(element);
  // What is written on coloured bars has its own test.
  const inSvg = element.closest("svg");
  if (inSvg && element.getAttribute("style").includes("#0b0c0d")) continue;
  const ink = luminance(parts(inSvg ? style.fill : style.color)), under = luminance(ground(inSvg || element));
  const ratio = (Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05);
  found.push([ratio, walker.currentNode.data.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report(*realistic(), folder)[0].as_uri()


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


def show(browser, page, width=1280, scheme="light"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page)


def test_nothing_fails_and_nothing_is_fetched(browser, page):
    browser.get_log("browser")
    browser.get_log("performance")
    show(browser, page)
    assert browser.get_log("browser") == []
    messages = [entry["message"] for entry in browser.get_log("performance")]
    sent = [message for message in messages if "Network.requestWillBeSent" in message]
    assert all('"url":"file:' in message or '"url":"data:' in message for message in sent)
    assert sent


@pytest.mark.parametrize("width", [1280, 400])
def test_page_fits_and_every_figure_is_seen(browser, page, width):
    show(browser, page, width)
    inner = browser.execute_script("return document.documentElement.clientWidth")
    assert width - 20 <= inner <= width
    assert browser.execute_script("return document.documentElement.scrollWidth") == inner
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('main svg')].map(s => [s.getBoundingClientRect().left,"
        " s.getBoundingClientRect().right, s.getBoundingClientRect().height])"
    )
    assert len(sizes) == 14
    for left, right, height in sizes:
        assert 0 <= left < right <= inner
        assert right - left > 250
        assert height > 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser, page, scheme):
    show(browser, page, scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")
    found = browser.execute_script(CONTRAST)
    assert len(found) > 300
    assert [text for ratio, text in found if ratio < 4.5] == []
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(254, 254, 254)", "dark": "rgb(20, 23, 27)"}[scheme]


def test_examples_are_filtered(browser, page):
    show(browser, page)
    rows = "return [...document.querySelectorAll('.examples tbody tr')].filter(row => !row.hidden).length"
    assert browser.execute_script(rows) == 7
    text = browser.find_element("id", "filter-text")
    text.send_keys("FUNNIER")
    assert browser.execute_script(rows) == 1
    assert browser.find_element("id", "filter-count").text == "1 of 7 rows"
    text.clear()
    text.send_keys("t")
    browser.find_element("css selector", "#filter-model option[value='1']").click()
    assert browser.execute_script(rows) == 4


def test_sections_are_reached_by_keyboard(browser, page):
    show(browser, page)
    reached = []
    for _ in range(10):
        browser.switch_to.active_element.send_keys("\ue004")
        reached.append(browser.execute_script("return document.activeElement.getAttribute('href')"))
    sections = ["table", "trade", "latency", "size", "layers", "ranks", "classes", "examples", "made"]
    assert reached == ["#main", *(f"#{name}" for name in sections)]


def test_print_is_light_whole_and_without_navigation(browser, page):
    show(browser, page, 720, "dark")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    seen = "return document.querySelector(arguments[0]).checkVisibility({contentVisibilityAuto: true})"
    assert not browser.execute_script(seen, "nav")
    assert not browser.execute_script(seen, ".filter")
    assert browser.execute_script("return document.querySelector('details table').getBoundingClientRect().height") > 200
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") >= 3
