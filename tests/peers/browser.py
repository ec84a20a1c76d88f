"""Headless browsers, driven without a library: Chromium through chromedriver (WebDriver is HTTP and JSON), Firefox through
Marionette, its own remote control (a length in decimal, a colon, and JSON, over TCP).

A page with an endless picture may never be "loaded", so nothing here waits for that.
"""

import base64
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

PATIENCE = 60

# Not through a proxy that the environment may name.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failure(Exception):
    """What a browser answers to a command that it cannot follow."""


class Browser:
    """What both can do. A command is a method, a path and a body as in WebDriver, which Marionette has other names for."""

    def go(self, url):
        raise NotImplementedError

    def run(self, script, *args):
        """The value of a function's body."""
        raise NotImplementedError

    def wait(self, what, script, *args, patience=PATIENCE):
        """Until the function's value is true; that value. `what` is for the person who reads that it never was."""
        deadline = time.monotonic() + patience
        while True:
            value = self.run(script, *args)
            if value:
                return value
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not within {patience} s")
            time.sleep(0.05)


class Chromium(Browser):
    # Whether what the network does is the page's fault.
    everything_counts = False

    def __init__(self, folder, width=800, height=700, mobile=False, scheme="light"):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.session = None
        try:
            self.begin(folder, width, height, mobile, scheme)
        except BaseException:
            self.end()
            raise

    def begin(self, folder, width, height, mobile, scheme):
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.port = int(line.rstrip().rstrip(".").rsplit(" ", 1)[1])
                break
        else:
            raise Failure("chromedriver does not start")
        options = {
            "args": [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-proxy-server",
                f"--window-size={width},{height}",
                f"--user-data-dir={folder}",
                *os.environ.get("CHROMIUM_ARGS", "").splitlines(),
            ]
            + (["--force-dark-mode"] if scheme == "dark" else []),
            "prefs": {"download.default_directory": str(folder)},
        }
        if mobile:
            options["mobileEmulation"] = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1}}
        capabilities = {
            "browserName": "chrome",
            "pageLoadStrategy": "none",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": options,
        }
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise Failure(f"{method} {path}: {error.read().decode()}") from None

    def command(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def go(self, url):
        self.command("POST", "/url", {"url": url})

    def run(self, script, *args):
        return self.command("POST", "/execute/sync", {"script": script, "args": list(args)})

    def click(self, selector):
        """As a person does: scripts may not fill the screen."""
        found = self.command("POST", "/element", {"using": "css selector", "value": selector})
        self.command("POST", f"/element/{next(iter(found.values()))}/click", {})

    def enter(self, selector, keys):
        """Keys on what has the focus then, in WebDriver's characters; for an <input type=file>, the path of the file."""
        found = self.command("POST", "/element", {"using": "css selector", "value": selector})
        self.command("POST", f"/element/{next(iter(found.values()))}/value", {"text": keys})

    def protocol(self, name, **values):
        """A command of the DevTools protocol."""
        return self.command("POST", "/goog/cdp/execute", {"cmd": name, "params": values})

    def before(self, script):
        """Runs it in front of all scripts of the pages to come; what to take it back by."""
        return self.protocol("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]

    def not_before(self, identifier):
        self.protocol("Page.removeScriptToEvaluateOnNewDocument", identifier=identifier)

    def throttle(self, bytes_per_second):
        """A slow link, for what comes. -1: none."""
        self.protocol("Network.enable")
        self.protocol(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=bytes_per_second, uploadThroughput=-1
        )

    def screenshot(self):
        return base64.b64decode(self.command("GET", "/screenshot"))

    def another(self, kind="window"):
        """Opens another page, and turns to it. A "tab" is in front of this one, which is hidden then."""
        handle = self.command("POST", "/window/new", {"type": kind})["handle"]
        self.turn(handle)
        return handle

    def here(self):
        return self.command("GET", "/window")

    def turn(self, handle):
        self.command("POST", "/window", {"handle": handle})

    def hide(self):
        self.command("POST", "/window/minimize", {})

    def unhide(self):
        self.command("POST", "/window/rect", {"width": 800, "height": 700})

    def size(self, width, height):
        """As on a phone, whose window is as large as its screen."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self.command("POST", "/goog/cdp/execute", command)
        self.wait("the window has its size", "return innerWidth === arguments[0]", width)

    def complaints(self):
        """Errors of scripts and breaches of the page's own policy since this was last asked. What the network does is not
        the page's fault."""
        return [
            entry["message"]
            for entry in self.command("POST", "/se/log", {"type": "browser"})
            if entry["level"] in ("SEVERE", "WARNING") and (self.everything_counts or entry.get("source") != "network")
        ]

    def end(self):
        try:
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait()


class Firefox(Browser):
    def __init__(self, folder, width=800, height=700, mobile=False, scheme="light"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        prefs = {
            "marionette.port": port,
            "network.proxy.type": 0,
            "browser.download.folderList": 2,
            "browser.download.dir": str(folder),
            "browser.download.always_ask_before_handling_new_types": False,
            "ui.systemUsesDarkTheme": int(scheme == "dark"),
            # No question whether http://me:secret@box/ was meant.
            "network.auth.confirmAuth.enabled": False,
            # Nothing but the page.
            "app.update.enabled": False,
            "datareporting.policy.dataSubmissionEnabled": False,
            "browser.shell.checkDefaultBrowser": False,
            "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False,
        }
        with open(f"{folder}/user.js", "w") as file:
            file.writelines(f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in prefs.items())
        self.process = subprocess.Popen(
            ["firefox-esr", "--headless", "--marionette", "--no-remote", "--profile", folder,
             f"--width={width}", f"--height={height}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.number, self.buffer = 0, b""
        try:
            self.begin(port)
        except BaseException:
            self.end()
            raise

    def begin(self, port):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise Failure("firefox does not start") from None
                time.sleep(0.1)
        self.receive()
        self.command("NewSession", {"pageLoadStrategy": "none"})

    def receive(self):
        while b":" not in self.buffer:
            self.fill()
        length, self.buffer = self.buffer.split(b":", 1)
        while len(self.buffer) < int(length):
            self.fill()
        message, self.buffer = self.buffer[: int(length)], self.buffer[int(length) :]
        return json.loads(message)

    def fill(self):
        more = self.socket.recv(1 << 16)
        if not more:
            raise Failure("firefox has gone")
        self.buffer += more

    def command(self, name, body=None):
        self.number += 1
        message = json.dumps([0, self.number, f"WebDriver:{name}", body or {}]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self.receive()
        if error:
            raise Failure(f"{name}: {error['error']}: {error['message']}")
        return result.get("value", result) if isinstance(result, dict) else result

    def go(self, url):
        self.command("Navigate", {"url": url})

    def run(self, script, *args):
        return self.command("ExecuteScript", {"script": script, "args": list(args), "sandbox": None})

    def click(self, selector):
        found = self.command("FindElement", {"using": "css selector", "value": selector})
        self.command("ElementClick", {"id": next(iter(found.values()))})

    def enter(self, selector, keys):
        found = self.command("FindElement", {"using": "css selector", "value": selector})
        self.command("ElementSendKeys", {"id": next(iter(found.values())), "text": keys})

    def screenshot(self):
        return base64.b64decode(self.command("TakeScreenshot", {"full": False}))

    def another(self, kind="window"):
        handle = self.command("NewWindow", {"type": kind})["handle"]
        self.turn(handle)
        return handle

    def here(self):
        return self.command("GetWindowHandle")

    def turn(self, handle):
        self.command("SwitchToWindow", {"handle": handle, "focus": True})

    def hide(self):
        """By another tab in front of it."""
        self.hidden = self.here()
        self.another("tab")
        # Commands go to the page, though it cannot be seen.
        self.command("SwitchToWindow", {"handle": self.hidden, "focus": False})

    def unhide(self):
        self.turn(self.hidden)

    def complaints(self):
        """Marionette does not tell: what does not work in Chromium's eyes is looked at there."""
        return []

    def end(self):
        self.process.terminate()
        self.process.wait()


BROWSERS = {"chromium": Chromium, "firefox": Firefox}
