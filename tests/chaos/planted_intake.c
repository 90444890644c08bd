/* A planted bug, to prove that tests/chaos/intake_loss.py finds it. Linked only into the program
 * build/chaos/enclii-webhook-planted (by the linker's --wrap). PLANTED_BUG says which guarantee is
 * broken:
 *   early_ack   a delivery is answered 202 before the broker has its event
 *   fresh_ids   the events of a redelivery have other ids than those of the delivery */
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/mem.h"
#include "bus/bus.h"
#include "bus/internal.h"

struct ec_err __real_ec_bus_publish(struct ec_bus *bus, const struct ec_message *message,
                                    ec_published_fn done, void *arg);
struct ec_err __wrap_ec_bus_publish(struct ec_bus *bus, const struct ec_message *message,
                                    ec_published_fn done, void *arg);

struct early {
    ec_published_fn done;
    void *arg;
};

static bool planted(const char *bug)
{
    const char *said = getenv("PLANTED_BUG");
    return said && strcmp(said, bug) == 0;
}

static void on_early(void *arg)
{
    struct early early = *(struct early *)arg;
    free(arg);
    early.done(early.arg, ec_ok());
}

struct ec_err __wrap_ec_bus_publish(struct ec_bus *bus, const struct ec_message *message,
                                    ec_published_fn done, void *arg)
{
    struct ec_message other = *message;
    struct ec_id id = ec_id_new();
    if (planted("fresh_ids")) {
        other.id = id.text;
    }
    if (!planted("early_ack") || !done) {
        return __real_ec_bus_publish(bus, &other, done, arg);
    }
    EC_TRY(__real_ec_bus_publish(bus, &other, NULL, NULL));
    struct early *early = ec_alloc(sizeof *early);
    *early = (struct early){done, arg};
    ec_loop_defer(bus->loop, on_early, early);
    return ec_ok();
}
