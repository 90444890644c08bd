/* Is this machine ready for the platform? Everything that is wrong is told at once, each with what
 * to do about it, before anything is started. */
#include "local.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

#define DISK_LEAST_BYTES (1024LL << 20)
#define TEXT_MAX_BYTES (64 << 10)

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    char full[4096];
    for (const char *at = path ? path : ""; *at;) {
        size_t len = strcspn(at, ":");
        snprintf(full, sizeof full, "%.*s/%s", (int)len, at, program);
        if (access(full, X_OK) == 0) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return false;
}

static void check_tools(const struct local *local, struct ec_buf *faults)
{
    static const char *const tools[] = {"initdb", "postgres",        "pg_isready",  "setpriv",
                                        "java",   "docker-registry", "skopeo",      "podman",
                                        "conmon", "buildah",         "slirp4netns", "haproxy",
                                        "nginx",  "fcgiwrap",        "git"};
    static const char *const files[] = {"kafka/classpath", "bin/syft",
                                        "images/debian-bookworm-slim/index.json"};
    struct ec_buf missing;
    ec_buf_init(&missing, TEXT_MAX_BYTES);
    for (size_t i = 0; i < EC_LEN(tools); i++) {
        if (!in_path(tools[i])) {
            ec_buf_addf(&missing, " %s", tools[i]);
        }
    }
    for (size_t i = 0; i < EC_LEN(files); i++) {
        const char *path = ec_arena_format(local->arena, "%s/%s", local->cache, files[i]);
        if (access(path, R_OK) != 0) {
            ec_buf_addf(&missing, " %s", path);
        }
    }
    if (missing.len > 0) {
        ec_buf_addf(faults, "  missing:%s\n    install what is missing with:  tools/setup\n",
                    missing.ptr);
    }
    ec_buf_done(&missing);
}

static void check_programs(const struct local *local, struct ec_buf *faults)
{
    for (size_t i = 0; i < local_component_count; i++) {
        const struct component *component = &local_components[i];
        const char *program =
            ec_arena_format(local->arena, "%s/enclii-%s", local->programs, component->name);
        if (component->admin && access(program, X_OK) != 0) {
            ec_buf_addf(faults, "  %s is missing: build it with  make build\n", program);
        }
    }
}

static void check_disk(const struct local *local, struct ec_buf *faults)
{
    struct statvfs disk;
    char *path = ec_arena_strdup(local->arena, local->home);
    while (statvfs(path, &disk) != 0) { /* the folder itself may not exist yet */
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) {
            return;
        }
        *slash = '\0';
    }
    int64_t room = (int64_t)disk.f_bavail * (int64_t)disk.f_frsize;
    if (room < DISK_LEAST_BYTES) {
        ec_buf_addf(faults,
                    "  only %lld MiB are free on the disk of %s, at least 1024 are needed\n"
                    "    free some, or put the platform elsewhere:  ENCLII_HOME=/other/folder\n",
                    (long long)(room >> 20), local->home);
    }
}

/* Configuration files of HAProxy, nginx and others have no common way to quote. */
static void check_letters(const struct local *local, struct ec_buf *faults)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-";
    if (local->home[strspn(local->home, plain)]) {
        ec_buf_addf(faults,
                    "  the folder's name may have letters, digits and / . _ + - only, is \"%s\"\n"
                    "    choose another:  ENCLII_HOME=/other/folder\n",
                    local->home);
    }
}

/* PostgreSQL runs as a user of its own and must be able to walk to its folder. */
static void check_way(const struct local *local, struct ec_buf *faults)
{
    char *path = ec_arena_strdup(local->arena, local->home);
    struct stat status;
    for (char *slash; geteuid() == 0 && (slash = strrchr(path, '/')) && slash != path;) {
        *slash = '\0';
        if (stat(path, &status) == 0 && !(status.st_mode & S_IXOTH)) {
            ec_buf_addf(
                faults,
                "  %s is closed to other users, but PostgreSQL's user must walk through it\n"
                "    open it (chmod o+x %s), or choose another:  ENCLII_HOME=/other/folder\n",
                path, path);
        }
    }
}

/* ---- ports ---- */
static bool port_free(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bool free_ = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return free_;
}

/* The inode of the socket that listens on a port, from /proc/net/tcp and tcp6; 0 = not seen. */
static unsigned long listener_inode(int port)
{
    static const char *const lists[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    char line[512];
    for (size_t i = 0; i < EC_LEN(lists); i++) {
        FILE *list = fopen(lists[i], "re");
        while (list && fgets(line, sizeof line, list)) {
            unsigned local_port, state;
            unsigned long inode;
            if (sscanf(line, "%*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu",
                       &local_port, &state, &inode) == 3 &&
                (int)local_port == port && state == 0x0a) {
                fclose(list);
                return inode;
            }
        }
        if (list) {
            fclose(list);
        }
    }
    return 0;
}

static bool holds_socket(const char *pid, unsigned long inode)
{
    char path[300], target[64], want[64];
    snprintf(want, sizeof want, "socket:[%lu]", inode);
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *fds = opendir(path);
    bool found = false;
    for (struct dirent *entry; fds && !found && (entry = readdir(fds));) {
        char link[600];
        snprintf(link, sizeof link, "%s/%s", path, entry->d_name);
        ssize_t len = readlink(link, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        found = strcmp(target, want) == 0;
    }
    if (fds) {
        closedir(fds);
    }
    return found;
}

/* "nginx (pid 123)", or "" when /proc does not let us see it. */
static const char *owner_of(const struct local *local, int port)
{
    unsigned long inode = listener_inode(port);
    DIR *all = inode ? opendir("/proc") : NULL;
    const char *owner = "";
    for (struct dirent *entry; all && !owner[0] && (entry = readdir(all));) {
        if (isdigit((unsigned char)entry->d_name[0]) && holds_socket(entry->d_name, inode)) {
            char *name = local_read_file(
                local, ec_arena_format(local->arena, "/proc/%s/comm", entry->d_name));
            if (name) {
                name[strcspn(name, "\n")] = '\0';
            }
            owner = ec_arena_format(local->arena, " by %s (pid %s)", name ? name : "a process",
                                    entry->d_name);
        }
    }
    if (all) {
        closedir(all);
    }
    return owner;
}

/* Images and repositories are called by these for ever. */
static void check_kept_ports(const struct local *local, struct ec_buf *faults)
{
    static const int named[] = {PORT_REGISTRY, PORT_GIT};
    for (size_t i = 0; i < EC_LEN(named); i++) {
        int port = local->ports[named[i]], kept = local->kept_ports[named[i]];
        if (kept && kept != port) {
            ec_buf_addf(faults,
                        "  the %s of this platform has port %d: what is stored is called by it, so "
                        "%d cannot take its place\n"
                        "    leave out ENCLII_LOCAL_*PORT*, or start an empty platform elsewhere:  "
                        "ENCLII_HOME=/other/folder\n",
                        local_ports[named[i]].purpose, kept, port);
        }
    }
}

static void check_ports(const struct local *local, struct ec_buf *faults)
{
    size_t before = faults->len;
    for (int i = 0; i < PORT_COUNT; i++) {
        int first = local->ports[i], last = first + (i == PORT_ADMIN ? PORT_ADMIN_COUNT : 1);
        int port = first;
        while (port < last && port_free(port)) {
            port++;
        }
        if (port < last) { /* of a row of ports the first one: they move together */
            ec_buf_addf(faults,
                        "  port %d (%s) is already used%s\n"
                        "    stop that, or choose another:  %s=%d\n",
                        port, local_ports[i].purpose, owner_of(local, port), local_ports[i].setting,
                        first + (first < 50000 ? 10000 : -10000));
        }
    }
    if (faults->len > before) {
        ec_buf_add_text(faults, "  or move all ports together:  ENCLII_LOCAL_PORT_BASE=24000\n");
    }
}

EC_RESULT local_check_machine(const struct local *local)
{
    struct ec_buf faults;
    ec_buf_init(&faults, TEXT_MAX_BYTES);
    if (geteuid() != 0) {
        ec_buf_add_text(&faults, "  root is needed to run containers:  sudo enclii local up\n");
    }
    check_tools(local, &faults);
    check_programs(local, &faults);
    check_disk(local, &faults);
    check_letters(local, &faults);
    check_way(local, &faults);
    check_kept_ports(local, &faults);
    check_ports(local, &faults);
    struct ec_err err = ec_ok();
    if (faults.len > 0) {
        err = ec_reject_in(local->arena, "this machine is not ready:\n%s", faults.ptr);
    }
    ec_buf_done(&faults);
    return err;
}
