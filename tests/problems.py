"""How a failure must look, whichever way it came about."""

from http import HTTPStatus
from typing import Any

NEVER_TOLD = ("Traceback", "sqlalchemy", "sqlite3", "psycopg", "/app/", "site-packages", "SELECT ")


def assert_problem(answer: Any, status: int) -> dict[str, Any]:
    """The body of a problem+json of that status, checked."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.content_type == "application/problem+json"
    problem: dict[str, Any] = answer.json
    assert problem["status"] == status
    assert problem["type"].startswith("/problems/")
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert problem["retryable"] is (status in (429, 503, 504, 507))
    for error in problem.get("errors", ()):
        assert set(error) <= {"pointer", "code", "detail", "allowed"}
    for secret in NEVER_TOLD:
        assert secret not in answer.text
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        assert int(answer.headers["Retry-After"]) >= 1
    return problem
