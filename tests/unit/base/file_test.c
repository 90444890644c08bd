/* Files written whole: content, mode, what stays when it fails, who is first. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dirent.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"

static char folder[] = "/tmp/enclii-file-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int put(int (*how)(const struct ec_file_spec *), const char *path, const char *one,
               const char *two)
{
    const struct ec_span parts[] = {ec_span_of(one), ec_span_of(two)};
    return how(&(struct ec_file_spec){path, 0640, true, parts, EC_LEN(parts)});
}

static void assert_content(const char *path, const char *want)
{
    char got[64] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    got[fread(got, 1, sizeof(got) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(got, want);
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

static void replacing_leaves_the_new_file_and_no_other(void **state)
{
    (void)state;
    const char *path = in_folder("replaced");
    assert_int_equal(put(ec_file_replace, path, "first", ""), 0);
    assert_int_equal(put(ec_file_replace, path, "sec", "ond"), 0);
    assert_content(path, "second");
    struct stat stat_of;
    assert_int_equal(stat(path, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 07777, 0640);
    assert_int_equal(files_in_folder(), 1);
    unlink(path);
}

static void only_the_first_creates(void **state)
{
    (void)state;
    const char *path = in_folder("created");
    assert_int_equal(put(ec_file_create, path, "mine", ""), 0);
    assert_int_equal(put(ec_file_create, path, "yours", ""), -EEXIST);
    assert_content(path, "mine");
    assert_int_equal(files_in_folder(), 1);
    unlink(path);
}

static void what_cannot_be_written_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(put(ec_file_replace, in_folder("no/such"), "x", ""), -ENOENT);
    const char *path = in_folder("a_folder");
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(put(ec_file_replace, path, "x", ""), -EISDIR);
    assert_int_equal(files_in_folder(), 1);
    rmdir(path);
}

/* What a link in it leads to stays. */
static void a_tree_is_removed_and_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(put(ec_file_create, in_folder("outside"), "x", ""), 0);
    assert_int_equal(mkdir(in_folder("tree"), 0700), 0);
    assert_int_equal(mkdir(in_folder("tree/deep"), 0700), 0);
    assert_int_equal(put(ec_file_create, in_folder("tree/deep/file"), "x", ""), 0);
    assert_int_equal(symlink("../outside", in_folder("tree/link")), 0);
    ec_file_remove_tree(in_folder("tree"));
    ec_file_remove_tree(in_folder("tree")); /* what is not there is fine */
    assert_int_equal(access(in_folder("tree"), F_OK), -1);
    assert_int_equal(files_in_folder(), 1);
    unlink(in_folder("outside"));
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails when a test left something */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replacing_leaves_the_new_file_and_no_other),
        cmocka_unit_test(only_the_first_creates),
        cmocka_unit_test(what_cannot_be_written_is_told_and_leaves_nothing),
        cmocka_unit_test(a_tree_is_removed_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
