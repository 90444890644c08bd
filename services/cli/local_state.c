/* Who runs: the lock that the supervisor holds for as long as it lives, its state file, and what to
 * do about the remains of one that was killed. A pid is believed only together with its start time.
 */
#include "local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#define MOUNTS_MAX 1024

/* Who only looks holds it for a moment, too. */
#define LOCK_WITHIN_MS 1000
#define STARTING_WITHIN_MS 20000 /* checks, preparation, the supervisor's first breath */

/* For whoever wants to end the holder, also when there is no state file (a full disk, a start that
 * has not come so far). */
static void write_holder(int fd)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%d %lld\n", (int)getpid(),
                       (long long)local_process_start(getpid()));
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len) {
        perror("run/lock"); /* state.json says it, too */
    }
}

int local_lock(const struct local *local)
{
    int fd = open(local_path(local, "run/lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int64_t until = ec_mono_ms() + LOCK_WITHIN_MS;
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (ec_mono_ms() > until) {
            close(fd);
            return -1;
        }
        usleep(10000);
    }
    if (fd >= 0) {
        write_holder(fd);
    }
    return fd;
}

int local_starting(const struct local *local)
{
    int fd = -1;
    if (!ec_failed(local_make_folder(local, local->home, 0755)) &&
        !ec_failed(local_make_folder(local, local_path(local, "run"), 0711))) {
        fd = open(local_path(local, "run/starting"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    for (int64_t until = ec_mono_ms() + STARTING_WITHIN_MS;
         fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && ec_mono_ms() < until;) {
        usleep(20000);
    }
    return fd;
}

/* Shared, so that two that look at once do not take each other for the platform. */
bool local_running(const struct local *local)
{
    int fd = open(local_path(local, "run/lock"), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return held;
}

static pid_t still_the_one(int64_t pid, int64_t start)
{
    bool good = pid > 1 && pid <= INT32_MAX && start > 0;
    return good && local_process_start((pid_t)pid) == start ? (pid_t)pid : 0;
}

pid_t local_supervisor(const struct local *local)
{
    long long pid = 0, start = -1;
    const char *text = local_read_file(local, local_path(local, "run/lock"));
    if (!local_running(local)) {
        return 0;
    }
    if (text && sscanf(text, "%lld %lld", &pid, &start) == 2 && still_the_one(pid, start)) {
        return (pid_t)pid;
    }
    json_t *state = local_state_read(local);
    pid = ec_json_int(state, "supervisor.pid", 0);
    start = ec_json_int(state, "supervisor.start", -1);
    json_decref(state);
    return still_the_one(pid, start);
}

json_t *local_state_read(const struct local *local)
{
    char *text = local_read_file(local, local_path(local, "run/state.json"));
    json_t *state = NULL;
    if (text) {
        /* Written whole or not at all; an unreadable one is as good as none. */
        ec_ignore(ec_json_parse(local->arena, ec_span_of(text), &state));
    }
    return state;
}

EC_RESULT local_state_write(const struct local *local, json_t *state)
{
    char *text = json_dumps(state, JSON_INDENT(1));
    struct ec_err err = local_write_file(local, local_path(local, "run/state.json"), text, 0644);
    free(text);
    return err;
}

int64_t local_process_start(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    /* The name in brackets may hold anything; field 22 counts from after its last bracket. */
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at ? strtoll(at + 1, NULL, 10) : -1;
}

/* The link of a running program leads to its file also when that was replaced. */
static bool is_older(const struct local *local, pid_t pid, const char *program)
{
    struct stat runs, there;
    const char *link = ec_arena_format(local->arena, "/proc/%d/exe", (int)pid);
    return stat(link, &runs) == 0 && stat(program, &there) == 0 &&
           (runs.st_ino != there.st_ino || runs.st_dev != there.st_dev);
}

const char *local_older(const struct local *local, const json_t *state)
{
    size_t i;
    const json_t *component;
    pid_t supervisor = (pid_t)ec_json_int(state, "supervisor.pid", 0);
    const char *program = ec_arena_format(local->arena, "%s/enclii", local->programs);
    const char *names = is_older(local, supervisor, program) ? " supervisor" : "";
    json_array_foreach(ec_json_at(state, "components"), i, component)
    {
        const char *name = ec_json_text(component, "name");
        pid_t pid = (pid_t)ec_json_int(component, "pid", 0);
        program = ec_arena_format(local->arena, "%s/enclii-%s", local->programs, name);
        if (pid > 0 && is_older(local, pid, program)) { /* others have no such program */
            names = ec_arena_format(local->arena, "%s %s", names, name);
        }
    }
    return names;
}

/* Every process of the platform carries home in its environment, whatever it was started by. */
static bool carries_mark(const struct local *local, const char *pid)
{
    char path[64], text[32768];
    const char *mark = ec_arena_format(local->arena, LOCAL_MARK "=%s", local->home);
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[len > 0 ? len : 0] = '\0';
    for (const char *at = text; at < text + len; at += strlen(at) + 1) {
        if (strcmp(at, mark) == 0) {
            return true;
        }
    }
    return false;
}

/* Keepers of containers are left to the engine, which knows how to end them well. */
static bool is_container_keeper(const struct local *local, const char *pid)
{
    const char *name = local_read_file(local, ec_arena_format(local->arena, "/proc/%s/comm", pid));
    return name && strncmp(name, "conmon", 6) == 0;
}

static size_t signal_left_over(const struct local *local, int number, bool containers)
{
    DIR *all = opendir("/proc");
    size_t count = 0;
    for (struct dirent *entry; all && (entry = readdir(all));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 1 && pid != getpid() && carries_mark(local, entry->d_name) &&
            (containers || !is_container_keeper(local, entry->d_name))) {
            count += kill(pid, number) == 0;
        }
    }
    if (all) {
        closedir(all);
    }
    return count;
}

static void kill_left_over(const struct local *local, bool containers)
{
    int number = SIGTERM;
    for (int64_t began = ec_mono_ms(); signal_left_over(local, number, containers) > 0;) {
        int64_t waited = ec_mono_ms() - began;
        if (waited > 7000) {
            return; /* stuck in the kernel: nothing more can be done from here */
        }
        number = waited > 5000 ? SIGKILL : 0;
        usleep(20000);
    }
}

static void run_quietly(const struct local *local, const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        setenv("CONTAINERS_CONF", local_path(local, "conf/containers.conf"), 1);
        setenv("CONTAINERS_STORAGE_CONF", local_path(local, "conf/storage-engine.conf"), 1);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid > 0) {
        waitpid(pid, NULL, 0);
    }
}

/* Deepest first: mounts are listed in the order in which they were made. */
static void unmount_all(const struct local *local)
{
    FILE *list = fopen("/proc/self/mountinfo", "re");
    if (!list) {
        return;
    }
    const char *under[MOUNTS_MAX];
    char line[8192], path[4096], home[PATH_MAX];
    if (!realpath(local->home, home)) { /* mounts are listed by their real names */
        snprintf(home, sizeof home, "%s", local->home);
    }
    size_t count = 0, len = strlen(home);
    while (fgets(line, sizeof line, list) && count < MOUNTS_MAX) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1 && strncmp(path, home, len) == 0 &&
            path[len] == '/') {
            under[count++] = ec_arena_strdup(local->arena, path);
        }
    }
    fclose(list);
    while (count > 0) {
        umount2(under[--count], MNT_DETACH);
    }
}

void local_sweep(const struct local *local, bool containers)
{
    if (containers && access(local_path(local, "engine/storage"), F_OK) == 0) {
        static const char *const argv[] = {"podman", "rm", "--all", "--force", "--time", "1", NULL};
        run_quietly(local, argv);
    }
    kill_left_over(local, containers);
    if (containers) {
        unmount_all(local);
    }
}
