/* A control group around one child process and all it starts: memory and process-count limits that
 * hold for the tree as a whole, the word "out of memory" from the kernel itself, and a kill that no
 * descendant escapes. Works with version 1 and 2 hierarchies; used by process.c only. What an
 * earlier process of ours left behind (kill -9) is killed and removed at the first use. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EC_CGROUP_DIRS_MAX 2 /* version 1 has one folder per controller */

struct ec_cgroup;

/* NULL when no hierarchy is writable for us. *ret_memory and *ret_pids say which limits hold. */
struct ec_cgroup *ec_cgroup_new(uint64_t memory_max_bytes, uint64_t pids_max, bool *ret_memory,
                                bool *ret_pids);
/* Opens the join files; a forked child writes "0" to each. Returns their number; close them. */
size_t ec_cgroup_join_fds(const struct ec_cgroup *group, int ret_fds[EC_CGROUP_DIRS_MAX]);
/* Processes that the kernel killed here because the memory limit was reached. */
uint64_t ec_cgroup_oom_kills(const struct ec_cgroup *group);
void ec_cgroup_kill(const struct ec_cgroup *group); /* SIGKILL to everything inside */
/* True once it is gone; false while killed processes are still leaving: ask again. */
bool ec_cgroup_remove(struct ec_cgroup *group);
void ec_cgroup_free(struct ec_cgroup *group); /* accepts NULL */
