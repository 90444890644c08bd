/* The root folder that a build runs in: `enclii-builder inside NETWORK DIR PATH... -- COMMAND...`,
 * run by isolate.sh in namespaces of its own. In it are the system to read (/usr, and of /etc what
 * is needed), a handful of harmless devices, and the PATHs: to read, or, with a "+" before them, to
 * write. It is what Buildah puts its own root folders for RUN lines into, and so all that a way out
 * of those leads to. A program and not a script because every build waits for it: some eighty
 * mounts and folders take a script a sixth of a second. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "builder.h"

#define REFUSED 125 /* no exit code of the build's own commands, as isolate.sh has it */

static const char *root;

static _Noreturn void refuse(const char *what, const char *path)
{
    fprintf(stderr,
            "error: the build cannot be kept apart on this builder: no root folder of its own can "
            "be made: %s %s: %s\n",
            what, path, strerror(errno));
    exit(REFUSED);
}

static const char *below_root(const char *path)
{
    return ec_format("%s%s", root, path); /* this process ends in exec: nothing is freed */
}

static void make_dirs(const char *path)
{
    char *copy = ec_format("%s", path);
    for (char *at = copy + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = '\0';
        mkdir(copy, 0755);
    }
    if (mkdir(copy, 0755) != 0 && errno != EEXIST) {
        refuse("mkdir", path);
    }
}

static void make_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "we");
    if (!file || fputs(content, file) == EOF || fclose(file) != 0) {
        refuse("cannot write", path);
    }
}

/* In a container a mount may have flags that it must keep. */
static int make_read_only(const char *path)
{
    struct statvfs info;
    if (statvfs(path, &info) != 0) {
        return -1;
    }
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY;
    flags |= info.f_flag & ST_NOSUID ? MS_NOSUID : 0;
    flags |= info.f_flag & ST_NODEV ? MS_NODEV : 0;
    flags |= info.f_flag & ST_NOEXEC ? MS_NOEXEC : 0;
    return mount(NULL, path, NULL, flags, NULL);
}

/* At the same place. What is not there, or was shown with a folder around it, is left out. */
static void show(const char *path, bool writable)
{
    struct stat info;
    const char *to = below_root(path);
    if (stat(path, &info) != 0 || (!writable && access(to, F_OK) == 0)) {
        return;
    }
    if (S_ISDIR(info.st_mode)) {
        make_dirs(to);
    } else {
        const char *slash = strrchr(to, '/');
        make_dirs(ec_format("%.*s", (int)(slash - to), to));
        make_file(to, "");
    }
    if (mount(path, to, NULL, MS_BIND, NULL) != 0 || (!writable && make_read_only(to) != 0)) {
        refuse("mount", path);
    }
}

static void show_system(void)
{
    static const char *const links[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
    static const char *const files[] = {
        "ssl",      "ca-certificates", "passwd",       "group",       "nsswitch.conf",
        "hosts",    "localtime",       "alternatives", "ld.so.cache", "protocols",
        "services", "mime.types",      "subuid",       "subgid"};
    char target[256];
    for (size_t i = 0; i < EC_LEN(links); i++) {
        ssize_t len = readlink(links[i], target, sizeof(target) - 1);
        if (len < 0) {
            show(links[i], false);
            continue;
        }
        target[len] = '\0';
        if (symlink(target, below_root(links[i])) != 0) {
            refuse("link", links[i]);
        }
    }
    show("/usr", false);
    for (size_t i = 0; i < EC_LEN(files); i++) {
        show(ec_format("/etc/%s", files[i]), false);
    }
}

/* Which registries there are. Our certificates for them are for code we trust; engines' networks
 * are nobody's, and Buildah writes a lock beside them. */
static void show_containers(bool trusted)
{
    DIR *dir = opendir("/etc/containers");
    struct dirent *entry = NULL;
    make_dirs(below_root("/etc/containers/networks"));
    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "networks") != 0 &&
            (trusted || strcmp(entry->d_name, "certs.d") != 0)) {
            show(ec_format("/etc/containers/%s", entry->d_name), false);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void make_devices(void)
{
    static const char *const names[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const char *const links[][2] = {{"pts/ptmx", "/dev/ptmx"},
                                           {"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};
    for (size_t i = 0; i < EC_LEN(names); i++) {
        show(ec_format("/dev/%s", names[i]), true);
    }
    if (mount("devpts", below_root("/dev/pts"), "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=620") != 0) {
        refuse("mount", "/dev/pts");
    }
    /* Buildah shows RUN lines our /dev to read, and mounts in it as they are. */
    if (mount("shm", below_root("/dev/shm"), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=64m,mode=1777") != 0) {
        refuse("mount", "/dev/shm");
    }
    mount("mqueue", below_root("/dev/mqueue"), "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    for (size_t i = 0; i < EC_LEN(links); i++) {
        if (symlink(links[i][0], below_root(links[i][1])) != 0) {
            refuse("link", links[i][1]);
        }
    }
}

static void make_folders(void)
{
    static const char *const plain[] = {"/proc", "/sys",     "/run",        "/root",   "/etc",
                                        "/old",  "/dev/pts", "/dev/mqueue", "/dev/shm"};
    static const char *const open[] = {"/tmp", "/var/tmp"};
    for (size_t i = 0; i < EC_LEN(plain); i++) {
        make_dirs(below_root(plain[i]));
    }
    for (size_t i = 0; i < EC_LEN(open); i++) {
        make_dirs(below_root(open[i]));
        chmod(below_root(open[i]), 01777);
    }
}

/* A pod may not mount these: then it is the pod's processes that a build sees, and an empty /sys.
 */
static void make_kernel_files(void)
{
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    mount("sysfs", below_root("/sys"), "sysfs", flags | MS_RDONLY, NULL);
    if (mount("proc", below_root("/proc"), "proc", flags, NULL) != 0 &&
        mount("/proc", below_root("/proc"), NULL, MS_BIND | MS_REC, NULL) != 0) {
        refuse("mount", "/proc");
    }
}

static void make_resolver(const char *dir)
{
    char content[4096];
    FILE *file = fopen(ec_format("%s/resolv.conf", dir), "re");
    file = file ? file : fopen("/etc/resolv.conf", "re");
    size_t len = file ? fread(content, 1, sizeof(content) - 1, file) : 0;
    if (file) {
        fclose(file);
    }
    content[len] = '\0';
    make_file(below_root("/etc/resolv.conf"), content);
}

/* The command's own folder, and what it is a link to, where they are none of the system's. */
static void show_command(const char *name)
{
    char *path = ec_format("%s", getenv("PATH") ? getenv("PATH") : "");
    for (char *rest = NULL, *dir = strtok_r(path, ":", &rest); dir;
         dir = strtok_r(NULL, ":", &rest)) {
        const char *command = ec_format("%s/%s", dir, name);
        if (dir[0] == '/' && access(command, X_OK) == 0) {
            char *target = realpath(command, NULL);
            show(dir, false);
            show(target ? target : command, false);
            return;
        }
    }
}

static void enter(const char *cwd)
{
    if (chdir(root) != 0 || syscall(SYS_pivot_root, ".", "old") != 0 || chdir("/") != 0 ||
        umount2("/old", MNT_DETACH) != 0 || rmdir("/old") != 0) {
        refuse("enter", root);
    }
    if (chdir(cwd) != 0) {
        refuse("enter", cwd);
    }
}

int root_folder_main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "error: inside NETWORK DIR PATH... -- COMMAND... (run by isolate.sh)\n");
        return REFUSED;
    }
    char *cwd = getcwd(NULL, 0);
    const char *dir = argv[2];
    bool trusted = strcmp(argv[1], "shared") == 0;
    int at = 3;
    root = ec_format("%s/root", dir);
    umask(022);
    make_dirs(root);
    if (mount("tmpfs", root, "tmpfs", MS_NOSUID, "size=64m,mode=755") != 0) {
        refuse("mount", root);
    }
    make_folders();
    show_system();
    show_containers(trusted);
    make_devices();
    make_kernel_files();
    make_resolver(dir);
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        bool writable = argv[at][0] == '+';
        show(argv[at] + writable, writable);
    }
    if (at + 1 >= argc || !cwd) {
        errno = EINVAL;
        refuse("run", "no command");
    }
    show_command(argv[at + 1]);
    enter(cwd);
    execvp(argv[at + 1], argv + at + 1);
    refuse("run", argv[at + 1]);
}
