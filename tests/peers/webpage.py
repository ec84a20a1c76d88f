"""Looks at camd's page with a headless Chromium: webpage.py URL FOLDER [COMPLAINT…]

Takes screenshots of the picture's place in one living page, some time apart, until two of them show different
pictures. Fails if the picture is blank or does not move. Before that, the page must show these complaints about the
configuration, and no others, to somebody with a small phone. WebDriver is plain HTTP and JSON, so this needs no library
for it.
"""

import base64
import json
import subprocess
import sys
import time
import urllib.request

import cv2
import numpy as np

url, folder, complaints = sys.argv[1], sys.argv[2], sys.argv[3:]
PATIENCE = 60

driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def call(method, path, body=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    # Not through a proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error.read().decode()}")


def driver_port():
    for line in driver.stdout:
        if "started successfully on port" in line:
            return int(line.rstrip().rstrip(".").rsplit(" ", 1)[1])
    sys.exit("chromedriver does not start")


def run(session, script):
    return call("POST", f"/session/{session}/execute/sync", {"script": script, "args": []})


def complain(session):
    """What is wrong with the complaints on the page; None if nothing is."""
    shown = run(
        session,
        "const box = document.querySelector('[role=alert]'); if (!box) return null;"
        "const seen = box.getBoundingClientRect();"
        "return { items: [...box.querySelectorAll('li')].map(item => item.innerText), text: box.innerText,"
        " visible: seen.height > 0 && seen.top >= 0 && seen.top < innerHeight / 2, letters:"
        " parseFloat(getComputedStyle(box).fontSize), wide: document.documentElement.scrollWidth, window: innerWidth,"
        " ran: window.ran !== undefined, name: document.getElementById('name').innerText }",
    )
    if shown is None or shown["name"] == "camd":
        return "the page is not there yet"
    if shown["ran"]:
        return "a complaint was run as a script"
    if shown["items"] != complaints or shown["visible"] != bool(complaints):
        return f"the complaints on the page are {shown}"
    if complaints and (shown["letters"] < 14 or shown["wide"] > shown["window"] or shown["window"] > 400):
        return f"not to be read on a phone: {shown}"
    return None


def picture(session):
    """The pixels of the <img>, as the browser shows them."""
    box = run(
        session,
        "const b = document.querySelector('img')?.getBoundingClientRect();"
        "return b ? [b.left, b.top, b.right, b.bottom].map(Math.round) : null",
    )
    if box is None:
        return None
    screenshot = base64.b64decode(call("GET", f"/session/{session}/screenshot"))
    image = cv2.imdecode(np.frombuffer(screenshot, np.uint8), cv2.IMREAD_COLOR)
    left, top, right, bottom = (max(0, edge) for edge in box)
    return image[top:bottom, left:right]


try:
    port = driver_port()
    session = call(
        "POST",
        "/session",
        {
            "capabilities": {
                "alwaysMatch": {
                    "browserName": "chrome",
                    # A page with an endless picture may never be "loaded".
                    "pageLoadStrategy": "none",
                    "goog:chromeOptions": {
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
                            "--window-size=800,700",
                            f"--user-data-dir={folder}",
                        ],
                        "mobileEmulation": {"deviceMetrics": {"width": 360, "height": 740, "pixelRatio": 1}},
                    },
                }
            }
        },
    )["sessionId"]
    try:
        call("POST", f"/session/{session}/url", {"url": url})
        deadline = time.monotonic() + PATIENCE
        while wrong := complain(session):
            if time.monotonic() > deadline:
                sys.exit(wrong)
            time.sleep(0.3)
        first, why = None, "there is no picture on the page"
        while True:
            if time.monotonic() > deadline:
                sys.exit(why)
            time.sleep(0.3)
            shown = picture(session)
            if shown is None or min(shown.shape[:2]) < 100:
                continue
            if shown.std() < 10:
                why = "the picture is blank"
                continue
            if first is None or first.shape != shown.shape:
                first, why = shown, "the picture does not move"
                continue
            changed = np.count_nonzero(np.abs(shown.astype(int) - first).max(axis=2) > 30)
            if changed > 100:
                print(f"{shown.shape[1]}x{shown.shape[0]} {changed} pixels moved")
                break
    finally:
        call("DELETE", f"/session/{session}")
finally:
    driver.terminate()
    driver.wait()
