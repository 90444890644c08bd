/* The hub (hub.c) and the streams that it feeds (events.c). */
#pragma once

#include <stdio.h>

#include "api.h"

#define HUB_RING_MAX 2000
#define HUB_SHORT_MAX 128

struct hub_event {
    char id[HUB_SHORT_MAX];
    int64_t unix_ms; /* when it happened */
    bool early;      /* from before this process had read all there was */
    char *json;
    char *own_json;      /* for tokens of one project; NULL = the same */
    char *services;      /* "id id id": what it concerns */
    char type[64];       /* "build.queued" */
    char commit[72];     /* "" when not known */
    char subject[3][40]; /* build, release, deployment id: to find the commit of later facts */
};

struct hub {
    struct api *api;
    struct hub_event *ring[HUB_RING_MAX];
    size_t first, count;
    bool caught_up; /* what comes now happens now */
    struct stream *streams;
    struct hub_follower *followers;
};

/* ---- hub.c ---- */
/* In the order in which they came; index < hub->count. */
struct hub_event *hub_at(const struct hub *hub, size_t index);

static inline void hub_copy(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
}

/* ---- events.c ---- */
/* Those that it concerns. */
void streams_tell(const struct hub *hub, const struct hub_event *event);
