/* HTTP/1.1 requests as bytes (RFC 9112), strictly: what two readers could understand differently is
 * refused, not repaired. A line ends with CR LF and nothing else, a header stands on one line, a
 * name is followed by its colon at once. Pure; nothing is copied. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "net/http_guard.h"

#define EC_HEAD_MAX_BYTES ((size_t)32 * 1024) /* request line and headers: 414, 431 above */
#define EC_REQUEST_HEADERS_MAX 100            /* of one request; above: 431 */
#define EC_METHOD_MAX_BYTES 32
#define EC_TRAILER_MAX_BYTES 4096 /* after a chunked body; read and dropped */

/* Where a head that comes in pieces was looked at; zeroed at its beginning. */
struct ec_head_scan {
    size_t at;       /* what is before is known */
    size_t line;     /* where the line under way begins */
    bool first_done; /* the request line is complete */
};

enum ec_scan { EC_SCAN_MORE, EC_SCAN_HEAD, EC_SCAN_BAD };

/* Looks at what is new. HEAD: *ret_len bytes are a whole head. BAD: *ret_fault says why, as early
 * as it can be known. `bytes` is the head from its beginning, each time. */
enum ec_scan ec_head_scan(struct ec_head_scan *scan, struct ec_span bytes, size_t *ret_len,
                          struct ec_guard_fault *ret_fault);

struct ec_head_line {
    struct ec_span name, value; /* the value without the blanks around it */
};

struct ec_head {
    struct ec_span method, target; /* filled as far as the request line was good */
    bool http_1_0;
    size_t header_count;
    struct ec_head_line headers[EC_REQUEST_HEADERS_MAX];
};

/* Takes a head apart, or a part of one that the scan found bad (for its request line). */
struct ec_guard_fault ec_head_parse(struct ec_span bytes, struct ec_head *ret_head);

/* A chunked body, in whatever pieces it comes; zeroed at its beginning. */
enum ec_chunk_state {
    EC_CHUNK_SIZE,
    EC_CHUNK_EXTENSION,
    EC_CHUNK_SIZE_LF,
    EC_CHUNK_DATA,
    EC_CHUNK_DATA_CR,
    EC_CHUNK_DATA_LF,
    EC_CHUNK_TRAILER, /* at the beginning of a line */
    EC_CHUNK_TRAILER_LINE,
    EC_CHUNK_TRAILER_LF,
    EC_CHUNK_LAST_LF,
    EC_CHUNK_END,
    EC_CHUNK_BAD,
};
struct ec_chunks {
    enum ec_chunk_state state;
    unsigned digits;
    uint64_t left;         /* of the chunk under way */
    size_t overhead_bytes; /* of an extension, or of the trailer */
};
/* Takes from the front until a piece of the body is found (*ret_data, else empty), or END, BAD, or
 * the end of the bytes; gives how many it took. */
size_t ec_chunks_take(struct ec_chunks *chunks, struct ec_span bytes, struct ec_span *ret_data);
