/* Makes the topics of proto/topics.yaml with three replicas each, two of which must have a record
 * before it counts as written. Arguments: the brokers, and perhaps 1 for one replica. */
#include <stdio.h>
#include <string.h>

#include "bus/bus.h"

int main(int argc, char **argv)
{
    bool one = argc == 3 && strcmp(argv[2], "1") == 0;
    if (argc != 2 && !one) {
        fprintf(stderr, "usage: make_topics HOST:PORT[,HOST:PORT...] [1]\n");
        return 2;
    }
    const struct ec_bus_spec spec = {.brokers = argv[1], .service = "chaos"};
    struct ec_err err = ec_bus_create_topics(&spec, one ? 1 : 3);
    if (ec_failed(err)) {
        fprintf(stderr, "make_topics: %s\n", err.what);
    }
    return ec_failed(err) ? 1 : 0;
}
