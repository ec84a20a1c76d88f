// What the programs that measure have in common.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// Time on the processor in nanoseconds, of all threads of a process, as the scheduler counts it.
static unsigned long long process_time(const char *pid)
{
	char path[600];
	unsigned long long total = 0, time;
	snprintf(path, sizeof path, "/proc/%s/task", pid);
	DIR *tasks = opendir(path);
	if (!tasks)
		die(path);
	for (struct dirent *task; (task = readdir(tasks));) {
		if (task->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pid, task->d_name);
		FILE *file = fopen(path, "r");
		if (!file || fscanf(file, "%llu", &time) != 1)
			die(path);
		fclose(file);
		total += time;
	}
	closedir(tasks);
	return total;
}
