/* sweeper: asks the git hosts what their webhooks did not tell. It keeps, per repository and ref,
 * the last push it was told of, lists the refs of each repository once per interval, and publishes
 * a push that nobody told. Private to this service. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "bus/bus.h"
#include "bus/topics.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/repo.pb-c.h"
#include "githost/githost.h"
#include "net/loop.h"
#include "net/process.h"
#include "service/service.h"
#include "store/store.h"

#define SWEEPER_GROUP "sweeper"
#define BATCH_MAX 500
#define REFS_MAX 20000    /* of one repository; what is behind is not looked at */
#define KNOWN_MAX 25000   /* refs of one repository that are held against those */
#define RECOVERED_MAX 100 /* pushes of one look; the rest with the next one */
#define LOOK_MAX_BYTES ((size_t)128 << 20)
#define RECOVERY_MAX_BYTES ((size_t)96 << 20) /* used by a look: pushes above wait for the next */
#define PATHS_MAX 10000 /* changed paths in one event, as in services/webhook */
#define PATH_MAX_BYTES 4096
#define PATHS_MAX_BYTES (4u << 20)
#define MESSAGE_MAX_BYTES 4096
#define SUBJECT_MAX_BYTES 1024
#define ERROR_MAX_BYTES 300
#define LIST_DEADLINE_MS 20000
#define COMPARE_DEADLINE_MS 20000 /* from when the push was told; pipeline waits for 30 s */
#define COMPARES_MAX 4            /* at once */
#define ANCESTRY_DEPTH "256"      /* commits looked at to tell a forced push */
#define PARTING_DEPTH "256"       /* to find where a pull request left its base branch; */
#define PARTING_DEEPER "8192"     /* and if that was earlier */
#define HEAD_AGAIN_MS 2000        /* a host may make the ref of a head after telling of it */
#define BACK_OFF_MAX_MS 1800000
#define LOST_AFTER_INTERVALS 10
#define BLIND_AFTER_S "600"
#define DELIVERY_PAGES_MAX 50
#define DELIVERY_TRIES_MAX 5
#define REDELIVERIES_MAX 50              /* of one webhook, in one sweep */
#define DELIVERY_YOUNG_MS 30000          /* it may still be on its way */
#define DELIVERY_OLD_MS (72 * 3600000LL) /* hosts keep them no longer */

struct sweeper_settings {
    int64_t interval_ms;            /* ENCLII_SWEEP_INTERVAL */
    int64_t grace_ms;               /* ENCLII_SWEEP_GRACE */
    int64_t parallel;               /* ENCLII_SWEEP_PARALLEL */
    int64_t lease_ms;               /* ENCLII_SWEEP_LEASE */
    int64_t deliveries_interval_ms; /* ENCLII_SWEEP_DELIVERIES_INTERVAL */
    const char *work_dir;
    const char *git_protocols;
    int64_t fetch_max_bytes; /* ENCLII_SWEEP_FETCH_MAX */
    struct ec_githost_settings githost;
};

struct git_run;

struct sweeper {
    struct sweeper_settings settings;
    struct ec_loop *loop; /* these four are the owner's */
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_githosts *hosts; /* ours from sweeper_start on */
    struct ec_owner owner;     /* of this struct: told when it fails, and when it has stopped */
    struct ec_id instance;     /* whose leases are ours */
    bool migrated;
    bool stopping;
    uint32_t busy; /* callbacks that somebody owes us */
    struct ec_consumer *consumer;
    struct ec_batch_in *batch; /* being stored, or NULL */
    bool single;               /* the batch was refused: event by event */
    size_t from, to;           /* events of the running transaction */
    struct ec_offset *parts;   /* assigned partitions of enclii.intake */
    size_t part_count;
    struct ec_timer *tick;   /* what is due? */
    struct ec_timer *minute; /* numbers, and what is old */
    uint32_t ticks;
    int64_t mark_at_mono_ms; /* not before */
    bool claiming, marking;
    uint32_t looking;     /* repositories being looked at */
    bool comparing_claim; /* compares are being claimed */
    bool compare_again;   /* and more came meanwhile */
    uint32_t comparing;
    uint32_t listing; /* webhooks whose deliveries are being looked at */
    bool listing_claim;
    size_t redelivered[BATCH_MAX]; /* statements of the running transaction that tell of one */
    size_t redelivered_count;
    struct git_run *runs;   /* git commands under way: cancelled by stop */
    uint64_t scratch_count; /* names of scratch repositories */
};

extern struct ec_metric pushes_recovered, pushes_lost, redeliveries;
extern const struct ec_migration sweeper_migrations[];
extern const size_t sweeper_migration_count;

/* ---- sweeper.c ---- */
/* Once the owner's fields and the settings are there. */
EC_RESULT sweeper_start(struct sweeper *sw);
void sweeper_stop(struct sweeper *sw); /* ends what is under way, then calls stopped */
void sweeper_done(struct sweeper *sw); /* once stopped */
void sweeper_rest(struct sweeper *sw); /* after each end: ends the stop when it waits for that */
const char *sweeper_unready(const struct sweeper *sw);

/* ---- ledger.c: topics → tables ---- */
EC_RESULT ledger_start(struct sweeper *sw);
/* Notes that all was read, when it was. */
void ledger_mark(struct sweeper *sw);

/* ---- decide_refs.c: pure ---- */
struct listed {
    const char *ref, *sha;
};
struct listing {
    struct listed *refs;
    size_t count;
    size_t skipped; /* lines that are no branch or tag we could follow */
    bool cut;       /* there are more than REFS_MAX: nothing is known about the rest */
};
bool decide_is_sha(const char *sha);
bool decide_all_zeros(const char *sha);
bool decide_is_ref(const char *ref); /* one that may be given to git: "refs/pull/7/head" */
/* One line of `git ls-remote`: "<sha>\t<ref>". */
void decide_listed(struct ec_arena *arena, struct listing *listing, struct ec_span line);

/* A ref as we know it. */
struct known {
    const char *ref, *sha;
    int64_t changes;
    const char *odd_sha;          /* "" = nothing odd */
    int64_t odd_ms, odd_first_ms; /* how long ago */
};
struct sweep {
    struct listing listing;
    const struct known *known; /* in order of their names, as bytes */
    size_t known_count;
    bool known_cut; /* there are more than KNOWN_MAX: nothing is known about the rest */
    bool baselined;
    int64_t ledger_ms; /* how long ago everything told had been read; -1 = not known */
    int64_t grace_ms, interval_ms;
};
enum change_kind {
    CHANGE_RECORD,  /* it was there when the repository was bound */
    CHANGE_ODD,     /* noticed: to be confirmed */
    CHANGE_CLEAR,   /* no longer odd */
    CHANGE_RECOVER, /* confirmed: nobody told it */
};
struct change {
    enum change_kind kind;
    const char *ref, *before, *after; /* zeros: it was not, or is not, there */
    int64_t changes;
};
struct plan {
    struct change *list;
    size_t count;
    size_t recovered; /* of them */
    size_t unsettled; /* odd refs that are not confirmed: look again soon */
};
void decide_sweep(struct ec_arena *arena, struct sweep *sweep, struct plan *ret_plan);
/* The id that every instance gives to the same recovered push. */
char *decide_delivery_id(struct ec_arena *arena, const char *repo_key, const struct change *change);

/* ---- decide_when.c: pure ---- */
/* Until the next first look; `dice` is 0..1. Short enough that look, grace and second look end
 * within the interval. */
int64_t decide_period_ms(int64_t interval_ms, int64_t grace_ms, double dice);
int64_t decide_back_off_ms(int64_t period_ms, int failures);
/* What git's last words mean to people; without the URL when that holds a password. */
char *decide_git_error(struct ec_arena *arena, const char *clone_url, const char *words,
                       const struct ec_process_result *result);
bool decide_url_secret(const char *clone_url);

/* ---- decide_paths.c: pure ---- */
struct paths {
    char **list;
    size_t count, bytes;
    bool cut; /* not all: too many, too long, or unreadable */
};
/* One line of `git diff-tree --name-only`: a path, in quotes when it has odd characters. */
void decide_path(struct ec_arena *arena, struct paths *paths, struct ec_span line);

/* ---- git_run.c: one git command ---- */
struct git_run {
    struct sweeper *sw;
    struct ec_arena *arena; /* everything else; outlives the command */
    const char *repo_key;   /* for the host's credentials; NULL = it does not leave the machine */
    const char *clone_url;
    const char *git_dir;     /* NULL = none */
    const char *const *args; /* NULL-ended */
    uint32_t deadline_ms;
    void (*on_line)(void *arg, struct ec_span line); /* stdout; may be NULL */
    /* Once, later. REJECT or RETRY with a text in the arena; exit_code -1 when it did not run. */
    void (*done)(void *arg, struct ec_err err, int exit_code);
    void *arg;
    /* its own */
    struct ec_process *process;
    char tail[512]; /* of stderr */
    struct git_run *next;
};
EC_RESULT git_run_start(struct git_run *run);
void git_run_cancel_all(struct sweeper *sw);

/* ---- details.c: what a push changed, or a pull request changes, by a scratch repository ---- */
struct details {
    struct sweeper *sw;
    struct ec_arena *arena; /* outlives it */
    const char *repo_key, *clone_url, *before, *after;
    /* Of a pull request, whose `before` is found first; NULL = of a push. `after` is at head_ref.
     */
    const char *head_ref, *base_ref;
    bool head; /* the commit's message and author are wanted, and whether it was forced */
    int64_t end_mono_ms;
    void (*done)(void *arg); /* once, later; the fields below say what was found */
    void *arg;
    struct paths paths;
    bool complete;   /* paths are all */
    const char *why; /* not complete: the reason, for people */
    bool forced;
    char *message, *author_name, *author_email;
    int64_t committed_unix_ms;
    /* its own */
    struct git_run run;
    const char *dir;
    size_t line; /* of the log */
    struct ec_buf text;
    char base[80]; /* the common ancestor */
    bool without_before, deeper;
    struct ec_timer *again;
};
void details_start(struct details *details);

/* ---- look.c: one repository, once ---- */
struct look {
    struct sweeper *sw;
    struct ec_arena *arena; /* holds this struct too */
    const char *repo_key, *clone_url, *full_name, *host_repo_id, *host, *bound_at;
    const char *lease; /* its number, as text */
    bool baselined;
    int failures;
    const char *was_listed, *listed; /* digests */
    const char *heard;               /* how many pushes were told when it began, as text */
    int64_t began_mono_ms;
    struct git_run run;
    struct sweep sweep;
    struct plan plan;
    size_t at;             /* change being recovered */
    size_t brought;        /* published */
    bool fenced_off;       /* somebody else has it now */
    bool answered;         /* the host did: what fails then is on our side, and soon tried again */
    bool move_told;        /* the last look did */
    bool ask_due;          /* whether it moved, when its address leads elsewhere */
    bool asked;            /* that was the reason to ask */
    struct ec_err trouble; /* of the listing */
    void (*stays)(struct look *look); /* what follows when it did not move */
    const char *moved_to;             /* its key now */
    struct details details;
    struct ec_trace trace;
    const char *delivery_id;
};
void looks_due(struct sweeper *sw);
void look_settle(struct look *look, struct ec_err err); /* the end of every look */

/* ---- moved.c ---- */
#define MOVED_WORDS "the repository is now " /* so begins last_error then */
/* Goes on with `stays` when the repository is where it is bound, as far as its host tells; else the
 * move is told and the look is settled. */
void moved_ask(struct look *look, void (*stays)(struct look *look));
/* Its key by the URL that the host names now; NULL = it has not moved, or to where nobody may send
 * us: to another server. */
const char *decide_moved(struct ec_arena *arena, const char *repo_key, const char *clone_url);
/* Where git says that it was sent, without slashes at the end; NULL = nowhere else. */
const char *decide_redirect(struct ec_arena *arena, const char *words);

/* ---- recover.c: the confirmed changes of a look, one after another, then look_settle ---- */
void recover_next(struct look *look);

/* ---- compare.c ---- */
void compares_due(struct sweeper *sw);

/* ---- decide_deliveries.c: pure ---- */
/* One attempt of the host to deliver, as its list says. */
struct attempt {
    const char *id, *guid, *event;
    int status_code; /* of our answer; 0 = none */
    int64_t at_ms;
};
enum delivery_fate {
    DELIVERY_OPEN,
    DELIVERY_TAKEN,    /* an attempt got through */
    DELIVERY_REFUSED,  /* we said no, and would say it again */
    DELIVERY_GIVEN_UP, /* asked for often enough, or too old */
};
/* A delivery that no attempt got through, as far as we know. */
struct undelivered {
    const char *guid, *attempt_id, *event; /* attempt_id: the newest */
    int status_code;
    int64_t at_ms; /* of the newest attempt */
    int tries;     /* how often we asked */
    bool due;      /* may be asked for again now, as far as pauses go */
    enum delivery_fate fate;
};
struct verdict {
    struct undelivered delivery;
    bool known;   /* there is a row of it */
    bool changed; /* and it says something else */
    bool ask;     /* for its newest attempt, now */
};
struct verdicts {
    struct verdict *list;
    size_t count;
};
/* `attempts` newest first. At most REDELIVERIES_MAX are asked for, the oldest first. */
void decide_deliveries(struct ec_arena *arena, const struct attempt *attempts, size_t count,
                       const struct undelivered *open, size_t open_count, int64_t now_ms,
                       struct verdicts *ret_verdicts);
const char *decide_fate_name(enum delivery_fate fate);
enum delivery_fate decide_fate_of(const char *name);
int64_t decide_again_ms(int64_t interval_ms, int tries); /* the pause after that many */

/* ---- deliveries.c: one webhook's list, once ---- */
struct listing_job {
    struct sweeper *sw;
    struct ec_arena *arena; /* holds this struct too */
    const char *hook_key, *repo_key, *hook_id, *lease;
    const char *etag;     /* "" = none */
    const char *new_etag; /* of the first page */
    int failures;
    int64_t since_ms; /* older ones were looked at */
    int64_t seen_ms;  /* the newest of this look */
    struct attempt *attempts;
    size_t count;
    unsigned pages;
    bool whole;      /* the list was read to where the last look ended */
    bool fenced_off; /* somebody else has it now */
    struct verdicts verdicts;
    size_t at; /* verdict being asked for */
};
void deliveries_due(struct sweeper *sw);
void listing_settle(struct listing_job *job, struct ec_err err); /* the end of every look */
void listing_fail(struct listing_job *job, struct ec_err err);   /* the same; err's text borrowed */
const char *listing_number(const struct listing_job *job, int64_t value);

/* ---- redeliver.c: what is to be asked for again, one after another, then listing_settle ---- */
void redeliver_next(struct listing_job *job);
