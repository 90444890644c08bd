/* Every kind of event, with the message it carries: for whoever reads topics whole (live views, the
 * history, tools). A service that acts on few of them has its own short table. */
#pragma once

#include <jansson.h>

#include "bus/bus.h"

extern const struct ec_route ec_catalog[]; /* handlers NULL */
extern const size_t ec_catalog_count;
const ProtobufCMessageDescriptor *ec_catalog_find(const char *type); /* NULL = not ours */

/* Any message as JSON, by its descriptor, under its proto names; enums by name, bytes are left out
 * (they are secrets or nested messages), and so is text that is no UTF-8. gives a reference. */
json_t *ec_message_json(const ProtobufCMessage *message);
