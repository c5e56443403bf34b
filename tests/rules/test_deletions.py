"""Every DELETE of one thing says first that it is not there, then that it changed, then why not."""

import pytest

from tests.problems import assert_problem

STALE = {"If-Match": '"old"'}
ABSENT = {
    "dataset": "absent",
    "model": "absent",
    "topic": "absent",
    "group": "absent",
    "processor": "absent",
    "member": "0198f1de-0000-7000-8000-000000000000",
    "alias": "absent",
    "view": "absent",
    "version": "99",
    "run": "0198f1de-0000-7000-8000-000000000000",
    "batch": "0198f1de-0000-7000-8000-000000000000",
    "prediction": "0198f1de-0000-7000-8000-000000000000",
    "key_id": "absent00",
}
FREE = {
    "/api/v1/lambda-views/<name:view>",
    "/api/v1/models/<name:model>/aliases/<name:alias>",
    "/api/v1/predictions/<id:prediction>",
    "/api/v1/processors/<name:processor>",
    "/api/v1/consumer-groups/<name:group>/members/<id:member>",
}


@pytest.fixture(scope="module")
def rules(furnished):
    """The routes by which one thing is deleted; what others need comes first."""
    found = [
        rule
        for rule in furnished.app.url_map.iter_rules()
        if "DELETE" in rule.methods and rule.arguments
    ]
    assert len(found) >= 9
    return sorted(found, key=lambda rule: rule.rule in FREE)


def test_what_is_not_there_is_not_found_whatever_the_condition(furnished, rules):
    for rule in rules:
        path = rule.build({name: ABSENT[name] for name in rule.arguments})[1]
        assert_problem(furnished.client().delete(path, headers=STALE), 404)


def test_what_has_changed_is_told_before_what_stands_in_the_way(furnished, rules):
    for rule in rules:
        assert_problem(furnished.client().delete(furnished.path_of(rule), headers=STALE), 412)


def test_what_is_needed_stays_and_what_is_free_goes(furnished, rules):
    for rule in rules:
        answer = furnished.client().delete(furnished.path_of(rule))
        if rule.rule in FREE:
            assert answer.status_code == 204, answer.text
        else:
            assert_problem(answer, 409)
