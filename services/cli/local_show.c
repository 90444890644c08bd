/* `enclii local status|logs|env`: what a person sees of the platform on this machine. */
#include "cli.h"
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"

#define TAIL_BYTES (64 << 10)

const char *local_seconds(struct cli *cli, int64_t ms)
{
    return ec_arena_format(cli->arena, "%lld.%02lld s", (long long)(ms / 1000),
                           (long long)(ms % 1000 / 10));
}

void local_print_addresses(struct cli *cli, const struct local *local)
{
    const int *ports = local->ports;
    printf("\n  API       http://127.0.0.1:%d\n", ports[PORT_API]);
    printf("  router    http://<name>.localhost:%d   https://<name>.localhost:%d\n",
           ports[PORT_HTTP], ports[PORT_HTTPS]);
    printf("  git       http://127.0.0.1:%d/<owner>/<name>.git   (enclii local repo owner/name)\n",
           ports[PORT_GIT]);
    printf("  webhooks  http://127.0.0.1:%d/v1/webhooks/github\n", ports[PORT_WEBHOOK]);
    printf("  registry  127.0.0.1:%d\n", ports[PORT_REGISTRY]);
    printf("  state     %s\n", local->home);
    printf("\n%s\n", paint(cli,
                           "Next: enclii project create NAME; enclii service create -f "
                           "enclii.yaml. Stop: enclii local down",
                           "dim"));
}

void local_print_tail(const char *path, int lines, const char *indent)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    off_t from = status.st_size > TAIL_BYTES ? status.st_size - TAIL_BYTES : 0;
    char *text = ec_alloc(TAIL_BYTES + 1);
    ssize_t len = pread(fd, text, TAIL_BYTES, from);
    close(fd);
    char *at = text + (len > 0 ? len : 0);
    for (int found = 0; at > text; at--) {
        if (at[-1] == '\n' && at[0] && ++found == lines) {
            break;
        }
    }
    for (char *line = at, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) {
            *next++ = '\0';
        }
        printf("%s%s\n", indent, line);
    }
    free(text);
}

/* Not restarted one by one: the supervisor is old, too, and new programs may want settings that it
 * does not give them. */
void local_tell_older(struct cli *cli, const struct local *local, const json_t *state)
{
    const char *older = local_older(local, state);
    if (older[0] && !cli->json) {
        printf("\nOlder programs than those on disk still run:%s. To take the new ones (apps stand "
               "still meanwhile):\nenclii local down && enclii local up\n",
               older);
    }
}

/* ---- the commands ---- */

int cmd_local_status(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    json_t *state = local_running(&local) ? local_state_read(&local) : NULL;
    if (!state) {
        if (cli->json) {
            puts("{\"running\": false}");
        }
        return give_up(EXIT_UNREACHABLE, "the platform is not running. Start it:  enclii local up");
    }
    if (cli->json) {
        json_object_set_new(state, "running", json_true());
        return print_json(state);
    }
    static const struct column columns[] = {
        {"COMPONENT", "name", PLAIN},      {"STATE", "state", STATE},       {"PID", "pid", PLAIN},
        {"READY IN", "took_ms", DURATION}, {"RESTARTS", "restarts", PLAIN}, {"", "detail", PLAIN}};
    print_list(cli, ec_json_at(state, "components"),
               TABLE(columns, "nothing runs here. Start it:  enclii local up"));
    bool ready = ec_json_bool(state, "ready", false);
    local_print_addresses(cli, &local);
    local_tell_older(cli, &local, state);
    json_decref(state);
    return ready ? EXIT_OK : EXIT_ERROR;
}

static int unknown_component(const char *name)
{
    fprintf(stderr, "enclii: there is no component \"%s\". There are: supervisor", name);
    for (size_t i = 0; i < local_component_count; i++) {
        fprintf(stderr, " %s", local_components[i].name);
    }
    fputc('\n', stderr);
    return EXIT_NOT_FOUND;
}

static bool is_component(const char *name)
{
    bool found = strcmp(name, "supervisor") == 0;
    for (size_t i = 0; i < local_component_count; i++) {
        found = found || strcmp(name, local_components[i].name) == 0;
    }
    return found;
}

int cmd_local_logs(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    const char *lines = option(cli, "lines"), *only = cli->arg_count ? cli->args[0] : NULL;
    if (only && !is_component(only)) {
        return unknown_component(only);
    }
    const char *pattern = only ? only : "*";
    if (option(cli, "follow")) {
        const char *command = ec_arena_format(cli->arena, "exec tail -n %d -F \"$1\"/logs/%s.log",
                                              lines ? atoi(lines) : 10, pattern);
        execlp("sh", "sh", "-c", command, "tail", local.home, (char *)NULL);
        return give_up(EXIT_ERROR, "cannot run tail: %s", strerror(errno));
    }
    for (size_t i = 0; i <= local_component_count; i++) {
        const char *name = i < local_component_count ? local_components[i].name : "supervisor";
        if (only && strcmp(only, name) != 0) {
            continue;
        }
        if (!only) {
            printf("%s\n", paint(cli, name, "bold"));
        }
        local_print_tail(ec_arena_format(cli->arena, "%s/logs/%s.log", local.home, name),
                         lines  ? atoi(lines)
                         : only ? 200
                                : 5,
                         only ? "" : "  ");
    }
    return EXIT_OK;
}

int cmd_local_env(struct cli *cli)
{
    struct local local;
    int status = EXIT_ERROR;
    if (!local_open_for(cli, &local, &status)) {
        return status;
    }
    const char *token = local_secret(&local, "admin_token");
    if (!token) {
        return give_up(EXIT_NOT_FOUND, "no platform has been started in %s", local.home);
    }
    printf("export ENCLII_HOME=%s\nexport ENCLII_API_URL=%s\nexport ENCLII_API_TOKEN=%s\n",
           local.home, local_api_url(&local), token);
    for (int i = 0; i < PORT_COUNT; i++) {
        printf("export %s=%d\n", local_ports[i].setting, local.ports[i]);
    }
    return EXIT_OK;
}
