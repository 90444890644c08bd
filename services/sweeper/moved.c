/* Is the repository still where it is bound? Its host keeps an id for it under every name, so that
 * is asked when the old address answers no more, when it leads elsewhere, and before anything is
 * recovered: another repository may stand there now, and its commits are not ours to deploy. What
 * was renamed or transferred goes to pipeline as the host's own webhook would tell it; the binding
 * follows, and then what was pushed meanwhile is found under the new name. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "spec/spec.h"
#include "sweeper.h"

static struct ec_metric renames =
    EC_COUNTER("enclii_renames_recovered_total",
               "Repositories that were renamed without their webhook telling it.", NULL);

const char *decide_moved(struct ec_arena *arena, const char *repo_key, const char *clone_url)
{
    const char *key = ec_repo_key(arena, clone_url);
    size_t server = strcspn(repo_key, "/") + 1;
    bool same_server = key && strncmp(key, repo_key, server) == 0;
    return same_server && strcmp(key, repo_key) != 0 ? key : NULL;
}

static void on_told(void *arg, struct ec_err err)
{
    struct look *look = arg;
    if (ec_failed(err)) {
        look_settle(look, ec_retry(err.sys, ec_arena_strdup(look->arena, err.what)));
        return;
    }
    if (!look->move_told) { /* until the binding follows, every look says it again */
        ec_metric_add(&renames, NULL, 1);
        ec_log(EC_LOG_WARN, look->trace.parent, "repo.moved",
               "nobody told that it has another name; its binding follows",
               EC_T("repo", look->repo_key), EC_T("now", look->moved_to));
    }
    look_settle(look,
                ec_retry_in(look->arena, 0, MOVED_WORDS "%s; its services follow", look->moved_to));
}

/* The same id from every instance, and at every look of this binding. */
static const char *delivery_id(const struct look *look)
{
    const char *cause = ec_arena_format(look->arena, "moved %s %s %s", look->repo_key,
                                        look->host_repo_id, look->bound_at);
    return ec_arena_strdup(look->arena, ec_id_derive(cause, look->moved_to).text);
}

static char *text(const struct look *look, const char *value)
{
    return ec_arena_strdup(look->arena, value);
}

static void tell(struct look *look, const struct ec_githost_repo *repo)
{
    Enclii__V1__RepositoryChanged change = ENCLII__V1__REPOSITORY_CHANGED__INIT;
    Enclii__V1__DeliveryInfo info = ENCLII__V1__DELIVERY_INFO__INIT;
    look->trace = ec_trace_new();
    look->delivery_id = delivery_id(look);
    info.delivery_id = text(look, look->delivery_id);
    info.host = text(look, look->host);
    info.event = text(look, "sweep");
    info.action = text(look, "renamed");
    info.repo_key = text(look, look->repo_key);
    info.repo_full_name = text(look, look->full_name);
    info.host_repo_id = text(look, look->host_repo_id);
    info.received_unix_ms = ec_unix_ms();
    change.delivery = &info;
    change.new_repo_key = text(look, look->moved_to);
    change.new_full_name = text(look, repo->full_name);
    change.new_clone_url = text(look, repo->clone_url);
    change.default_branch = text(look, repo->default_branch);
    change.archived = repo->archived;
    const struct ec_message message = {.topic = EC_TOPIC_INTAKE,
                                       .key = look->repo_key,
                                       .type = "dev.enclii.repository.changed.v1",
                                       .subject = look->delivery_id,
                                       .id = ec_id_derive(look->delivery_id, "repository").text,
                                       .trace = look->trace.parent,
                                       .body = &change.base};
    struct ec_err err = ec_bus_publish(look->sw->bus, &message, on_told, look);
    if (ec_failed(err)) {
        on_told(look, err);
    }
}

static void on_repo(void *arg, struct ec_err err, const struct ec_githost_repo *repo)
{
    struct look *look = arg;
    if (look->sw->stopping || (err.fate == EC_FATE_RETRY && look->plan.recovered > 0)) {
        look->plan.unsettled++; /* not recovered before it is known whose it is */
        look_settle(look, ec_retry(err.sys, text(look, ec_failed(err) ? err.what : "stopping")));
        return;
    }
    look->moved_to =
        ec_failed(err) ? NULL : decide_moved(look->arena, look->repo_key, repo->clone_url);
    if (!look->moved_to) { /* or the host does not tell us */
        look->stays(look);
        return;
    }
    look->plan.count = 0;   /* whatever was listed may be somebody else's */
    look->answered = false; /* should nobody follow, it is told less and less often */
    tell(look, repo);
}

const char *decide_redirect(struct ec_arena *arena, const char *words)
{
    static const char sign[] = "redirecting to ";
    const char *at = strstr(words, sign);
    size_t len = at ? strcspn(at + strlen(sign), " \r\n") : 0;
    for (; len > 0 && at[strlen(sign) + len - 1] == '/'; len--) {
    }
    return len > 0 ? ec_arena_text(arena, (struct ec_span){at + strlen(sign), len}) : NULL;
}

/* Nobody can be asked: the API is not there, or no delivery has told the id yet, because all of
 * them come by the new name. Then the host's own redirect is its word. */
static void take_redirect(struct look *look)
{
    bool whole = look->asked && !decide_url_secret(look->clone_url);
    const char *url = whole ? decide_redirect(look->arena, look->run.tail) : NULL;
    look->moved_to = url ? decide_moved(look->arena, look->repo_key, url) : NULL;
    if (!look->moved_to) {
        look->stays(look);
        return;
    }
    const char *name = look->moved_to + strcspn(look->moved_to, "/") + 1;
    look->plan.count = 0;
    look->answered = false;
    tell(look,
         &(struct ec_githost_repo){.full_name = name, .clone_url = url, .default_branch = ""});
}

void moved_ask(struct look *look, void (*stays)(struct look *look))
{
    look->stays = stays;
    if (!*look->host_repo_id || !ec_githost_has_api(look->sw->hosts, look->repo_key)) {
        take_redirect(look);
        return;
    }
    struct ec_err err =
        ec_githost_repo(look->sw->hosts, look->repo_key, look->host_repo_id, on_repo, look);
    if (ec_failed(err)) { /* the host's limit is used up, or the id is none */
        on_repo(look, err, NULL);
    }
}
