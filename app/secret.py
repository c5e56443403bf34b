"""The installation's secrets: given by a setting, or made once and kept in ``instance/``."""

import contextlib
import os
import secrets

from app.config import Settings
from app.kernel.durable import make_folder, sync_folder, write_new
from app.kernel.signing import KeyRing
from app.settings_table import SettingsError


def key_ring(settings: Settings) -> KeyRing:
    """The installation's secrets; makes one in ``instance/`` at the very first start."""
    if settings.secret:
        try:
            return KeyRing.from_text(settings.secret)
        except ValueError as error:
            raise SettingsError(f"MODELYARD_SECRET: {error}") from error
    path = settings.instance / "secret"
    make_folder(settings.instance)
    # Linked into place whole: of two first starts at once one secret wins, and nobody reads half.
    draft = settings.instance / f"secret.{os.getpid()}.{secrets.token_hex(4)}"
    if not path.exists():
        try:
            write_new(draft, secrets.token_urlsafe(48).encode())
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        # All artifacts are signed with it: it must not be lost before they are.
        sync_folder(settings.instance)
    try:
        return KeyRing.from_text(path.read_text())
    except ValueError as error:
        raise SettingsError(f"{path} is damaged: put it back from a backup ({error})") from error
