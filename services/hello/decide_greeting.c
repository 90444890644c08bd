/* What to say about a push. No clock, no I/O, no state: arguments in, value out. */
#include "hello.h"

char *decide_greeting(struct ec_arena *arena, const char *greeting,
                      const Enclii__V1__PushReceived *push)
{
    if (push->deleted || !push->head) {
        return NULL; /* a deleted branch is no occasion */
    }
    return ec_arena_format(arena, "%s, %s! %s is now at %.7s", greeting,
                           *push->pusher ? push->pusher : "stranger", push->repo_full_name,
                           push->after);
}
