-- Commit statuses go to every git host that has an API, by one built-in channel; what one host calls its states is put
-- in when the status is sent. Approvals are told, too.

alter table notifier.notification drop constraint notification_kind_check;
alter table notifier.notification
    add constraint notification_kind_check check (kind in ('webhook', 'github', 'status'));
update notifier.notification set channel_id = 'git-host', kind = 'status' where channel_id = 'github';

-- Exactly one final state per commit and context of one build or deployment: a commit that is built or deployed once
-- more says how that ended.
drop index notifier.notification_final;
create unique index notification_final on notifier.notification (channel_id, commit_sha, context, subject_id)
    where final and kind <> 'webhook';
drop index notifier.notification_context;
create index notification_context on notifier.notification (channel_id, commit_sha, context) where kind <> 'webhook';
