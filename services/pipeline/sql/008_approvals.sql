-- Which services wait for an approval of a pull request's head: they are told when nobody will give it any more.

alter table enclii.pull_request
    add column asked_of text not null default ''; -- ids of services, separated by spaces
