/* The object store. A driver has two blocking verbs that run on libuv's pool; the driver for
 * folders writes to a temporary name, flushes, and links it to the real one, so that a reader never
 * sees half an object and two writers cannot both win. */
#include "oci/object_store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define KEY_MAX_BYTES 512

struct job;
struct driver {
    struct ec_err (*put)(struct job *job);
    struct ec_err (*get)(struct job *job);
};

struct ec_object_store {
    struct ec_loop *loop;
    const struct driver *driver;
    char *root; /* folder, without a slash at the end */
};

/* One verb under way; the worker touches nothing else. */
struct job {
    struct ec_err (*run)(struct job *job);
    char *path;
    char *bytes; /* what to write, or what was read */
    size_t len;
    struct ec_err err;
    ec_object_fn done;
    void *arg;
};

bool ec_object_key_valid(const char *key)
{
    size_t len = strlen(key);
    if (len == 0 || len > KEY_MAX_BYTES) {
        return false;
    }
    bool at_start = true; /* of a segment */
    for (const char *at = key; *at; at++) {
        bool fits = isalnum((unsigned char)*at) || strchr(at_start ? "_-" : "._-/", *at);
        if (!fits) {
            return false;
        }
        at_start = *at == '/';
    }
    return !at_start;
}

/* ---- the folder driver ---- */

static struct ec_err make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        int failed = mkdir(path, 0750) != 0 && errno != EEXIST;
        int code = errno;
        *at = '/';
        if (failed) {
            return ec_retry(-code, "cannot make a folder of the object store");
        }
    }
    return ec_ok();
}

static struct ec_err read_whole(int fd, struct job *job)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return ec_retry(-errno, "an object is no readable file");
    }
    if (info.st_size > EC_OBJECT_MAX_BYTES) {
        return ec_reject("an object has more than 16 MiB");
    }
    job->bytes = ec_alloc((size_t)info.st_size + 1);
    while (job->len < (size_t)info.st_size) {
        ssize_t got = read(fd, job->bytes + job->len, (size_t)info.st_size - job->len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return ec_retry(-errno, "an object cannot be read whole");
        }
        job->len += (size_t)got;
    }
    return ec_ok();
}

static struct ec_err folder_get(struct job *job)
{
    int fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        return (struct ec_err){EC_FATE_REJECT, -ENOENT, "the object store has no such object"};
    }
    if (fd < 0) {
        return ec_retry(-errno, "an object cannot be opened");
    }
    struct ec_err err = read_whole(fd, job);
    close(fd);
    return err;
}

static struct ec_err same_as_stored(const struct job *job)
{
    struct job stored = {.path = job->path};
    struct ec_err err = folder_get(&stored);
    bool same = !ec_failed(err) && stored.len == job->len &&
                memcmp(stored.bytes, job->bytes, job->len) == 0;
    free(stored.bytes);
    EC_TRY(err);
    return same ? ec_ok() : ec_reject("the object exists with other bytes: objects never change");
}

static struct ec_err folder_put(struct job *job)
{
    EC_TRY(make_folders(job->path));
    struct ec_span bytes = {(const char *)job->bytes, job->len};
    int code = ec_file_create(&(struct ec_file_spec){job->path, 0640, true, &bytes, 1});
    if (code == -EEXIST) {
        return same_as_stored(job);
    }
    return code ? ec_retry(code, "cannot write into the object store") : ec_ok();
}

static const struct driver folder_driver = {folder_put, folder_get};

/* ---- the interface ---- */

struct ec_err ec_object_store_open(struct ec_loop *loop, const char *url,
                                   struct ec_object_store **ret_store)
{
    if (strncmp(url, "file:///", 8) != 0 || url[8] == '\0') {
        return ec_fatal(0, "ENCLII_OBJECT_STORE must be file:///an/absolute/folder");
    }
    struct ec_object_store *store = ec_alloc(sizeof(*store));
    store->loop = loop;
    store->driver = &folder_driver;
    store->root = ec_strdup(url + 7);
    size_t len = strlen(store->root);
    while (len > 1 && store->root[len - 1] == '/') {
        store->root[--len] = '\0';
    }
    *ret_store = store;
    return ec_ok();
}

void ec_object_store_close(struct ec_object_store *store)
{
    if (store) {
        free(store->root);
        free(store);
    }
}

static void work(void *arg)
{
    struct job *job = arg;
    job->err = job->run(job);
}

static void free_job(struct job *job)
{
    free(job->path);
    free(job->bytes);
    free(job);
}

static void after(void *arg)
{
    struct job *job = arg;
    job->done(job->arg, job->err, (struct ec_span){job->bytes ? job->bytes : "", job->len});
    free_job(job);
}

static struct ec_err start(struct ec_object_store *store, const char *key, struct job model)
{
    if (!ec_object_key_valid(key)) {
        free(model.bytes);
        return ec_reject("an object's key has letters, digits, '.', '_', '-' and '/' only");
    }
    struct job *job = ec_alloc(sizeof(*job));
    *job = model;
    job->path = ec_format("%s/%s", store->root, key);
    struct ec_err err = ec_loop_work(store->loop, work, after, job);
    if (ec_failed(err)) {
        free_job(job);
    }
    return err;
}

struct ec_err ec_object_put(struct ec_object_store *store, const char *key, struct ec_span bytes,
                            ec_object_fn done, void *arg)
{
    if (bytes.len > EC_OBJECT_MAX_BYTES) {
        return ec_reject("an object may have at most 16 MiB");
    }
    char *copy = ec_alloc(bytes.len + 1);
    memcpy(copy, bytes.ptr, bytes.len);
    return start(
        store, key,
        (struct job){
            .run = store->driver->put, .bytes = copy, .len = bytes.len, .done = done, .arg = arg});
}

struct ec_err ec_object_get(struct ec_object_store *store, const char *key, ec_object_fn done,
                            void *arg)
{
    return start(store, key, (struct job){.run = store->driver->get, .done = done, .arg = arg});
}
