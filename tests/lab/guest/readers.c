// Readers of a camd sink of kind "memfd", each a process of its own that sleeps until camd tells it of a picture, and what
// they cost camd: the processor time that its threads took between the moment when every reader had its WARMUP-th picture
// and the one when each had FRAMES more. Each reader checks the seqlock, and that the picture is a whole JPEG.
// Prints: camd's nanoseconds, seconds.
//
//   readers SOCKET READERS WARMUP FRAMES CAMD-PID
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

struct ring {
	char magic[8];
	uint32_t version, slots, first, stride, data, capacity;
	char rest[32];
	uint32_t newest, count;
};

struct slot {
	uint32_t lock, fourcc;
	uint64_t sequence, wall, monotonic;
	uint32_t width, height, size, flags;
};

static const volatile struct ring *connect_to(const char *path, int *bell)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	int connection = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (connect(connection, (struct sockaddr *)&address, sizeof address) < 0)
		die(path);
	struct { char magic[8]; uint32_t version, bytes; } hello;
	union { struct cmsghdr header; char room[CMSG_SPACE(2 * sizeof(int))]; } control;
	struct iovec part = { &hello, sizeof hello };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control,
	};
	if (recvmsg(connection, &message, 0) != sizeof hello || memcmp(hello.magic, "camdring", 8) || !hello.bytes)
		die("no ring");
	int fds[2];
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
	*bell = fds[1];
	const void *ring = mmap(NULL, hello.bytes, PROT_READ, MAP_SHARED, fds[0], 0);
	if (ring == MAP_FAILED)
		die("mmap");
	return ring;
}

// Whether there is a picture that was not seen before.
static bool look(const volatile struct ring *ring, uint64_t *last)
{
	for (;;) {
		uint32_t newest = __atomic_load_n(&ring->newest, __ATOMIC_ACQUIRE);
		if (newest >= ring->slots)
			return false;
		const volatile uint8_t *bytes = (const volatile uint8_t *)ring + ring->first + newest * ring->stride;
		const volatile struct slot *slot = (const volatile struct slot *)bytes;
		const volatile uint8_t *jpeg = bytes + ring->data;
		uint32_t lock = __atomic_load_n(&slot->lock, __ATOMIC_ACQUIRE);
		uint64_t sequence = slot->sequence;
		uint32_t size = slot->size;
		bool whole = size > 100 && size <= ring->capacity && jpeg[0] == 0xFF && jpeg[1] == 0xD8 &&
			jpeg[size - 2] == 0xFF && jpeg[size - 1] == 0xD9;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (lock % 2 || __atomic_load_n(&slot->lock, __ATOMIC_RELAXED) != lock)
			continue;
		if (sequence == *last)
			return false;
		if (!whole || sequence < *last) {
			fprintf(stderr, "picture %llu after %llu is wrong\n", (unsigned long long)sequence, (unsigned long long)*last);
			exit(1);
		}
		*last = sequence;
		return true;
	}
}

static void read_pictures(const char *path, unsigned long warmup, unsigned long frames, int report)
{
	int bell;
	const volatile struct ring *ring = connect_to(path, &bell);
	uint64_t last = 0;
	for (unsigned long count = 0;;) {
		struct epoll_event event;
		if (!look(ring, &last)) {
			epoll_wait(bell, &event, 1, -1);
			continue;
		}
		count++;
		if ((count == warmup || count == warmup + frames) && write(report, "", 1) != 1)
			die("report");
	}
}

int main(int argc, char **argv)
{
	if (argc != 6) {
		fprintf(stderr, "usage: readers SOCKET READERS WARMUP FRAMES CAMD-PID\n");
		return 2;
	}
	int count = atoi(argv[2]), reports[2];
	unsigned long warmup = strtoul(argv[3], NULL, 10), frames = strtoul(argv[4], NULL, 10);
	pid_t *readers = calloc(count, sizeof *readers);
	if (pipe(reports) < 0)
		die("pipe");
	for (int i = 0; i < count; i++) {
		readers[i] = fork();
		if (readers[i] == 0) {
			close(reports[0]);
			read_pictures(argv[1], warmup, frames, reports[1]);
		}
	}
	close(reports[1]);
	unsigned long long time[2];
	double at[2];
	for (int phase = 0; phase < 2; phase++) {
		for (int i = 0; i < count; i++) {
			char byte;
			if (read(reports[0], &byte, 1) != 1) {
				fprintf(stderr, "all readers have ended\n");
				return 1;
			}
		}
		time[phase] = process_time(argv[5]);
		at[phase] = now();
	}
	for (int i = 0; i < count; i++) {
		int status;
		// One that has ended by itself has failed.
		if (waitpid(readers[i], &status, WNOHANG) != 0)
			return 1;
		kill(readers[i], SIGKILL);
		waitpid(readers[i], &status, 0);
	}
	printf("%llu %.2f\n", time[1] - time[0], at[1] - at[0]);
	return 0;
}
