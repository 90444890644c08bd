/* What happens when something arrives. A handler starts with `on_`, gets borrowed things, and
 * either returns an error or owes exactly one finish. */
#include <stdio.h>

#include "base/log.h"
#include "base/metric.h"
#include "hello.h"

struct ec_metric greetings = EC_COUNTER("enclii_hello_greetings_total", "Pushes greeted.", NULL);

/* From Kafka. The body was decoded by the route table's descriptor; it lives until ec_event_finish.
 * An empty ref cannot come from our webhook, so such an event is refused: it goes to
 * enclii.intake.hello.dead with this text as the reason, and is not tried again. */
struct ec_err on_push_received(void *state, struct ec_event *ev)
{
    struct hello *hello = state;
    const Enclii__V1__PushReceived *push = ec_event_body(ev);
    if (!*push->ref) {
        return ec_reject("push.received: ref is empty");
    }
    char *text = decide_greeting(ec_event_arena(ev), hello->settings.greeting, push);
    if (text) {
        snprintf(hello->last, sizeof hello->last, "%s", text);
        ec_metric_add(&greetings, NULL, 1);
        ec_log(EC_LOG_INFO, ec_event_trace(ev), "push.greeted", text, EC_T("repo", push->repo_key));
    }
    ec_event_finish(ev, ec_ok()); /* now the offset may be stored */
    return ec_ok();
}

/* From HTTP. The reply may come now or later, but exactly once. */
void on_last_asked(void *state, struct ec_request *req)
{
    struct hello *hello = state;
    if (!*hello->last) {
        ec_reply_problem(req, 404, "nothing_yet", NULL,
                         "no push was seen since the start; push one");
        return;
    }
    json_t *body = json_pack("{s:s}", "last", hello->last);
    ec_reply_json(req, 200, body);
    json_decref(body);
}
