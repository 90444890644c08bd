/* sweeper, its real code, over the mock cluster, a real PostgreSQL and a real git repository, as
 * one instance or two. For tests only. */
#pragma once

#include "support/kafka.h"
#include "support/pg.h"
#include "sweeper.h"

#define REPO "git.test/acme/shop"
#define INTERVAL_MS 1000
#define GRACE_MS 250
#define PATIENT 4 /* times as long, where the test itself has to tell in time */
#define ZEROS "0000000000000000000000000000000000000000"
#define SEEN_MAX 64

/* One instance of the service. */
struct instance {
    struct sweeper sw;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_fetcher *fetcher;
    bool stopped, failed;
};
extern struct instance one, two;
/* What bind_repo and tell speak of, and how hosts are called; changed before fixture_open. */
extern const char *test_repo, *test_dir, *test_hook_id;
extern const char *test_url; /* NULL: the folder's test_dir by file:// */
extern const char *test_repo_id, *test_renamed_from;
extern struct ec_githost_settings test_githost;
extern struct test_pg *pg;
extern struct ec_loop *loop;
extern struct test_kafka *kafka;
extern char folder[];

/* What was published: recovered pushes, and the last comparison. */
struct seen {
    char id[64], ref[128], before[65], after[65], message[128], author[64], paths[256], key[64],
        ce_id[64];
    bool recovered, created, deleted, forced, complete, head;
};
extern struct seen pushes[SEEN_MAX];
extern int push_count;
extern char compared_id[64], compared_paths[256], compared_detail[256], compared_head[65];
extern bool compared_complete;
extern int compared_count;
/* The last rename that was told. */
extern char moved_from[128], moved_to[128], moved_url[200], moved_id[64];
extern int moved_count;

/* False: what is needed is not installed. */
bool fixture_open(void);
int fixture_close(void **state);
void fixture_bound(void **state); /* a first test: test_repo is bound, and one push is recovered */

/* Lives for four calls. */
const char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* In the folder: shop.git is what the host has, work is a clone. */
void sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *git_says(const char *args);
const char *head(void);
void commit(const char *file, const char *message);
void up(struct instance *in, const char *name);
void down(struct instance *in);
void bind_repo(bool bound); /* as the api does; false: the tombstone */
void tell(const char *id, const char *ref, const char *before, const char *after,
          bool complete); /* as the webhook does */
void tell_wanted(const char *id, const char *head_ref, const char *head_sha,
                 const char *base_ref); /* as the pipeline does */
void wait_for(const char *sql, const char *want);
void run_for(int ms);
void set_pace(int times);
struct seen *recovered(int already);
void nothing_more(int count); /* within an interval and the grace */
bool pushes_reached(void *arg);
