"""Pictures from a camd sink of kind "memfd", without copying them: OpenCV works on the memory that camd writes.

    for head, image in Frames("/run/camd/frames.sock"):     # BGR, or grey from format = "grey"
"""

import mmap
import select
import socket
import struct
import sys
import threading
import zlib
from collections import namedtuple

import cv2
import numpy

Head = namedtuple("Head", "fourcc sequence wall monotonic width height size flags at line at1 line1 at2 line2")
NONE = 0xFFFFFFFF
RAW = {b"YUYV": (2, cv2.COLOR_YUV2BGR_YUYV), b"UYVY": (2, cv2.COLOR_YUV2BGR_UYVY), b"RGB3": (3, cv2.COLOR_RGB2BGR),
       b"BGR3": (3, None), b"GREY": (1, None)}  # fmt: skip
PLANAR = {b"YU12": cv2.COLOR_YUV2BGR_I420, b"NV12": cv2.COLOR_YUV2BGR_NV12}


class Frames:
    def __init__(self, path):
        self.camd = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.camd.connect(path)
        hello, fds, _, _ = socket.recv_fds(self.camd, 16, 2)
        size = int.from_bytes(hello[12:], "little")
        if hello[:12] != b"camdring\1\0\0\0" or not size:
            raise ConnectionError("all places are taken" if hello else "camd has closed the connection")
        self.memory = mmap.mmap(fds[0], size, mmap.MAP_SHARED, mmap.PROT_READ)
        self.words = numpy.frombuffer(self.memory, "<u4")  # each is read in one piece
        self.first, self.stride, self.data = map(int, self.words[4:7])
        self.bell = select.epoll.fromfd(fds[1])
        self.bell.register(self.camd, select.EPOLLIN | select.EPOLLRDHUP)  # one wait for both
        self.fence = threading.Lock()
        self.sequence = 0

    def __iter__(self):
        while True:  # look first, then wait: there may be a picture already
            if taken := self.newest():
                yield taken
            elif any(fd == self.camd.fileno() for fd, _ in self.bell.poll()):
                return  # camd has ended, or has let us go

    def newest(self):
        """The newest picture, if it was not taken before."""
        while (slot := int(self.words[16])) != NONE:
            place = self.first + slot * self.stride
            lock = int(self.words[place // 4])
            head = Head._make(struct.unpack("<4s3Q10I", self.memory[place + 4 : place + 72]))
            if self.is_torn(place, lock):
                continue
            if head.sequence <= self.sequence or not head.size:
                return None
            image = self.image(head, place + self.data)
            if not self.is_torn(place, lock):
                self.sequence = head.sequence
                return head, image

    def is_torn(self, place, lock):
        with self.fence:  # what was read is read before what follows, which is not a matter of course on ARM
            pass
        return lock % 2 or lock != int(self.words[place // 4])

    def image(self, head, place):
        picture = numpy.frombuffer(self.memory, "u1", head.size, place)
        if head.fourcc == b"JPEG":
            return cv2.imdecode(picture, cv2.IMREAD_COLOR)
        if conversion := PLANAR.get(head.fourcc):
            return cv2.cvtColor(picture.reshape(head.height * 3 // 2, head.line), conversion)[:, : head.width]
        depth, conversion = RAW[head.fourcc]
        rows = picture.reshape(head.height, head.line)[:, : head.width * depth].reshape(head.height, head.width, depth)
        return rows.copy() if conversion is None else cv2.cvtColor(rows, conversion)


if __name__ == "__main__":
    for count, (head, image) in enumerate(Frames(sys.argv[1]), 1):
        print(head.fourcc.decode(), head.sequence, *image.shape, zlib.crc32(image.tobytes()), flush=True)
        if count == int(sys.argv[2]):
            break
