/* A RunBuild command off the bus: what passes reaches git and the file system, so it has to be of
 * the plainest form, and its paths stay inside the checkout. */
#include "base/mem.h"
#include "bus/internal.h"
#include "decide_build.h"
#include "fuzz.h"

static void check_plain(const char *text)
{
    check(text[0] != '-' && strlen(text) <= 2048);
    for (const char *c = text; *c; c++) {
        check((unsigned char)*c > ' ' && *c != 0x7f);
    }
}

/* git reads "name::address" as a call of its helper "name". */
static void check_transport(const char *url)
{
    size_t len = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    check(strncmp(url + len, "::", 2) != 0);
    check(strncmp(url, "file://", 7) != 0 && strncmp(url, "git://", 6) != 0);
}

static void check_inside(const char *path)
{
    int depth = 0;
    check(path[0] != '/');
    for (const char *at = path; *at;) {
        size_t len = strcspn(at, "/");
        bool up = len == 2 && at[0] == '.' && at[1] == '.';
        depth += up ? -1 : 1;
        check(!up && depth >= 0);
        at += len + (at[len] == '/');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (bus_wire_check(&enclii__v1__run_build__descriptor, span_of_input(bytes, len))) {
        return 0;
    }
    Enclii__V1__RunBuild *run = enclii__v1__run_build__unpack(NULL, len, bytes);
    if (run && !decide_command_fault(run, "http:https:ssh")) {
        check_plain(run->clone_url);
        check_plain(run->image_repo);
        check_plain(run->commit->ref);
        check_plain(run->service->service_id);
        check(strspn(run->commit->sha, "0123456789abcdef") == strlen(run->commit->sha));
        check_transport(run->clone_url);
        if (run->spec) {
            check_inside(build_context_of(run->spec));
            check_inside(build_dockerfile_of(run->spec));
        }
    }
    enclii__v1__run_build__free_unpacked(run, NULL);
    return 0;
}
