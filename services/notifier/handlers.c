/* Events → notices: what each kind of event says, and of which service, commit and pull request. */
#include "base/log.h"
#include "base/mem.h"
#include "notifier.h"

static void on_stored(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    (void)rows;
    ec_event_finish(arg, err);
}

/* ---- facts that carry all that is needed ---- */

static struct ec_err on_deployment_created(void *state, struct ec_event *ev)
{
    const Enclii__V1__DeploymentCreated *fact = ec_event_body(ev);
    struct work *work = notice_begin(state, ev);
    notice_service(&work->notice, fact->service);
    notice_commit(&work->notice, fact->commit);
    work->notice.subject_id = fact->deployment_id;
    work->notice.environment = fact->environment ? fact->environment->name : "";
    return notice_tell(work);
}

static struct ec_err on_deployment_ended(void *state, struct ec_event *ev)
{
    const Enclii__V1__DeploymentEnded *fact = ec_event_body(ev);
    struct work *work = notice_begin(state, ev);
    notice_service(&work->notice, fact->service);
    notice_commit(&work->notice, fact->commit);
    work->notice.subject_id = fact->deployment_id;
    work->notice.environment = fact->environment ? fact->environment->name : "";
    work->notice.url = fact->n_urls > 0 ? fact->urls[0] : "";
    work->notice.detail = *fact->detail ? fact->detail : fact->reason;
    return notice_tell(work);
}

/* Of a service that may not be known yet: nothing was built of its repository. */
static struct work *begin_pull(struct notifier *no, struct ec_event *ev,
                               const Enclii__V1__PullRequestRef *pull, const char *repo_key)
{
    struct work *work = notice_begin(no, ev);
    work->repo_key = repo_key;
    work->notice.pull.number = pull ? pull->number : 0;
    work->notice.pull.author = pull ? pull->author : "";
    work->notice.subject_id =
        ec_arena_format(ec_event_arena(ev), "%s#%d", repo_key, (int)work->notice.pull.number);
    return work;
}

static struct ec_err on_approval_needed(void *state, struct ec_event *ev)
{
    const Enclii__V1__ApprovalNeeded *fact = ec_event_body(ev);
    struct work *work = begin_pull(state, ev, fact->pull_request, fact->repo_key);
    notice_service(&work->notice, fact->service);
    notice_commit(&work->notice, fact->commit);
    work->notice.pull.title = fact->title;
    work->notice.pull.url = fact->url;
    work->notice.pull.author_association = fact->author_association;
    work->notice.pull.command = fact->command;
    return notice_tell(work);
}

static struct ec_err on_approval_ended(void *state, struct ec_event *ev)
{
    const Enclii__V1__ApprovalEnded *fact = ec_event_body(ev);
    struct work *work = begin_pull(state, ev, fact->pull_request, fact->repo_key);
    notice_service(&work->notice, fact->service);
    notice_commit(&work->notice, fact->commit);
    work->notice.pull.url = fact->url;
    work->notice.pull.by = fact->by;
    work->notice.pull.reason = fact->reason;
    return notice_tell(work);
}

/* ---- facts about a build, whose service and commit were told when it was queued ---- */

static void on_build_found(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct work *work = arg;
    struct ec_arena *arena = ec_event_arena(work->ev);
    struct notice *notice = &work->notice;
    if (!ec_failed(err) && ec_rows_count(rows) == 0) {
        ec_log(EC_LOG_INFO, notice->trace, "notice.left_out",
               "not a current attempt of a known build", EC_T("build", notice->subject_id),
               EC_T("about", notice->rule->about));
        ec_event_finish(work->ev, ec_ok());
        return;
    }
    if (!ec_failed(err)) {
        notice->project_id = ec_arena_strdup(arena, ec_rows_text(rows, 0, "project_id"));
        notice->project_slug = ec_arena_strdup(arena, ec_rows_text(rows, 0, "project_slug"));
        notice->service_id = ec_arena_strdup(arena, ec_rows_text(rows, 0, "service_id"));
        notice->service_name = ec_arena_strdup(arena, ec_rows_text(rows, 0, "service_name"));
        notice->commit_sha = ec_arena_strdup(arena, ec_rows_text(rows, 0, "commit_sha"));
        notice->commit_ref = ec_arena_strdup(arena, ec_rows_text(rows, 0, "commit_ref"));
        notice->commit_message = ec_arena_strdup(arena, ec_rows_text(rows, 0, "commit_message"));
        err = notice_tell(work);
    }
    if (ec_failed(err)) {
        ec_event_finish(work->ev, err);
    }
}

static EC_RESULT find_build(struct work *work, const char *build_id, int attempt,
                            const char *detail)
{
    const char *args[] = {build_id, ec_arena_format(ec_event_arena(work->ev), "%d", attempt)};
    work->notice.subject_id = build_id;
    work->notice.detail = detail;
    return ec_store_exec(work->no->store,
                         "select * from notifier.build where build_id = $1 and attempt <= $2::int",
                         args, EC_LEN(args), on_build_found, work);
}

static struct ec_err on_build_failed(void *state, struct ec_event *ev)
{
    const Enclii__V1__BuildFailed *fact = ec_event_body(ev);
    if (!decide_build_failure_final(fact)) {
        ec_event_finish(ev, ec_ok());
        return ec_ok();
    }
    return find_build(notice_begin(state, ev), fact->build_id, fact->attempt, fact->detail);
}

static struct ec_err on_build_ended(void *state, struct ec_event *ev)
{
    const Enclii__V1__BuildEnded *fact = ec_event_body(ev);
    return find_build(notice_begin(state, ev), fact->build_id, INT32_MAX, fact->reason);
}

static struct ec_err on_release_decided(void *state, struct ec_event *ev)
{
    const Enclii__V1__ReleaseDecided *fact = ec_event_body(ev);
    return find_build(notice_begin(state, ev), fact->build_id, INT32_MAX, fact->reason);
}

/* ---- what is only remembered ---- */

static void on_build_remembered(void *arg, struct ec_err err, const struct ec_rows *rows)
{
    struct work *work = arg;
    (void)rows;
    if (!ec_failed(err)) {
        err = notice_tell(work);
    }
    if (ec_failed(err)) {
        ec_event_finish(work->ev, err);
    }
}

static struct ec_err remember_build(struct work *work, const Enclii__V1__ServiceRef *service,
                                    const Enclii__V1__Commit *commit, const char *build_id)
{
    notice_service(&work->notice, service);
    notice_commit(&work->notice, commit);
    work->notice.subject_id = build_id;
    const struct notice *notice = &work->notice;
    const char *args[] = {build_id,           notice->project_id,    notice->project_slug,
                          notice->service_id, notice->service_name,  notice->commit_sha,
                          notice->commit_ref, notice->commit_message};
    return ec_store_exec(
        work->no->store,
        "insert into notifier.build (build_id, project_id, project_slug, service_id,"
        " service_name, commit_sha, commit_ref, commit_message)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        args, EC_LEN(args), on_build_remembered, work);
}

static struct ec_err on_build_queued(void *state, struct ec_event *ev)
{
    const Enclii__V1__BuildQueued *fact = ec_event_body(ev);
    return remember_build(notice_begin(state, ev), fact->service, fact->commit, fact->build_id);
}

static struct ec_err on_build_waiting(void *state, struct ec_event *ev)
{
    const Enclii__V1__BuildWaiting *fact = ec_event_body(ev);
    return remember_build(notice_begin(state, ev), fact->service, fact->commit, fact->build_id);
}

static struct ec_err on_build_leased(void *state, struct ec_event *ev)
{
    struct notifier *no = state;
    const Enclii__V1__BuildLeased *fact = ec_event_body(ev);
    const char *args[] = {fact->build_id,
                          ec_arena_format(ec_event_arena(ev), "%d", (int)fact->attempt)};
    return ec_store_exec(no->store,
                         "update notifier.build set attempt = greatest(attempt, $2::int)"
                         " where build_id = $1",
                         args, EC_LEN(args), on_stored, ev);
}

static void on_services_stored(void *arg, struct ec_err err, const struct ec_batch *batch)
{
    (void)batch;
    ec_event_finish(arg, err);
}

static struct ec_err on_delivery_accepted(void *state, struct ec_event *ev)
{
    struct notifier *no = state;
    const Enclii__V1__DeliveryAccepted *fact = ec_event_body(ev);
    struct ec_batch *batch = ec_batch_new(no->store);
    for (size_t i = 0; i < fact->n_services; i++) {
        notice_repo(batch, fact->services[i]->service_id, fact->repo_key);
    }
    return ec_batch_run(batch, on_services_stored, ev);
}

#define E(name) "dev.enclii." name ".v1"
#define D(name) &enclii__v1__##name##__descriptor

static const struct ec_route routes[] = {
    /* when this arrives         it carries               we do */
    {E("delivery.accepted"), D(delivery_accepted), on_delivery_accepted},
    {E("approval.needed"), D(approval_needed), on_approval_needed},
    {E("approval.given"), D(approval_ended), on_approval_ended},
    {E("approval.refused"), D(approval_ended), on_approval_ended},
    {E("approval.lapsed"), D(approval_ended), on_approval_ended},
    {E("approval.superseded"), D(approval_ended), on_approval_ended},
    {E("build.waiting"), D(build_waiting), on_build_waiting},
    {E("build.queued"), D(build_queued), on_build_queued},
    {E("build.leased"), D(build_leased), on_build_leased},
    {E("build.failed"), D(build_failed), on_build_failed},
    {E("build.timed_out"), D(build_ended), on_build_ended},
    {E("build.cancelled"), D(build_ended), on_build_ended},
    {E("build.superseded"), D(build_ended), on_build_ended},
    {E("release.ready"), D(release_decided), on_release_decided},
    {E("release.rejected"), D(release_decided), on_release_decided},
    {E("deployment.created"), D(deployment_created), on_deployment_created},
    {E("deployment.healthy"), D(deployment_ended), on_deployment_ended},
    {E("deployment.failed"), D(deployment_ended), on_deployment_ended},
    {E("deployment.rolled_back"), D(deployment_ended), on_deployment_ended},
    {E("deployment.cancelled"), D(deployment_ended), on_deployment_ended},
    {E("deployment.superseded"), D(deployment_ended), on_deployment_ended},
};

EC_RESULT events_follow(struct notifier *no)
{
    static const char *const topics[] = {EC_TOPIC_INTAKE, EC_TOPIC_BUILD_EVENTS,
                                         EC_TOPIC_RELEASE_EVENTS, EC_TOPIC_DEPLOYMENT_EVENTS, NULL};
    const struct ec_consume_spec spec = {.group = "notifier",
                                         .topics = topics,
                                         .routes = routes,
                                         .route_count = EC_LEN(routes),
                                         .state = no};
    return ec_bus_consume(no->bus, &spec, &no->events);
}
