/* The daemon starts its worker as /proc/self/exe, which under qemu's user emulation is the emulator: it takes the
   first argument, `worker`, for the program to run. So this program lies in the daemon's working folder under that
   name, and puts the words back in order. EMULATOR and EMULATED name the emulator and the program under test. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char *args[16] = {getenv("EMULATOR"), getenv("EMULATED"), "worker"};

    for (int i = 1; i < argc && i < 12; i++)
        args[i + 2] = argv[i];
    execv(args[0], args);
    perror("worker: the emulator cannot be started");
    return 127;
}
