// The least possible MJPEG server, to compare camd with: take a buffer from the camera, write it to every client with
// one writev each, give the buffer back. It serves honest multipart/x-mixed-replace (a browser shows it), but knows
// nothing of slow clients, faults or any other request: it waits for exactly CLIENTS of them and then blocks in every
// call.
//
//   least DEVICE PORT CLIENTS
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFFERS 4
#define BOUNDARY "camd-lab-frame"

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void write_all(int fd, struct iovec *part, int parts)
{
	while (parts) {
		ssize_t done = writev(fd, part, parts);
		if (done < 0)
			die("writev");
		while (parts && (size_t)done >= part->iov_len) {
			done -= part->iov_len;
			part++;
			parts--;
		}
		if (parts) {
			part->iov_base = (char *)part->iov_base + done;
			part->iov_len -= done;
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: least DEVICE PORT CLIENTS\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	int one = 1, type = V4L2_BUF_TYPE_VIDEO_CAPTURE, count = atoi(argv[3]);
	int *clients = calloc(count, sizeof *clients);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, count) < 0)
		die("listen");
	for (int i = 0; i < count; i++) {
		static const char head[] = "HTTP/1.0 200 OK\r\nCache-Control: no-store\r\nContent-Type: "
					   "multipart/x-mixed-replace;boundary=" BOUNDARY "\r\n\r\n--" BOUNDARY "\r\n";
		char request[4096];
		clients[i] = accept(listener, NULL, NULL);
		if (clients[i] < 0)
			die("accept");
		setsockopt(clients[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (read(clients[i], request, sizeof request) <= 0)
			die("request");
		if (write(clients[i], head, sizeof head - 1) < 0)
			die("write");
	}

	int camera = open(argv[1], O_RDWR);
	if (camera < 0)
		die(argv[1]);
	struct v4l2_requestbuffers wanted = { .count = BUFFERS, .type = type, .memory = V4L2_MEMORY_MMAP };
	if (ioctl(camera, VIDIOC_REQBUFS, &wanted) < 0)
		die("VIDIOC_REQBUFS");
	void *memory[BUFFERS];
	for (unsigned i = 0; i < BUFFERS; i++) {
		struct v4l2_buffer buffer = { .index = i, .type = type, .memory = V4L2_MEMORY_MMAP };
		if (ioctl(camera, VIDIOC_QUERYBUF, &buffer) < 0)
			die("VIDIOC_QUERYBUF");
		memory[i] = mmap(NULL, buffer.length, PROT_READ, MAP_SHARED, camera, buffer.m.offset);
		if (memory[i] == MAP_FAILED || ioctl(camera, VIDIOC_QBUF, &buffer) < 0)
			die("VIDIOC_QBUF");
	}
	if (ioctl(camera, VIDIOC_STREAMON, &type) < 0)
		die("VIDIOC_STREAMON");

	for (;;) {
		struct v4l2_buffer buffer = { .type = type, .memory = V4L2_MEMORY_MMAP };
		if (ioctl(camera, VIDIOC_DQBUF, &buffer) < 0)
			die("VIDIOC_DQBUF");
		char head[160];
		int length = snprintf(head, sizeof head,
				      "Content-Type: image/jpeg\r\nContent-Length: %u\r\nX-Timestamp: %ld.%06ld\r\n\r\n",
				      buffer.bytesused, (long)buffer.timestamp.tv_sec, (long)buffer.timestamp.tv_usec);
		for (int i = 0; i < count; i++) {
			struct iovec part[] = {
				{ head, length },
				{ memory[buffer.index], buffer.bytesused },
				{ "\r\n--" BOUNDARY "\r\n", sizeof "\r\n--" BOUNDARY "\r\n" - 1 },
			};
			write_all(clients[i], part, 3);
		}
		if (ioctl(camera, VIDIOC_QBUF, &buffer) < 0)
			die("VIDIOC_QBUF");
	}
}
