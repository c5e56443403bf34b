"""A headless Chromium that reaches nothing but the loopback, and Swagger UI as a person uses it."""

import json
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait

from tests.acceptance.tools import program

_SECONDS = 40
_OPTIONS = (
    "--headless=new",
    "--window-size=1280,1600",
    # In a container neither a sandbox nor much shared memory is to be had.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def chromium():
    """A browser with a log of its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    driver.set_page_load_timeout(_SECONDS)
    return driver


class SwaggerPage:
    """The page at ``/docs``."""

    def __init__(self, driver, url):
        self._driver = driver
        self._wait = WebDriverWait(driver, _SECONDS, poll_frequency=0.1)
        driver.get(f"{url}/docs")
        self.one(driver, ".opblock")

    def one(self, within, selector):
        """The first visible element, once there is one."""
        return self._wait.until(
            lambda _: next(
                (e for e in within.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()),
                None,
            )
        )

    def click(self, within, selector):
        """Click it, once it can be clicked."""
        element = self.one(within, selector)
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self._wait.until(element_to_be_clickable(element)).click()

    def tags(self):
        """The headings, from top to bottom."""
        return [e.text for e in self._driver.find_elements(By.CSS_SELECTOR, ".opblock-tag a span")]

    def authorize(self, key):
        """Give the key, as the padlock asks for it."""
        self.click(self._driver, ".btn.authorize")
        self.one(self._driver, ".auth-container input").send_keys(key)
        self.click(self._driver, ".auth-btn-wrapper .authorize")
        self.click(self._driver, ".auth-btn-wrapper .btn-done")

    def operation(self, tag, name):
        """An operation, opened, with ``Try it out`` clicked."""
        block = self.one(self._driver, f"#operations-{tag}-{name}")
        self.click(block, ".opblock-summary-control")
        self.click(block, ".try-out__btn")
        return OpenOperation(self, block)

    def insert(self, text):
        """Put a text where the cursor is."""
        assert self._driver.execute_script(
            "return document.execCommand('insertText', false, arguments[0])", text
        )

    def requested_hosts(self):
        """The hosts that the page has asked anything of."""
        entries = [json.loads(entry["message"]) for entry in self._driver.get_log("performance")]
        urls = [
            entry["message"]["params"]["request"]["url"]
            for entry in entries
            if entry["message"]["method"] == "Network.requestWillBeSent"
        ]
        return {urlsplit(url).netloc for url in urls if not url.startswith(("data:", "blob:"))}

    def photograph(self, path):
        """Keep what is to be seen as a PNG."""
        assert self._driver.save_screenshot(str(path))

    def complaints(self):
        """What the browser says of the page: errors of scripts, and what its policy forbids."""
        return [entry["message"] for entry in self._driver.get_log("browser")]


class OpenOperation:
    """The form of one operation."""

    def __init__(self, page, block):
        self._page = page
        self._block = block

    def fill(self, name, text):
        """Type a parameter."""
        self._type(f"tr[data-param-name='{name}'] input", text)

    def write(self, body):
        """Type the body, instead of the example that is there."""
        self._type("textarea.body-param__text", body)

    def attach(self, path):
        """Choose the file of a form."""
        self._page.one(self._block, "input[type=file]").send_keys(str(path))

    def _type(self, selector, text):
        field = self._page.one(self._block, selector)
        field.send_keys(Keys.CONTROL, "a")
        # As if pasted: the page draws itself anew for each key.
        self._page.insert(text)

    def execute(self):
        """Send it; the status and the body that the page shows."""
        for button in self._block.find_elements(By.CSS_SELECTOR, ".btn-clear"):
            button.click()
        self._page.click(self._block, ".btn.execute")
        shown = self._page.one(self._block, ".live-responses-table .response")
        status = self._page.one(shown, ".response-col_status").text
        return status.split()[0], self._page.one(shown, ".highlight-code code").text
