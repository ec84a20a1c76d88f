"""The push client of the original system, without its window: push_client.py PORT COUNT

It keeps what the server gets to see: one line of greeting, then for each picture recv(8) as struct "ii", recv up to the
picture's length, cv2.imdecode, and a pause of 10 ms where the original waited for a key. Prints one line per picture.
"""

import hashlib
import socket
import struct
import sys
import time

import cv2
import numpy as np

port, count = int(sys.argv[1]), int(sys.argv[2])
sock = socket.create_connection(("127.0.0.1", port), timeout=20)
sock.sendall(bytes("hello from the other side!", encoding="utf-8"))


def receive(size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            sys.exit(f"connection closed, {size - len(data)} bytes missing")
        data += piece
    return data


for _ in range(count):
    length, again = struct.unpack("ii", receive(8))
    if length != again:
        sys.exit(f"lengths {length} and {again} differ")
    time.sleep(0.001)
    picture = receive(length)
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        sys.exit(f"cv2 cannot decode a picture of {length} bytes")
    height, width, _ = image.shape
    print(f"{width}x{height} {hashlib.sha256(image.tobytes()).hexdigest()}")
    time.sleep(0.010)
