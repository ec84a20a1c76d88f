"""The pull client of the original system, on the QTcpSocket that it was written for: pull_client.py PORT COUNT

Connected: write "new_request". Answered: remember the size, write "ack". While parts arrive: keep them, "ack" each,
until the picture is whole. Prints one line per picture.
"""

import hashlib
import sys

from PySide6.QtCore import QCoreApplication, QTimer
from PySide6.QtNetwork import QAbstractSocket, QTcpSocket

import cv2
import numpy as np

PART = 1380

port, count = int(sys.argv[1]), int(sys.argv[2])
app = QCoreApplication(sys.argv)
sock = QTcpSocket()
picture = bytearray()
size = None
acknowledged = 0
done = 0


def fail(why):
    print(why, file=sys.stderr)
    app.exit(1)


def whole():
    global size, acknowledged, done
    image = cv2.imdecode(np.frombuffer(bytes(picture), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return fail(f"cv2 cannot decode a picture of {size} bytes")
    height, width, _ = image.shape
    print(f"{width}x{height} {hashlib.sha256(image.tobytes()).hexdigest()}")
    picture.clear()
    size, acknowledged = None, 0
    done += 1
    if done == count:
        app.exit(0)
    else:
        sock.write(b"new_request")


def ready():
    global size, acknowledged
    data = bytes(sock.readAll().data())
    if size is None:
        if not data.startswith(b"newImage:"):
            return fail(f"newImage:SIZE expected, got {data[:40]!r}")
        size = int(data[len(b"newImage:") :])
        sock.write(b"ack")
        return
    picture.extend(data)
    if len(picture) > size:
        return fail(f"{len(picture)} bytes for a picture of {size}")
    # An ack for each whole part, the last one too.
    while acknowledged < size and len(picture) >= min(acknowledged + PART, size):
        acknowledged = min(acknowledged + PART, size)
        sock.write(b"ack")
    if len(picture) == size:
        whole()


sock.connected.connect(lambda: sock.write(b"new_request"))
sock.readyRead.connect(ready)
sock.errorOccurred.connect(lambda _: fail(sock.errorString()))
sock.setSocketOption(QAbstractSocket.SocketOption.LowDelayOption, 1)
QTimer.singleShot(20_000, lambda: fail(f"only {done} of {count} pictures in time"))
sock.connectToHost("127.0.0.1", port)
sys.exit(app.exec())
