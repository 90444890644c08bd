/* A double of the `buildah` program, for `make chaos`: the real builder runs it like the real one.
 * It makes a tiny OCI image of the commit that was checked out, always the same bytes for the same
 * commit, and pushes it to a real registry: config with the commit as its revision label, and one
 * layer, a tar with the file "version" of the source tree. Strict: what it does not know, it
 * refuses. What it must remember between "bud" and "push" is a small file in TMPDIR, one for each
 * image. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"
#include "trust/digest.h"

#define TAR_BLOCK 512
#define LAYER_BYTES (4 * TAR_BLOCK) /* header, one block of content, two empty ones */
#define REPLY_MAX ((size_t)256 * 1024)

struct image {
    char layer[LAYER_BYTES];
    char *layer_digest;
    char *config, *config_digest;
    char *manifest, *manifest_digest;
};

static struct ec_arena *arena;

static void die(const char *why)
{
    fprintf(stderr, "fast buildah: %s\n", why);
    exit(125);
}

static const char *after(int argc, char **argv, const char *name)
{
    for (int i = 2; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    die(ec_arena_format(arena, "%s is missing", name));
    return NULL;
}

static void write_file(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "we");
    if (!file || fwrite(bytes, 1, len, file) != len || fclose(file) != 0) {
        die(ec_arena_format(arena, "cannot write %s", path));
    }
}

static char *read_file(const char *path, size_t max)
{
    char *text = ec_arena_alloc(arena, max + 1);
    FILE *file = fopen(path, "re");
    if (!file) {
        die(ec_arena_format(arena, "cannot read %s", path));
    } else {
        text[fread(text, 1, max, file)] = '\0';
        fclose(file);
    }
    return text;
}

static const char *note_path(const char *image_id)
{
    const char *dir = getenv("TMPDIR");
    if (!dir || strspn(image_id, "0123456789abcdefsh:") != strlen(image_id)) {
        die("no TMPDIR, or this is not an image id");
    }
    return ec_arena_format(arena, "%s/%s", dir, image_id);
}

static void make_layer(struct image *image, const char *version)
{
    char *tar = image->layer;
    size_t len = strlen(version);
    unsigned sum = 0;
    snprintf(tar, 100, "version");
    snprintf(tar + 100, 8, "%07o", 0444u);
    snprintf(tar + 108, 8, "%07o", 0u);
    snprintf(tar + 116, 8, "%07o", 0u);
    snprintf(tar + 124, 12, "%011o", (unsigned)len);
    snprintf(tar + 136, 12, "%011o", 0u);
    memset(tar + 148, ' ', 8);
    tar[156] = '0';
    memcpy(tar + 257,
           "ustar\0"
           "00",
           8);
    for (int i = 0; i < TAR_BLOCK; i++) {
        sum += (unsigned char)tar[i];
    }
    snprintf(tar + 148, 8, "%06o", sum);
    memcpy(tar + TAR_BLOCK, version, len);
}

static void make_image(struct image *image, const char *sha, const char *version)
{
    memset(image, 0, sizeof *image);
    make_layer(image, version);
    image->layer_digest =
        ec_sha256_digest(arena, (struct ec_span){image->layer, sizeof image->layer});
    image->config = ec_arena_format(arena,
                                    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{"
                                    "\"Cmd\":[\"/version\"],\"Labels\":{"
                                    "\"org.opencontainers.image.revision\":\"%s\"}},\"rootfs\":{"
                                    "\"type\":\"layers\",\"diff_ids\":"
                                    "[\"%s\"]}}",
                                    sha, image->layer_digest);
    image->config_digest = ec_sha256_digest(arena, ec_span_of(image->config));
    image->manifest = ec_arena_format(
        arena,
        "{\"schemaVersion\":2,\"mediaType\":\"application/"
        "vnd.oci.image.manifest.v1+json\",\"config\":"
        "{\"mediaType\":\"application/"
        "vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
        "\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"%s\","
        "\"size\":%d}]}",
        image->config_digest, strlen(image->config), image->layer_digest, LAYER_BYTES);
    image->manifest_digest = ec_sha256_digest(arena, ec_span_of(image->manifest));
}

/* ---- the registry ---- */

static size_t keep_location(char *line, size_t size, size_t count, void *arg)
{
    if (size * count > 10 && strncasecmp(line, "location: ", 10) == 0) {
        char *text = ec_arena_text(arena, (struct ec_span){line + 10, size * count - 10});
        text[strcspn(text, "\r\n")] = '\0';
        *(char **)arg = text;
    }
    return size * count;
}

static size_t ignore_body(char *bytes, size_t size, size_t count, void *arg)
{
    (void)bytes;
    (void)arg;
    return size * count;
}

/* The status; the Location header, if any, to *ret_location. */
static long ask(CURL *curl, const char *method, const char *url, const char *type,
                struct ec_span body, char **ret_location)
{
    long status = 0;
    struct curl_slist *headers =
        curl_slist_append(NULL, ec_arena_format(arena, "Content-Type: %s", type));
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, keep_location);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, ret_location);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore_body);
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.ptr);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body.len);
    }
    CURLcode code =
        curl_easy_perform(curl); /* lint: blocks, it is the tool the builder waits for */
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        die(ec_arena_format(arena, "%s %s: connection refused or lost (%s)", method, url,
                            curl_easy_strerror(code)));
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static void push_blob(CURL *curl, const char *base, const char *digest, struct ec_span blob)
{
    char *location = NULL;
    const char *url = ec_arena_format(arena, "%s/blobs/%s", base, digest);
    if (ask(curl, "HEAD", url, "text/plain", (struct ec_span){0}, &location) == 200) {
        return;
    }
    url = ec_arena_format(arena, "%s/blobs/uploads/", base);
    long status = ask(curl, "POST", url, "text/plain", EC_SPAN(""), &location);
    if (status != 202 || !location) {
        die(ec_arena_format(arena, "the registry answered %ld to an upload", status));
    }
    url = ec_arena_format(arena, "%s%sdigest=%s", location, strchr(location, '?') ? "&" : "?",
                          digest);
    status = ask(curl, "PUT", url, "application/octet-stream", blob, &location);
    if (status != 201) {
        die(ec_arena_format(arena, "the registry answered %ld to a blob", status));
    }
}

/* docker://host:port/path:tag */
static void push_image(const struct image *image, const char *target)
{
    const char *rest = strncmp(target, "docker://", 9) == 0 ? target + 9 : NULL;
    const char *slash = rest ? strchr(rest, '/') : NULL;
    const char *colon = slash ? strrchr(slash, ':') : NULL;
    CURL *curl = curl_easy_init();
    char *location = NULL;
    if (!colon || !curl) {
        die("the target is not docker://HOST/PATH:TAG");
        return;
    }
    const char *base = ec_arena_format(arena, "http://%.*s/v2%.*s", (int)(slash - rest), rest,
                                       (int)(colon - slash), slash);
    push_blob(curl, base, image->layer_digest, (struct ec_span){image->layer, sizeof image->layer});
    push_blob(curl, base, image->config_digest, ec_span_of(image->config));
    long status =
        ask(curl, "PUT", ec_arena_format(arena, "%s/manifests/%s", base, colon + 1),
            "application/vnd.oci.image.manifest.v1+json", ec_span_of(image->manifest), &location);
    if (status != 201) {
        die(ec_arena_format(arena, "the registry answered %ld to the manifest", status));
    }
    curl_easy_cleanup(curl);
}

/* ---- the commands ---- */

/* "SHA\nVERSION" of a built image. */
static void remembered(struct image *image, const char *image_id)
{
    char *note = read_file(note_path(image_id), TAR_BLOCK + 64);
    size_t sha_len = strcspn(note, "\n");
    make_image(image, ec_arena_text(arena, (struct ec_span){note, sha_len}), note + sha_len + 1);
    if (strcmp(image->config_digest, image_id) != 0) {
        die("what was built is damaged");
    }
}

static void build(int argc, char **argv)
{
    struct image image;
    const char *label = after(argc, argv, "--label");
    const char *equals = strchr(label, '=');
    const char *context = argv[argc - 1];
    char *version = read_file(ec_arena_format(arena, "%s/version", context), TAR_BLOCK);
    if (!equals || strlen(equals + 1) != 40) {
        die("the label does not name a commit");
        return;
    }
    make_image(&image, equals + 1, version);
    const char *note = ec_arena_format(arena, "%s\n%s", equals + 1, version);
    write_file(note_path(image.config_digest), note, strlen(note));
    write_file(after(argc, argv, "--iidfile"), image.config_digest, strlen(image.config_digest));
    printf("COMMIT %s\n", version);
}

static void push(int argc, char **argv)
{
    struct image image;
    remembered(&image, argv[argc - 2]);
    push_image(&image, argv[argc - 1]);
    write_file(after(argc, argv, "--digestfile"), image.manifest_digest,
               strlen(image.manifest_digest));
}

static void inspect(int argc, char **argv)
{
    struct image image;
    remembered(&image, argv[argc - 1]);
    puts(image.manifest);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    arena = ec_arena_new(4 * REPLY_MAX);
    if (strcmp(command, "--version") == 0) {
        puts("buildah version 1.0.0-double (image-spec 1.0.2)");
    } else if (strcmp(command, "bud") == 0 && argc > 4) {
        build(argc, argv);
    } else if (strcmp(command, "push") == 0 && argc > 4) {
        push(argc, argv);
    } else if (strcmp(command, "inspect") == 0 && argc > 2) {
        inspect(argc, argv);
    } else if (strcmp(command, "images") != 0 && strcmp(command, "rm") != 0 &&
               strcmp(command, "rmi") != 0) {
        die("no such command");
    }
    ec_arena_free(arena);
    return 0;
}
