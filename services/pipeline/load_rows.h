/* For each kind of row: the statement that reads those a batch touches, and the way from one row of
 * its answer into the world. Only what can matter is read: open rows of the services in question,
 * and whatever the events name. */
#pragma once

#include "load.h"
#include "pulls.h"

/* One row of an answer, with short readers; texts are copied into the world's arena. */
struct row {
    const struct ec_rows *rows;
    size_t at;
    struct world *world;
};
const char *row_text(const struct row *row, const char *column);
int64_t row_number(const struct row *row, const char *column);
bool row_flag(const struct row *row, const char *column);
struct ec_span row_bytes(const struct row *row, const char *column);

/* ---- load_rows.c: $1 services named, $2 repositories pushed to, $3 builds named ---- */
extern const char services_sql[], environments_sql[], builds_sql[], releases_sql[],
    deployments_sql[], desired_sql[], domains_sql[];
void take_service(const struct row *row);
void take_environment(const struct row *row);
void take_build(const struct row *row);
void take_release(const struct row *row);
void take_deployment(const struct row *row);
void take_desired(const struct row *row);
void take_domain(const struct row *row);

/* ---- load_intake.c ---- */
extern const char deliveries_sql[], repos_sql[], refs_sql[], inbox_sql[], builders_sql[];
void take_delivery(const struct row *row);
void take_repo(const struct row *row);
void take_ref(const struct row *row);
void take_inbox(const struct row *row);
void take_builder(const struct row *row);

/* ---- pulls.c ---- */
extern const char pulls_sql[];     /* $1 ids, $2 commits */
extern const char approvals_sql[]; /* $1 commits, $2 ids of pull requests: of their heads too */
extern const char ci_runs_sql[];   /* $1 commits, $2 deliveries that wait to be decided */
void take_pull(const struct row *row);
void take_approval(const struct row *row);
void take_ci_run(const struct row *row);
