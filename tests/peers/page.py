"""Uses camd's page as a person does: page.py BROWSER SCENARIO FOLDER URL PID FILE.

SCENARIO is one of the functions below; FOLDER is for the browser's profile and its downloads; PID is camd's, and FILE its configuration.
"""

import base64
import hashlib
import html.parser
import http.client
import http.server
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import urllib.parse

from browser import BROWSERS, PATIENCE, Failure, opener

# What a page tells a person. The picture's pixels are summed up, coarsely.
LOOK = """
    const at = id => document.getElementById(id);
    return { state: at("state").innerText, kind: at("state").className, notice: at("notice").innerText };
"""
IS = "return document.getElementById('state')?.innerText === arguments[0]"
PIXELS = """
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
    const picture = [...document.querySelectorAll("img, video, #frame canvas")].find(it => it.naturalWidth || it.videoWidth || it.getContext);
    if (!picture) return null;
    [canvas.width, canvas.height] = [64, 48];
    context.drawImage(picture, 0, 0, 64, 48);
    return [...context.getImageData(0, 0, 64, 48).data].reduce((sum, it, i) => (sum * 31 + (it >> 4) * i) % 1000003, 7);
"""


def state(url):
    with opener.open(url + "state", timeout=PATIENCE) as answer:
        return json.load(answer)


def viewers(url):
    return sum(client["viewer"] for client in state(url)["clients"])


def until(what, condition, patience=20):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def moves(browser):
    """The picture changes, three times."""
    seen = set()

    def another():
        seen.add(browser.run(PIXELS))
        return len(seen - {None}) > 3

    until("the picture does not move", another, PATIENCE)


def live(browser):
    browser.wait("the page says that it is live", IS, "live")
    moves(browser)


def stands(browser):
    """The picture stays as it is."""
    before = browser.run(PIXELS)
    time.sleep(0.7)
    assert browser.run(PIXELS) == before, "the picture moves"


def life(browser, folder, url, pid):
    """One page from its opening on, through all that can happen to it."""
    browser.go(url)
    live(browser)

    # One viewer, and one place. The connection that asks for the state is there, too. On a busy machine Chromium opens a
    # second one where the first is not answered within 250 ms, and leaves it unused.
    counts = []

    def one_place():
        now = state(url)
        assert sum(client["viewer"] for client in now["clients"]) == 1, now["clients"]
        counts.append(now["listeners"][0]["clients"])
        time.sleep(0.2)
        return len(counts) >= 12 and sorted(counts[-12:])[6] == 2

    until("a viewer takes one place", one_place, PATIENCE)
    shown = browser.run("return document.getElementById('clients').innerText")
    assert "Viewers (1)" in shown, shown

    # Headings over nothing say nothing, and what is meant is said in words.
    table = browser.run(
        "return [...document.querySelectorAll('table')].filter(it => it.offsetParent)"
        ".map(it => [...it.rows].map(row => [...row.cells].map(cell => cell.textContent)))"
    )
    assert table, "no table of viewers"
    for rows in table:
        for column in zip(*rows):
            assert any(column[1:]), f"nothing is ever below {column[0]}"
    assert "announce" not in browser.run("return document.body.innerText")

    # Paused, it takes no place.
    browser.click("#pause")
    browser.wait("the page says that it is paused", IS, "paused")
    until("a paused page is no viewer", lambda: viewers(url) == 0)
    stands(browser)
    saved = save(browser, folder)
    assert saved[:2] == b"\xff\xd8" and saved[-2:] == b"\xff\xd9", "what was saved is no JPEG"
    browser.click("#pause")
    live(browser)
    saved = save(browser, folder)
    assert saved[:2] == b"\xff\xd8" and saved[-2:] == b"\xff\xd9", "what was saved is no JPEG"

    # The whole screen, and back.
    fills = """
        const box = document.getElementById("picture").getBoundingClientRect();
        return box.left <= 0 && box.right >= innerWidth && box.top <= 0 && box.bottom > innerHeight * 0.8;
    """
    browser.click("#full")
    browser.wait("the picture fills the screen", fills)
    moves(browser)
    browser.click("#full")
    browser.wait("it does not any more", f"return !(() => {{ {fills} }})()")

    # Hidden, it takes none either.
    browser.hide()
    until("a hidden page is no viewer", lambda: viewers(url) == 0)
    assert browser.run(LOOK)["state"] == "hidden"
    stands(browser)
    browser.unhide()
    live(browser)

    # camd hangs. What is shown then is old, and nobody may take it for the present.
    # By the page's own clock: how soon this program is told shall not matter.
    browser.run(
        "const data = document.documentElement.dataset, began = performance.now();"
        "new MutationObserver(() => { data.took = data.took || performance.now() - began; })"
        ".observe(document.getElementById('state'), { childList: true, characterData: true, subtree: true })"
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        browser.wait("the page says that there is no connection", IS, "no connection", patience=30)
        took = float(browser.run("return document.documentElement.dataset.took")) / 1000
        print(f"no connection after {took:.1f} s")
        look = browser.run(LOOK)
        assert 1 < took < 5, took
        assert look["kind"] != "live" and "old" in look["notice"], look
    finally:
        os.kill(pid, signal.SIGCONT)
    live(browser)


def save(browser, folder):
    """The bytes of the picture that the page lets a person keep."""
    before = set(os.listdir(folder))
    browser.click("#save")
    found = []

    def there():
        found[:] = [name for name in set(os.listdir(folder)) - before if re.fullmatch(r"[\w-]+-\d{8}-\d{6}.*\.jpg", name)]
        return found and os.path.getsize(os.path.join(folder, found[0]))

    until("no picture was saved", there)
    time.sleep(0.2)
    with open(os.path.join(folder, found[0]), "rb") as file:
        return file.read()


def seven(browser, folder, url, pid):
    """As many pages in one browser, all of them in sight: a browser has six connections to one host."""
    pages = [browser.here()]
    browser.go(url)
    for _ in range(6):
        pages.append(browser.another())
        browser.go(url)
    for page in pages:
        browser.turn(page)
        assert browser.run("return document.visibilityState") == "visible"
        live(browser)
    until("all of them are served", lambda: viewers(url) > 4)
    # Those with a stream, and room for the others' pictures.
    streams = [client for client in state(url)["clients"] if client["state"] != "idle" and client["frames"] > 20]
    assert len(streams) < 6, streams
    # One that goes leaves its place to the next.
    browser.turn(pages[0])
    browser.go("about:blank")
    for page in pages[1:]:
        browser.turn(page)
        live(browser)


def places(browser, folder, url, pid):
    """A listener with two places has room for two pages, and tells a third why it has to wait."""
    first = browser.here()
    browser.go(url)
    live(browser)
    second = browser.another()
    browser.go(url)
    live(browser)
    third = browser.another()
    browser.go(url)
    browser.wait("the third is told", IS, "no free place")
    notice = browser.run(LOOK)["notice"]
    assert "taken" in notice, notice
    # The two go on, and still learn how things are.
    for page in (first, second):
        browser.turn(page)
        before = browser.run("return state.camera.frames")
        browser.wait("the state is looked at", "return state.camera.frames > arguments[0]", before)
        live(browser)
    browser.go("about:blank")
    browser.turn(third)
    live(browser)


def absent(browser, folder, url, pid):
    """A camera that is not there, then one that gives nothing, then one that does: the configuration is read again."""
    path = sys.argv[6]
    browser.go(url)
    browser.wait("the page says that there is no picture", IS, "no picture")
    look = browser.run(LOOK)
    assert "/dev/video-missing" in look["notice"] and look["kind"] == "fault", look
    # The card that says so can be seen, too.
    browser.wait("there is the card", PIXELS)

    def use(source):
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(re.sub('source = .*', f"source = {source}", text))
        os.kill(pid, signal.SIGHUP)

    use('"pipe"\ncommand = ["sleep", "60"]')
    browser.wait("the page says that it waits", IS, "waiting")
    assert "aiting for" in browser.run(LOOK)["notice"]
    use('"pattern"')
    live(browser)


def fits(browser):
    """On small screens: nothing sticks out, and all that can be used can be by a finger and by keys."""
    for width, height in ((390, 844), (844, 390), (320, 568)):
        browser.size(width, height)
        seen = browser.run(
            "const box = document.getElementById('picture').getBoundingClientRect();"
            "return { wide: document.documentElement.scrollWidth, picture: [box.width, box.height], bottom: box.bottom,"
            " outside: [...document.querySelectorAll('button, select, input, .button, summary')].filter(it => it.offsetParent &&"
            " (it.getBoundingClientRect().right > innerWidth || it.getBoundingClientRect().left < 0)).map(it => it.id),"
            " small: [...document.querySelectorAll('button, select, .button')].filter(it => it.offsetParent &&"
            " it.getBoundingClientRect().height < 30).map(it => it.id) }"
        )
        assert seen["wide"] <= width, f"{width}x{height} scrolls sideways: {seen}"
        assert seen["bottom"] <= height and min(seen["picture"]) > 150, f"{width}x{height}: {seen}"
        assert seen["outside"] == [], f"{width}x{height}: {seen}"
        assert seen["small"] == [], f"too small for a finger: {seen}"
    # What can be used has a name, and can be reached by keyboard.
    nameless = browser.run(
        "return [...document.querySelectorAll('button, select, input, a, summary')].filter(it =>"
        " !(it.labels?.length || it.ariaLabel || it.innerText.trim() || !it.offsetParent) || it.tabIndex < 0)"
        ".map(it => it.outerHTML)"
    )
    assert nameless == [], nameless


def phone(browser, folder, url, pid):
    """390 pixels wide, and on its side; with names that are as long as they may be."""
    browser.go(url)
    live(browser)
    fits(browser)
    # Whatever the names have in them.
    links = browser.run(
        "return [[...document.querySelectorAll('#neighbours a')].map(it => [it.innerText, it.href]), window.ran]"
    )
    host = urllib.parse.urlsplit(url)
    assert links == [
        [
            ["Garage", f"http://{host.hostname}:8090/"],
            ["<img src=x onerror='ran = 1'>", f"http://{host.netloc}/barn/"],
            ["N" * 32, "https://box.example/webcam/?a=b"],
        ],
        None,
    ], links


# --- behind a proxy, which answers for a camera that has controls ---

CONTROLS = [
    {"name": "brightness", "kind": "integer", "minimum": -64, "maximum": 64, "step": 1, "default": 0, "value": 3, "locked": False},
    {"name": "auto_exposure", "kind": "menu", "minimum": 0, "maximum": 3, "step": 1, "default": 3, "value": 3,
     "menu": [[1, "Manual Mode"], [3, "<b>Aperture Priority</b>"]], "locked": False},
    {"name": "exposure_time_absolute", "kind": "integer", "minimum": 1, "maximum": 5000, "step": 1, "default": 156,
     "value": 157, "locked": True},
    {"name": "white_balance_automatic", "kind": "boolean", "minimum": 0, "maximum": 1, "step": 1, "default": 1, "value": 1,
     "locked": False},
    {"name": "focus_reset", "kind": "button", "minimum": 0, "maximum": 0, "step": 0, "default": 0, "value": None,
     "locked": False},
    {"name": "stubborn", "kind": "integer", "minimum": 0, "maximum": 9, "step": 1, "default": 5, "value": 5,
     "locked": False},
]  # fmt: skip


class Proxy(http.server.ThreadingHTTPServer):
    """Passes /cam/… and /cam on to camd, without /cam, but for /controls."""

    daemon_threads = True

    def __init__(self, url):
        super().__init__(("127.0.0.1", 0), Passing)
        self.camd = urllib.parse.urlsplit(url).netloc
        self.controls = json.loads(json.dumps(CONTROLS))
        self.may_set, self.set, self.asked = True, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def put(self, name, value):
        self.set.append((name, value))
        if name == "stubborn":
            return False
        for control in self.controls:
            if control["name"] == name and control["kind"] != "button":
                control["value"] = value
            if name == "auto_exposure" and control["name"].startswith("exposure_time"):
                control["locked"] = value == 3
        return True


class Passing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_OPTIONS(self):
        self.server.asked.append(self.path)
        allow = "GET, HEAD, OPTIONS" + (", POST" if self.server.may_set else "")
        self.answer(204, b"", Allow=allow)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        kind = self.headers["Content-Type"].split(";")[0]
        if kind != "application/x-www-form-urlencoded":
            return self.answer(400, b"not as camd reads it")
        for name, value in urllib.parse.parse_qsl(body, strict_parsing=True):
            if not self.server.put(name, int(value)):
                return self.answer(400, b"stubborn: the driver does not want to\n")
        self.answer(200, json.dumps(self.server.controls).encode())

    def do_GET(self):
        self.server.asked.append(self.path)
        path = self.path.removeprefix("/cam")
        if path == self.path:
            return self.answer(404, b"not behind this path")
        if path == "/controls":
            return self.answer(200, json.dumps(self.server.controls).encode())
        connection = http.client.HTTPConnection(self.server.camd, timeout=PATIENCE)
        try:
            connection.request("GET", path if path.startswith("/") else "/" + path)
            response = connection.getresponse()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() != "connection":
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.close_connection = True
            self.end_headers()
            while more := response.read1(1 << 16):
                self.wfile.write(more)
        except OSError:
            self.close_connection = True
        finally:
            connection.close()


def proxy(browser, folder, url, pid):
    """Under a path, with and without its final slash; and a camera with controls."""
    front = Proxy(url)
    base = f"http://127.0.0.1:{front.server_address[1]}/cam"
    for path in (base, base + "/"):
        browser.go("about:blank")
        browser.go(path)
        live(browser)
    assert all(path == "/cam" or path.startswith("/cam/") for path in front.asked), front.asked
    manifest = browser.run("return document.querySelector('link[rel=manifest]').href")
    with opener.open(manifest) as answer:
        manifest = json.load(answer)
    icon = urllib.parse.urljoin(base + "/", manifest["icons"][0]["src"])
    with opener.open(icon) as answer:
        assert answer.headers["Content-Type"] == "image/svg+xml", icon
    assert manifest["start_url"] == "." and manifest["name"] == "camera", manifest

    # What is chosen is asked for.
    choose = "const it = document.getElementById(arguments[0]); it.value = arguments[1]; it.dispatchEvent(new Event('change'))"
    for key, value in (("width", "320"), ("quality", "30"), ("max_fps", "15")):
        browser.run(choose, key, value)
    until("the choice is asked for", lambda: "/cam/stream?width=320&quality=30&max_fps=15" in front.asked)
    live(browser)
    browser.wait("the picture is smaller", "return document.getElementById('picture').naturalWidth === 320")
    client = next(it for it in state(url)["clients"] if it["viewer"])
    assert [client[key] for key in ("width", "height", "quality", "max_fps")] == [320, 240, 30, 15], client
    row = "return document.querySelector('#clients table').rows[1]?.innerText.trim().endsWith('320×240\\t30')"
    browser.wait("the table says so", row)
    browser.go(base + "/")
    live(browser)
    assert browser.run("return document.getElementById('max_fps').value") == "15", "the choice is kept"

    # Each control in its own way.
    browser.wait("the controls are there", "return !document.getElementById('controls').hidden")
    browser.run("document.getElementById('controls').open = true")
    row = "const it = document.querySelector(`[name=${arguments[0]}]`);"

    def value(name):
        return browser.run(row + "return [it.tagName, it.type, it.value, it.checked, it.disabled, it.labels?.[0]?.innerText]", name)

    assert value("brightness") == ["INPUT", "range", "3", False, False, "Brightness"]
    assert value("auto_exposure")[:3] == ["SELECT", "select-one", "3"]
    assert value("exposure_time_absolute")[4] is True
    assert value("white_balance_automatic")[1:4] == ["checkbox", "on", True]
    assert browser.run("return document.querySelector('#rows b')") is None, "a driver's words are no HTML"
    # A slider gives many values; the last one is what counts.
    browser.run(row + "for (const v of [10, 20, 30, 40]) { it.value = v; it.dispatchEvent(new Event('input')); }", "brightness")
    until("the slider is set", lambda: front.controls[0]["value"] == 40)
    browser.run(row + "it.value = 1; it.dispatchEvent(new Event('change'))", "auto_exposure")
    browser.wait("what it locked is free", row + "return !it.disabled", "exposure_time_absolute")
    browser.run(row + "it.click()", "white_balance_automatic")
    until("the box is not ticked", lambda: front.controls[3]["value"] == 0)
    browser.run(row + "it.click()", "focus_reset")
    until("the button is pressed", lambda: ("focus_reset", 1) in front.set)
    browser.run(row + "it.value = 9; it.dispatchEvent(new Event('input'))", "stubborn")
    browser.wait("the reason is told", "return document.getElementById('said').innerText.includes('does not want')")
    browser.wait("and the slider goes back", row + "return it.value === '5'", "stubborn")
    browser.run(row + "it.closest('.control').querySelector('.reset').click()", "brightness")
    until("one is reset", lambda: front.controls[0]["value"] == 0)
    browser.run("document.getElementById('defaults').click()")
    until("all are reset", lambda: all(it["value"] in (None, it["default"]) for it in front.controls if not it["locked"]))
    browser.wait("and shown so", row + "return it.checked", "white_balance_automatic")

    # On a phone, too.
    if hasattr(browser, "size"):
        browser.size(390, 844)
        wide = browser.run("return document.documentElement.scrollWidth")
        assert wide <= 390, f"the controls scroll sideways: {wide}"

    # Who may not set them is not shown them.
    front.may_set = False
    browser.go(base + "/")
    live(browser)
    until("it is asked", lambda: "/cam/controls" in front.asked)
    time.sleep(0.5)
    assert browser.run("return document.getElementById('controls').hidden"), "sliders that do nothing"


ANSWER = """
    const [path, options] = arguments;
    window.answer = null;
    fetch(path, options).then(async it => window.answer = [it.status, await it.text()]).catch(it => window.answer = [0, String(it)]);
"""


def answer(browser, path, options=None):
    """What a script of the page that is open gets: a status, 0 if the browser says no, and a text."""
    browser.run(ANSWER, path, options or {})
    return browser.wait(f"an answer for {path}", "return window.answer")


IMAGE = """
    const image = window.image = document.createElement("img");
    window.shown = null;
    image.onload = () => window.shown = "yes";
    image.onerror = () => window.shown = "no";
    image.src = arguments[0];
    document.body.append(image);
"""


def shows(browser, url):
    """Whether an <img> of the page that is open has a picture of this."""
    browser.run(IMAGE, url)
    # Of an endless one only some browsers tell that there is a first picture.
    return browser.wait("an image or none", "return window.image.naturalWidth ? 'yes' : window.shown") == "yes"


POST = {"method": "POST", "headers": {"X-Requested-With": "camd"}, "body": "brightness=1"}


def login(browser, folder, url, pid):
    """With a name and a password, as somebody who has typed them: the browser keeps them for all that the page needs."""
    named = url.replace("http://", "http://anna:p%C3%A4ss%3A%20w%C3%B6rt@")
    # First the address that has them in it.
    browser.go(named)
    live(browser)
    browser.go(url)
    live(browser)
    browser.wait("her own name", "return document.getElementById('clients').innerText.includes('anna')")
    assert browser.run("return document.getElementById('open').hidden"), "this is not open to everybody"
    assert answer(browser, "state")[0] == 200
    assert json.loads(answer(browser, "state")[1])["you"] == {"user": "anna", "sets_controls": True, "updates": False}
    # The pattern has no controls: 404 is what one gets who may.
    assert answer(browser, "controls", POST)[0] == 404
    assert shows(browser, "stream") and shows(browser, "snapshot?x")
    saved = save(browser, folder)
    assert saved[:2] == b"\xff\xd8", "what was saved is no JPEG"
    # Plain, as where scripts are off.
    browser.go(url + "stream")
    moves(browser)


UPLOAD = """
    const at = id => document.getElementById(id), bar = at("sent");
    return { told: at("told").innerText, button: at("send").innerText, bar: bar.hidden ? null : bar.value,
        shown: !!at("update").offsetParent };
"""


class Updater:
    """The box's updater, as camd knows it."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(PATIENCE)

    def accept(self):
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(PATIENCE)
        line = b""
        while not line.endswith(b"\n"):
            line += self.socket.recv(1)
        return line.decode()

    def take(self, length):
        got = bytearray()
        while len(got) < length:
            more = self.socket.recv(length - len(got))
            assert more, f"the upload ends after {len(got)} of {length} bytes"
            got += more
        return bytes(got)

    def answer(self, text):
        self.socket.sendall(text.encode())
        self.socket.close()


def update(browser, folder, url, pid):
    """Another system for the box: by somebody who may, and not by somebody else."""
    # More than sockets and browsers take in advance.
    image = os.urandom(1 << 20) * 48
    path = os.path.join(folder, "new.img")
    with open(path, "wb") as file:
        file.write(image)
    updater = Updater(os.environ["CAMD_UPDATER"])

    def begin(user):
        browser.go(url.replace("http://", f"http://{user}:secret@"))
        live(browser)
        browser.go(url)
        live(browser)

    def until_told(text, shows=("Send", None)):
        deadline = time.monotonic() + PATIENCE
        while (now := browser.run(UPLOAD))["told"] != text:
            assert time.monotonic() < deadline, f"the page says {now}, not {text!r}"
            time.sleep(0.05)
        assert (now["button"], now["bar"]) == shows, now

    begin("otto")
    assert not browser.run(UPLOAD)["shown"], "who may not update is shown how to"
    begin("anna")
    assert browser.run(UPLOAD)["shown"], "who may update is not shown how to"
    browser.click("#update summary")
    browser.click("#send")
    until_told("Choose an image.")

    # All of it, with how far it is, and the picture beside it.
    browser.enter("#image", path)
    browser.click("#send")
    assert updater.accept() == f"update {len(image)} 0\n"
    got = updater.take(len(image) // 4)
    seen = []

    def part():
        now = browser.run(UPLOAD)
        found = re.fullmatch(r"(\d+) % sent", now["told"])
        seen.append(found and int(found[1]))
        return found and 0 < int(found[1]) < 100 and 0 < now["bar"] < 1 and now["button"] == "Stop"

    until("the page says how far it is", part, PATIENCE)
    moves(browser)
    before = max(it for it in seen if it is not None)
    # What is left is more than lies on the way.
    got += updater.take(len(image) // 4)
    until("the page says that it goes on", lambda: part() and seen[-1] > before, PATIENCE)
    got += updater.take(len(image) - len(got))
    assert got == image, "other bytes came"
    updater.answer("200 camd 9 is in b/; the box starts again, and tries it\n")
    until_told("camd 9 is in b/; the box starts again, and tries it.")

    # Refused, when it has hardly begun; and the word for older ones.
    browser.click("#older")
    browser.click("#send")
    assert updater.accept() == f"update {len(image)} 1\n"
    updater.take(65536)
    updater.answer("400 it is not signed with the key of this box's image\n")
    until_told("it is not signed with the key of this box's image. Nothing has changed.")

    # Ended by its user: the updater hears it.
    browser.click("#send")
    updater.accept()
    updater.take(65536)
    until("the button ends it", lambda: browser.run(UPLOAD)["button"] == "Stop")
    browser.click("#send")
    until_told("Stopped. Nothing has changed.")
    rest = 0
    while more := updater.socket.recv(1 << 20):
        rest += len(more)
    assert rest < len(image) - 65536, "all of it came"

    # While somebody else updates it.
    host = url.split("/")[2]
    other = http.client.HTTPConnection(host, timeout=PATIENCE)
    login = base64.b64encode(b"anna:secret").decode()
    other.putrequest("POST", "/update")
    for field in (("Authorization", f"Basic {login}"), ("Content-Length", "1000")):
        other.putheader(*field)
    other.endheaders()
    updater.accept()
    browser.click("#send")
    until_told("409 Conflict: another update is under way. Nothing has changed.")
    other.close()

    # The right is taken away while the page is open.
    config = sys.argv[6]
    with open(config) as file:
        text = file.read()
    with open(config, "w") as file:
        file.write(text.replace(', "update"', ""))
    os.kill(pid, signal.SIGHUP)
    browser.wait("the page says no more how to", "return document.getElementById('update').hidden")
    live(browser)

    # Lost when all of it is sent: whether the box has taken it nobody knows.
    with open(config, "w") as file:
        file.write(text)
    os.kill(pid, signal.SIGHUP)
    browser.wait("the page says how to again", "return !document.getElementById('update').hidden")
    browser.click("#send")
    updater.accept()
    updater.take(len(image))
    until_told("100 % sent", ("Stop", 1))
    os.kill(pid, signal.SIGKILL)
    until_told("The connection was lost.")


def secure(browser, folder, url, pid):
    """Over TLS, with a certificate that nobody but this browser's owner vouches for."""
    browser.go(url.replace("https://", "https://anna:secret@"))
    live(browser)
    browser.go(url)
    live(browser)
    assert browser.run("return [location.protocol, isSecureContext]") == ["https:", True]
    until("it is a viewer", lambda: viewers(url) == 1)
    assert answer(browser, "state")[0] == 200
    assert shows(browser, "snapshot?x")
    # Not even what the network does is wrong here. (A page without a login asks for its icon before it has one.)
    browser.everything_counts = True


def token(browser, folder, url, pid):
    """By a token in the address, as on a dashboard."""
    browser.go(url + "?token=0123456789abcdef-_.~")
    live(browser)
    browser.wait("the controls are asked for", "return document.getElementById('controls').hidden")
    links = browser.run("return [...document.querySelectorAll('footer a')].map(it => it.href)")
    assert links and all("token=0123456789abcdef-_." in link for link in links), links
    assert shows(browser, "/snapshot?token=0123456789abcdef-_.~")
    assert answer(browser, "/controls?token=0123456789abcdef-_.~", POST)[0] == 403


class Rebound:
    """A server of a page on the web, whose name leads to somebody else from one moment on."""

    PAGE = b"<!doctype html><title>evil</title><body>hello"

    def __init__(self, camd):
        self.camd, self.turned = camd, False
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client):
        # A browser opens connections ahead of what it asks: where one leads is decided when it asks.
        asked = client.recv(65536)
        if not self.turned:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(self.PAGE) + self.PAGE)
            client.close()
            return
        there = socket.create_connection(self.camd)
        there.sendall(asked)
        threading.Thread(target=self.pump, args=(client, there), daemon=True).start()
        self.pump(there, client)

    @staticmethod
    def pump(source, sink):
        try:
            while part := source.recv(65536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def web(url):
    """A page of another site, and where it would be."""
    host, port = urllib.parse.urlsplit(url).netloc.split(":")
    front = Rebound((host, int(port)))
    return front, f"http://evil.example:{front.port}/"


def rebind(browser, folder, url, pid):
    """DNS rebinding: a page of the web whose name leads to the camera when it asks for more. evil.example and the names of
    this machine are 127.0.0.1 to this browser."""
    front, evil = web(url)
    browser.go(evil)
    browser.wait("the web's page", "return document.title === 'evil'")
    front.turned = True
    own = socket.gethostname().split(".")[0]
    for options in (None, {"headers": {"X-Forwarded-Host": "127.0.0.1", "Forwarded": "host=localhost"}}):
        for path in ("state", "/", "snapshot", "metrics", "controls", "healthz", "stream"):
            status, text = answer(browser, path, options)
            assert status == 421 and "rebind me" not in text, (path, status, text)
    assert answer(browser, "controls", POST)[0] == 421
    assert not shows(browser, "snapshot?y")
    # As if its name had led there from the beginning.
    browser.go(evil)
    browser.wait("a word for a person", "return document.body?.innerText.includes('hosts')")
    assert "evil.example" in browser.run("return document.body.innerText")
    # What its owner calls it goes on working.
    for name in (own, f"{own}.local", f"{own}.home.arpa", "localhost", "127.0.0.1"):
        browser.go(f"http://{name}:{front.port}/")
        live(browser)


def embedded(browser, folder, url, pid):
    """A page of another site shows the pictures, and can do no more than that."""
    _, evil = web(url)
    browser.go(evil)
    browser.wait("the web's page", "return document.title === 'evil'")
    assert shows(browser, url + "snapshot") and shows(browser, url + "stream")
    status, text = answer(browser, url + "state")
    assert status == 0, (status, text)
    # Nor does it frame the page, and lead its reader's clicks.
    browser.run("const it = document.createElement('iframe'); it.src = arguments[0]; document.body.append(it)", url)
    time.sleep(2)
    assert viewers(url) <= 1, "the page runs in a frame"
    assert any("frame-ancestors" in entry for entry in browser.complaints()), "the browser does not complain"


def kept(browser, folder, url, pid):
    """With embed = false it does not even show them."""
    _, evil = web(url)
    browser.go(evil)
    browser.wait("the web's page", "return document.title === 'evil'")
    assert not shows(browser, url + "snapshot") and not shows(browser, url + "stream")
    browser.go(url)
    live(browser)
    assert shows(browser, "snapshot?z")


class Policy(html.parser.HTMLParser):
    policy = None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]


def policy(url):
    """The page allows its own script and style and no others, by their hashes."""
    with opener.open(url) as answer:
        text = answer.read().decode()
    parser = Policy()
    parser.feed(text)
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        wanted = f"{tag}-src 'sha256-{digest}'"
        assert wanted in parser.policy, f"index.html has changed: its policy must say {wanted}"


SCENARIOS = {
    "life": life, "seven": seven, "places": places, "absent": absent, "phone": phone, "proxy": proxy, "login": login,
    "token": token, "update": update, "secure": secure, "rebind": rebind, "embedded": embedded, "kept": kept,
}  # fmt: skip


def main(scenarios):
    name, scenario, folder, url = sys.argv[1:5]
    pid = int(sys.argv[5])
    if login := os.environ.get("CAMD_LOGIN"):
        opener.addheaders.append(("Authorization", login))
    policy(url)
    browser = BROWSERS[name](folder)
    try:
        scenarios[scenario](browser, folder, url, pid)
        complaints = browser.complaints()
        assert not complaints, complaints
    except (AssertionError, Failure) as error:
        try:
            print(browser.run(LOOK), file=sys.stderr)
        except Exception as more:  # noqa: BLE001
            print(f"and the page: {more}", file=sys.stderr)
        raise error
    finally:
        browser.end()


if __name__ == "__main__":
    main(SCENARIOS)
