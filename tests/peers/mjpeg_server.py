"""An MJPEG server as they are quickly written, with Python's http.server: mjpeg_server.py

Prints its port. Its pictures are OpenCV's, of 320x240, 30 a second:

  /stream        multipart/x-mixed-replace without lengths, HTTP/1.0
  /chunked       the same in chunks, HTTP/1.1, with lengths
  /snapshot      one picture, the connection stays
  /login/stream, /login/snapshot     for the user "viewer" with the password "pass:wörd@home"
  /digest        as if it wanted a login by Digest
  /moved, /moved/twice     lead to /stream
  /loop          leads to itself, with another number each time
  /away          leads to another host
  /page          HTML
  /403, /404, /500
"""

import base64
import http.server
import sys
import time

import cv2
import numpy as np

LOGIN = "Basic " + base64.b64encode("viewer:pass:wörd@home".encode()).decode()
began = time.monotonic()


def picture():
    number = int((time.monotonic() - began) * 1000)
    frame = np.full((240, 320, 3), number % 200, np.uint8)
    cv2.putText(frame, str(number), (20, 150), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 3)
    return cv2.imencode(".jpg", frame)[1].tobytes()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def status(self, code, **fields):
        self.send_response(code)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def stream(self):
        self.protocol_version = "HTTP/1.0"
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=FRAME")
        self.end_headers()
        while True:
            self.wfile.write(b"--FRAME\r\nContent-Type: image/jpeg\r\n\r\n" + picture() + b"\r\n")
            time.sleep(1 / 30)

    def chunked(self):
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/x-mixed-replace; boundary="--a frame"')
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            jpeg = picture()
            head = b"--a frame\nContent-Type: image/jpeg\nContent-Length: %d\n\n" % len(jpeg)
            for piece in (head, jpeg[:1000], jpeg[1000:], b"\n"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(1 / 30)

    def snapshot(self):
        jpeg = picture()
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(jpeg)))
        self.end_headers()
        self.wfile.write(jpeg)

    def do_GET(self):
        self.protocol_version = "HTTP/1.1"
        path = self.path
        if path.startswith("/login/"):
            if self.headers.get("Authorization") != LOGIN:
                return self.status(401, WWW_Authenticate='Basic realm="camera"')
            path = path.removeprefix("/login")
        try:
            if path == "/stream":
                self.stream()
            elif path == "/chunked":
                self.chunked()
            elif path == "/snapshot":
                self.snapshot()
            elif path == "/digest":
                self.status(401, WWW_Authenticate='Digest realm="camera", nonce="1", qop="auth"')
            elif path == "/moved":
                self.status(301, Location="/stream")
            elif path == "/moved/twice":
                self.status(302, Location="../moved")
            elif path.startswith("/loop"):
                self.status(307, Location=f"/loop{time.monotonic_ns()}")
            elif path == "/away":
                self.status(302, Location="http://camera.example/stream?token=tok3n")
            elif path == "/page":
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", "9")
                self.end_headers()
                self.wfile.write(b"<html>hi\n")
            else:
                self.status(int(path[1:]))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
