/* The outbox's rows in memory: all in the order of their ids, and per topic and key a chain. */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "relay.h"

void row_set_state(struct row *row, enum row_state state)
{
    row->relay->counts[row->state]--;
    row->relay->counts[state]++;
    row->state = state;
}

static const char *put_text(char **at, const char *text)
{
    char *copy = *at;
    *at = stpcpy(copy, text) + 1;
    return copy;
}

struct row *row_new(struct relay *relay, const struct ec_rows *rows, size_t at,
                    struct ec_arena *arena)
{
    static const char *const names[] = {"topic", "key", "type", "subject", "event_id", "trace"};
    const char *texts[EC_LEN(names)];
    struct ec_span body = ec_rows_bytes(rows, at, "body", arena);
    struct ec_span headers = ec_rows_bytes(rows, at, "headers", arena);
    size_t bytes = body.len + headers.len + 8;
    for (size_t i = 0; i < EC_LEN(names); i++) {
        texts[i] = ec_rows_text(rows, at, names[i]);
        bytes += 2 * strlen(texts[i]) + 2; /* twice: `chain` repeats two of them */
    }
    struct row *row = ec_alloc(sizeof *row + bytes);
    char *text = (char *)(row + 1);
    row->topic = put_text(&text, texts[0]);
    row->key = put_text(&text, texts[1]);
    row->type = put_text(&text, texts[2]);
    row->subject = put_text(&text, texts[3]);
    row->event_id = put_text(&text, texts[4]);
    row->trace = put_text(&text, texts[5]);
    row->chain = text;
    (void)put_text(&text, row->topic);
    text[-1] = ' ';
    (void)put_text(&text, row->key);
    memcpy(text, body.len > 0 ? body.ptr : "", body.len);
    row->body = (struct ec_span){text, body.len};
    memcpy(text + body.len, headers.len > 0 ? headers.ptr : "", headers.len);
    bool replayed = !ec_rows_null(rows, at, "headers");
    row->headers = (struct ec_span){replayed ? text + body.len : NULL, headers.len};
    row->relay = relay;
    row->id = ec_rows_int(rows, at, "id");
    row->tombstone = ec_rows_null(rows, at, "body");
    row->created_ms = ec_rows_int(rows, at, "created");
    row->prev = relay->last;
    *(relay->last ? &relay->last->next : &relay->first) = row;
    relay->last = row;
    relay->count++;
    relay->counts[row->state]++;
    return row;
}

void row_free(struct row *row)
{
    struct relay *relay = row->relay;
    *(row->prev ? &row->prev->next : &relay->first) = row->next;
    *(row->next ? &row->next->prev : &relay->last) = row->prev;
    relay->count--;
    relay->counts[row->state]--;
    free(row);
}

void relay_ids(const struct relay *relay, bool (*so)(const struct row *), struct ec_buf *out)
{
    ec_buf_init(out, RELAY_WINDOW * 32);
    ec_buf_add_text(out, "{");
    const char *comma = "";
    for (const struct row *row = relay->first; row; row = row->next) {
        if (!so || so(row)) {
            ec_buf_addf(out, "%s%lld", comma, (long long)row->id);
            comma = ",";
        }
    }
    ec_buf_add_text(out, "}");
}

bool row_stuck(const struct row *row)
{
    return row->again_ms > 0 && (row->state == HELD || row->state == PUBLISHING);
}

void row_forget(struct row *row)
{
    struct relay *relay = row->relay;
    int64_t below = row->id - 1;
    relay->floor.safe = relay->floor.safe < below ? relay->floor.safe : below;
    relay->forgot = true;
    relay->more = true;
    row_free(row);
}

void relay_forget_behind(struct row *stuck)
{
    struct row *next = NULL;
    for (struct row *row = EC_TAKE(stuck->behind); row; row = next) {
        next = row->behind;
        row_forget(row);
    }
    ec_map_put(stuck->relay->chains, stuck->chain, stuck);
}

void relay_forget_unpublished(struct relay *relay)
{
    struct row *next = NULL;
    for (struct row *row = relay->first; row; row = next) {
        next = row->next;
        if (row->state == WAITING || row->state == HELD) {
            ec_map_remove(relay->chains, row->chain);
            row_forget(row);
        }
    }
    for (struct row *row = relay->first; row; row = row->next) {
        if (row->state == PUBLISHING) {
            row->behind = NULL;
            ec_map_put(relay->chains, row->chain, row);
        }
    }
}
