"""What a soak has shown: for each invariant how much was looked at and what contradicted it."""

from dataclasses import dataclass, field

_SHOWN = 12


@dataclass
class Check:
    """One invariant: how many things were checked, and a line for each violation."""

    name: str
    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Count one thing; ``otherwise`` says what is wrong when it doesn't hold."""
        self.checked += 1
        if not holds:
            self.violations.append(otherwise)


@dataclass
class Report:
    """The table of a soak, and what else is worth knowing."""

    title: str
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kills: int = 0
    acknowledged: int = 0

    def check(self, name: str) -> Check:
        """A new invariant of the table."""
        self.checks.append(Check(name))
        return self.checks[-1]

    @property
    def holds(self) -> bool:
        """Whether nothing was violated, and something was looked at."""
        return bool(self.checks) and not any(check.violations for check in self.checks)

    def text(self) -> str:
        """The report as an operator reads it."""
        wide = max(len(check.name) for check in self.checks)
        lines = [self.title, *self.notes, "", f"{'invariant':{wide}}  checked  violated"]
        lines += [
            f"{check.name:{wide}}  {check.checked:7}  {len(check.violations):8}"
            for check in self.checks
        ]
        for check in self.checks:
            lines += [f"VIOLATED {check.name}: {told}" for told in check.violations[:_SHOWN]]
            if len(check.violations) > _SHOWN:
                lines.append(f"... and {len(check.violations) - _SHOWN} more")
        return "\n".join([*lines, "", "held" if self.holds else "VIOLATED"])
