/* `enclii local rotate`: a new secret in the place of one that leaked or is old. What it means for
 * those who used the old one is told, and stands in docs/operations/rotate.md. */
#include "cli.h"
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/encode.h"
#include "base/mem.h"
#include "trust/token.h"

static char *secret_path(const struct local *local, const char *name)
{
    return ec_arena_format(local->arena, "%s/secrets/%s", local->home, name);
}

/* The next preparation makes it anew. */
static struct ec_err drop(const struct local *local, const char *name)
{
    const char *path = secret_path(local, name);
    return unlink(path) == 0 || errno == ENOENT
               ? ec_ok()
               : ec_retry_in(local->arena, errno, "cannot remove %s: %s", path, strerror(errno));
}

static struct ec_err drop_admin_token(struct local *local)
{
    return drop(local, "admin_token");
}

static struct ec_err drop_webhook(struct local *local)
{
    return drop(local, "webhook");
}

/* Its public half stays behind the new one (local_files.c): older releases verify with it. */
static struct ec_err drop_signing_key(struct local *local)
{
    const char *before = secret_path(local, LOCAL_OLDER_KEYS);
    if (rename(secret_path(local, "signing.pub"), before) != 0 && errno != ENOENT) {
        return ec_retry_in(local->arena, errno, "cannot keep the public key as %s: %s", before,
                           strerror(errno));
    }
    return drop(local, "signing.pem");
}

/* By PostgreSQL's single-user mode, which asks for no password. The statement goes through a pipe:
 * a command line is for everybody to read. */
static bool run_sql(const struct local *local, const char *sql)
{
    const char *const argv[] = {"setpriv",
                                "--reuid=postgres",
                                "--regid=postgres",
                                "--clear-groups",
                                "postgres",
                                "--single",
                                "-D",
                                local_path(local, "postgres/data"),
                                "-c",
                                "exit_on_error=true",
                                "-c",
                                "log_statement=none",
                                "postgres",
                                NULL};
    int ends[2], status = -1;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(ends[0], STDIN_FILENO);
        dup2(null, STDOUT_FILENO); /* its prompt */
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[0]);
    bool sent = write(ends[1], sql, strlen(sql)) == (ssize_t)strlen(sql);
    close(ends[1]);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && sent;
}

/* Cut off in between, the file has the old one and the database the new one: said again, it heals.
 */
static struct ec_err change_database_password(struct local *local)
{
    unsigned char bytes[32];
    EC_TRY(ec_random_bytes(bytes, sizeof bytes));
    const char *hex = ec_hex(local->arena, (struct ec_span){(const char *)bytes, sizeof bytes});
    if (!run_sql(local, ec_arena_format(local->arena, "alter role enclii password '%s'\n", hex))) {
        return ec_reject("PostgreSQL did not take the new password; what it says stands above. The "
                         "old one still holds");
    }
    return local_write_file(local, secret_path(local, "postgres"),
                            ec_arena_format(local->arena, "%s\n", hex), 0600);
}

static const struct secret {
    const char *name;
    struct ec_err (*renew)(struct local *local);
    const char *then;
} secrets[] = {
    {"admin-token", drop_admin_token,
     "the one before is revoked when the API starts. Take the new one:  eval \"$(enclii local "
     "env)\""},
    {"webhook", drop_webhook,
     "git hosts elsewhere that sign with the common secret must be given the new one, from\n"
     "secrets/webhook; what they sent meanwhile was answered 401: redeliver it there"},
    {"signing-key", drop_signing_key,
     "releases so far verify with the older public key, which stays behind the new one in\n"
     "secrets/signing.pub. If it was stolen, take it out there and build anew what matters:\n"
     "enclii deploy --commit SHA"},
    {"database-password", change_database_password, "only services of the platform use it"},
};

static struct ec_err rotate(struct local *local, void *arg)
{
    const struct secret *secret = arg;
    EC_TRY(secret->renew(local));
    EC_TRY(local_prepare(local));
    printf("%s: made anew; %s\n", secret->name, secret->then);
    fflush(stdout);
    return ec_ok();
}

int cmd_local_rotate(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    const struct secret *found = NULL;
    for (size_t i = 0; i < EC_LEN(secrets); i++) {
        found = strcmp(secrets[i].name, cli->args[0]) == 0 ? &secrets[i] : found;
    }
    if (!found) {
        return give_up(EXIT_ERROR,
                       "there is no \"%s\" to be made anew here. There are: admin-token, webhook, "
                       "signing-key, database-password.\nThe seal key cannot be: secrets in the "
                       "database are sealed with it (docs/operations/rotate.md)",
                       cli->args[0]);
    }
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    if (access(local_path(&local, "local.json"), F_OK) != 0) {
        return give_up(EXIT_NOT_FOUND, "no platform has been started in %s", local.home);
    }
    return local_at_rest(cli, &local, rotate, (void *)(uintptr_t)found);
}
