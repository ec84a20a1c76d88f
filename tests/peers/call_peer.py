"""A client of the original consultation system, as its author would write it with Qt: QTcpSocket, QDataStream, QImage.

    call_peer.py vectors            prints one record of each type, as QDataStream writes it, a line of JSON each
    call_peer.py read               the other way: one record as hex a line, answered with its fields
    call_peer.py talk PORT NAME     a client that does what standard input says, and prints what happens

What "talk" is told, a line each; its end hangs up:

    send TYPE RECEIVER [CONTENT]    one message
    count TYPE RECEIVER NUMBER      so many messages, numbered from 0 in their content, one at each turn of the event loop
    stream RECEIVER FPS QUALITY     pictures from now on, numbered
    mute                            no more of them
    stall                           reads nothing any more
    resume                          reads on
    connect                         again, after it was closed

What it prints has the time in seconds since the system's start, which all processes share.
"""

import hashlib
import json
import os
import random
import sys
import time
from dataclasses import dataclass

from PySide6.QtCore import QBuffer, QByteArray, QCoreApplication, QDataStream, QIODevice, QSocketNotifier, QTimer
from PySide6.QtGui import QImage, QImageWriter
from PySide6.QtNetwork import QAbstractSocket, QTcpSocket

VIDEO_DATA = 57
WIDTH, HEIGHT = 160, 120


@dataclass
class Message:
    sender: str | None
    receiver: str | None
    content: str | None
    type: int

    def write_to(self, stream):
        for text in (self.sender, self.receiver, self.content):
            stream.writeQString(text)
        stream.writeInt32(self.type)

    @staticmethod
    def read_from(stream):
        return Message(stream.readQString(), stream.readQString(), stream.readQString(), stream.readInt32())


def report(event, **fields):
    print(json.dumps({"event": event, "at": time.clock_gettime(time.CLOCK_MONOTONIC), **fields}), flush=True)


def picture(number, quality):
    """A JPEG of noise, so that it has some size, with its number in the comment."""
    noise = random.Random(number).randbytes(3 * WIDTH * HEIGHT)
    image = QImage(noise, WIDTH, HEIGHT, 3 * WIDTH, QImage.Format.Format_RGB888)
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    writer = QImageWriter(buffer, b"jpeg")
    writer.setQuality(quality)
    writer.setText("number", str(number))
    if not writer.write(image):
        sys.exit(writer.errorString())
    return buffer.data()


def text_of(jpeg):
    return bytes(jpeg.toBase64().data()).decode("ascii")


def picture_of(text):
    """The fields of a report about a received picture; what is no JPEG in Base64 has no width."""
    decoded = QByteArray.fromBase64Encoding(
        QByteArray(text.encode()), QByteArray.Base64Option.AbortOnBase64DecodingErrors
    )
    jpeg = decoded.decoded
    image = QImage.fromData(jpeg)
    if decoded.decodingStatus != QByteArray.Base64DecodingStatus.Ok or image.isNull():
        return {}
    number = image.text("number")
    return {
        "width": image.width(),
        "height": image.height(),
        "number": int(number) if number else None,
        "sha256": hashlib.sha256(jpeg.data()).hexdigest(),
    }


def record(message, version=None):
    data = QByteArray()
    stream = QDataStream(data, QIODevice.OpenModeFlag.WriteOnly)
    if version is not None:
        stream.setVersion(version)
    message.write_to(stream)
    return bytes(data.data())


def vectors():
    for message in (
        Message("alice", "", "secret", 1),
        Message("Aé€", "", "pässwörd", 1),
        Message("alice", None, None, 1),
        Message("", "alice", "", 2),
        Message("", "alice", "wrong password", 3),
        Message("alice", "camera", "", 54),
        Message("Aé€", "\U0001f600", None, 54),
        Message("camera", "alice", "", 55),
        Message("camera", "alice", "4 calls already", 56),
        Message("camera", "alice", text_of(picture(1, 30)), 57),
        Message("alice", "Aé€", "", 57),
        Message("alice", "camera", "", 58),
        Message("bob", "alice", "bob is not here", 59),
        Message("alice", "bob", "naïve \U0001f600\n\0", 10),
        Message("alice", "bob", "", -1),
        Message(None, None, None, 2147483647),
    ):
        data = record(message)
        # What programs of older Qt versions write; before 2.1, null was written as empty.
        versions = [v for v in QDataStream.Version if v.value >= QDataStream.Version.Qt_2_1.value]
        unlike = [v.name for v in versions if record(message, v) != data]
        report("record", **vars(message), hex=data.hex(), versions=len(versions), unlike=unlike)


def read():
    for line in sys.stdin:
        data = QByteArray(bytes.fromhex(line))
        stream = QDataStream(data)
        message = Message.read_from(stream)
        whole = stream.status() == QDataStream.Status.Ok and stream.atEnd()
        report("record", **vars(message), whole=whole)


class Client:
    def __init__(self, port, name):
        self.port, self.name = port, name
        self.socket = QTcpSocket()
        self.socket.readyRead.connect(self.ready)
        self.socket.disconnected.connect(self.closed)
        # One for each direction: while a record is there in part, the status is ReadPastEnd, with which nothing is written.
        self.incoming, self.outgoing = QDataStream(self.socket), QDataStream(self.socket)
        self.stalled = False
        self.number = 0
        self.camera = QTimer()
        self.camera.timeout.connect(self.send_picture)
        self.counter = QTimer()
        self.counter.timeout.connect(self.send_number)
        self.words = b""
        self.input = QSocketNotifier(0, QSocketNotifier.Type.Read)
        self.input.activated.connect(self.told)
        self.do_connect()

    def closed(self):
        self.camera.stop()
        self.counter.stop()
        report("closed", why=self.socket.errorString())

    def told(self):
        words = os.read(0, 65536)
        if not words:
            self.input.setEnabled(False)
            self.socket.disconnectFromHost()
            return QCoreApplication.exit(0)
        *lines, self.words = (self.words + words).split(b"\n")
        for line in lines:
            command, *arguments = line.decode().split(" ", 3)
            getattr(self, f"do_{command}")(*arguments)

    def do_connect(self):
        self.incoming.resetStatus()
        self.outgoing.resetStatus()
        self.socket.connectToHost("127.0.0.1", self.port)
        if not self.socket.waitForConnected(10_000):
            sys.exit(self.socket.errorString())
        # Qt has no socket to set this on before. A kernel's buffer grows to megabytes if it may, and who stalls would
        # not be found out for long.
        self.socket.setSocketOption(QAbstractSocket.SocketOption.LowDelayOption, 1)
        self.socket.setSocketOption(QAbstractSocket.SocketOption.ReceiveBufferSizeSocketOption, 64 * 1024)
        report("connected")

    def do_send(self, type, receiver, content=""):
        Message(self.name, receiver, content, int(type)).write_to(self.outgoing)

    def do_count(self, type, receiver, number):
        self.counted, self.counted_end, self.counted_for = 0, int(number), (type, receiver)
        self.counter.start(0)

    def send_number(self):
        self.do_send(*self.counted_for, str(self.counted))
        self.counted += 1
        if self.counted == self.counted_end:
            self.counter.stop()

    def do_stream(self, receiver, fps, quality):
        self.watcher, self.quality = receiver, int(quality)
        self.camera.start(round(1000 / float(fps)))
        self.send_picture()

    def send_picture(self):
        jpeg = picture(self.number, self.quality)
        report("sent", number=self.number, sha256=hashlib.sha256(jpeg.data()).hexdigest())
        self.do_send(VIDEO_DATA, self.watcher, text_of(jpeg))
        self.number += 1

    def do_mute(self):
        self.camera.stop()
        report("muted")

    def do_stall(self):
        self.stalled = True
        # Qt shall not read ahead either.
        self.socket.setReadBufferSize(1)
        report("stalled")

    def do_resume(self):
        self.stalled = False
        self.socket.setReadBufferSize(0)
        self.ready()

    def ready(self):
        while not self.stalled and self.socket.bytesAvailable():
            self.incoming.startTransaction()
            message = Message.read_from(self.incoming)
            if not self.incoming.commitTransaction():
                if self.incoming.status() == QDataStream.Status.ReadCorruptData:
                    sys.exit("corrupt data")
                # The rest is still to come.
                return
            fields = vars(message)
            if message.type == VIDEO_DATA:
                report("picture", **fields | {"content": len(message.content)} | picture_of(message.content))
            else:
                report("message", **fields)


def talk(port, name):
    # The variable keeps it alive.
    _client = Client(int(port), name)
    return QCoreApplication.exec()


app = QCoreApplication(sys.argv)
sys.exit({"vectors": vectors, "read": read, "talk": talk}[sys.argv[1]](*sys.argv[2:]))
