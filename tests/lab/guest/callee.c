// The other end of a video call with a camera, and what the call costs the camera's side: the processor time that all
// processes of these names took between the WARMUP-th picture and the one FRAMES later. Prints: pictures, their bytes of
// text, nanoseconds, seconds. The last picture's text is left in FILE.
//
//   callee ring PORT WARMUP FRAMES FILE NAME...     logs in at camd's relay and rings its camera up
//   callee listen PORT WARMUP FRAMES FILE NAME...   is whom the original program sends to
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

enum { LOGIN = 1, REQUEST = 54, ACCEPT = 55, VIDEO_DATA = 57 };

static void put_text(FILE *to, const char *text)
{
	uint32_t bytes = htonl(2 * strlen(text));
	fwrite(&bytes, sizeof bytes, 1, to);
	for (; *text; text++) {
		putc(0, to);
		putc(*text, to);
	}
}

static void put_record(FILE *to, const char *receiver, uint32_t type)
{
	put_text(to, "caller");
	put_text(to, receiver);
	put_text(to, "");
	type = htonl(type);
	fwrite(&type, sizeof type, 1, to);
}

static uint32_t get_number(FILE *from)
{
	uint32_t number;
	if (fread(&number, sizeof number, 1, from) != 1) {
		fprintf(stderr, "the call ended\n");
		exit(1);
	}
	return ntohl(number);
}

// Reads a record, of which `text` gets the content, one byte a character. Returns its type.
static uint32_t get_record(FILE *from, char *text, size_t size, size_t *length)
{
	for (int i = 0; i < 3; i++) {
		uint32_t bytes = get_number(from);
		*length = bytes == UINT32_MAX ? 0 : bytes / 2;
		if (*length > size || bytes % 2 != (bytes == UINT32_MAX)) {
			fprintf(stderr, "a text of %u bytes\n", bytes);
			exit(1);
		}
		for (size_t j = 0; j < *length; j++) {
			getc(from);
			text[j] = getc(from);
		}
	}
	return get_number(from);
}

static unsigned long long time_of(char **names)
{
	unsigned long long total = 0;
	DIR *processes = opendir("/proc");
	if (!processes)
		die("/proc");
	for (struct dirent *process; (process = readdir(processes));) {
		char path[320], name[32];
		if (process->d_name[0] < '1' || process->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%s/comm", process->d_name);
		FILE *file = fopen(path, "r");
		if (!file || fscanf(file, "%31s", name) != 1)
			die(path);
		fclose(file);
		for (char **wanted = names; *wanted; wanted++)
			if (!strcmp(name, *wanted))
				total += process_time(process->d_name);
	}
	closedir(processes);
	return total;
}

int main(int argc, char **argv)
{
	if (argc < 7) {
		fprintf(stderr, "usage: callee ring|listen PORT WARMUP FRAMES FILE NAME...\n");
		return 2;
	}
	unsigned long warmup = strtoul(argv[3], NULL, 10), frames = strtoul(argv[4], NULL, 10);
	char **names = argv + 6;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (!strcmp(argv[1], "ring")) {
		if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
			die("connect");
		FILE *to = fdopen(dup(fd), "w");
		put_record(to, "", LOGIN);
		put_record(to, "camera", REQUEST);
		if (fclose(to))
			die("write");
	} else {
		int listener = fd;
		if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0)
			die("listen");
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			die("accept");
	}

	static char text[1 << 20];
	FILE *from = fdopen(fd, "r");
	unsigned long pictures = 0;
	unsigned long long bytes = 0, start_time = 0;
	double start = 0;
	size_t length = 0;
	while (pictures < warmup + frames) {
		if (get_record(from, text, sizeof text, &length) != VIDEO_DATA)
			continue;
		if (pictures++ >= warmup)
			bytes += length;
		if (pictures == warmup) {
			start = now();
			start_time = time_of(names);
		}
	}
	unsigned long long nanoseconds = time_of(names) - start_time;
	double seconds = now() - start;
	FILE *last = fopen(argv[5], "w");
	if (!last || fwrite(text, length, 1, last) != 1 || fclose(last))
		die(argv[5]);
	printf("%lu %llu %llu %.2f\n", frames, bytes, nanoseconds, seconds);
	return 0;
}
