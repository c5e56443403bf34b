"""What tests of topics ask again and again."""

API = "/api/v1"


def make_topic(yard, name="flights", **fields):
    answer = yard.client().post(f"{API}/topics", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return answer


def produce(yard, *records, topic="flights", **headers):
    path = f"{API}/topics/{topic}/records"
    return yard.client().post(path, json={"records": list(records)}, headers=headers)


def page(yard, query="", *, topic="flights", partition=0, **headers):
    path = f"{API}/topics/{topic}/partitions/{partition}/records{query}"
    return yard.client().get(path, headers=headers)


def read(yard, query="", **where):
    answer = page(yard, query, **where)
    assert answer.status_code == 200, answer.text
    return answer.json["items"]
