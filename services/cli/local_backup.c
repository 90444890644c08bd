/* `enclii local backup` and `restore`: everything that cannot be made again, in one file. It is a
 * copy at rest: database, Kafka and registry hold the same moment only while nobody writes, so a
 * running platform is stopped for it, and only when that was asked for. The engine's and the
 * builder's folders are caches and stay out; certificates are issued again by the same CA. */
#include "cli.h"
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define MANIFEST "backup.json"
#define FORMAT 1

extern const char ec_version[]; /* made at build time, see service.h */

/* The manifest first: to look at a backup, no more than its beginning is read. local.json last:
 * while it is missing, the folder is no platform. */
static const char *const kept[] = {MANIFEST,  "secrets", "postgres", "kafka",     "registry",
                                   "objects", "ca",      "git",      "local.json"};

/* Runs to its end; its messages are for whoever called us. */
static bool run(const char *const *argv, int out)
{
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGINT, SIG_DFL);
        if (out >= 0) {
            dup2(out, STDOUT_FILENO);
        }
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = -1;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int64_t size_of(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 ? (int64_t)status.st_size : 0;
}

/* ---- backup ---- */
static EC_RESULT write_manifest(const struct local *local)
{
    char now[EC_RFC3339_SIZE];
    ec_rfc3339(ec_unix_ms(), now);
    json_t *root = json_pack("{s:i, s:s, s:s, s:s}", "format", FORMAT, "version", ec_version,
                             "made_at", now, "home", local->home);
    for (int i = 0; i < PORT_COUNT; i++) {
        json_object_set_new(root, local_ports[i].setting, json_integer(local->ports[i]));
    }
    const char *text = ec_arena_format(local->arena, "%s\n", ec_json_dump(local->arena, root));
    json_decref(root);
    return local_write_file(local, local_path(local, MANIFEST), text, 0644);
}

/* Under a name that nobody takes for a backup, until it is one. -1 = errno says why not. */
static int open_part(const char *part)
{
    unlink(part);
    return open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* it holds all secrets */
}

static const char *part_of(const struct local *local, const char *file)
{
    return ec_arena_format(local->arena, "%s.part", file);
}

/* Written beside, read back, then renamed. */
static EC_RESULT write_archive(const struct local *local, const char *file)
{
    const char *part = part_of(local, file);
    const char *argv[8 + EC_LEN(kept)] = {"tar", "-C", local->home, "-czf", part, "--"};
    const char *const list[] = {"tar", "-tzf", part, NULL};
    size_t count = 6;
    for (size_t i = 0; i < EC_LEN(kept); i++) {
        argv[count++] = kept[i];
    }
    int fd = open_part(part), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && null >= 0 && run(argv, -1) && run(list, null) && fsync(fd) == 0 &&
                rename(part, file) == 0;
    if (fd >= 0) {
        close(fd);
    }
    if (null >= 0) {
        close(null);
    }
    if (!good) {
        unlink(part);
        return ec_reject_in(local->arena,
                            "the backup could not be written to %s; nothing of it is left. Is "
                            "there room on that disk?",
                            file);
    }
    return ec_ok();
}

static struct ec_err back_up(struct local *local, void *arg)
{
    const char *file = arg;
    int64_t began = ec_mono_ms();
    EC_TRY(write_manifest(local));
    EC_TRY(write_archive(local, file));
    printf("%s  %.1f MB, copied in %.1f s. Keep it as you would keep a key: it holds all secrets\n",
           file, (double)size_of(file) / 1e6, (double)(ec_mono_ms() - began) / 1000);
    fflush(stdout);
    return ec_ok();
}

static bool lies_in(const char *file, const char *folder, struct ec_arena *arena)
{
    char *copy = ec_arena_strdup(arena, file), of[PATH_MAX], at[PATH_MAX];
    char *slash = strrchr(copy, '/');
    if (slash) {
        slash[slash == copy] = '\0';
    }
    size_t len = realpath(folder, at) ? strlen(at) : 0;
    return len > 0 && realpath(slash ? copy : ".", of) && strncmp(of, at, len) == 0 &&
           (of[len] == '/' || !of[len]);
}

static int may_back_up(const struct local *local, const char *file)
{
    if (access(local_path(local, "local.json"), F_OK) != 0) {
        return give_up(EXIT_NOT_FOUND, "no platform has been started in %s", local->home);
    }
    if (access(file, F_OK) == 0) {
        return give_up(EXIT_ERROR, "%s is there already and stays; choose another name", file);
    }
    if (lies_in(file, local->home, local->arena)) {
        return give_up(EXIT_ERROR,
                       "%s would lie in the platform's own folder and be lost together with it; "
                       "choose another place",
                       file);
    }
    int fd = open_part(part_of(local, file)); /* before anything is stopped for it */
    if (fd < 0) {
        return give_up(EXIT_ERROR, "cannot write %s: %s", file, strerror(errno));
    }
    close(fd);
    unlink(part_of(local, file));
    return EXIT_OK;
}

int cmd_local_backup(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    const char *file = cli->args[0];
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    status = may_back_up(&local, file);
    return status == EXIT_OK ? local_at_rest(cli, &local, back_up, (void *)(uintptr_t)file)
                             : status;
}

/* ---- restore ---- */
static bool folder_is_free(const struct local *local)
{
    unlink(local_path(local, "run/starting")); /* a start that the checks refused left no more */
    rmdir(local_path(local, "run"));
    return access(local->home, F_OK) != 0 || rmdir(local->home) == 0;
}

/* What the manifest says, or NULL. */
static json_t *read_manifest(const struct local *local, const char *file)
{
    const char *const argv[] = {"tar", "-xzOf", file, "--occurrence=1", "--", MANIFEST, NULL};
    const char *text = local_output(local, argv);
    json_t *root = NULL;
    if (text) {
        ec_ignore(ec_json_parse(local->arena, ec_span_of(text), &root)); /* then it is none */
    }
    return root;
}

/* Images and repositories are called by the ports that the platform had. */
static bool ports_fit(struct local *local, const json_t *manifest)
{
    bool fit = true;
    for (int i = 0; i < PORT_COUNT; i++) {
        int port = (int)ec_json_int(manifest, local_ports[i].setting, 0);
        bool asked = getenv(local_ports[i].setting) || getenv("ENCLII_LOCAL_PORT_BASE");
        bool named = i == PORT_REGISTRY || i == PORT_GIT;
        fit = fit && !(asked && named && local->ports[i] != port);
        local->ports[i] = asked ? local->ports[i] : port;
    }
    return fit;
}

static int extract(const struct local *local, const char *file)
{
    const char *part = ec_arena_format(local->arena, "%s.restoring", local->home);
    const char *const argv[] = {"tar", "-C", part, "-xpzf", file, NULL};
    ec_file_remove_tree(part); /* of a restore that was cut off */
    struct ec_err err = local_make_folder(local, part, 0755);
    if (ec_failed(err)) {
        return give_up(EXIT_ERROR, "%s", err.what);
    }
    if (!run(argv, -1) || access(ec_arena_format(local->arena, "%s/local.json", part), R_OK) != 0) {
        ec_file_remove_tree(part);
        return give_up(EXIT_ERROR,
                       "%s could not be unpacked whole; nothing was restored. Is the file whole, "
                       "is there room on the disk of %s?",
                       file, local->home);
    }
    if (rename(part, local->home) != 0) {
        int code = errno;
        ec_file_remove_tree(part);
        return give_up(EXIT_ERROR, "cannot put it to %s: %s; nothing was restored", local->home,
                       strerror(code));
    }
    return EXIT_OK;
}

static int may_restore(struct local *local, const char *file, const json_t *manifest)
{
    if (geteuid() != 0) {
        return give_up(EXIT_ERROR, "root is needed to run it:  sudo enclii local restore %s", file);
    }
    if (access(file, R_OK) != 0) {
        return give_up(EXIT_ERROR, "cannot read %s: %s", file, strerror(errno));
    }
    if (ec_json_int(manifest, "format", 0) != FORMAT) {
        return give_up(EXIT_ERROR,
                       manifest ? "%s is a backup of another format than this program (%s) knows"
                                : "%s is no backup made by `enclii local backup` (this is %s)",
                       file, ec_version);
    }
    if (!ports_fit(local, manifest)) {
        return give_up(EXIT_ERROR,
                       "images and repositories in it are called by the ports %d and %d, so it "
                       "cannot be restored to others:\nleave out ENCLII_LOCAL_*PORT*",
                       (int)ec_json_int(manifest, local_ports[PORT_REGISTRY].setting, 0),
                       (int)ec_json_int(manifest, local_ports[PORT_GIT].setting, 0));
    }
    if (!folder_is_free(local)) {
        return give_up(EXIT_ERROR,
                       "there is something in %s, which a restore would replace; nothing was done. "
                       "Remove it:  enclii local down --purge\nor restore to another folder:  "
                       "ENCLII_HOME=/other/folder enclii local restore %s",
                       local->home, file);
    }
    return EXIT_OK;
}

int cmd_local_restore(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    const char *file = cli->args[0];
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    json_t *manifest = access(file, R_OK) == 0 ? read_manifest(&local, file) : NULL;
    status = may_restore(&local, file, manifest);
    status = status == EXIT_OK ? extract(&local, file) : status;
    if (status == EXIT_OK) {
        printf("restored to %s: made at %s by version %s. Start it:  enclii local up\n", local.home,
               ec_json_text(manifest, "made_at"), ec_json_text(manifest, "version"));
    }
    json_decref(manifest);
    return status;
}
