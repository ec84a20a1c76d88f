// The lab's MJPEG camera: writes JPEGs from files into a v4l2loopback device for ever, FPS times a second.
// Every picture written gets a COM segment with its number, so that a client on the host can tell which picture it
// got, and whether each byte of it is as the camera made it.
//
//   mjpegcam DEVICE WIDTH HEIGHT FPS FILE...
#include "loopback.h"

int main(int argc, char **argv)
{
	if (argc < 6) {
		fprintf(stderr, "usage: mjpegcam DEVICE WIDTH HEIGHT FPS FILE...\n");
		return 2;
	}
	int count = argc - 5, fps = atoi(argv[4]);
	struct file *pictures = calloc(count, sizeof *pictures);
	size_t largest = 0;
	for (int i = 0; i < count; i++) {
		pictures[i] = load(argv[5 + i]);
		if (pictures[i].size > largest)
			largest = pictures[i].size;
	}

	int fd = open_camera(argv[1], argv[2], argv[3], V4L2_PIX_FMT_MJPEG);
	// SOI, COM (marker, length, "camd-lab 0000000000"), and then the file's bytes after its own SOI.
	unsigned char head[2 + 4 + 19 + 1];
	unsigned char *whole = malloc(sizeof head + largest);
	for (unsigned number = 0;; number++) {
		struct file *picture = &pictures[number % count];
		int length = snprintf((char *)head, sizeof head, "\xff\xd8\xff\xfe%c%ccamd-lab %010u", 0, 21, number);
		memcpy(whole, head, length);
		memcpy(whole + length, picture->bytes + 2, picture->size - 2);
		show(fd, whole, length + picture->size - 2, fps);
	}
}
