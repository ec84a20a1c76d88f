// The lab's MJPEG camera: writes JPEGs from files into a v4l2loopback device for ever, FPS times a second.
// Every picture written gets a COM segment with its number, so that a client on the host can tell which picture it
// got, and whether each byte of it is as the camera made it.
//
//   mjpegcam DEVICE WIDTH HEIGHT FPS FILE...
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

struct picture {
	size_t size;
	unsigned char *bytes;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct picture load(const char *path)
{
	struct stat status;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &status) < 0)
		die(path);
	struct picture picture = { status.st_size, malloc(status.st_size) };
	if (!picture.bytes || read(fd, picture.bytes, picture.size) != (ssize_t)picture.size)
		die(path);
	close(fd);
	return picture;
}

int main(int argc, char **argv)
{
	if (argc < 6) {
		fprintf(stderr, "usage: mjpegcam DEVICE WIDTH HEIGHT FPS FILE...\n");
		return 2;
	}
	int count = argc - 5, fps = atoi(argv[4]);
	struct picture *pictures = calloc(count, sizeof *pictures);
	size_t largest = 0;
	for (int i = 0; i < count; i++) {
		pictures[i] = load(argv[5 + i]);
		if (pictures[i].size > largest)
			largest = pictures[i].size;
	}

	int fd = open(argv[1], O_RDWR);
	if (fd < 0)
		die(argv[1]);
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	format.fmt.pix.width = atoi(argv[2]);
	format.fmt.pix.height = atoi(argv[3]);
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_MJPEG;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	format.fmt.pix.sizeimage = 512 * 1024;
	if (ioctl(fd, VIDIOC_S_FMT, &format) < 0)
		die("VIDIOC_S_FMT");

	// SOI, COM (marker, length, "camd-lab 0000000000"), and then the file's bytes after its own SOI.
	unsigned char head[2 + 4 + 19 + 1];
	unsigned char *whole = malloc(sizeof head + largest);
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (unsigned number = 0;; number++) {
		struct picture *picture = &pictures[number % count];
		int length = snprintf((char *)head, sizeof head, "\xff\xd8\xff\xfe%c%ccamd-lab %010u", 0, 21, number);
		memcpy(whole, head, length);
		memcpy(whole + length, picture->bytes + 2, picture->size - 2);
		size_t size = length + picture->size - 2;
		if (write(fd, whole, size) != (ssize_t)size)
			die("write");
		next.tv_nsec += 1000000000 / fps;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
}
