"""Reads camd's stream as OpenCV programs do: video_capture.py URL COUNT. Prints one line per picture."""

import hashlib
import sys

import cv2

url, count = sys.argv[1], int(sys.argv[2])
capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
if not capture.isOpened():
    sys.exit(f"cv2.VideoCapture cannot open {url}")
for _ in range(count):
    good, image = capture.read()
    if not good:
        sys.exit("cv2.VideoCapture has no more pictures")
    height, width, _ = image.shape
    print(f"{width}x{height} {hashlib.sha256(image.tobytes()).hexdigest()}")
