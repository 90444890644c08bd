/* What git says of the working copy that the command is called in. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "local.h"

#define LINE_MAX_BYTES 1024

static const char *first_line(struct cli *cli, const char *command)
{
    FILE *git = popen(command, "re");
    char line[LINE_MAX_BYTES] = "";
    if (git && !fgets(line, sizeof line, git)) {
        line[0] = '\0';
    }
    if (git) {
        pclose(git);
    }
    line[strcspn(line, "\n")] = '\0';
    return ec_arena_strdup(cli->arena, line);
}

const char *git_commit_here(struct cli *cli)
{
    return first_line(cli, "git rev-parse --verify -q HEAD 2>/dev/null");
}

const char *git_origin_here(struct cli *cli)
{
    return first_line(cli, "git config --get remote.origin.url 2>/dev/null");
}

const char *git_commit_of(struct cli *cli, const char *name)
{
    const struct local here = {.arena = cli->arena};
    const char *const argv[] = {
        "sh", "-c", "exec git rev-parse --verify -q --end-of-options \"$1^{commit}\" 2>/dev/null",
        "sh", name, NULL};
    char *sha = local_output(&here, argv);
    if (sha) {
        sha[strcspn(sha, "\n")] = '\0';
    }
    return sha ? sha : "";
}
