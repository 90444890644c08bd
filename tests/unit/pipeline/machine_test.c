/* The table itself: its words, its deadlines, and that every path can end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine.h"

static bool terminal(const struct machine *machine, size_t state)
{
    return machine->states[state].name[0] >= 'A' && machine->states[state].name[0] <= 'Z';
}

static void test_every_waiting_state_has_deadline_owner_and_end(void **state)
{
    (void)state;
    for (size_t k = 0; k < MACHINE_KINDS; k++) {
        const struct machine *machine = &machines[k];
        for (size_t i = 0; i < machine->state_count; i++) {
            const struct machine_state *row = &machine->states[i];
            if (terminal(machine, i)) {
                assert_int_equal(row->dwell_ms, 0);
                continue;
            }
            bool stored = !(k == MACHINE_DELIVERY && i == DELIVERY_RECEIVED);
            assert_true(row->dwell_ms > 0 || !stored);
            assert_true(row->owner[0] && row->overdue[0] && row->next);
        }
    }
}

static void test_every_path_reaches_an_end(void **state)
{
    (void)state;
    for (size_t k = 0; k < MACHINE_KINDS; k++) {
        const struct machine *machine = &machines[k];
        uint16_t good = 0;
        for (size_t round = 0; round <= machine->state_count; round++) {
            for (size_t i = 0; i < machine->state_count; i++) {
                if (terminal(machine, i) || (machine->states[i].next & good)) {
                    good |= (uint16_t)(1u << i);
                }
            }
        }
        assert_int_equal(good, (1u << machine->state_count) - 1);
    }
}

static void test_terminal_states_stay(void **state)
{
    (void)state;
    for (size_t k = 0; k < MACHINE_KINDS; k++) {
        for (size_t i = 0; i < machines[k].state_count; i++) {
            /* A domain is renewed when it has been ACTIVE for a while. */
            assert_true(!terminal(&machines[k], i) || machines[k].states[i].next == 0 ||
                        k == MACHINE_DOMAIN);
        }
    }
}

static void test_illegal_moves_change_nothing(void **state)
{
    (void)state;
    for (size_t k = 0; k < MACHINE_KINDS; k++) {
        for (size_t from = 0; from < machines[k].state_count; from++) {
            for (uint8_t to = 0; to < 20; to++) {
                struct machine_cell cell;
                assert_true(machine_load(&cell, k, machines[k].states[from].name, 77));
                bool legal =
                    to < machines[k].state_count && (machines[k].states[from].next >> to & 1);
                assert_int_equal(machine_move(&cell, to, 1000, 5), legal);
                assert_int_equal(cell.state, legal ? to : from);
                assert_true(legal || cell.deadline_unix_ms == 77);
                assert_true(!legal || machine_ended(&cell) == (cell.deadline_unix_ms == 0));
            }
        }
    }
}

static void test_unknown_state_is_not_loaded(void **state)
{
    (void)state;
    struct machine_cell cell;
    assert_false(machine_load(&cell, MACHINE_BUILD, "Queued", 1));
    assert_false(machine_load(&cell, MACHINE_BUILD, "", 1));
}

/* docs/state-machine.md is what --print-states prints; `build/bin/enclii-pipeline --print-states >
 * docs/state-machine.md` mends it. */
static void test_the_documentation_is_the_table(void **state)
{
    (void)state;
    FILE *doc = fopen("docs/state-machine.md", "r");
    if (!doc) {
        skip(); /* not run from the root of the sources */
    }
    char said[32768] = "", printed[32768] = "";
    said[fread(said, 1, sizeof said - 1, doc)] = 0;
    fclose(doc);
    FILE *file = tmpfile();
    fflush(stdout);
    int old = dup(1);
    dup2(fileno(file), 1);
    machine_print();
    fflush(stdout);
    dup2(old, 1);
    close(old);
    rewind(file);
    printed[fread(printed, 1, sizeof printed - 1, file)] = 0;
    fclose(file);
    assert_string_equal(said, printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_waiting_state_has_deadline_owner_and_end),
        cmocka_unit_test(test_every_path_reaches_an_end),
        cmocka_unit_test(test_terminal_states_stay),
        cmocka_unit_test(test_illegal_moves_change_nothing),
        cmocka_unit_test(test_unknown_state_is_not_loaded),
        cmocka_unit_test(test_the_documentation_is_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
