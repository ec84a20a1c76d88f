// The lab's H.264 camera: writes the access units of a file into a v4l2loopback device, FPS times a second, over and over.
// The file is as many records as there are pictures: the length in four bytes, little-endian, and so many bytes of Annex B.
//
//   h264cam DEVICE WIDTH HEIGHT FPS FILE
#include "loopback.h"

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: h264cam DEVICE WIDTH HEIGHT FPS FILE\n");
		return 2;
	}
	struct file file = load(argv[5]);
	int fd = open_camera(argv[1], argv[2], argv[3], V4L2_PIX_FMT_H264), fps = atoi(argv[4]);
	for (size_t at = 0;; at = at < file.size ? at : 0) {
		uint32_t size;
		memcpy(&size, file.bytes + at, 4);
		show(fd, file.bytes + at + 4, size, fps);
		at += 4 + size;
	}
}
