/* Private to services/notifier. */
#pragma once

#include "base/map.h"
#include "base/secret.h"
#include "bus/topics.h"
#include "enclii/v1/build.pb-c.h"
#include "enclii/v1/deployment.pb-c.h"
#include "enclii/v1/intake.pb-c.h"
#include "enclii/v1/notification.pb-c.h"
#include "enclii/v1/release.pb-c.h"
#include "githost/githost.h"
#include "service/service.h"

#define CHANNELS_MAX 20000
#define SENDING_MAX 16     /* exchanges at once */
#define LANE_SENDING_MAX 4 /* of them with one receiver: a dead one holds up nobody else */
#define SEND_DEADLINE_MS 10000
#define CLAIM_S 60 /* a claim is longer than an exchange */
#define GIVE_UP_MS (3LL * 24 * 3600 * 1000)
#define KEEP_DAYS 30
#define BUILTIN "git-host" /* the channel that a credential of a git host makes */

struct notifier_settings {
    struct ec_githost_settings githost; /* a credential of a host makes the built-in channel */
    struct ec_secret *seal_key;         /* opens the channels' secrets */
    const char *public_url;             /* what target_url of statuses begins with; "" = none */
    bool private_addresses;             /* webhooks may go to this machine and private networks */
};

/* Where notifications of one project go, from topic enclii.channels. */
struct channel {
    char *id;
    char *project_id; /* "" = every project (the built-in one) */
    char *kind;       /* "webhook", "github"; "status": the built-in one, for every git host */
    char *url;
    struct ec_secret *secret; /* signing secret or token; NULL = none */
    char **event_types;       /* NULL-ended; none = what people are told (struct notice_rule) */
    bool enabled;
};

struct notifier {
    struct notifier_settings settings;
    struct ec_loop *loop;
    struct ec_bus *bus;
    struct ec_store *store;
    struct ec_fetcher *fetcher;
    struct ec_githosts *githosts; /* for commit statuses of the built-in channel */
    struct ec_owner owner;        /* of this struct: told when it fails, and when it has stopped */
    struct ec_map *channels;      /* channel id → struct channel */
    bool channels_known;          /* read to the end of the topic: events may be handled now */
    struct ec_consumer *events;
    struct ec_timer *tick;  /* looks for what is due */
    struct ec_timer *sweep; /* deletes what is old */
    struct outgoing *first_outgoing;
    uint32_t sending; /* exchanges under way */
    bool claiming;    /* a claim is being asked for */
    bool claim_again;
    bool stopping;
};

/* ---- notifier.c ---- */
EC_RESULT notifier_start(struct notifier *no); /* fields above `channels` are filled in */
void notifier_stop(struct notifier *no);       /* then `stopped` */
void notifier_rest(struct notifier *no);       /* stopping and nothing under way: says so */
void notifier_done(struct notifier *no);

/* ---- decide_notice.c: pure ---- */
enum notice_of { OF_BUILD, OF_DEPLOYMENT, OF_PULL };
struct notice_rule {
    const char *event_type; /* "dev.enclii.deployment.healthy.v1" */
    const char *about;      /* "deployment.healthy" */
    const char *type;       /* name outside: "deployment.succeeded" */
    const char *status;     /* enum ec_githost_state by name; "" = it makes no commit status */
    const char *text;       /* for people */
    bool final;             /* nothing of this build or deployment follows */
    bool tell;              /* to channels that did not choose, and to the log */
    enum notice_of of;      /* a deployment has a context of its own, all else the build's */
    const char *after;      /* a status only while this is the context's last word; NULL = always */
};
const struct notice_rule *decide_rule(const char *event_type); /* NULL = nothing to tell */
/* A builder's failure that `pipeline` may still turn (another attempt, its own timeout word). */
bool decide_build_failure_final(const Enclii__V1__BuildFailed *fact);

/* Of a pull request that waits for an approval. */
struct pull_notice {
    int32_t number;
    const char *title, *url, *author, *author_association;
    const char *command;     /* that approves it */
    const char *by, *reason; /* who approved, or asked to; why it ended */
};
/* All a notification says. Texts borrowed, never NULL. */
struct notice {
    const struct notice_rule *rule;
    const char *event_id, *trace;
    int64_t time_unix_ms;
    const char *project_id, *project_slug;
    const char *service_id, *service_name;
    const char *environment, *url, *detail;
    const char *subject_id;
    const char *commit_sha, *commit_ref, *commit_message;
    struct pull_notice pull;
};
bool decide_sets_statuses(const char *kind); /* a channel of that kind */
bool decide_channel_wants(const struct channel *channel, const struct notice *notice);
char *decide_context(struct ec_arena *arena, const struct notice *notice);
/* What people read of an approval. */
char *decide_sentence(struct ec_arena *arena, const struct notice *notice);
char *decide_body(struct ec_arena *arena, const struct notice *notice, const char *id);
/* A commit status as it is kept until the repository's host is known, and back. */
char *decide_status_row(struct ec_arena *arena, const struct notice *notice,
                        const char *public_url);
EC_RESULT decide_status(struct ec_arena *arena, const char *row, const char *commit_sha,
                        struct ec_githost_status *ret_status);
/* A pending status is part of GitLab's pipeline: one that waits for it would be waited for. */
bool decide_host_hears(enum ec_githost_kind kind, const char *about);
/* "/repos/acme/shop/statuses/<sha>"; NULL when the key is no owner/name repository. */
char *decide_status_path(struct ec_arena *arena, const char *repo_key, const char *commit_sha);
/* How long to wait after the attempt that failed (attempt from 1): 5 s doubling to 6 h. */
int64_t decide_wait_ms(int attempt, int64_t asked_ms);

/* What an answer means. */
enum outcome { OUTCOME_SENT, OUTCOME_AGAIN, OUTCOME_NEVER, OUTCOME_NEEDLESS };
enum outcome decide_outcome(const char *kind, int status, int attempts);

/* ---- channels.c ---- */
EC_RESULT channels_follow(struct notifier *no);
void channels_free(struct notifier *no);

/* ---- handlers.c: events → notices ---- */
EC_RESULT events_follow(struct notifier *no);

/* ---- notices.c: notices → rows ---- */
struct work {
    struct notifier *no;
    struct ec_event *ev;
    struct notice notice;
    const char *repo_key; /* of the service, to be remembered; "" = this event does not tell */
};
/* Everything is borrowed from the event, which lives until it is finished. */
struct work *notice_begin(struct notifier *no, struct ec_event *ev);
void notice_service(struct notice *notice, const Enclii__V1__ServiceRef *service);
void notice_commit(struct notice *notice, const Enclii__V1__Commit *commit);
/* One row per channel that wants it, in one transaction; then the event is finished. */
EC_RESULT notice_tell(struct work *work);
void notice_repo(struct ec_batch *batch, const char *service_id, const char *repo_key);

/* ---- sender.c: rows → the world ---- */
void sender_wake(struct notifier *no);

/* ---- targets.c: one exchange ---- */
struct outgoing {
    struct notifier *no;
    struct outgoing *next;  /* of those under way */
    struct ec_arena *arena; /* everything below; freed by sender.c */
    const char *id, *channel_id, *kind, *about, *type, *service_id, *subject_id, *commit_sha, *body;
    const char *trace, *repo_key; /* repo_key "" = not known (yet) */
    const char *lane;             /* the receiver: a channel and the host of the repository */
    int attempts;                 /* this one included */
    int64_t created_unix_ms;
    int64_t started_mono_ms;
    bool final;
    bool needless; /* it turned out that nobody is to be told */
    ec_fetch_fn done;
    ec_githost_done_fn told; /* the same of the built-in channel */
};
/* REJECT: it can never be sent (no channel, no secret); RETRY: not now. */
EC_RESULT target_send(struct outgoing *out, const struct channel *channel);

extern struct ec_metric notifications;
extern const struct ec_migration notifier_migrations[];
extern const size_t notifier_migration_count;
