// The lab's H.264 camera: writes the access units of a file into a v4l2loopback device, FPS times a second, over and over.
// The file is as many records as there are pictures: the length in four bytes, little-endian, and so many bytes of Annex B.
//
//   h264cam DEVICE WIDTH HEIGHT FPS FILE
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: h264cam DEVICE WIDTH HEIGHT FPS FILE\n");
		return 2;
	}
	struct stat status;
	int file = open(argv[5], O_RDONLY), fps = atoi(argv[4]);
	if (file < 0 || fstat(file, &status) < 0)
		die(argv[5]);
	unsigned char *bytes = malloc(status.st_size);
	if (!bytes || read(file, bytes, status.st_size) != (ssize_t)status.st_size)
		die(argv[5]);

	int fd = open(argv[1], O_RDWR);
	if (fd < 0)
		die(argv[1]);
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	format.fmt.pix.width = atoi(argv[2]);
	format.fmt.pix.height = atoi(argv[3]);
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_H264;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	format.fmt.pix.sizeimage = 512 * 1024;
	if (ioctl(fd, VIDIOC_S_FMT, &format) < 0)
		die("VIDIOC_S_FMT");

	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (off_t at = 0;; at = at < status.st_size ? at : 0) {
		uint32_t size;
		memcpy(&size, bytes + at, 4);
		if (write(fd, bytes + at + 4, size) != (ssize_t)size)
			die("write");
		at += 4 + size;
		next.tv_nsec += 1000000000 / fps;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}
