/* The pipeline service in the test program, on a real PostgreSQL and the mock Kafka cluster, with
 * one service bound to one repository; and short words for what the others would tell it. One
 * fixture serves all tests of a program: cmocka's state is a struct pl_fixture, NULL without
 * PostgreSQL. */
#pragma once

#include "pipeline.h"
#include "support/kafka.h"
#include "support/pg.h"

#define PROJECT "00000000-0000-4000-8000-000000000001"
#define ENVIRONMENT "00000000-0000-4000-8000-000000000002"
#define SERVICE "00000000-0000-4000-8000-000000000003"
#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define SHA_C "cccccccccccccccccccccccccccccccccccccccc"
#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define REPO "127.0.0.1:3000/acme/shop"

#define BUILD_OF(sha, column) "select " column " from enclii.build where commit_sha = '" sha "'"
#define RELEASE_OF(sha, column) "select " column " from enclii.release where commit_sha = '" sha "'"
#define DEPLOYMENT_OF(sha, column)                                                                 \
    "select d." column " from enclii.deployment d join enclii.release r on r.id = d.release_id "   \
    "where r.commit_sha = '" sha "' order by d.created_at desc"

struct pl_fixture {
    struct test_pg *pg;
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_store_spec store_spec;
    struct pipeline pl;
    bool stopped, store_closed;
    char failed[256];
};

int pl_set_up(void **state);
int pl_tear_down(void **state);
/* Every test begins with an empty platform, but on the same topics: offsets and seen ids stay. */
int pl_one_service(void **state);
void pl_start(struct pl_fixture *fix);
void pl_stop(struct pl_fixture *fix);

void pl_tell(struct pl_fixture *fix, const char *topic, const char *key, const char *type,
             const ProtobufCMessage *body, const char *id);
/* Turns the loop until the first value of the query is so; fails the test after 20 s. */
void pl_becomes(struct pl_fixture *fix, const char *sql, const char *value);
void pl_stays(struct pl_fixture *fix, const char *sql, const char *value);
char *pl_value(struct pl_fixture *fix, const char *sql); /* to be freed */
char *
pl_text(const char *text); /* a copy that lives for the next 32 calls: protobuf-c wants char * */

/* Pushes to main of REPO. */
void pl_push(struct pl_fixture *fix, const char *delivery, const char *sha);
/* Pull request 7 of REPO, of a stranger's fork; its sender is its author. */
Enclii__V1__DeliveryInfo pl_info(const char *event, const char *action);
void pl_pull(struct pl_fixture *fix, const char *action, const char *sha);
void pl_approve(struct pl_fixture *fix, const char *sha); /* by ada, of pull request 7 */
void pl_heartbeat(struct pl_fixture *fix, const char *builder, int slots);
void pl_build_started(struct pl_fixture *fix, const char *build, int attempt);
void pl_build_succeeded(struct pl_fixture *fix, const char *build, int attempt, const char *sha);
void pl_release_signed(struct pl_fixture *fix, const char *release);
void pl_rolled_out(struct pl_fixture *fix, const char *deployment);
void pl_reverted(struct pl_fixture *fix, const char *deployment);
