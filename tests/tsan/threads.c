/* Only in `make tsan`, in front of libc: librdkafka starts its threads by C11's thrd_create, which
 * ThreadSanitizer of GCC 12 does not know; the first call that it intercepts on such a thread
 * crashes. Through pthread_create it knows them. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

struct start {
    thrd_start_t run;
    void *arg;
};

static void *on_thread(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    return (void *)(intptr_t)start.run(start.arg);
}

int thrd_create(thrd_t *ret_thread, thrd_start_t run, void *arg)
{
    struct start *start = malloc(sizeof *start);
    if (!start) {
        return thrd_nomem;
    }
    *start = (struct start){run, arg};
    if (pthread_create(ret_thread, NULL, on_thread, start) != 0) {
        free(start);
        return thrd_error;
    }
    return thrd_success;
}

int thrd_join(thrd_t thread, int *ret_code)
{
    void *code = NULL;
    if (pthread_join(thread, &code) != 0) {
        return thrd_error;
    }
    if (ret_code) {
        *ret_code = (int)(intptr_t)code;
    }
    return thrd_success;
}
