"""What OpenCV finds in a clip: its pictures, and that it can be set to any of them, backwards too."""

import sys

import cv2

clip = cv2.VideoCapture(sys.argv[1])
count = int(clip.get(cv2.CAP_PROP_FRAME_COUNT))
found = 0
for number in reversed(range(count)):
    clip.set(cv2.CAP_PROP_POS_FRAMES, number)
    at = int(clip.get(cv2.CAP_PROP_POS_FRAMES))
    read, picture = clip.read()
    found += read and at == number and picture.shape == (48, 64, 3)
print(count, found)
