/* Shared memory as Qt's QSharedMemory makes it on Unix, without Qt: a file whose ftok(…, 'Q') is the key, and a segment
 * and a semaphore of that key. shm make FILE: makes all three and writes a word. shm read FILE: attaches, waits for and
 * releases the semaphore, prints the word. shm hold FILE: the same, and stays attached.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: shm make|read|hold FILE\n");
        return 2;
    }
    int make = strcmp(argv[1], "make") == 0;
    if (make && open(argv[2], O_CREAT | O_RDWR, 0600) < 0)
        return fail("open");
    key_t key = ftok(argv[2], 'Q');
    if (key == -1)
        return fail("ftok");
    int segment = shmget(key, 4096, make ? IPC_CREAT | 0666 : 0444);
    int semaphore = semget(key, 1, make ? IPC_CREAT | 0666 : 0666);
    if (segment < 0 || semaphore < 0)
        return fail("shmget or semget");
    char *memory = shmat(segment, NULL, make ? 0 : SHM_RDONLY);
    if (memory == (void *)-1)
        return fail("shmat");
    if (make) {
        strcpy(memory, "picture");
        if (semctl(semaphore, 0, SETVAL, 1) < 0)
            return fail("semctl");
    } else {
        struct sembuf take = {0, -1, SEM_UNDO}, give = {0, 1, SEM_UNDO};
        if (semop(semaphore, &take, 1) < 0 || semop(semaphore, &give, 1) < 0)
            return fail("semop");
        puts(memory);
        fflush(stdout);
    }
    if (strcmp(argv[1], "read") != 0)
        pause();
    return 0;
}
