"""The MAC of a stored artifact: says that this installation has vouched for exactly these bytes.

A digest in a row is worth as much as the row: who can write to the database can change both. The
MAC is made with the installation's secret over what the artifact is, where it lies and whose it
is. So neither other bytes, nor another one's artifact, nor one of other libraries passes for it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from app.kernel.artifacts.stored import ArtifactCorrupt, Stored
from app.kernel.errors import ServiceError
from app.kernel.signing import KeyRing, canonical_json

_PURPOSE = "artifact"


class SecretRetired(ServiceError):
    """The secret that signed the artifact is no longer among the installation's."""

    status, code, title = 503, "secret-retired", "The artifact's secret has been retired"


@dataclass(frozen=True)
class ArtifactIdentity:
    """What is signed. ``owner`` is the path of the resource that has it, below the API's prefix."""

    project: str
    owner: str
    format: str
    stored: Stored
    library_versions: Mapping[str, str]

    def sign(self, ring: KeyRing) -> str:
        """The MAC, made with the installation's present secret."""
        return ring.sign(_PURPOSE, self._spelt())

    def check(self, ring: KeyRing, mac: str) -> None:
        """Raise unless a secret of the ring signed exactly this.

        SecretRetired where the ring lacks the secret that the MAC names; ArtifactCorrupt else.
        """
        if ring.verify(_PURPOSE, self._spelt(), mac):
            return
        if not ring.knows(mac):
            raise SecretRetired(
                "The artifact was signed with a secret that MODELYARD_SECRET holds no more; "
                "put it back, behind the present one"
            )
        raise ArtifactCorrupt("its signature does not match", key=self.stored.key)

    def _spelt(self) -> bytes:
        return canonical_json(asdict(self))
