/* A process of the driver's name that stands in state D, as one does that waits in the kernel: it has started a child with
   vfork and stays until that ends. Unlike a real one it can be killed. It writes the line that the kernel's watchdog
   would write to the log that it is given, and ends when the process does whose number it is given.
   stuck LOG PID READY */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    pid_t watched = atoi(argv[2]);
    prctl(PR_SET_NAME, "nvidia-standin");
    FILE *log = fopen(argv[1], "a");
    if (!log)
        return 1;
    fprintf(log, "4,50,2000000,-;INFO: task nvidia-standin:%d blocked for more than 120 seconds.\n", getpid());
    fclose(log);
    fclose(fopen(argv[3], "w"));
    if (vfork() == 0) {
        while (!kill(watched, 0))
            usleep(20000);
        _exit(0);
    }
    wait(NULL);
    return 0;
}
