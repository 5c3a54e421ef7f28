"""`longtake token`: a new token for a client, and the lines by which the server knows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from longtake.cli import values
from longtake.cli.json_lines import json_option, show_json

ROLES = ("viewer", "client", "operator")
MOST_DAYS = 36_500


@click.command("token")
@click.option("--id", "name", callback=values.name, default="new", show_default=True, metavar="NAME",
              help="Names the token in the audit log.")  # fmt: skip
@click.option("--role", type=click.Choice(ROLES), default="client", show_default=True,
              help="viewer: may look; client: may stream; operator: may do everything.")  # fmt: skip
@click.option("--days", type=values.Whole(1, MOST_DAYS), help="Expires after so many days. Default: never.")
@click.option("--tenant", callback=values.name, default="default", show_default=True, metavar="NAME",
              help="Whose token it is, as in the tenants file.")  # fmt: skip
@json_option
def token_command(name: str, role: str, days: int | None, tenant: str, as_json: bool) -> None:
    """Make a token for a client of a server.

    It goes to standard output, and to standard error what to add to the tenants file.

    The server keeps the hash only, and nothing can bring a lost token back.
    """
    from cluster.access.callers import hash_of, new_token

    token = new_token()
    expires = "" if days is None else (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if as_json:
        show_json({"token": token, "hash": hash_of(token), "expires": expires or None})
        return
    click.echo(token)
    # In quotes: a point in the name would begin a table within the table.
    lines = [f'[[tenants."{tenant}".tokens]]', f'id = "{name}"', f'role = "{role}"', f'hash = "{hash_of(token)}"']
    click.echo("\n".join([*lines, *([f"expires = {expires}"] if expires else [])]), err=True)
