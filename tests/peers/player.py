"""How the page plays H.264, as page.py: player.py BROWSER SCENARIO FOLDER URL PID FILE. Its camera is clock.py."""

import os
import signal
import statistics
import subprocess
import sys
import time

import page
from browser import PATIENCE
from page import IS, Passing, Proxy, fits, live, main, moves, save, state, until, viewers

# What a person sees of how it plays, and what the browser says.
PLAY = """
    const at = id => document.getElementById(id), video = document.querySelector("video"), held = video && video.buffered;
    return { state: at("state").innerText, notice: at("notice").innerText, shown: at("shown")?.innerText, button: at("format")?.innerText,
      frames: video && video.getVideoPlaybackQuality().totalVideoFrames, time: video && video.currentTime, rate: video && video.playbackRate,
      from: held && held.length ? held.start(0) : null, to: held && held.length ? held.end(held.length - 1) : null, spans: held && [...Array(held.length).keys()].map(i => [held.start(i), held.end(i)]) };
"""
# How old what is seen is, in ms: the clock in each picture that is drawn.
AGES = """
    const video = document.querySelector("video"), canvas = document.createElement("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
    const it = window.ages = { of: video, ages: [] };
    canvas.width = 160;
    canvas.height = 1;
    const look = () => {
      if (it !== window.ages) return;
      const wide = Math.floor(video.videoWidth / 16) * 16;
      context.drawImage(video, 0, 8, wide, 16, 0, 0, 160, 1);
      const pixels = context.getImageData(0, 0, 160, 1).data;
      let time = 0;
      for (let bit = 0; bit < 16; bit++) time |= (pixels[4 * (10 * bit + 5)] > 128) << bit;
      it.ages.push(((Date.now() & 65535) - time + 65536) % 65536);
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
"""
TAKE = "return window.ages.of === document.querySelector('video') ? window.ages.ages.splice(0) : null"
SHOWN = "return document.getElementById('shown')?.innerText.startsWith(arguments[0])"
BUTTON = "return document.getElementById('format')?.innerText === arguments[0]"


def plays(browser):
    """H.264, one picture after the other."""
    browser.wait("the page says that it is H.264", "return document.getElementById('shown')?.innerText === 'H.264'")
    browser.wait("there is a video", "return document.querySelector('#frame video')")
    browser.wait("the page says that it is live", IS, "live")
    before = browser.run(PLAY)["frames"]
    browser.wait("there are more pictures", "return document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames > arguments[0] + 20", before)
    browser.wait("time goes on", "return document.querySelector('video').currentTime > 0.3")
    moves(browser)


def falls_back(browser, why, patience=PATIENCE):
    """It shows JPEGs, and says why."""
    words = "MJPEG: " + why
    browser.wait(f"the page says {words}", SHOWN, words, patience=patience)
    browser.wait("there is no video any more", "return !document.querySelector('video') && document.querySelector('#frame img')")
    browser.wait("a JPEG is seen", "return document.getElementById('picture').naturalWidth")


def edge(browser, seconds):
    """For so long it stays at the edge; the ages of what was seen, in ms."""
    browser.run(AGES)
    ages, before = [], browser.run(PLAY)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now, more = browser.run(PLAY), browser.run(TAKE)
        if more is None:
            browser.run(AGES)
        ages += more or []
        if now["to"] is None:
            continue
        assert len(now["spans"]) == 1, f"a gap: {now}"
        assert now["to"] - now["time"] < 2.5, f"far behind what has come: {now}"
        assert now["to"] - now["from"] < 20, f"what was seen is kept: {now}"
    after = browser.run(PLAY)
    assert after["time"] > before["time"] or after["frames"] < before["frames"], (before, after)
    assert ages, "no picture was drawn"
    ordered = sorted(ages)
    print(f"age of {len(ages)} pictures: median {statistics.median(ages):.0f} ms, 95 % below {ordered[len(ages) * 95 // 100]} ms")
    return ages


def asked(browser):
    """The films and streams that the page has asked for so far."""
    names = browser.run("return performance.getEntriesByType('resource').map(it => it.name)")
    return names


def choice(browser, folder, url, pid):
    """One click to MJPEG and back, by mouse and keys; kept, and in the address."""
    browser.go(url)
    plays(browser)
    until("one viewer", lambda: viewers(url) == 1)
    assert browser.run("return document.getElementById('wishes').hidden"), "sizes that H.264 does not have"
    browser.click("#format")
    browser.wait("it is MJPEG", SHOWN, "MJPEG")
    browser.wait("and a JPEG", "return !document.querySelector('video') && document.getElementById('picture').naturalWidth")
    browser.wait("the way back", BUTTON, "Show H.264")
    assert not browser.run("return document.getElementById('wishes').hidden")
    until("one viewer", lambda: viewers(url) == 1)
    browser.go(url)
    browser.wait("it is kept", SHOWN, "MJPEG")
    time.sleep(1)
    assert not browser.run("return document.querySelector('video')")
    # The address goes before what is kept.
    browser.go(url + "?format=h264")
    plays(browser)
    browser.go(url)
    browser.wait("for that page alone", SHOWN, "MJPEG")
    browser.enter("#format", "\ue007")
    plays(browser)
    browser.go(url)
    plays(browser)
    # Known from the last time, nothing else was asked for before.
    assert not [name for name in asked(browser) if name.endswith("/stream")], asked(browser)
    browser.go(url + "?format=mjpeg")
    browser.wait("by the address", SHOWN, "MJPEG")
    browser.wait("a JPEG", "return document.getElementById('picture').naturalWidth")
    assert not browser.run("return document.querySelector('video')")


def minute(browser, folder, url, pid):
    """At the edge for a minute, or as long as PLAY_S says, with a camera that starts anew and a camd that does."""
    seconds = int(os.environ.get("PLAY_S", "60"))
    browser.go(url)
    plays(browser)
    # The program that is the camera ends, and is started again.
    edge(browser, seconds / 3)
    reopens = state(url)["camera"]["reopens"]
    end_program(pid)
    until("the camera starts anew", lambda: state(url)["camera"]["reopens"] > reopens)
    again(browser)
    edge(browser, seconds / 3)
    # camd itself.
    another = restart(url, pid)
    try:
        until("camd is there again", lambda: answers(url))
        again(browser)
        ages = edge(browser, seconds / 3)
        assert statistics.median(ages) < 1500, f"median {statistics.median(ages)} ms"
        assert viewers(url) == 1
    finally:
        another.terminate()
        another.wait()


def again(browser):
    """It plays as before, in the page that is open."""
    browser.wait("the page says that it is live", IS, "live")
    plays(browser)


def answers(url):
    try:
        return state(url)
    except OSError:
        return None


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def end_program(pid):
    """camd's child that runs clock.py."""
    for child in children(pid):
        with open(f"/proc/{child}/cmdline") as file:
            if "clock.py" in file.read():
                os.kill(child, signal.SIGKILL)
                return
    raise AssertionError("no program")


def restart(url, pid):
    """Ends camd, and starts another one in its place."""
    exe, path = os.readlink(f"/proc/{pid}/exe"), sys.argv[6]
    os.kill(pid, signal.SIGTERM)
    until("camd ends", lambda: not os.path.exists(f"/proc/{pid}/exe") or not answers(url))
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("127.0.0.1:0", url.split("/")[2]))
    time.sleep(2)
    return subprocess.Popen([exe, "--config", path], stderr=subprocess.DEVNULL)


def unable(browser, folder, url, pid):
    """A browser without Media Source Extensions; one that has them, and not this codec; and one that has only an iPhone's."""
    for script, works in (
        ("delete window.MediaSource; delete window.ManagedMediaSource", False),
        ("MediaSource.isTypeSupported = () => false", False),
        ("window.ManagedMediaSource = MediaSource; delete window.MediaSource", True),
    ):
        number = browser.before(script)
        browser.go("about:blank")
        browser.go(url)
        if works:
            plays(browser)
        else:
            falls_back(browser, "this browser cannot play H.264")
            assert browser.run("return document.getElementById('format').hidden"), "a button that does nothing"
            assert not [name for name in asked(browser) if "stream.mp4" in name], asked(browser)
        browser.not_before(number)


class Faulty(Proxy):
    """As Proxy, without a path, and with a fault in films: "503", "damage", "silence" or none."""

    def __init__(self, url):
        super().__init__(url)
        self.RequestHandlerClass = Damaging
        self.fault, self.films = None, 0


class Damaging(Passing):
    def do_GET(self):
        film = self.path.startswith("/stream.mp4")
        self.path = "/cam" + self.path
        self.server.films += film
        fault = self.server.fault if film else None
        if fault == "503":
            self.server.asked.append(self.path)
            return self.answer(503, b"the camera gives no H.264; there is /stream\n")
        if fault:
            self.wfile = Fault(self.wfile, fault)
        super().do_GET()


class Fault:
    """What is written of a film's 20th picture and behind: never, or with a length of its first NAL unit that is none."""

    def __init__(self, inner, fault):
        self.inner, self.fault, self.pictures = inner, fault, 0

    def write(self, part):
        at = part.find(b"mdat")
        while at >= 0:
            self.pictures += 1
            if self.pictures >= 20 and self.fault == "damage":
                part = part[: at + 4] + b"\x7f\xff\xff\xff" + part[at + 8 :]
            at = part.find(b"mdat", at + 4)
        if self.pictures >= 20 and self.fault == "silence":
            return len(part)
        return self.inner.write(part)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def faults(browser, folder, url, pid):
    """Films that are refused, damaged, or that stop: JPEGs and the reason; and H.264 again when the camera starts anew."""
    front = Faulty(url)
    base = f"http://127.0.0.1:{front.server_address[1]}/"
    for fault, why in (
        ("503", "the camera gives no H.264"),
        ("damage", "H.264 could not be decoded"),
        ("silence", "no picture came of H.264"),
    ):
        front.fault = fault
        browser.go("about:blank")
        browser.go(base)
        falls_back(browser, why)
        asked_before = front.films
        time.sleep(3)
        assert front.films == asked_before, "it asks again and again"
        front.fault = None
        end_program(pid)
        until("the camera starts anew", lambda: state(url)["camera"]["state"] == "live")
        again(browser)
        # By hand, it need not wait for that.
        front.fault = fault
        browser.go("about:blank")
        browser.go(base)
        falls_back(browser, why)
        front.fault = None
        browser.click("#format")
        again(browser)
        print(f"{fault}: {front.films - asked_before} more films")
        # On purpose: a broken film is told in the console.
        browser.complaints()


def sizes(browser, folder, url, pid):
    """Another size, and other parameters, from one picture to the next: the film ends, and the next one goes on in its place."""
    browser.go(url)
    plays(browser)
    video = browser.run("window.video = document.querySelector('video'); return video.videoWidth")
    for width in (480, 320):
        with open(os.environ["WIDTH_FILE"], "w") as file:
            file.write(str(width))
        browser.wait(f"it is {width} wide", "return document.querySelector('video')?.videoWidth === arguments[0]", width)
        plays(browser)
    assert video == 320, video
    assert browser.run("return window.video === document.querySelector('video')"), "another player: what was seen flickered"


def slow(browser, folder, url, pid):
    """A link that takes a third of what the camera gives, and keeps a lot on its way: what is seen jumps, and is never long
    behind. Then it is fast again."""
    browser.go(url)
    plays(browser)
    browser.throttle(30_000)
    # What is on its way goes on as it began.
    browser.click("#pause")
    browser.click("#pause")
    time.sleep(5)
    ages, deadline = [], time.monotonic() + 30
    while time.monotonic() < deadline:
        now = browser.run(PLAY)
        assert now["shown"].startswith("H.264"), now
        more = browser.run(TAKE) if browser.run("return !!window.ages") else None
        if more is None:
            browser.run(AGES)
        ages += more or []
        time.sleep(0.5)
    assert ages, "nothing was seen"
    print(f"slow: {len(ages)} pictures, median age {statistics.median(ages):.0f} ms, {max(ages)} ms at most")
    assert max(ages) < 15_000, f"old pictures: {max(ages)} ms"
    browser.throttle(-1)
    plays(browser)
    until("it is at the edge again", lambda: statistics.median(edge(browser, 3)) < 1000)


def hidden(browser, folder, url, pid):
    """A hidden page asks for nothing, and goes on where the camera is then; but not while it has its own window."""
    browser.go(url)
    plays(browser)
    for _ in range(2):
        browser.hide()
        until("a hidden page is no viewer", lambda: viewers(url) == 0)
        time.sleep(3)
        assert viewers(url) == 0
        browser.unhide()
        plays(browser)
        ages = edge(browser, 4)
        assert statistics.median(ages[len(ages) // 2 :]) < 1500, ages
    if browser.run("return document.pictureInPictureEnabled"):
        browser.click("#apart")
        browser.wait("it is in its own window", "return document.pictureInPictureElement")
        before = browser.run(PLAY)["frames"]
        browser.hide()
        time.sleep(3)
        assert viewers(url) == 1, "its own window has no pictures"
        assert browser.run(PLAY)["frames"] > before + 30
        browser.unhide()
        browser.click("#apart")
        browser.wait("it is in the page", "return !document.pictureInPictureElement")
        plays(browser)


def saved(browser, folder, url, pid):
    """What is seen can be kept, though the camera gives no JPEG; paused, too. And it fills the screen."""
    browser.go(url)
    plays(browser)
    for paused in (False, True):
        if paused:
            browser.click("#pause")
            until("a paused page is no viewer", lambda: viewers(url) == 0)
        jpeg = save(browser, folder)
        assert jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9" and len(jpeg) > 2000, len(jpeg)
    browser.click("#pause")
    plays(browser)
    browser.click("#full")
    browser.wait("it fills the screen", "const box = document.querySelector('video').getBoundingClientRect(); return box.left <= 0 && box.right >= innerWidth")
    plays(browser)
    browser.click("#full")
    plays(browser)


def life(browser, folder, url, pid):
    """All that page.py does with JPEGs."""
    browser.go(url)
    plays(browser)
    # The first page began with JPEGs: it knows now.
    browser.go("about:blank")
    until("its places are free", lambda: viewers(url) == 0)
    page.life(browser, folder, url, pid)
    plays(browser)


def phones(browser, folder, url, pid):
    """A small screen, with all its buttons."""
    browser.go(url)
    plays(browser)
    fits(browser)
    plays(browser)


def token(browser, folder, url, pid):
    """By a token in the address, and below a path: the player is got in the same way."""
    front = Proxy(url)
    for base in (url, f"http://127.0.0.1:{front.server_address[1]}/cam"):
        browser.go("about:blank")
        browser.go(base + "?token=0123456789abcdef-_.~")
        plays(browser)
        # Nothing of the camera is had without it, so the film had it, too: a browser lists that only when it has ended.
        names = [name for name in asked(browser) if "player.js" in name]
        assert names and all("token=0123456789abcdef-_." in name for name in names), names


def costs(browser, folder, url, pid):
    """Where the camera has no H.264, nothing of this is there."""
    browser.go(url)
    live(browser)
    time.sleep(2)
    assert not [name for name in asked(browser) if "player" in name or "mp4" in name], asked(browser)
    assert browser.run("return !document.getElementById('format') && !document.querySelector('video')")
    assert state(url)["camera"]["h264"] is None


SCENARIOS = {it.__name__: it for it in (life, choice, minute, unable, faults, sizes, slow, hidden, saved, phones, token, costs)}

if __name__ == "__main__":
    main(SCENARIOS)
