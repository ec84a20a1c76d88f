"""The push server of the original system, without its camera: push_server.py PORT

It keeps what the client gets to see: SO_REUSEADDR, listen, one accept, and then for each picture cv2.imencode and sendall of
struct "ii", twice the length, and the JPEG. It never reads, and dies when the client is gone. Its camera is made of numpy.
"""

import socket
import struct
import sys
import time

import cv2
import numpy as np

sk = socket.socket()
sk.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sk.bind(("127.0.0.1", int(sys.argv[1])))
sk.listen(5)
conn, address = sk.accept()


def img_endecode(img):
    ret, img_encode = cv2.imencode(".jpg", img)
    str_encode = img_encode.tobytes()
    strsize = struct.pack("ii", len(str_encode), len(str_encode))
    conn.sendall(strsize + str_encode)


number = 0
while 1:
    frame = np.full((240, 320, 3), number % 200, np.uint8)
    cv2.putText(frame, str(number), (20, 150), cv2.FONT_HERSHEY_SIMPLEX, 3, (255, 255, 255), 3)
    img_endecode(frame)
    number += 1
    time.sleep(1 / 30)
