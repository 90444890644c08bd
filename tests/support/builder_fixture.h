/* builder with real git, real processes and a mock Kafka; only the image tool is a shell script.
 * One builder, "b1", with one slot, and what it says of the build that is under test. */
#pragma once

#include "builder.h"
#include "support/git_server.h"
#include "support/kafka.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* What came out for the build under test. */
struct build_seen {
    char build_id[40];
    int started, succeeded, failed, steps;
    char step_names[200];
    Enclii__V1__BuildFailure reason;
    bool retryable;
    char detail[1000];
    char digest[80], sha[80], detected[100], engine[80], base[100], base_digest[100];
    int64_t image_bytes;
    int64_t next_seq;
    bool seq_ok, last, cut;
    int lines_after_last;
    char log[60000];
    int heartbeats_with_it;
    char last_step[40];
};

struct builder_fixture {
    struct ec_loop *loop;
    struct test_kafka *kafka;
    struct ec_bus *bus, *watch_bus;
    struct builder builder;
    struct build_seen seen;
    int running_now;
    bool stopped;
    char dir[64], repo[100], sha[64], clone_url[200], hosts_file[100];
    struct test_git_server *git_server; /* NULL: not installed */
    /* What it asks for, and as git sends it; of this process alone, so that it can be looked for in
     * all processes of the machine. */
    char password[32], basic[64];
    /* What is asked for, and what the tool does; build_begin sets all but the first anew. */
    bool trusted;
    Enclii__V1__BuildSpec spec;
    const char *build_script, *push_script;
};
extern struct builder_fixture test_builder;

/* For cmocka. */
int builder_fixture_open(void **state);
int builder_fixture_close(void **state);

void builder_fixture_stop(void); /* ends the builder; at most once */

void build_begin(void);      /* another build is under test from now on */
void build_run_to_end(void); /* asks b1 for it */
void build_ask(const char *builder_id, int32_t attempt, int64_t age_ms);
void build_cancel(void);
/* For test_run_until. */
bool build_ended(void *arg);
bool build_failed(void *arg);
bool build_log_has(void *text);
int build_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
