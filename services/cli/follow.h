/* Following one push, or one deployment, from event to event until it has ended. */
#pragma once

#include <jansson.h>

#include "cli.h"

/* Each prints what happens and gives the exit status that fits the end: EXIT_OK when it serves,
 * EXIT_BUILD, EXIT_DEPLOYMENT. */
int follow_commit(struct cli *cli, const json_t *service, const char *commit);
/* A build that was just asked for (the API's answer): the commit may have been built before. */
int follow_build(struct cli *cli, const json_t *service, const char *commit, const json_t *answer);
int follow_deployment(struct cli *cli, const json_t *service, const char *deployment_id);

/* One event in a few words, "" when it has none; its colour is NULL for plain. */
const char *event_text(struct cli *cli, const char *type, const json_t *event,
                       const char **ret_style);
