// Reads CLIENTS HTTP streams of one server and measures what they cost it: the processor time that the server's
// threads took between the moment when every client had its WARMUP-th picture and the one when each had FRAMES more
// on average. Prints: pictures delivered, server nanoseconds, seconds.
//
//   drain PORT PATH CLIENTS WARMUP FRAMES SERVER-PID [PID...]
//
// The time of the other processes counts, too: the kernel's thread ksoftirqd takes over what many writes in a row leave
// to be delivered.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

struct client {
	int fd;
	unsigned long pictures;
	size_t skip;     // bytes of the current picture still to come
	char line[256];  // the head's line being read
	size_t length;   // of that line
	size_t announced;
};

// Counts the pictures in the bytes that came. Only Content-Length and the empty line after it matter; boundaries and
// the response's own head are other lines. Returns how many pictures were completed.
static unsigned take(struct client *client, const char *data, size_t size)
{
	unsigned done = 0;
	while (size) {
		if (client->skip) {
			size_t part = size < client->skip ? size : client->skip;
			client->skip -= part;
			data += part;
			size -= part;
			if (!client->skip) {
				client->pictures++;
				done++;
			}
			continue;
		}
		char c = *data++;
		size--;
		if (c == '\r')
			continue;
		if (c != '\n') {
			if (client->length < sizeof client->line - 1)
				client->line[client->length++] = c;
			continue;
		}
		client->line[client->length] = 0;
		if (!strncasecmp(client->line, "Content-Length:", 15))
			client->announced = strtoul(client->line + 15, NULL, 10);
		if (!client->length) {
			client->skip = client->announced;
			client->announced = 0;
		}
		client->length = 0;
	}
	return done;
}

static unsigned long long all_time(char **pid)
{
	unsigned long long total = 0;
	while (*pid)
		total += process_time(*pid++);
	return total;
}

int main(int argc, char **argv)
{
	if (argc < 7) {
		fprintf(stderr, "usage: drain PORT PATH CLIENTS WARMUP FRAMES SERVER-PID [PID...]\n");
		return 2;
	}
	int count = atoi(argv[3]);
	unsigned long warmup = strtoul(argv[4], NULL, 10), frames = strtoul(argv[5], NULL, 10);
	struct client *clients = calloc(count, sizeof *clients);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	char request[256];
	int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", argv[2]);
	int epoll = epoll_create1(0);
	// Room for several pictures. A picture of more than half the reader's window leaves the server's kernel in two bursts
	// (tcp_sendmsg, forced_push), at twice the wake-ups. By itself the window grows or not by how the first pictures
	// happen to come, and that would be measured in place of the server.
	int room = 1 << 20;
	for (int i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
		clients[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		if (setsockopt(clients[i].fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0)
			die("SO_RCVBUFFORCE");
		if (connect(clients[i].fd, (struct sockaddr *)&address, sizeof address) < 0)
			die("connect");
		if (write(clients[i].fd, request, length) != length)
			die("request");
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
			die("epoll_ctl");
	}

	static char buffer[65536];
	unsigned long long start_time = 0, delivered = 0;
	double start = 0;
	int warm = 0;
	bool measuring = false;
	while (delivered < (unsigned long long)frames * count) {
		struct epoll_event events[64];
		int ready = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < ready; i++) {
			struct client *client = &clients[events[i].data.u32];
			ssize_t size = read(client->fd, buffer, sizeof buffer);
			if (size <= 0) {
				fprintf(stderr, "client %d: the stream ended\n", (int)events[i].data.u32);
				return 1;
			}
			unsigned long before = client->pictures;
			unsigned done = take(client, buffer, size);
			if (measuring)
				delivered += done;
			else if (before < warmup && client->pictures >= warmup)
				warm++;
		}
		if (!measuring && warm == count) {
			measuring = true;
			start = now();
			start_time = all_time(argv + 6);
		}
	}
	printf("%llu %llu %.2f\n", delivered, all_time(argv + 6) - start_time, now() - start);
	return 0;
}
