/* A growing byte buffer with a stated maximum. Above it nothing more is kept and `overflowed` is
 * set: the caller asks once, at the end. The bytes are always followed by a NUL that is not
 * counted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/span.h"

struct ec_buf {
    char *ptr;
    size_t len;
    size_t max_bytes;
    size_t room_bytes; /* allocated */
    bool overflowed;
};

void ec_buf_init(struct ec_buf *buf, size_t max_bytes);
void ec_buf_done(struct ec_buf *buf); /* usable as ec_cleanup(ec_buf_done) */
void ec_buf_clear(struct ec_buf *buf);
void ec_buf_add(struct ec_buf *buf, const void *bytes, size_t len);
void ec_buf_add_text(struct ec_buf *buf, const char *text);
void ec_buf_add_span(struct ec_buf *buf, struct ec_span span);
void ec_buf_addf(struct ec_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ec_buf_add_json_text(struct ec_buf *buf, struct ec_span text); /* quoted and escaped */
void ec_buf_drop_front(struct ec_buf *buf, size_t len);
struct ec_span ec_buf_span(const struct ec_buf *buf); /* borrowed until the next change */
