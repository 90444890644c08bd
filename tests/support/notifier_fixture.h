/* notifier, its real handlers, over an in-process Kafka, a real PostgreSQL and one HTTP server that
 * stands for the outside. For tests only. */
#pragma once

#include "notifier.h"
#include "support/kafka.h"
#include "support/pg.h"

#define NF_SECRET "channel secret"
#define NF_TOKEN "ghp_test"

extern struct notifier no;
extern struct ec_loop *nf_loop;
extern struct test_pg *nf_pg; /* NULL: PostgreSQL is not installed, skip */
extern struct ec_arena *nf_arena;

/* github.com is asked with NF_TOKEN, lab.test (GitLab) and tea.test (Forgejo) with "secret-1", all
 * three at this server; a channel of project p1 sends to its /hook. */
void nf_open(const struct ec_http_route *routes, size_t count);
/* One more of project p1, to the path of this server. */
void nf_channel(const char *id, const char *path);
int nf_close(void **state); /* a group teardown */
/* The key of what is not about a service is the repository's. */
void nf_publish(const char *topic, const char *key, const char *type, const char *id,
                ProtobufCMessage *body);
char *nf_text(const char *text); /* for a message; lives as long as the fixture */
/* Waits until so many notifications have ended, trying again at once what is to be tried again. */
bool nf_told(int count);
bool nf_row(const char *sql); /* waits until it gives one */
bool nf_header_is(struct ec_request *req, const char *name, const char *want);
