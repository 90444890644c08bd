/* What git hosts answer: Link headers, lists of deliveries and webhooks, an App's token, an
 * installation's id, where a repository is. What comes out is fit to be shown, to be put into a
 * path, and bounded. Input: a Link header, a line feed, a JSON text. */
#include "base/mem.h"
#include "fuzz.h"
#include "githost/githost_private.h"

static void check_deliveries(const struct ec_githost_deliveries *page)
{
    check(page->count <= ITEMS_MAX);
    for (size_t i = 0; i < page->count; i++) {
        const struct ec_githost_delivery *delivery = &page->list[i];
        check(good_id(delivery->id) && delivery->guid[0]);
        check_shown(delivery->guid, TEXT_MAX_BYTES, true);
        check_shown(delivery->event, TEXT_MAX_BYTES, true);
        check_shown(delivery->action, TEXT_MAX_BYTES, true);
        check_shown(delivery->status, TEXT_MAX_BYTES, true);
        check(delivery->status_code >= 0 && delivery->status_code < 600);
    }
}

static void check_hooks(struct ec_arena *arena, enum ec_githost_kind kind, const json_t *root)
{
    struct hook_list hooks = {ec_arena_alloc(arena, HOOKS_MAX * sizeof(*hooks.items)), 0};
    if (ec_failed(decode_hooks(arena, kind, root, &hooks))) {
        return;
    }
    check(hooks.count <= HOOKS_MAX);
    for (size_t i = 0; i < hooks.count; i++) {
        check(good_id(hooks.items[i].id));
        check_shown(hooks.items[i].url, TEXT_MAX_BYTES, true);
        for (const char *const *event = hooks.items[i].events; *event; event++) {
            check_shown(*event, 64, true);
        }
        (void)ec_githost_hook_fault(arena, kind, &hooks.items[i]);
    }
    (void)ec_githost_hook_find(hooks.items, hooks.count, "https://enclii.example/x");
}

static void check_repo(struct ec_arena *arena, enum ec_githost_kind kind, const json_t *root)
{
    struct ec_githost_repo repo;
    if (!ec_failed(decode_repo(arena, kind, root, &repo))) {
        check(good_id(repo.id) && repo.full_name[0] && repo.clone_url[0]);
        check_shown(repo.full_name, TEXT_MAX_BYTES, true);
        check_shown(repo.clone_url, TEXT_MAX_BYTES, true);
        check_shown(repo.default_branch, TEXT_MAX_BYTES, true);
    }
}

static void check_answers(struct ec_arena *arena, const json_t *root)
{
    struct ec_githost_deliveries page = {0};
    if (!ec_failed(decode_github_deliveries(arena, root, &page))) {
        check_deliveries(&page);
    }
    if (!ec_failed(decode_gitlab_deliveries(arena, root, &page))) {
        check_deliveries(&page);
    }
    check_hooks(arena, EC_GITHOST_GITHUB, root);
    check_hooks(arena, EC_GITHOST_GITLAB, root);
    check_repo(arena, EC_GITHOST_GITHUB, root);
    check_repo(arena, EC_GITHOST_GITLAB, root);
    ec_cleanup(ec_secret_freep) struct ec_secret *token = NULL;
    int64_t life_ms = 0;
    if (!ec_failed(decode_app_token(root, 1700000000000, &token, &life_ms))) {
        struct ec_span text = ec_secret_use(token);
        check(text.len > 0 && !memchr(text.ptr, '\n', text.len) && life_ms >= 60000);
    }
    const char *id = decode_id(arena, json_object_get(root, "id"));
    check(!id[0] || good_id(id));
    check(decode_gitlab_level(root, "ann") >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len > 262144) {
        return 0;
    }
    ec_cleanup(ec_arena_freep) struct ec_arena *arena = ec_arena_new(32 << 20);
    struct ec_span rest = span_of_input(bytes, len);
    const char *link = ec_arena_text(arena, take_until(&rest, '\n'));
    const char *next = decode_next(arena, link, "cursor");
    check(!next || (next[0] && strlen(next) <= 256));
    ec_cleanup(ec_json_freep) json_t *root = NULL;
    if (!ec_failed(ec_json_parse(arena, rest, &root))) {
        check_answers(arena, root);
    }
    return 0;
}
