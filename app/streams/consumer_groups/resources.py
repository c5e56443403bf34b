"""``/consumer-groups``: clients that share the reading of a topic."""

from contextlib import nullcontext
from typing import Any, cast

from flask import Response, current_app
from flask.views import MethodView

from app.kernel.auth import secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.long_work.views import waiting_places
from app.streams.consumer_groups import schemas
from app.streams.consumer_groups.members import MEMBERS
from app.streams.consumer_groups.members import GroupMembers as MembersService
from app.streams.consumer_groups.service import GROUPS
from app.streams.consumer_groups.service import ConsumerGroups as GroupsService
from app.streams.records.encoding import told_json, told_record

blp = Blueprint(
    "consumer-groups",
    __name__,
    service="streams",
    description="Clients that share the reading of a topic.",
)

_GROUP = {"name": "dashboard", "topic": "flights", "start": "earliest"}
_COMMIT = {
    "member": "01a203dd-2710-7023-bd67-9d8929f69490",
    "epoch": 2,
    "offsets": [{"partition": 2, "offset": 1022}],
}


def _groups() -> GroupsService:
    return cast("GroupsService", current_app.extensions["consumer_groups"])


def _members() -> MembersService:
    return cast("MembersService", current_app.extensions["group_members"])


@blp.route("/api/v1/consumer-groups")
class ConsumerGroups(MethodView):
    """The groups of the project."""

    @secured("topics:read")
    @blp.arguments(GROUPS.schema(), location="query")
    @blp.response(200, schemas.ConsumerGroupList)
    def get(self, arguments: dict[str, Any]) -> Any:
        """List consumer groups"""
        return _groups().page(current_call(), arguments)

    @secured("topics:write")
    @blp.arguments(schemas.ConsumerGroupIn, example=_GROUP)
    @blp.creates(201, schemas.ConsumerGroupOut)
    def post(self, body: dict[str, Any]) -> Any:
        """Create a consumer group"""
        return _groups().create(current_call(), **body)


@blp.route("/api/v1/consumer-groups/<name:group>")
class ConsumerGroup(MethodView):
    """One group."""

    @secured("topics:read")
    @blp.response(200, schemas.ConsumerGroupOut)
    def get(self, group: str) -> Any:
        """Get a consumer group"""
        return _groups().get(current_call(), group)

    @secured("topics:write")
    @blp.response(204)
    def delete(self, group: str) -> None:
        """Delete a consumer group with its offsets

        409 with `referrers` while it has living members.
        """
        _groups().remove(current_call(), group)


@blp.route("/api/v1/consumer-groups/<name:group>/lag")
class ConsumerGroupLag(MethodView):
    """How far a group has come."""

    @secured("topics:read")
    @blp.response(200, schemas.GroupLagOut)
    def get(self, group: str) -> Any:
        """Get the offsets of a group, who reads what, and what is still to be read"""
        return _groups().lag(current_call(), group)


@blp.route("/api/v1/consumer-groups/<name:group>/offsets")
class ConsumerGroupOffsets(MethodView):
    """The offsets of a group."""

    @secured("topics:write")
    @blp.arguments(schemas.OffsetsIn, example=_COMMIT)
    @blp.response(200, schemas.GroupLagOut)
    def put(self, body: dict[str, Any], group: str) -> Any:
        """Commit what a member has dealt with, or go somewhere else

        With `member` and `epoch` it is a commit: 409 where a partition is not the member's, or has
        changed hands since that epoch. Without, all who read go on at these offsets, or with `to`
        at the `earliest` or the `latest`; what they have read before can't be committed any more.
        """
        call = current_call()
        if "to" in body:
            return _groups().seek(call, group, body["to"])
        offsets = {told["partition"]: told["offset"] for told in body["offsets"]}
        if "member" not in body:
            return _groups().seek(call, group, offsets)
        notes = {told["partition"]: told["note"] for told in body["offsets"]}
        member = str(body["member"])
        _members().commit(call, group, member, body["epoch"], offsets, notes)
        return _groups().lag(call, group)


@blp.route("/api/v1/consumer-groups/<name:group>/members")
class GroupMembers(MethodView):
    """The members of a group."""

    @secured("topics:read")
    @blp.arguments(MEMBERS.schema(), location="query")
    @blp.response(200, schemas.MemberList)
    def get(self, arguments: dict[str, Any], group: str) -> Any:
        """List the members of a group"""
        return _members().page(current_call(), group, arguments)

    @secured("topics:write")
    @blp.arguments(schemas.MemberIn, example={"client": "host-1"})
    @blp.creates(201, schemas.MemberOut)
    def post(self, body: dict[str, Any], group: str) -> Any:
        """Join a group

        The answer says which partitions are the member's: those that nobody reads. The others hand
        over what is its share when they fetch or renew their leases, so ask again.
        """
        return _members().join(current_call(), group, body["client"])


@blp.route("/api/v1/consumer-groups/<name:group>/members/<id:member>")
class GroupMember(MethodView):
    """One member."""

    @secured("topics:read")
    @blp.response(200, schemas.MemberOut)
    def get(self, group: str, member: str) -> Any:
        """Get a member with the partitions that it reads"""
        return _members().get(current_call(), group, member)

    @secured("topics:write")
    @blp.response(204)
    def delete(self, group: str, member: str) -> None:
        """Leave a group; the others get what the member read"""
        _members().leave(current_call(), group, member)


@blp.route("/api/v1/consumer-groups/<name:group>/members/<id:member>/lease")
class GroupMemberLease(MethodView):
    """The lease of a member."""

    @secured("topics:write")
    @blp.response(200, schemas.MemberOut)
    def put(self, group: str, member: str) -> Any:
        """Renew a member's lease

        Fetching and committing do so, too. The answer says what it reads from now on. 404 when the
        lease was over and somebody else has noticed: join anew.
        """
        return _members().renew(current_call(), group, member)


@blp.route("/api/v1/consumer-groups/<name:group>/members/<id:member>/records")
class GroupMemberRecords(MethodView):
    """The records for a member."""

    @secured("topics:write")
    @blp.arguments(schemas.FetchQuery, location="query")
    @blp.response(200, schemas.FetchedOut)
    @blp.alt_response(410, "Gone")
    def get(self, arguments: dict[str, Any], group: str, member: str) -> Any:
        """Fetch records from a member's committed offsets on

        Renews its lease, also while it waits. Until they are committed, the same records come
        again. 410 with `partition` and `first` where retention has dropped what comes next.
        """
        with waiting_places().hold() if arguments["wait"] else nullcontext():
            found = _members().fetch(current_call(), group, member, **arguments)
        told = {
            "items": [told_record(record) for record in found.items],
            "offsets": [{"partition": p, "offset": o} for p, o in found.offsets.items()],
            "epoch": found.membership.epoch,
        }
        return Response(told_json(told), content_type="application/json")
