"""`rate-heads`: human studies of head descriptions, from the first draft to the published agreement."""

from __future__ import annotations

from agent.commands.command_line import command, group_of_commands
from eval.commands import answers, serve_heads, studies

app = group_of_commands("Human studies of head descriptions: create, serve, follow, publish.")
command(app, "create")(studies.create)
command(app, "launch")(studies.launch)
command(app, "close")(studies.close)
command(app, "invite")(studies.invite)
command(app, "token")(studies.token)
command(app, "status")(studies.status)
command(app, "agreement")(answers.agreement)
command(app, "export")(answers.export)
command(app, "import")(answers.import_file)
command(app, "judge")(answers.judge)
command(app, "approve")(answers.approve)
command(app, "backup")(answers.backup)
command(app, "serve")(serve_heads.serve_rating)


def rate_heads_main() -> None:
    """Entry point of `rate-heads`."""
    app(prog_name="rate-heads")
