/* Reading answers: by column name, with defaults for NULL. A column that the statement does not
 * have is our own bug and ends the process in the first test that reads it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/encode.h"
#include "base/log.h"
#include "store/internal.h"

size_t ec_rows_count(const struct ec_rows *rows)
{
    return rows && rows->result ? (size_t)PQntuples(rows->result) : 0;
}

/* The value, or NULL for SQL NULL, no such row, no answer. */
static const char *value(const struct ec_rows *rows, size_t row, const char *column)
{
    if (row >= ec_rows_count(rows)) {
        return NULL;
    }
    int at = PQfnumber(rows->result, column);
    if (at < 0) {
        ec_log(EC_LOG_ERROR, NULL, "store.no_such_column", "statement has no such column",
               EC_T("column", column));
        abort();
    }
    return PQgetisnull(rows->result, (int)row, at) ? NULL : PQgetvalue(rows->result, (int)row, at);
}

const char *ec_rows_text(const struct ec_rows *rows, size_t row, const char *column)
{
    const char *text = value(rows, row, column);
    return text ? text : "";
}

bool ec_rows_null(const struct ec_rows *rows, size_t row, const char *column)
{
    return value(rows, row, column) == NULL;
}

int64_t ec_rows_int(const struct ec_rows *rows, size_t row, const char *column)
{
    const char *text = value(rows, row, column);
    return text ? strtoll(text, NULL, 10) : 0;
}

bool ec_rows_bool(const struct ec_rows *rows, size_t row, const char *column)
{
    const char *text = value(rows, row, column);
    return text && text[0] == 't';
}

struct ec_span ec_rows_bytes(const struct ec_rows *rows, size_t row, const char *column,
                             struct ec_arena *arena)
{
    struct ec_span text = ec_span_of(value(rows, row, column));
    if (!ec_span_starts(text, "\\x")) {
        return EC_SPAN("");
    }
    size_t len = (text.len - 2) / 2;
    unsigned char *bytes = ec_arena_alloc(arena, len + 1);
    if (!ec_unhex((struct ec_span){text.ptr + 2, text.len - 2}, bytes, len)) {
        return EC_SPAN("");
    }
    return (struct ec_span){(const char *)bytes, len};
}

const char *ec_rows_constraint(const struct ec_rows *rows)
{
    return rows && rows->constraint ? rows->constraint : "";
}

const char *ec_bytea_arg(struct ec_arena *arena, struct ec_span bytes)
{
    return ec_arena_format(arena, "\\x%s", ec_hex(arena, bytes));
}
