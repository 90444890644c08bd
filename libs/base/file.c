/* Written beside its place under a name of its own, then renamed or linked to it. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static int write_span(int fd, struct ec_span bytes)
{
    while (bytes.len > 0) {
        ssize_t put = write(fd, bytes.ptr, bytes.len);
        if (put < 0 && errno != EINTR) {
            return -errno;
        }
        bytes.ptr += put > 0 ? put : 0;
        bytes.len -= put > 0 ? (size_t)put : 0;
    }
    return 0;
}

static int fill(int fd, const struct ec_file_spec *spec)
{
    int code = 0;
    for (size_t i = 0; i < spec->part_count && code == 0; i++) {
        code = write_span(fd, spec->parts[i]);
    }
    if (code == 0 && fchmod(fd, spec->mode) != 0) {
        code = -errno;
    }
    if (code == 0 && spec->flushed && fsync(fd) != 0) { /* lint: blocks, as file.h says */
        code = -errno;
    }
    return code;
}

static int write_beside(const struct ec_file_spec *spec, char **ret_beside)
{
    ec_cleanup(ec_freep) char *beside = ec_format("%s.XXXXXX", spec->path);
    int fd = mkostemp(beside, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int code = fill(fd, spec);
    if (close(fd) != 0 && code == 0) {
        code = -errno;
    }
    if (code != 0) {
        unlink(beside);
        return code;
    }
    *ret_beside = EC_TAKE(beside);
    return 0;
}

/* A name is on the disk once its folder is. */
static int flush_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    ec_cleanup(ec_freep) char *folder = slash == path ? ec_strdup("/")
                                        : slash       ? ec_format("%.*s", (int)(slash - path), path)
                                                      : ec_strdup(".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int code = fsync(fd) == 0 ? 0 : -errno; /* lint: blocks, as file.h says */
    close(fd);
    return code;
}

int ec_file_replace(const struct ec_file_spec *spec)
{
    ec_cleanup(ec_freep) char *beside = NULL;
    int code = write_beside(spec, &beside);
    if (code == 0 && rename(beside, spec->path) != 0) {
        code = -errno;
        unlink(beside);
    }
    return code == 0 && spec->flushed ? flush_folder(spec->path) : code;
}

int ec_file_create(const struct ec_file_spec *spec)
{
    ec_cleanup(ec_freep) char *beside = NULL;
    int code = write_beside(spec, &beside);
    if (code == 0) {
        code = link(beside, spec->path) == 0 ? 0 : -errno;
        unlink(beside);
    }
    return code == 0 && spec->flushed ? flush_folder(spec->path) : code;
}

#define WALK_FDS 16

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    remove(path);
    return 0;
}

void ec_file_remove_tree(const char *path)
{
    nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
