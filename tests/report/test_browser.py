"""The page in a real headless Chromium: by pointer, by keyboard, on a phone, without a network; and
what a reader of PDF finds in a figure.
"""

import json
import shutil
import subprocess

import pytest

from scaling.report import looks, report
from scaling.report.paper import Paper

pytestmark = [
    pytest.mark.browser,
    # selenium asks its own process for its end, and does not wait for the pipes.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
RUNS = 15


@pytest.fixture(scope="module")
def written(width_study, tmp_path_factory):
    out = tmp_path_factory.mktemp("browser")
    report(width_study[0], out, paper=Paper(("pdf",), looks.paper("one")), holdout=False)
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    profile = tmp_path_factory.mktemp("profile")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, written):
    browser.set_window_size(1200, 900)
    browser.get((written / "index.html").as_uri())
    return browser


def find(page, selector):
    return page.find_elements("css selector", selector)


def choose(page, name, text):
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", f"explore-{name}")).select_by_visible_text(text)


def points(page):
    return find(page, "#explore-plot path")


def press(page, *keys):
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        page.switch_to.active_element.send_keys(getattr(Keys, key))


def test_the_page_asks_nobody_and_complains_of_nothing(page):
    page.get_log("performance")  # with the browser's own first tab, which is let go
    page.refresh()
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    messages = [json.loads(e["message"])["message"] for e in page.get_log("performance")]
    asked = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    schemes = {of["request"]["url"].partition(":")[0] for of in asked}
    assert "file" in schemes  # the page itself
    assert schemes <= {"file", "data"}


def test_a_run_under_the_pointer_says_its_values(page):
    from selenium.webdriver.common.action_chains import ActionChains

    assert len(points(page)) == RUNS
    last = points(page)[-1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", last)
    ActionChains(page).move_to_element(last).perform()
    [tip] = find(page, ".explore-tip")
    assert tip.is_displayed()
    assert tip.text == last.get_attribute("aria-label")
    assert "loss" in tip.text
    assert "parameters" in tip.text


def test_by_keyboard_alone_a_run_is_found_opened_and_hidden(page):
    page.execute_script("document.querySelector('#explore-plot path').focus()")
    first = page.switch_to.active_element.get_attribute("aria-label")
    press(page, "ARROW_RIGHT")
    second = page.switch_to.active_element.get_attribute("aria-label")
    assert second != first
    press(page, "ENTER")
    [name] = [head.text for head in find(page, "#explore-run h3")]
    assert second.endswith(name)
    assert len(find(page, "#explore-run polyline")) == 1  # its curve
    rows = {r.text.split()[0] for r in find(page, "#explore-run tr")}
    assert {"parameters", "seed"} <= rows
    [hide] = find(page, "#explore-run button")
    hide.send_keys("\n")
    assert len(points(page)) == RUNS - 1
    [again] = find(page, "#explore-all")
    assert again == page.switch_to.active_element
    press(page, "ENTER")
    assert len(points(page)) == RUNS


def test_axes_scales_and_groups_can_be_chosen(page):
    before = [p.get_attribute("transform") for p in points(page)]
    page.find_element("id", "explore-logx").click()
    linear = [p.get_attribute("transform") for p in points(page)]
    assert linear != before
    choose(page, "x", "training FLOPs")
    choose(page, "group", "seed")
    assert "training FLOPs" in page.find_element("id", "explore-plot").text
    looks = {(p.get_attribute("d"), p.get_attribute("fill")) for p in points(page)}
    assert len(looks) == 3  # seeds differ in colour and in shape
    assert len({d for d, _ in looks}) == 3
    legend = find(page, "#explore-legend button")
    assert len(legend) == 3
    legend[0].click()
    assert len(points(page)) == RUNS * 2 // 3
    assert find(page, "#explore-legend button")[0].get_attribute("aria-pressed") == "false"


def test_a_row_of_the_table_opens_its_run(page):
    link = find(page, "table.runs a[data-run]")[3]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    assert [h.text for h in find(page, "#explore-run h3")] == [link.get_attribute("data-run")]


def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", points(page)[-1])
        points(page)[-1].click()
        assert find(page, "#explore-run h3")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_reader_of_pdf_finds_the_labels(written):
    figure = written / "figures" / "paper" / "loss-params.pdf"
    text = subprocess.run(
        ["pdftotext", "-layout", figure, "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "parameters" in text
    assert "mean over seeds" in text
    made = subprocess.run(["pdfinfo", figure], capture_output=True, text=True, check=True).stdout
    assert looks.made_by() in made.replace("\n", " ")
