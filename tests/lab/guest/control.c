// Sets a V4L2 control by its name, as a person reads it: control /dev/video0 "Inject Fatal Streaming Error" 1
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: control DEVICE NAME VALUE\n");
		return 2;
	}
	int fd = open(argv[1], O_RDWR);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	struct v4l2_queryctrl query = { .id = V4L2_CTRL_FLAG_NEXT_CTRL };
	while (ioctl(fd, VIDIOC_QUERYCTRL, &query) == 0) {
		if (strcmp((const char *)query.name, argv[2]) == 0) {
			struct v4l2_control control = { .id = query.id, .value = atoi(argv[3]) };
			// "Disconnect" takes the device away from under this very call: ENODEV is its success.
			if (ioctl(fd, VIDIOC_S_CTRL, &control) < 0 && errno != ENODEV) {
				perror(argv[2]);
				return 1;
			}
			return 0;
		}
		query.id |= V4L2_CTRL_FLAG_NEXT_CTRL;
	}
	fprintf(stderr, "%s: no control named \"%s\"\n", argv[1], argv[2]);
	return 1;
}
