/* Every kind of event, with the message it carries: for whoever reads topics whole (live views, the
 * history, tools). A service that acts on few of them has its own short table. */
#pragma once

#include <jansson.h>

#include "bus/bus.h"

extern const struct ec_route ec_catalog[]; /* handlers NULL */
extern const size_t ec_catalog_count;
const ProtobufCMessageDescriptor *ec_catalog_find(const char *type); /* NULL = not ours */

/* Unpacks strangers' bytes within the bus's limits (depth, UTF-8, memory by the packed size). The
 * message lives in the arena; REJECT says why it is none. */
EC_RESULT ec_message_unpack(struct ec_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                            struct ec_span bytes, const ProtobufCMessage **ret_message);

/* Any message as JSON, by its descriptor, under its proto names; enums by name, bytes are left out
 * (they are secrets or nested messages), and so is text that is no UTF-8. gives a reference. */
json_t *ec_message_json(const ProtobufCMessage *message);
