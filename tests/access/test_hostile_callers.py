"""What an attacker does with keys: guess them, stretch them, look for them, fill the trail."""

import hmac
from datetime import timedelta

import pytest
from click.testing import CliRunner

from app.__main__ import main
from app.config import Settings
from app.kernel.audit import MANY, AuditRow, Denials
from app.kernel.auth import Authenticator, key_digest, make_peer_token, new_key
from app.kernel.errors import Unauthenticated
from app.kernel.signing import KeyRing
from app.kernel.sql import utc_now
from app.settings_table import SETTINGS
from tests.problems import assert_problem
from tests.yard import Yard

EVENTS = "/api/v1/events"


def denied(yard):
    """The rows of refusals."""
    with yard.wiring.database("access").read() as session:
        return [row for row in session.query(AuditRow) if row.outcome == "denied"]


def test_guessing_keys_fills_no_disk_and_lets_nobody_in(sqlite_yard):
    answers = {sqlite_yard.client(new_key()).get(EVENTS).status_code for _ in range(500)}
    assert answers == {401}
    assert len(denied(sqlite_yard)) == 1


def test_guesses_from_very_many_addresses_are_summed_up_together(yard):
    """The bug: past ten thousand addresses each refusal was a row, and all was forgotten."""
    trail = Denials(yard.wiring.database("access"), most=20)
    told = {"project": "", "key_id": "", "request_id": "r", "action": "GET /", "code": "c"}
    for number in range(200):
        trail.record(address=f"2001:db8::{number:x}", **told)
    rows = denied(yard)
    assert len(rows) == 21
    assert [row.address for row in rows].count(MANY) == 1


def test_a_new_minute_makes_room_for_new_addresses(sqlite_yard):
    now = [utc_now()]
    database = sqlite_yard.wiring.database("access")
    trail = Denials(database, most=2, clock=lambda: now[0])
    told = {"project": "", "key_id": "", "request_id": "r", "action": "GET /", "code": "c"}
    for address in ("a", "b", "c", "d"):
        trail.record(address=address, **told)
    now[0] += timedelta(minutes=2)
    trail.record(address="e", **told)
    assert sorted(row.address for row in denied(sqlite_yard)) == ["a", "b", "e", MANY]


def test_an_unknown_key_is_compared_like_a_known_one(monkeypatch):
    """Time tells nothing: both are digested and compared once, in constant time."""
    compared = []
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or a == b
    )

    class Nobody:
        def find(self, _key_id):
            return None

    for key in (new_key(), "rubbish", "myk_short_x", ""):
        with pytest.raises(Unauthenticated):
            Authenticator(Nobody(), KeyRing(["s" * 32])).authenticate(f"Bearer {key}", utc_now())
    assert compared == [(32, 32)] * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key + "a",
        lambda key: key.lower() if key.lower() != key else key.upper(),
        lambda key: key[:4] + "A" * 8 + key[12:],
        lambda key: key[:13] + "A" * 43,
        lambda key: key + "\u0000",
        lambda key: " " + key,
        lambda key: key.replace("myk_", "myp_"),
        lambda key: key_digest(key).hex(),
    ],
)
def test_almost_the_key_is_no_key(sqlite_yard, change):
    client = sqlite_yard.client("")
    header = f"Bearer {change(sqlite_yard.admin_key)}"
    assert_problem(client.get(EVENTS, headers={"Authorization": header}), 401)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_the_scheme_is_read_as_rfc_9110_says(sqlite_yard, scheme):
    header = {"Authorization": f"{scheme} {sqlite_yard.admin_key}"}
    assert sqlite_yard.client("").get(EVENTS, headers=header).status_code == 200


def test_the_answer_that_shows_a_secret_is_stored_by_nobody(sqlite_yard):
    """The bug: a cache could have kept it."""
    body = {"name": "n", "role": "viewer"}
    answer = sqlite_yard.client().post("/api/v1/keys", json=body)
    assert answer.headers["Cache-Control"] == "no-store"


def test_no_secret_is_to_be_read_anywhere_afterwards(yard):
    client = yard.client()
    headers = {"Idempotency-Key": "k"}
    made = client.post("/api/v1/keys", json={"name": "n", "role": "admin"}, headers=headers)
    secret = made.json["secret"].split("_", 2)[2]
    other = yard.client(made.json["secret"])
    pages = ["/api/v1/keys", made.headers["Location"], "/api/v1/audit", EVENTS, "/metrics"]
    for page in pages:
        answer = other.get(page)
        assert answer.status_code == 200
        assert secret not in answer.text
    with yard.wiring.database("access").read() as session:
        connection = session.connection()
        for table in ("access_keys", "kernel_idempotency", "kernel_audit", "kernel_events"):
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert rows
            assert secret not in str(rows)


def test_a_peers_token_is_worth_nothing_elsewhere_later_or_changed(sqlite_yard):
    told = {"service": "training", "project": "default", "scopes": frozenset({"events:read"})}
    good = make_peer_token(sqlite_yard.wiring.ring, **told, lifetime=60)
    assert sqlite_yard.client(good).get(EVENTS).status_code == 200
    payload, _, signature = good.removeprefix("myp_").partition(".")
    wider = make_peer_token(
        KeyRing(["of another installation, 32 long"]), **{**told, "project": "*"}, lifetime=60
    )
    forged = [
        make_peer_token(sqlite_yard.wiring.ring, **told, lifetime=-1),
        wider,
        f"myp_{wider.removeprefix('myp_').partition('.')[0]}.{signature}",
        f"myp_{payload}",
        f"myp_{payload}.",
        "myp_.",
        f"myp_{payload}A.{signature}",
        f"myp_{payload}.{sqlite_yard.wiring.ring.sign('page-token', payload.encode())}",
    ]
    for token in forged:
        assert_problem(sqlite_yard.client(token).get(EVENTS), 401)


def test_a_page_token_is_no_peers_token_and_the_other_way_round(sqlite_yard):
    client = sqlite_yard.client()
    for number in range(2):
        client.post("/api/v1/projects", json={"name": f"p{number}"})
    page = client.get("/api/v1/projects?page_size=1").json["next_page_token"]
    assert_problem(sqlite_yard.client(f"myp_{page}").get(EVENTS), 401)
    peer = make_peer_token(
        sqlite_yard.wiring.ring, service="a", project="*", scopes=frozenset(), lifetime=60
    )
    query = {"page_token": peer.removeprefix("myp_")}
    assert_problem(client.get("/api/v1/projects", query_string=query), 400)


def test_a_page_token_with_a_changed_byte_is_400(sqlite_yard):
    client = sqlite_yard.client()
    client.post("/api/v1/projects", json={"name": "other"})
    token = client.get("/api/v1/projects?page_size=1").json["next_page_token"]
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        query = {"page_token": changed, "page_size": 1}
        assert_problem(client.get("/api/v1/projects", query_string=query), 400)


@pytest.mark.parametrize("token", ["x", "zzzz", "' OR 1=1--", "\0", "z" * 36, "\u0661" * 36])
def test_a_made_up_token_of_the_trail_is_refused(yard, token):
    """The bug: any text was taken for a place in the trail."""
    answer = yard.client().get("/api/v1/audit", query_string={"page_token": token})
    assert_problem(answer, 422 if token == "\0" else 400)


@pytest.mark.parametrize(
    "smuggled",
    ["key_id", "secret", "digest", "admin", "created_by", "revoked_at", "id", "row_version"],
)
def test_nothing_of_a_key_but_what_is_offered_can_be_sent(sqlite_yard, smuggled):
    body = {"name": "n", "role": "viewer", smuggled: True}
    problem = assert_problem(sqlite_yard.client().post("/api/v1/keys", json=body), 422)
    assert problem["errors"][0]["pointer"] == f"/{smuggled}"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "Admin",
        "\u0430dmin",
        "admin\u200b",
        "admin\n",
        "admin\r\nX-Evil: yes",
        "ADMIN",
        "\uff41dmin",
        "a/b",
        "a b",
        "-a",
        "a" * 64,
        "",
    ],
)
def test_no_project_looks_like_another_or_leaves_its_place(sqlite_yard, name):
    """Confusable letters, line ends and dots: a name has plain ASCII only."""
    assert_problem(sqlite_yard.client().post("/api/v1/projects", json={"name": name}), 422)


def test_the_list_of_keys_on_a_terminal_controls_no_terminal(tmp_path, monkeypatch):
    """The bug: a key's name was printed as it was, with whatever moves the cursor or the colour."""
    yard = Yard(tmp_path)
    name = "\x1b[2J\x1b]0;owned\x07a\nmyk_forged  live\r\u202eb"
    made = yard.client().post("/api/v1/keys", json={"name": name, "role": "viewer"})
    assert made.status_code == 201
    yard.close()
    monkeypatch.setenv("MODELYARD_HOME", str(tmp_path))
    told = CliRunner().invoke(main, ["keys", "list"]).output
    lines = told.rstrip("\n").split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_a_first_start_leaves_nothing_that_others_may_read(sqlite_yard):
    """Of this machine's other users: the folder is closed to them, and the secret twice."""
    instance = sqlite_yard.settings.instance
    assert sqlite_yard.wiring.ring
    assert instance.stat().st_mode & 0o077 == 0
    assert (instance / "secret").stat().st_mode & 0o077 == 0


def test_settings_that_are_shown_show_no_secret():
    told = repr(
        Settings.from_environment(
            {
                "MODELYARD_SECRET": "s3cr3t" * 10,
                "MODELYARD_ADMIN_KEY": f"myk_s3cr3t00_{'s3cr3t' * 7}s",
                "MODELYARD_DATABASE_URL": "postgresql://u:s3cr3t@h/d",
                "MODELYARD_LOG_URL": "nats://u:s3cr3t@h",
                "MODELYARD_MODELS_DATABASE_URL": "postgresql://u:s3cr3t@h/d",
            }
        )
    )
    assert "s3cr3t" not in told
    secret = [setting.name for setting in SETTINGS if setting.secret]
    assert secret == ["database_url", "log_url", "admin_key", "secret"]
