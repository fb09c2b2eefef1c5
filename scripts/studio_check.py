"""Uses each page of the studio in Chromium as a person would, and takes screenshots in both widths, light and dark.

    python3 scripts/studio_check.py PROGRAM FOLDER      # as `make studio-check` calls it

FOLDER gets a run, the pages' pictures, and nothing that is needed later. Only Python's standard library is used: Chromium's driver
speaks JSON over HTTP (https://www.w3.org/TR/webdriver2/).
"""

import base64
import json
import math
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

WIDE, NARROW, HEIGHT = 1600, 380, 1000
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard has for an element
PATIENCE = 40  # seconds


class Browser:
    def __init__(self, driver, *options):
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--force-prefers-reduced-motion", *options]
        chrome = {"args": arguments, "prefs": {}}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}}
        self.driver = driver
        self.session = ""
        answer = self.call("POST", "/session", {"capabilities": capabilities})
        self.session = f"/session/{answer['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.driver + self.session + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command, **parameters):
        self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def find(self, xpath):
        return self.call("POST", "/element", {"using": "xpath", "value": xpath})

    def click(self, xpath):
        self.call("POST", f"/element/{self.find(xpath)[ELEMENT]}/click", {})

    def type(self, xpath, text):
        element = self.find(xpath)[ELEMENT]
        self.call("POST", f"/element/{element}/clear", {})
        self.call("POST", f"/element/{element}/value", {"text": text})

    def text(self):
        return self.run("return document.body.innerText")

    def wait(self, what, found):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"{self.text()}\n\nstill waiting for: {what}")

    def wait_for_text(self, text):
        self.wait(text, lambda: text in self.text())

    def choose(self, label, value):
        script = "const e = document.querySelector(`[aria-label='${arguments[0]}']`); if (e) e.value = arguments[1]; return e?.value"
        self.wait(f"{value} in {label}", lambda: self.run(script, label, value) == value)

    def size(self, width, dark):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def pictures(self, folder, name):
        """The page in both widths; nothing may stand out of it."""
        for width, dark in (WIDE, False), (NARROW, False), (WIDE, True):
            self.size(width, dark)
            self.run("scrollTo(0, 0)")
            time.sleep(0.3)
            scrolls = self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert scrolls <= 0, f"{name}: {scrolls} pixels too wide at {width}"
            picture = base64.b64decode(self.call("GET", "/screenshot"))
            (folder / f"{name}-{width}{'-dark' if dark else ''}.png").write_bytes(picture)
        self.size(WIDE, False)


def unnamed(browser):
    """Controls without a name for a screen reader."""
    return browser.run("""
        const named = (e) => e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim() || e.title || e.closest('[role=img]')?.getAttribute('aria-label');
        return [...document.querySelectorAll('button, input, select, textarea, canvas')].filter((e) => !named(e)).map((e) => e.outerHTML)""")


def runs(browser, folder):
    browser.wait_for_text("runs/first")
    browser.wait("a curve", lambda: browser.run("return document.querySelectorAll('.curves canvas').length") == 1)
    # A new run from a text; the page follows it to its end.
    browser.type("//textarea", "the cat sat on the mat. " * 60)
    browser.wait_for_text("different characters")
    browser.type("//label[contains(., 'Name')]//input", "from-page")
    browser.run("""
        const goal = [...document.querySelectorAll('label')].find((e) => e.textContent.startsWith('Train')).querySelector('select');
        goal.value = 'nano'; goal.dispatchEvent(new Event('change'))""")
    browser.type("//label[contains(., 'Steps')]//input", "40")
    browser.click("//button[text()='What would it need?']")
    browser.wait_for_text("million parameters, ")
    browser.click("//button[text()='Train']")
    browser.wait_for_text("step 40 of 40")
    browser.wait_for_text("Sample at step")
    curves = "return Number(document.querySelector('.curves').dataset.curves)"
    browser.wait("two runs over each other", lambda: browser.run(curves) == 4)
    browser.run("location.reload()")
    browser.wait("the newest run alone, after a reload", lambda: browser.run(curves) == 2)
    browser.click("//label[contains(., 'runs/first')]//input")
    browser.wait("both again", lambda: browser.run(curves) == 4)
    browser.pictures(folder, "runs")


def playground(browser, folder):
    browser.choose("Model", "runs/first")
    browser.type("//textarea", "ROMEO:")
    browser.type("//label[contains(., 'Tokens')]//input", "40")
    browser.click("//button[text()='Generate']")
    count = "return document.querySelectorAll('button.token').length"
    browser.wait("forty tokens", lambda: browser.run(count) == 40)
    browser.click("(//button[contains(@class, 'token')])[6]")
    shares = "return [...document.querySelectorAll('.bars output')].map((e) => parseFloat(e.textContent) / 100)"
    plain = browser.run(shares)
    assert len(plain) == 12 and plain == sorted(plain, reverse=True), plain
    # The slider against softmax computed here: probabilities to the power 1/T.
    browser.run("""
        const slider = [...document.querySelectorAll('label')].find((e) => e.textContent.includes('Temperature')).querySelector('input');
        slider.value = 0.5; slider.dispatchEvent(new Event('input'))""")
    squared = browser.run(shares)
    for index in range(1, 4):
        expected = (plain[index] / plain[0]) ** 2
        assert math.isclose(squared[index] / squared[0], expected, abs_tol=0.01), (plain, squared)
    kept = browser.run("return [...document.querySelectorAll('button.token')].slice(0, 5).map((e) => e.textContent)")
    branch = browser.run("return document.querySelectorAll('.bars button')[2].textContent")
    browser.click("(//div[@class='bars']//button)[3]")
    browser.wait("the branch", lambda: browser.run(count) == 46)
    now = browser.run("return [...document.querySelectorAll('button.token')].map((e) => e.textContent)")
    assert now[:5] == kept and now[5].replace(" ", "␣") == branch, (kept, branch, now[:6])
    browser.click("(//button[contains(@class, 'token')])[9]")
    browser.pictures(folder, "playground")


def inside(browser, folder):
    browser.choose("Model", "runs/first")
    browser.wait_for_text("Logit lens")
    browser.type("//textarea", "To be, or not to be")
    browser.click("//button[text()='Look']")
    browser.wait_for_text("19 tokens")
    browser.wait_for_text("looks at")
    browser.click("(//div[@aria-label='Heads']//button)[2]")
    browser.wait_for_text("Head 0.1")
    browser.click("(//div[@aria-label='Tokens; choose a position']//button)[4]")
    browser.wait_for_text("(position 3) looks at")
    browser.click("//button[text()='Patch']")
    browser.wait_for_text("blocks.0.resid_pre")
    # The vectors: T has neighbours, which are not T itself.
    neighbours = browser.run("return document.querySelector(\"table[aria-label='Neighbours']\").innerText")
    assert re.search(r"\d\.\d\d ·", neighbours), neighbours
    browser.pictures(folder, "inside")


def tokens(browser, folder):
    browser.wait_for_text("gpt2: ")
    browser.type("//textarea", "Hello, wörld! 12345 tokenization 😀".replace("😀", ""))
    browser.wait_for_text("cl100k: ")
    browser.run("""
        const slider = document.querySelector('input[type=range]');
        slider.value = 4; slider.dispatchEvent(new Event('input'))""")
    browser.wait("merges", lambda: re.search(r"4 of \d\d?", browser.text()))
    browser.pictures(folder, "tokens")


def course(browser, folder):
    browser.wait_for_text("What to type" if "What to type" in browser.text() else "not yet")
    browser.click("//ul[@class='days']//li[5]//button")
    browser.wait_for_text("mlx-gpt lesson check 4")
    # Without the division by its square root, a large head chooses one key.
    largest = lambda: float(re.search(r"largest weight ([\d.]+) %", browser.text())[1])
    browser.wait_for_text("largest weight")
    divided = largest()
    browser.click("//label[contains(., 'divide by')]//input")
    browser.wait("a softmax that has become a choice", lambda: largest() > 1.5 * divided)
    for day, text in (5, "[B, H, T, D] = [32, 4, 64, 16]"), (9, "would say after"):
        browser.click(f"//ul[@class='days']//li[{day + 1}]//button")
        browser.wait_for_text(text)
    browser.click("//ul[@class='days']//li[9]//button")
    browser.wait("both ways down", lambda: browser.run("return document.querySelector('.live .curves')?.dataset.curves") == "2")
    browser.pictures(folder, "course")


def main():
    program, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TERM": "dumb"}
    small = "--layers 3 --heads 4 --embd 64 --context 64 --batch-size 8 --eval-every 40 --eval-batches 2 --save-every 80 --steps 240"
    train = [program, "train", "--out", "runs/first", "--device", "cpu", *small.split()]
    subprocess.run(train, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = subprocess.Popen([program, "studio", "--no-open"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        port = next(match[1] for match in (re.search(r"successfully on port (\d+)", line) for line in driver.stdout) if match)
        browser = Browser(f"http://127.0.0.1:{port}")
        browser.size(WIDE, False)
        for page in (runs, playground, inside, tokens, course):
            started = time.monotonic()
            browser.call("POST", "/url", {"url": f"{url}#{page.__name__}"})
            page(browser, folder)
            assert not unnamed(browser), unnamed(browser)
            print(f"{page.__name__:<11} used as a person would, in {time.monotonic() - started:.1f} s")
        severe = [entry for entry in browser.call("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]
        assert not severe, severe
        paint = browser.run("return performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        print(f"first paint after {paint:.0f} ms; pictures in {folder}")
        browser.call("DELETE", "")
    finally:
        driver.terminate()
        server.terminate()


if __name__ == "__main__":
    main()
