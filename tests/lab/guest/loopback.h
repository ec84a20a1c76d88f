// What the lab's cameras have in common: pictures written into a v4l2loopback device at a steady rate.
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

struct file {
	size_t size;
	unsigned char *bytes;
};

static struct file load(const char *path)
{
	struct stat status;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &status) < 0)
		die(path);
	struct file file = { status.st_size, malloc(status.st_size) };
	if (!file.bytes || read(fd, file.bytes, file.size) != (ssize_t)file.size)
		die(path);
	close(fd);
	return file;
}

static int open_camera(const char *device, const char *width, const char *height, uint32_t pixelformat)
{
	int fd = open(device, O_RDWR);
	if (fd < 0)
		die(device);
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	format.fmt.pix.width = atoi(width);
	format.fmt.pix.height = atoi(height);
	format.fmt.pix.pixelformat = pixelformat;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	format.fmt.pix.sizeimage = 512 * 1024;
	if (ioctl(fd, VIDIOC_S_FMT, &format) < 0)
		die("VIDIOC_S_FMT");
	return fd;
}

// Writes a picture, and waits until the next one is due: FPS times a second from the first one on.
static void show(int fd, const void *bytes, size_t size, int fps)
{
	static struct timespec next;
	if (!next.tv_sec)
		clock_gettime(CLOCK_MONOTONIC, &next);
	if (write(fd, bytes, size) != (ssize_t)size)
		die("write");
	next.tv_nsec += 1000000000 / fps;
	if (next.tv_nsec >= 1000000000) {
		next.tv_nsec -= 1000000000;
		next.tv_sec++;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
}
