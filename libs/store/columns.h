/* Rows on their way into one statement: a text array per column, for `unnest($1::uuid[], ...)`.
 * However many rows, it stays one statement with the same text. Values are put column after column;
 * texts are made fit for PostgreSQL (valid UTF-8) on the way. */
#pragma once

#include "base/buf.h"
#include "base/span.h"
#include "store/store.h"

#define EC_COLUMNS_MAX 32

struct ec_columns {
    size_t width;
    size_t at;   /* column the next value goes to */
    size_t rows; /* complete ones */
    struct ec_buf arrays[EC_COLUMNS_MAX];
};

void ec_columns_init(struct ec_columns *cols, size_t width);
void ec_columns_done(struct ec_columns *cols); /* for ec_cleanup */
void ec_columns_text(struct ec_columns *cols, const char *text);
void ec_columns_id(struct ec_columns *cols, const char *id); /* "" becomes NULL */
void ec_columns_int(struct ec_columns *cols, int64_t number);
void ec_columns_flag(struct ec_columns *cols, bool flag);
void ec_columns_bytes(struct ec_columns *cols, struct ec_span bytes);
void ec_columns_null(struct ec_columns *cols);
/* Adds the statement with one array per column; nothing when there are no rows. With `counted` the
 * number of rows follows as the last parameter, for ec_expect. False: they do not fit into one
 * transaction any more. */
bool ec_columns_flush(struct ec_columns *cols, struct ec_batch *batch, const char *sql,
                      bool counted);
