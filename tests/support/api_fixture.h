/* The api service in the test program: real PostgreSQL with the schemas of pipeline and history,
 * the mock Kafka cluster, real HTTP on a free port. One fixture serves all tests of a program. */
#pragma once

#include <jansson.h>

#include "api.h"
#include "net/fetch.h"
#include "support/kafka.h"
#include "support/pg.h"

#define ADMIN_TOKEN "enclii_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_1 "1111111111111111111111111111111111111111"
#define SHA_2 "2222222222222222222222222222222222222222"

struct api_fixture {
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_fetcher *fetcher;
    struct api api;
    char base[64];
    /* of the last api_ask */
    int status;
    json_t *json; /* NULL if the answer is no JSON */
    char text[65536];
    bool answered, closed;
};

/* False: PostgreSQL is not installed, skip; it says so. object_store: URL or "". */
bool api_fixture_open(struct api_fixture *fx, const char *object_store);
void api_fixture_close(struct api_fixture *fx);
int api_group_close(void **state); /* for cmocka: the one opened last */

/* One request; gives the status. token: NULL = none. body: JSON or NULL. */
int api_ask(struct api_fixture *fx, const char *method, const char *path, const char *token,
            const char *body);
/* Text at a dotted path of the last answer, "" if absent. */
const char *api_text(const struct api_fixture *fx, const char *path);

/* printf into one statement of at most 4 KiB. */
void api_sql(struct api_fixture *fx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A project with one service bound to http://git.test/acme/<name>; ids are kept for the caller. */
struct api_place {
    char slug[64];
    char project_id[EC_ID_SIZE], service_id[EC_ID_SIZE], environment_id[EC_ID_SIZE];
};
void api_place(struct api_fixture *fx, const char *slug, struct api_place *ret_place);
/* A spec as JSON body {"spec_yaml": ...}; in a buffer that the next call reuses. */
const char *api_spec(const char *name, const char *repo);
/* A token; in `out`. project: slug or NULL. */
void api_token(struct api_fixture *fx, const char *role, const char *project, char out[80]);

/* Server-sent events, collected as they come. */
struct api_stream {
    struct ec_fetch *fetch;
    char text[65536];
    size_t len;
    int status;
    bool ended;
};
void api_stream_open(struct api_fixture *fx, struct api_stream *stream, const char *path,
                     const char *token, const char *last_event_id);
/* Turns the loop until the stream holds `what`; fails the test after limit_ms. */
void api_stream_until(struct api_fixture *fx, struct api_stream *stream, const char *what,
                      int limit_ms);
void api_stream_close(struct api_fixture *fx, struct api_stream *stream);
