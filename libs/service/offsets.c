/* One statement each way; see offsets.h. */
#include "service/offsets.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/columns.h"

struct ask {
    struct ec_offset *offsets;
    size_t count;
    void *token;
};

static void on_rows(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct ask *ask = arg;
    for (size_t i = 0; !ec_failed(err) && i < ask->count; i++) {
        ask->offsets[i].next = -1;
        for (size_t at = 0; at < ec_rows_count(rows); at++) {
            if (strcmp(ec_rows_text(rows, at, "topic"), ask->offsets[i].topic) == 0 &&
                ec_rows_int(rows, at, "partition") == ask->offsets[i].partition) {
                ask->offsets[i].next = ec_rows_int(rows, at, "next");
            }
        }
    }
    void *token = ask->token;
    free(ask);
    ec_offsets_loaded(token, err);
}

void ec_offsets_load(struct ec_store *store, const struct ec_offset_table *table,
                     struct ec_offset *offsets, size_t count, void *token)
{
    struct ask *ask = ec_alloc(sizeof *ask);
    *ask = (struct ask){offsets, count, token};
    ec_cleanup(ec_freep) char *sql = ec_format(
        "select topic, partition, next from %s.consumed where consumer = $1", table->schema);
    struct ec_err err = ec_store_exec(store, sql, &table->group, 1, on_rows, ask);
    if (ec_failed(err)) {
        free(ask);
        ec_offsets_loaded(token, err);
    }
}

bool ec_offsets_put(struct ec_batch *batch, const struct ec_offset_table *table,
                    const struct ec_offset *offsets, size_t count)
{
    ec_cleanup(ec_columns_done) struct ec_columns cols;
    ec_columns_init(&cols, 4);
    for (size_t i = 0; i < count; i++) {
        ec_columns_text(&cols, table->group);
        ec_columns_text(&cols, offsets[i].topic);
        ec_columns_int(&cols, offsets[i].partition);
        ec_columns_int(&cols, offsets[i].next);
    }
    const char *sql = ec_arena_format(
        ec_batch_arena(batch),
        "insert into %s.consumed (consumer, topic, partition, next) "
        "select * from unnest($1::text[], $2::text[], $3::int[], $4::bigint[]) "
        "as c(c1, c2, c3, c4) order by c1, c2, c3 "
        "on conflict (consumer, topic, partition) do update set next = excluded.next "
        "where consumed.next < excluded.next",
        table->schema);
    return ec_columns_flush(&cols, batch, sql, false);
}
