/* Rows on their way into one statement: a text array per column, for `unnest($1::uuid[], ...)`.
 * However many rows, it stays one statement with the same text. Values are put column after column;
 * texts are made fit for PostgreSQL (valid UTF-8) on the way. */
#pragma once

#include "base/buf.h"
#include "base/span.h"
#include "store/store.h"

#define COLUMNS_MAX 32

struct columns {
    size_t width;
    size_t at;   /* column the next value goes to */
    size_t rows; /* complete ones */
    struct ec_buf arrays[COLUMNS_MAX];
};

void columns_init(struct columns *cols, size_t width);
void columns_done(struct columns *cols); /* for ec_cleanup */
void columns_text(struct columns *cols, const char *text);
void columns_id(struct columns *cols, const char *id); /* "" becomes NULL */
void columns_int(struct columns *cols, int64_t number);
void columns_flag(struct columns *cols, bool flag);
void columns_bytes(struct columns *cols, struct ec_span bytes);
void columns_null(struct columns *cols);
/* Adds the statement with one array per column; nothing when there are no rows. With `counted` the
 * number of rows follows as the last parameter, for ec_expect. */
void columns_flush(struct columns *cols, struct ec_batch *batch, const char *sql, bool counted);
