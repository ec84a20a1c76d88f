"""A picture's way through OpenCV, as a program that is built on it goes it, in one thread. The JPEG decoder is told to
decode smaller where that is enough. Its JPEGs are 4:2:0, by default.

    opencv.py INPUT mjpeg|yuyv|yuyv-420 WIDTH HEIGHT TO_WIDTH TO_HEIGHT QUALITY EIGHTHS FRAMES OUTPUT

Does the same FRAMES times, between two calls of getppid, and writes the last JPEG to OUTPUT.
"""

import os
import sys

import cv2
import numpy

WARM_UP = 2
REDUCED = {1: cv2.IMREAD_REDUCED_COLOR_8, 2: cv2.IMREAD_REDUCED_COLOR_4, 4: cv2.IMREAD_REDUCED_COLOR_2}

path, kind, *numbers, output = sys.argv[1:]
from_width, from_height, width, height, quality, eighths, frames = map(int, numbers)
data = numpy.fromfile(path, numpy.uint8)
cv2.setNumThreads(1)


def picture():
    if kind == "mjpeg":
        image = cv2.imdecode(data, REDUCED.get(eighths, cv2.IMREAD_COLOR))
    else:
        image = cv2.cvtColor(data.reshape(from_height, from_width, 2), cv2.COLOR_YUV2BGR_YUY2)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]


for _ in range(WARM_UP):
    picture()
os.getppid()
for _ in range(frames):
    jpeg = picture()
os.getppid()
jpeg.tofile(output)
