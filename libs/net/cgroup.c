/* A new group is a folder below the group we are in ourselves, so that limits set on us hold for
 * our children too. Its name carries our pid: a later process recognises what a killed one left. */
#include "net/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define ROOT "/sys/fs/cgroup"
#define PREFIX "enclii-"
#define FILE_MAX_BYTES (64 * 1024)

struct place {      /* where one controller's groups can be made */
    char path[512]; /* our own group; "" = not available */
    bool v2;
};

struct ec_cgroup {
    char *dirs[EC_CGROUP_DIRS_MAX];
    size_t dir_count;
    const char *oom_file; /* in dirs[0]: where oom_kill is counted; NULL = no memory limit */
};

static bool read_file(const char *path, struct ec_buf *ret_text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    char piece[4096];
    ssize_t n = 0;
    while ((n = read(fd, piece, sizeof(piece))) > 0) {
        ec_buf_add(ret_text, piece, (size_t)n);
    }
    close(fd);
    return n == 0;
}

static bool write_number(const char *dir, const char *file, uint64_t number)
{
    ec_cleanup(ec_freep) char *path = ec_format("%s/%s", dir, file);
    char text[24];
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = write(fd, text, (size_t)len);
    close(fd);
    return n == len;
}

static bool has_word(const char *list, const char *end, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if ((size_t)(stop - at) == len && memcmp(at, word, len) == 0) {
            return true;
        }
        at = stop + 1;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "<id>:<controllers>:<path>"; version 2 has no controllers. */
static struct place find_place(const char *self_cgroup, const char *controller)
{
    struct place v2 = {.v2 = true};
    for (const char *line = self_cgroup; line && *line;) {
        const char *end = strchr(line, '\n');
        const char *names = strchr(line, ':');
        const char *path = names ? strchr(names + 1, ':') : NULL;
        if (end && path && path < end) {
            int len = (int)(end - path - 1);
            struct place at = {.v2 = path == names + 1};
            if (at.v2) {
                const char *mount = access(ROOT "/cgroup.controllers", F_OK) == 0 ? ROOT : "";
                snprintf(v2.path, sizeof(v2.path), "%s%.*s", mount, len, path + 1);
                v2.path[0] = mount[0] ? v2.path[0] : '\0';
            } else if (has_word(names + 1, path, controller)) {
                snprintf(at.path, sizeof(at.path), ROOT "/%s%.*s", controller, len, path + 1);
                return at;
            }
        }
        line = end ? end + 1 : NULL;
    }
    return v2;
}

static void kill_all(const char *dir)
{
    struct ec_buf text;
    ec_buf_init(&text, FILE_MAX_BYTES);
    ec_cleanup(ec_freep) char *path = ec_format("%s/cgroup.procs", dir);
    if (read_file(path, &text)) {
        for (char *at = text.ptr; at && *at;) {
            char *end = NULL;
            long pid = strtol(at, &end, 10);
            if (end == at) {
                break;
            }
            if (pid > 1) {
                kill((pid_t)pid, SIGKILL);
            }
            at = end + (*end == '\n');
        }
    }
    ec_buf_done(&text);
}

/* Groups named after a pid that is no longer alive (or ours: pids are reused). */
static void sweep_leftovers(const char *parent)
{
    DIR *dir = opendir(parent);
    struct dirent *entry = NULL;
    while (dir && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0) {
            continue;
        }
        long pid = strtol(entry->d_name + strlen(PREFIX), NULL, 10);
        if (pid <= 0 || (pid != getpid() && (kill((pid_t)pid, 0) == 0 || errno == EPERM))) {
            continue;
        }
        ec_cleanup(ec_freep) char *path = ec_format("%s/%s", parent, entry->d_name);
        kill_all(path);
        rmdir(path); /* may be too early for it: then the next start removes it */
    }
    if (dir) {
        closedir(dir);
    }
}

static const char *make_dir(struct ec_cgroup *group, const struct place *place)
{
    static unsigned counter;
    static char swept[EC_CGROUP_DIRS_MAX][512];
    if (!place->path[0]) {
        return NULL;
    }
    for (size_t i = 0; i < EC_CGROUP_DIRS_MAX && strcmp(swept[i], place->path) != 0; i++) {
        if (!swept[i][0]) {
            memcpy(swept[i], place->path, sizeof(swept[i]));
            sweep_leftovers(place->path);
            break;
        }
    }
    char *path = ec_format("%s/" PREFIX "%d-%u", place->path, (int)getpid(), ++counter);
    if (mkdir(path, 0755) != 0) {
        free(path);
        return NULL;
    }
    group->dirs[group->dir_count++] = path;
    return path;
}

static bool limit_memory(struct ec_cgroup *group, const struct place *place, uint64_t max_bytes)
{
    const char *dir = make_dir(group, place);
    if (!dir) {
        return false;
    }
    if (place->v2) {
        if (!write_number(dir, "memory.max", max_bytes)) {
            return false;
        }
        write_number(dir, "memory.swap.max", 0); /* absent without swap accounting: fine */
        group->oom_file = "memory.events";
        return true;
    }
    if (!write_number(dir, "memory.limit_in_bytes", max_bytes)) {
        return false;
    }
    write_number(dir, "memory.memsw.limit_in_bytes", max_bytes);
    group->oom_file = "memory.oom_control";
    return true;
}

static bool limit_pids(struct ec_cgroup *group, const struct place *place, uint64_t pids_max)
{
    bool shared = place->v2 && group->dir_count > 0;
    const char *dir = shared ? group->dirs[0] : make_dir(group, place);
    return dir && write_number(dir, "pids.max", pids_max);
}

struct ec_cgroup *ec_cgroup_new(uint64_t memory_max_bytes, uint64_t pids_max, bool *ret_memory,
                                bool *ret_pids)
{
    struct ec_buf self;
    ec_buf_init(&self, FILE_MAX_BYTES);
    struct ec_cgroup *group = ec_alloc(sizeof(*group));
    *ret_memory = *ret_pids = false;
    if (read_file("/proc/self/cgroup", &self) && self.ptr) {
        struct place memory = find_place(self.ptr, "memory");
        struct place pids = find_place(self.ptr, "pids");
        *ret_memory = memory_max_bytes > 0 && limit_memory(group, &memory, memory_max_bytes);
        *ret_pids = pids_max > 0 && limit_pids(group, &pids, pids_max);
    }
    ec_buf_done(&self);
    if (!*ret_memory && !*ret_pids) {
        ec_cgroup_remove(group);
        ec_cgroup_free(group);
        return NULL;
    }
    return group;
}

size_t ec_cgroup_join_fds(const struct ec_cgroup *group, int ret_fds[EC_CGROUP_DIRS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < group->dir_count; i++) {
        ec_cleanup(ec_freep) char *path = ec_format("%s/cgroup.procs", group->dirs[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
            ret_fds[count++] = fd;
        }
    }
    return count;
}

uint64_t ec_cgroup_oom_kills(const struct ec_cgroup *group)
{
    if (!group->oom_file) {
        return 0;
    }
    struct ec_buf text;
    ec_buf_init(&text, FILE_MAX_BYTES);
    ec_cleanup(ec_freep) char *path = ec_format("%s/%s", group->dirs[0], group->oom_file);
    uint64_t count = 0;
    if (read_file(path, &text) && text.ptr) {
        const char *line = strstr(text.ptr, "oom_kill ");
        count = line ? strtoull(line + strlen("oom_kill "), NULL, 10) : 0;
    }
    ec_buf_done(&text);
    return count;
}

void ec_cgroup_kill(const struct ec_cgroup *group)
{
    for (size_t i = 0; i < group->dir_count; i++) {
        kill_all(group->dirs[i]);
    }
}

bool ec_cgroup_remove(struct ec_cgroup *group)
{
    bool gone = true;
    for (size_t i = 0; i < group->dir_count; i++) {
        if (rmdir(group->dirs[i]) != 0 && errno != ENOENT) {
            gone = false;
        }
    }
    return gone;
}

void ec_cgroup_free(struct ec_cgroup *group)
{
    if (!group) {
        return;
    }
    for (size_t i = 0; i < group->dir_count; i++) {
        free(group->dirs[i]);
    }
    free(group);
}
