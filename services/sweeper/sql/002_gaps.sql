-- Several gaps of one ref: what was missed stays known as missing whatever is pushed next, or a delivery that the
-- host sends again hours later would count as new. As in services/pipeline/decide_news.c; gap_from and gap_to hold
-- as many commits each, with spaces between them, the oldest gap first and 64 at most.
create or replace function sweeper.heard(of_repo text, of_ref text, before text, after text, recovered boolean)
returns void language plpgsql as $$
declare
    known sweeper.ref;
    reach text := case when recovered then after else before end;
    froms text[];
    tos text[];
begin
    -- Whoever changes refs holds their repository first: two who took the rows in turn would block each other.
    perform 1 from sweeper.repo where repo_key = of_repo for no key update;
    if not found then
        return;
    end if;
    select * into known from sweeper.ref where repo_key = of_repo and ref = of_ref for update;
    if not found then
        insert into sweeper.ref (repo_key, ref, sha, changes) values (of_repo, of_ref, after, 1) on conflict do nothing;
        update sweeper.repo set heard = heard + 1 where repo_key = of_repo;
        return;
    end if;
    froms := coalesce(string_to_array(nullif(known.gap_from, ''), ' '), '{}');
    tos := coalesce(string_to_array(nullif(known.gap_to, ''), ' '), '{}');
    if not recovered and before <> known.sha then -- else it begins where the ref is: the next one
        for i in 1 .. cardinality(froms) loop
            if before = froms[i] then
                froms[i] := after;
            elsif after = tos[i] then
                tos[i] := before;
            else
                continue;
            end if;
            if froms[i] = tos[i] then
                froms := froms[:i - 1] || froms[i + 1:];
                tos := tos[:i - 1] || tos[i + 1:];
            end if;
            update sweeper.ref set gap_from = array_to_string(froms, ' '), gap_to = array_to_string(tos, ' ')
                where repo_key = of_repo and ref = of_ref;
            return;
        end loop;
    end if;
    if known.sha = after then
        return;
    end if;
    if known.sha <> reach then
        froms := froms || known.sha;
        tos := tos || reach;
        froms := froms[greatest(1, cardinality(froms) - 63):];
        tos := tos[greatest(1, cardinality(tos) - 63):];
    end if;
    update sweeper.ref set sha = after, changes = changes + 1, seen_at = now(),
        gap_from = array_to_string(froms, ' '), gap_to = array_to_string(tos, ' '),
        odd_sha = null, odd_at = null, odd_first_at = null, lost = false
        where repo_key = of_repo and ref = of_ref;
    update sweeper.repo set heard = heard + 1 where repo_key = of_repo;
end $$;
