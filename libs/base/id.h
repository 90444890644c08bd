/* Ids are UUIDs (RFC 9562): version 7 for new things (sortable by time), version 5 for events that
 * follow from a cause, so that doing the same work twice gives the same id. Text form, 36 + NUL. */
#pragma once

#include <stdbool.h>

#define EC_ID_SIZE 37

struct ec_id {
    char text[EC_ID_SIZE];
};

struct ec_id ec_id_new(void);
/* UUIDv5 of (cause, step): the id of the event that `cause` makes in `step`. `cause` is any text.
 */
struct ec_id ec_id_derive(const char *cause, const char *step);
bool ec_id_valid(const char *text); /* 8-4-4-4-12 lower-case hex */

/* W3C trace context, https://www.w3.org/TR/trace-context/: "00-<32 hex>-<16 hex>-01". */
#define EC_TRACEPARENT_SIZE 56
struct ec_trace {
    char parent[EC_TRACEPARENT_SIZE]; /* traceparent header value */
};
struct ec_trace ec_trace_new(void);
struct ec_trace
ec_trace_child(const char *traceparent); /* same trace id, new span; new if invalid */
bool ec_trace_valid(const char *traceparent);
/* The 32 hex digits of the trace id, the correlation id in every log line. */
void ec_trace_id(const char *traceparent, char ret_id[33]);
