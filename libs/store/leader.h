/* One leader among several processes: whoever holds a session's advisory lock, on a connection of
 * its own that is asked once a second. A process that dies or loses its connection loses the lock
 * with the session; another one has it within half a second of that. A process that cannot reach
 * the server knows after 3 s, the server (conninfo.c) after 9: between the two nobody leads. */
#pragma once

#include <stdbool.h>

#include "store/store.h"

struct ec_leader;

/* Tries in the background, for ever. `changed` is called when ec_leader_is has another answer. */
EC_RESULT ec_leader_open(struct ec_loop *loop, const struct ec_store_spec *spec, const char *name,
                         ec_call_fn changed, void *arg, struct ec_leader **ret_leader);
bool ec_leader_is(const struct ec_leader *leader); /* accepts NULL: false */
/* Gives the lock up; `changed` is not called any more. Accepts NULL. */
void ec_leader_close(struct ec_leader *leader);
