/* The components' log files: bounded, by copying and cutting, since the writers keep them open. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "local_supervise.h"

#define LOG_MAX_BYTES (16 << 20)

static void rotate_one(const char *path)
{
    struct stat status;
    char old[4200], bytes[65536];
    if (stat(path, &status) != 0 || status.st_size < LOG_MAX_BYTES) {
        return;
    }
    snprintf(old, sizeof old, "%s.1", path);
    int from = open(path, O_RDWR | O_CLOEXEC);
    int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n = -1;
    while (from >= 0 && to >= 0 && (n = read(from, bytes, sizeof bytes)) > 0) {
        if (write(to, bytes, (size_t)n) != n) {
            break; /* a full disk: the cut below is what helps */
        }
    }
    if (from >= 0 && ftruncate(from, 0) != 0) {
        perror(path);
    }
    if (to >= 0) {
        close(to);
    }
    if (from >= 0) {
        close(from);
    }
}

void local_logs_cut(const char *home)
{
    char path[4200];
    for (size_t i = 0; i < local_component_count; i++) {
        snprintf(path, sizeof path, "%s/logs/%s.log", home, local_components[i].name);
        rotate_one(path);
    }
    snprintf(path, sizeof path, "%s/logs/supervisor.log", home);
    rotate_one(path);
}
