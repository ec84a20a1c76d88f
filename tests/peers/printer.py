"""A printer's page that shows camd, as Mainsail and Fluidd do: printer.py BROWSER FOLDER PORT OPEN CLOSED

FOLDER is for the browser's profile. The page is served on PORT, so its origin is http://127.0.0.1:PORT. OPEN is the URL of a camd
that has this origin as allow_origin, CLOSED that of one without. Both are tried in the three ways of deploy/recipes/moonraker.md.
"""

import http.server
import sys
import threading

from browser import BROWSERS

PAGE = b"""<!doctype html><title>printer</title><script>
// Snapshots, one after the other.
function adaptive(url) {
    return new Promise((done, failed) => {
        let count = 0;
        const image = new Image();
        const next = () => image.src = url + "snapshot?bypassCache=" + Date.now() + count;
        image.onload = () => ++count < 3 ? next() : done(image.naturalWidth + "x" + image.naturalHeight);
        image.onerror = failed;
        next();
    });
}
// The stream as an image.
function image(url) {
    return new Promise((done, failed) => {
        const image = new Image();
        image.onerror = failed;
        image.src = url + "stream?cacheBust=" + Date.now();
        setInterval(() => image.naturalWidth && done(image.naturalWidth + "x" + image.naturalHeight), 50);
    });
}
// The stream by a script, which goes by the lengths in the heads of the parts.
async function script(url) {
    const answer = await fetch(url + "stream?timestamp=" + Date.now(), { mode: "cors" });
    const reader = answer.body.getReader();
    let bytes = new Uint8Array();
    for (let count = 0; count < 3;) {
        const { done, value } = await reader.read();
        if (done) throw new Error("the stream ends");
        const more = new Uint8Array(bytes.length + value.length);
        more.set(bytes);
        more.set(value, bytes.length);
        bytes = more;
        // What is no ASCII does not matter for the heads, as long as each byte is one character.
        const text = Array.from(bytes, byte => String.fromCharCode(byte)).join("");
        const head = text.match(/content-length: *(\\d+)[^]*?\\r\\n\\r\\n/i);
        const end = head && head.index + head[0].length + Number(head[1]);
        if (!head || bytes.length < end) continue;
        const jpeg = bytes.slice(end - Number(head[1]), end);
        if (jpeg[0] !== 0xFF || jpeg[1] !== 0xD8 || jpeg.at(-2) !== 0xFF || jpeg.at(-1) !== 0xD9)
            throw new Error("not a JPEG");
        bytes = bytes.slice(end);
        count++;
    }
    await reader.cancel();
    return "three";
}
window.results = {};
function start(name, way, url) {
    way(url).then(value => window.results[name] = value, () => window.results[name] = "failed");
}
</script>"""


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


name, folder, port, allowed, closed = sys.argv[1:]
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
browser = BROWSERS[name](folder)
try:
    browser.go(f"http://127.0.0.1:{port}/")
    browser.wait("the page", "return typeof window.start === 'function'")
    for camd, url in (("open", allowed), ("closed", closed)):
        for way in ("adaptive", "image", "script"):
            browser.run(f"window.start('{camd} {way}', window.{way}, arguments[0])", url)
    results = browser.wait("all answers", "return Object.keys(window.results).length === 6 && window.results")
finally:
    browser.end()
for result in sorted(results.items()):
    print(*result)
