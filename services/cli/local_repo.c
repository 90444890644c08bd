/* Repositories of the local git server: bare ones, each with the hook that tells of its pushes. */
#include "local.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"

#define OUTPUT_MAX_BYTES (16 << 20)

char *local_output(const struct local *local, const char *const *argv)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return NULL;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    struct ec_buf out;
    ec_buf_init(&out, OUTPUT_MAX_BYTES);
    char bytes[65536];
    ssize_t n;
    while (pid > 0 && (n = read(ends[0], bytes, sizeof bytes)) > 0) {
        ec_buf_add(&out, bytes, (size_t)n);
    }
    close(ends[0]);
    int status = -1;
    bool well = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && !out.overflowed;
    char *text = well ? ec_arena_text(local->arena, ec_buf_span(&out)) : NULL;
    ec_buf_done(&out);
    return text;
}

bool local_repo_name_fits(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t owner = strspn(name, letters);
    const char *rest = name + owner + 1;
    return owner > 0 && name[owner] == '/' && rest[0] && strspn(rest, letters) == strlen(rest) &&
           name[0] != '.' && name[0] != '-' && rest[0] != '.' && rest[0] != '-';
}

/* It calls this program by its place, which may be another one after an upgrade. */
static EC_RESULT write_hook(const struct local *local, const char *repo)
{
    const char *hook = ec_arena_format(
        local->arena,
        "#!/bin/sh\nENCLII_HOME='%s'\nexport ENCLII_HOME\nexec '%s/enclii' local hook\n",
        local->home, local->programs);
    const char *path = ec_arena_format(local->arena, "%s/hooks/post-receive", repo);
    const char *there = local_read_file(local, path);
    return there && strcmp(there, hook) == 0 ? ec_ok() : local_write_file(local, path, hook, 0755);
}

EC_RESULT local_renew_hooks(const struct local *local)
{
    glob_t repos = {0};
    struct ec_err err = ec_ok();
    if (glob(local_path(local, "git/*/*.git"), GLOB_NOSORT, NULL, &repos) == 0) {
        for (size_t i = 0; i < repos.gl_pathc && !ec_failed(err); i++) {
            err = write_hook(local, repos.gl_pathv[i]);
        }
        globfree(&repos);
    }
    return err;
}

static EC_RESULT make_repo(const struct local *local, const char *path)
{
    const char *const init[] = {"git", "init", "-q", "--bare", "-b", "main", path, NULL};
    const char *const receive[] = {"git", "-C", path, "config", "http.receivepack", "true", NULL};
    EC_TRY(local_make_folder(local, path, 0755));
    if (!local_output(local, init) || !local_output(local, receive)) {
        return ec_reject_in(local->arena, "git could not make the repository %s", path);
    }
    return write_hook(local, path);
}

int local_repo(struct local *local, const char *name)
{
    if (!local_repo_name_fits(name)) {
        fprintf(stderr, "enclii: the name must look like acme/shop, is \"%s\"\n", name);
        return 1;
    }
    const char *path = ec_arena_format(local->arena, "%s/git/%s.git", local->home, name);
    struct ec_err err = make_repo(local, path); /* again on one that exists: renews the hook */
    if (ec_failed(err)) {
        fprintf(stderr, "enclii: %s\n", err.what);
        return 1;
    }
    printf("http://127.0.0.1:%d/%s.git\n", local->ports[PORT_GIT], name);
    return 0;
}
