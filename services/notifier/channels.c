/* The channels, followed from the compacted topic enclii.channels, and the built-in one that
 * a credential of a git host makes. */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "notifier.h"
#include "trust/seal.h"

static void free_channel(void *value)
{
    struct channel *channel = value;
    if (!channel) {
        return;
    }
    for (size_t i = 0; channel->event_types && channel->event_types[i]; i++) {
        free(channel->event_types[i]);
    }
    free(channel->event_types);
    free(channel->id);
    free(channel->project_id);
    free(channel->kind);
    free(channel->url);
    ec_secret_free(channel->secret);
    free(channel);
}

/* False, with a dead letter: a channel whose secret cannot be opened sends nothing rather than
 * unsigned. */
static bool open_secret(struct notifier *no, struct ec_event *ev, ProtobufCBinaryData sealed,
                        struct channel *channel)
{
    char *context = ec_format("channel/%s", channel->id);
    struct ec_err err = ec_reject("ENCLII_SEAL_KEY is not set");
    if (sealed.len > 0 && no->settings.seal_key) {
        err = ec_unseal(no->settings.seal_key, context,
                        (struct ec_span){(const char *)sealed.data, sealed.len}, &channel->secret);
    }
    free(context);
    if (sealed.len > 0 && ec_failed(err)) {
        ec_table_reject(ev, ec_arena_format(ec_event_arena(ev),
                                            "the channel's secret cannot be read, nothing is sent "
                                            "to it: %s",
                                            err.what));
        return false;
    }
    return true;
}

static void on_channel(void *state, struct ec_event *ev)
{
    struct notifier *no = state;
    const Enclii__V1__ChannelSet *set = ec_event_body(ev);
    free_channel(ec_map_remove(no->channels, ec_event_key(ev)));
    if (!set) {
        return;
    }
    struct channel *channel = ec_alloc(sizeof *channel);
    channel->id = ec_strdup(ec_event_key(ev));
    channel->project_id = ec_strdup(*set->project_id ? set->project_id : "none");
    channel->kind = ec_strdup(set->kind);
    channel->url = ec_strdup(set->url);
    channel->event_types = ec_alloc((set->n_event_types + 1) * sizeof *channel->event_types);
    for (size_t i = 0; i < set->n_event_types; i++) {
        channel->event_types[i] = ec_strdup(set->event_types[i]);
    }
    channel->enabled = open_secret(no, ev, set->sealed_secret, channel) && set->enabled;
    if (!ec_map_put(no->channels, channel->id, channel)) {
        ec_table_reject(ev, "the table of channels is full: nothing is sent to this one");
        free_channel(channel);
    }
}

static void on_caught_up(void *state)
{
    struct notifier *no = state;
    struct ec_err err = events_follow(no);
    no->channels_known = true;
    if (ec_failed(err)) {
        no->owner.failed(no->owner.arg, err);
    }
}

static void add_builtin(struct notifier *no)
{
    struct channel *channel = ec_alloc(sizeof *channel);
    channel->id = ec_strdup(BUILTIN);
    channel->project_id = ec_strdup("");
    channel->kind = ec_strdup("status");
    channel->url = ec_strdup("");
    channel->event_types = ec_alloc(sizeof *channel->event_types);
    channel->enabled = true;
    (void)ec_map_put(no->channels, channel->id, channel); /* the first entry: there is room */
}

EC_RESULT channels_follow(struct notifier *no)
{
    static const char *const topics[] = {EC_TOPIC_CHANNELS, NULL};
    static const struct ec_route routes[] = {
        {"dev.enclii.channel.set.v1", &enclii__v1__channel_set__descriptor, NULL},
    };
    const struct ec_table_spec spec = {.topics = topics,
                                       .routes = routes,
                                       .route_count = EC_LEN(routes),
                                       .state = no,
                                       .on_event = on_channel,
                                       .on_caught_up = on_caught_up};
    no->channels = ec_map_new(CHANNELS_MAX);
    static const enum ec_githost_kind kinds[] = {EC_GITHOST_GITHUB, EC_GITHOST_GITLAB,
                                                 EC_GITHOST_GITEA, EC_GITHOST_BITBUCKET};
    bool any = false;
    for (size_t i = 0; i < EC_LEN(kinds); i++) {
        any = any || ec_githosts_any_api(no->githosts, kinds[i]);
    }
    if (any) {
        add_builtin(no);
    }
    return ec_bus_table(no->bus, &spec, NULL);
}

void channels_free(struct notifier *no)
{
    if (no->channels) {
        ec_map_free(no->channels, free_channel);
        no->channels = NULL;
    }
}
