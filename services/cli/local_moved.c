/* The platform's folder may be moved, or brought back from a backup: what names its own place is
 * mended before anything reads it. What cannot be mended (the engine's storage) is a cache, and is
 * dropped. */
#include "local.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define LIST_MAX_BYTES (1 << 20)

static bool was_moved(const struct local *local)
{
    const char *text = local_read_file(local, local_path(local, "local.json"));
    json_t *kept = NULL;
    if (text) {
        ec_ignore(ec_json_parse(local->arena, ec_span_of(text), &kept)); /* then it is not known */
    }
    const char *home = ec_json_text(kept, "home");
    bool moved = home[0] && strcmp(home, local->home) != 0;
    json_decref(kept);
    return moved;
}

/* "/place/router/certs/a.pem a.example": HAProxy does not start with a file that is not there; the
 * domain service adds it again once it has it. */
static EC_RESULT mend_certificate_list(const struct local *local)
{
    const char *path = local_path(local, "router/crt.list");
    char *line = local_read_file(local, path), *next = NULL;
    ec_cleanup(ec_buf_done) struct ec_buf out;
    ec_buf_init(&out, LIST_MAX_BYTES);
    if (!line) {
        return ec_ok(); /* nothing was ever started here */
    }
    for (; *line; line = next) {
        size_t len = strcspn(line, "\n"), name = strcspn(line, " \n");
        next = line + len + (line[len] == '\n');
        const char *file = line + name;
        while (file > line && file[-1] != '/') {
            file--;
        }
        const char *here = ec_arena_format(local->arena, "%s/router/certs/%.*s", local->home,
                                           (int)(line + name - file), file);
        if (len > 0 && access(here, R_OK) == 0) {
            ec_buf_addf(&out, "%s%.*s\n", here, (int)(len - name), line + name);
        }
    }
    return local_write_file(local, path, out.len ? out.ptr : "", 0644);
}

EC_RESULT local_mend_places(const struct local *local)
{
    EC_TRY(mend_certificate_list(local));
    EC_TRY(local_renew_hooks(local));
    if (was_moved(local)) {
        ec_file_remove_tree(local_path(local, "engine"));
        ec_file_remove_tree(local_path(local, "builder"));
    }
    return ec_ok();
}
