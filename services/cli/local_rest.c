/* What can only be done while nothing of the platform writes: stop it when that was asked for, keep
 * others from starting it, do it, start it again. */
#include "cli.h"
#include "local.h"

#include <signal.h>
#include <unistd.h>

static struct ec_err locked(struct local *local, local_rest_fn act, void *arg)
{
    int lock = local_lock(local);
    if (lock < 0) {
        return ec_reject("somebody started the platform meanwhile. See:  enclii local status");
    }
    struct ec_err err = act(local, arg);
    close(lock);
    return err;
}

int local_at_rest(struct cli *cli, struct local *local, local_rest_fn act, void *arg)
{
    bool was_running = local_running(local);
    if (was_running && !option(cli, "stop")) {
        return give_up(EXIT_ERROR,
                       "the platform runs, and this is done at rest: with --stop it is stopped and "
                       "started again,\nand apps stand still meanwhile. Nothing was done:  enclii "
                       "%s %s --stop",
                       cli->command->words, cli->args[0]);
    }
    signal(SIGINT, SIG_IGN); /* ends what `act` runs, not the start that comes after it */
    local_stop(local);
    struct ec_err err = locked(local, act, arg);
    signal(SIGINT, SIG_DFL);
    int status = ec_failed(err) ? give_up(EXIT_ERROR, "%s", err.what) : EXIT_OK;
    if (was_running) { /* also when nothing came of it */
        int up = cmd_local_up(cli);
        status = status == EXIT_OK ? up : status;
    }
    return status;
}
