"""Looks at camd's page with a headless Chromium: webpage.py URL FOLDER [COMPLAINT…]

Takes screenshots of the picture's place in one living page, some time apart, until two of them show different
pictures. Fails if the picture is blank or does not move. Before that, the page must show these complaints about the
configuration, and no others, to somebody with a small phone.
"""

import sys
import time

import cv2
import numpy as np

from browser import PATIENCE, Chromium

url, folder, complaints = sys.argv[1], sys.argv[2], sys.argv[3:]


def complain():
    """What is wrong with the complaints on the page; None if nothing is."""
    shown = browser.run(
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


def picture():
    """The pixels of the <img>, as the browser shows them."""
    box = browser.run(
        "const b = document.querySelector('img')?.getBoundingClientRect();"
        "return b ? [b.left, b.top, b.right, b.bottom].map(Math.round) : null",
    )
    if box is None:
        return None
    image = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    left, top, right, bottom = (max(0, edge) for edge in box)
    return image[top:bottom, left:right]


browser = Chromium(folder, 360, 740, mobile=True)
try:
    browser.go(url)
    deadline = time.monotonic() + PATIENCE
    while wrong := complain():
        if time.monotonic() > deadline:
            sys.exit(wrong)
        time.sleep(0.3)
    first, why = None, "there is no picture on the page"
    while True:
        if time.monotonic() > deadline:
            sys.exit(why)
        time.sleep(0.3)
        shown = picture()
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
    browser.end()
