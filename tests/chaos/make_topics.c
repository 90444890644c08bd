/* Makes the topics of proto/topics.yaml with three replicas each, two of which must have a record
 * before it counts as written. Argument: the brokers. */
#include <stdio.h>

#include "bus/bus.h"

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_topics HOST:PORT[,HOST:PORT...]\n");
        return 2;
    }
    const struct ec_bus_spec spec = {.brokers = argv[1], .service = "chaos"};
    struct ec_err err = ec_bus_create_topics(&spec, 3);
    if (ec_failed(err)) {
        fprintf(stderr, "make_topics: %s\n", err.what);
    }
    return ec_failed(err) ? 1 : 0;
}
