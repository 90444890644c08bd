-- What a pull request changes: `ref` is then its head's, `after` the head, and `before` is found out.

alter table sweeper.compare
    add column base_ref text not null default ''; -- the branch it wants to go to; '' = it is a push
